# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Fetches what Debian does not ship ready-made into .cache/; sourced by
# setup.sh. Three results, each a folder that appears only when it is whole:
#
#   include/dpdk       the driver headers of the DPDK that is installed: the
#                      libraries export what a driver needs (symbol version
#                      INTERNAL), only the headers are missing. Compile with
#                      -DALLOW_INTERNAL_API -DALLOW_EXPERIMENTAL_API.
#   include/rdma-core  infiniband/driver.h, what a verbs provider is built
#                      against, and what it includes. Put it before the system
#                      headers with -I; infiniband/verbs.h stays the system's.
#                      A provider needs four symbols of version
#                      IBVERBS_PRIVATE_34 from libibverbs.so.1:
#                      _verbs_init_and_alloc_context, verbs_set_ops,
#                      verbs_uninit_context, verbs_register_driver_34. The
#                      linker takes them from libibverbs.so as it is; nothing
#                      but -libverbs is to be given. The header is that of
#                      Debian 13: Debian 12's source package is no longer on
#                      the mirrors, and the layout in use did not change.
#   guest/kernel       Debian's kernel for the test guests: vmlinuz, config,
#                      version, lib/modules/<version> with modules.dep.
#
# apt does the work with a configuration of its own (sources, lists, cache), so
# the system's sources stay as they are. The mirror is the one the system
# uses. Every download is checked against the signed index.

APT_DIR=$VRDMA_CACHE/apt
DOWNLOADS=$VRDMA_CACHE/download
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
RDMA_CORE_SUITE=trixie

# apt_private COMMAND... - apt's tools on our own sources and lists
apt_private()
{
	local cmd=$1

	shift
	"$cmd" -q -o Dir::Etc::SourceList=/dev/null \
		-o Dir::Etc::SourceParts="$APT_DIR/sources" \
		-o Dir::State::Lists="$APT_DIR/lists" \
		-o Dir::Cache="$APT_DIR/cache" \
		-o APT::Sandbox::User=root "$@"
}

# debian_repos - the system's own repositories of Debian 12: "URI SUITE" lines
debian_repos()
{
	# shellcheck disable=SC2016 # apt's format
	apt-get indextargets 'Created-By: Packages' 'Component: main' --format \
		'$(ORIGIN) $(CODENAME) $(REPO_URI) $(RELEASE)' |
		awk '$1 == "Debian" && $2 ~ /^bookworm/ { print $3, $4 }' | sort -u
}

# fetch_index - write our apt sources from the system's and read their index
fetch_index()
{
	local repos uri suite main_uri

	[ -r "$KEYRING" ] || fail "$KEYRING is missing (package debian-archive-keyring)"
	repos=$(debian_repos)
	if [ -z "$repos" ]; then
		# Whose repository it is stands in the index, which an image
		# may come without.
		apt-get -q update
		repos=$(debian_repos)
	fi
	main_uri=$(awk '$2 !~ /-/ { print $1; exit }' <<<"$repos")
	[ -n "$main_uri" ] || fail "no mirror of Debian 12 in /etc/apt"
	mkdir -p "$APT_DIR"/{sources,lists/partial,cache/archives/partial} \
		"$DOWNLOADS"
	while read -r uri suite; do
		printf '%s [signed-by=%s] %s %s main\n' deb "$KEYRING" "$uri" "$suite" \
			deb-src "$KEYRING" "$uri" "$suite"
	done <<<"$repos" >"$APT_DIR/sources/vrdma.list"
	printf 'deb-src [signed-by=%s] %s %s main\n' "$KEYRING" "$main_uri" \
		"$RDMA_CORE_SUITE" >>"$APT_DIR/sources/vrdma.list"
	apt_private apt-get update --error-on=any
}

# fetch_uri LINE - download what a line of apt's --print-uris names
# A killed download is taken up again; a finished one is not fetched again.
# Sets FETCHED to the file.
fetch_uri()
{
	local uri name hash

	read -r uri name _ hash <<<"$1"
	uri=${uri#\'}
	uri=${uri%\'}
	FETCHED=$DOWNLOADS/$name
	if [ "${hash%%:*}" != SHA256 ]; then
		fail "the index has no SHA256 of $name"
	fi
	if [ -f "$FETCHED" ] &&
		echo "${hash#*:}  $FETCHED" | sha256sum --check --status; then
		return
	fi
	/usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file \
		"$uri" "$FETCHED" "$hash"
}

# fetch_source PACKAGE[=VERSION|/SUITE] - the upstream tarball of a source
# package. Sets FETCHED.
fetch_source()
{
	local line

	line=$(apt_private apt-get source --print-uris "$1" |
		grep -E '\.orig\.tar\.[a-z0-9]+ ') ||
		fail "no source package $1 on the mirror"
	fetch_uri "$line"
}

# fetch_into NAME KEY FUNCTION... - make .cache/NAME by FUNCTION, once
# FUNCTION gets an empty folder to fill as its last argument. KEY says what
# is in the folder: another key makes it anew.
fetch_into()
{
	local dir=$VRDMA_CACHE/$1 key=$2 tmp=$VRDMA_CACHE/tmp

	shift 2
	rm -rf "$tmp"
	mkdir -p "$tmp/new" "$(dirname "$dir")"
	"$@" "$tmp/new"
	echo "$key" >"$tmp/new/.key"
	if [ -e "$dir" ]; then
		mv "$dir" "$tmp/old"
	fi
	mv -T "$tmp/new" "$dir"
	rm -rf "$tmp"
}

# fetched NAME KEY - is .cache/NAME there and made from KEY?
fetched()
{
	[ "$(cat "$VRDMA_CACHE/$1/.key" 2>/dev/null)" = "$2" ]
}

# need_files DIR FILE... - end unless all are there and not empty
need_files()
{
	local dir=$1 file

	shift
	for file; do
		[ -s "$dir/$file" ] || fail "$file is not in the package"
	done
}

# fetch_dpdk VERSION DIR
fetch_dpdk()
{
	local version=$1 dir=$2 src=$VRDMA_CACHE/tmp/src

	mkdir "$src"
	# A mirror keeps only the newest update of a release; its headers fit,
	# as the driver interface is fixed within 22.11.
	if apt_private apt-get source --print-uris "dpdk=$version" >/dev/null 2>&1; then
		fetch_source "dpdk=$version"
	else
		fetch_source dpdk/bookworm
	fi
	tar -xf "$FETCHED" -C "$src" --strip-components=1 --wildcards \
		'*/lib/*.h' '*/drivers/bus/vdev/*.h'
	cp "$src"/lib/ethdev/ethdev_{driver,vdev}.h \
		"$src"/lib/eal/include/{bus,dev}_driver.h \
		"$src"/drivers/bus/vdev/bus_vdev_driver.h "$dir"
	need_files "$dir" {ethdev,dev,bus,bus_vdev}_driver.h ethdev_vdev.h
}

# fetch_rdma_core DIR
fetch_rdma_core()
{
	local dir=$1 src=$VRDMA_CACHE/tmp/src abi

	mkdir "$src"
	abi=$(nm -D --with-symbol-versions "$(gcc -print-file-name=libibverbs.so)" |
		sed -n 's/.*@IBVERBS_PRIVATE_//p' | sort -u)
	[ -n "$abi" ] || fail "libibverbs has no private symbols"
	fetch_source "rdma-core/$RDMA_CORE_SUITE"
	tar -xf "$FETCHED" -C "$src" --strip-components=1
	mkdir "$dir"/{infiniband,rdma,kernel-abi,ccan,util}
	cp "$src"/libibverbs/{driver,kern-abi,cmd_ioctl}.h "$dir/infiniband"
	cp "$src"/kernel-headers/rdma/{ib_user_verbs,ib_user_ioctl_verbs}.h \
		"$src"/kernel-headers/rdma/{ib,rdma}_user_ioctl_cmds.h "$dir/rdma"
	cp "$src"/ccan/{list,str,str_debug,container_of,check_type,build_assert}.h "$dir/ccan"
	cp "$src"/util/compiler.h "$dir/util"
	# As rdma-core's own build does: the kernel's structs as macros, and
	# what its configure step finds out about the compiler.
	/usr/bin/python3 "$src/buildlib/make_abi_structs.py" \
		"$dir/rdma/ib_user_verbs.h" "$dir/kernel-abi/ib_user_verbs.h"
	cat >"$dir/config.h" <<-END
		/* Made by scripts/fetch.sh: what rdma-core's private headers ask. */
		#ifndef CONFIG_H_IN
		#define CONFIG_H_IN
		#define HAVE_STATEMENT_EXPR 1
		#define HAVE_BUILTIN_TYPES_COMPATIBLE_P 1
		#define HAVE_TYPEOF 1
		#define HAVE_ISBLANK 1
		#define HAVE_FUNC_ATTRIBUTE_ALWAYS_INLINE 1
		#define IBVERBS_PABI_VERSION $abi
		#define VERBS_IOCTL_ONLY 0
		#define VERBS_WRITE_ONLY 0
		#endif
	END
	need_files "$dir" infiniband/driver.h kernel-abi/ib_user_verbs.h
}

# fetch_kernel DIR
fetch_kernel()
{
	local dir=$1 src=$VRDMA_CACHE/tmp/src package version line

	package=$(apt_private apt-cache depends linux-image-amd64 |
		sed -n 's/.*Depends: \(linux-image-6\.1\..*-amd64\)$/\1/p')
	[ -n "$package" ] || fail "no linux-image-6.1 on the mirror"
	line=$(apt_private apt-get download --print-uris "$package" | grep "^'")
	fetch_uri "$line"
	version=${package#linux-image-}
	mkdir "$src"
	dpkg-deb -x "$FETCHED" "$src"
	mv "$src/boot/vmlinuz-$version" "$dir/vmlinuz"
	mv "$src/boot/config-$version" "$dir/config"
	mv "$src/lib" "$dir/lib"
	echo "$version" >"$dir/version"
	depmod -b "$dir" "$version"
	need_files "$dir" vmlinuz "lib/modules/$version/modules.dep" \
		"lib/modules/$version/kernel/drivers/net/virtio_net.ko"
}

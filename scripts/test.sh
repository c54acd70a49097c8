#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Runs all tests: style, builds with gcc and clang, every suite, the C tests
# again under sanitizers (address, undefined behaviour, threads), the fuzz
# targets for a short while. The last line is "N passed, N failed" (", N
# skipped" may follow); the exit status is 0 only if nothing failed and nothing
# was skipped that tests/may-skip.txt does not name.
#
# Each build has a folder of its own, build-<kind>/; the results come from
# meson's log in it.

set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

TAIL=40 # lines shown of a failed test's log
PASSED=0
FAILED=0
SKIPPED=0
CHILD=
declare -A BUILT # kind of build -> did it fail?

usage()
{
	cat <<-END
	Usage: sudo scripts/test.sh [--quick | --suite NAME]

	Sets up and builds (scripts/setup.sh), then runs all tests.
	  --quick       the unit tests only, built with gcc
	  --suite NAME  one suite: style, unit, proto, stress, vm, clang,
	                sanitize (unit, proto and stress under ASan and UBSan),
	                threads (unit under TSan) or fuzz
	END
}

# in_background COMMAND... - run so that a signal to us ends it at once
in_background()
{
	local rc=0

	"$@" </dev/null &
	CHILD=$!
	wait "$CHILD" || rc=$?
	CHILD=
	return $rc
}

# interrupted - end what runs; meson ends its tests in turn
interrupted()
{
	trap '' INT TERM HUP
	if [ -n "$CHILD" ]; then
		kill -TERM "$CHILD" 2>/dev/null || true
		wait "$CHILD" || true
	fi
	say "interrupted"
	exit 130
}

# count RESULT NAME [LOG] - count one result; show the log's tail of a failure
count()
{
	case $1 in
	passed) PASSED=$((PASSED + 1)) ;;
	skipped) SKIPPED=$((SKIPPED + 1)) ;;
	failed)
		FAILED=$((FAILED + 1))
		echo "--- $2 failed; the end of its log:"
		tail -n "$TAIL" <<<"${3:-}"
		echo "---"
		;;
	esac
}

# check NAME COMMAND... - a step that is a test of its own
check()
{
	local name=$1 log

	shift
	log=$(mktemp)
	step_begin "$name"
	if in_background "$@" >"$log" 2>&1; then
		step_end
		count passed "$name"
		rm -f "$log"
		return
	fi
	step_end FAILED
	count failed "$name" "$(cat "$log")"
	rm -f "$log"
	return 1
}

# may_skip NAME - does tests/may-skip.txt name the test?
may_skip()
{
	sed 's/#.*//; s/[[:space:]]*$//' "$VRDMA_ROOT/tests/may-skip.txt" |
		grep -qxF -- "$1"
}

# build KIND MESON_OPTION... - build into build-KIND, once; CC is the compiler
build()
{
	local dir=$VRDMA_ROOT/build-$1 kind=$1

	shift
	if [ -n "${BUILT[$kind]:-}" ]; then
		return "${BUILT[$kind]}"
	fi
	BUILT[$kind]=1
	if [ ! -f "$dir/build.ninja" ]; then
		check "configure $kind" meson setup "$dir" "$VRDMA_ROOT" \
			-Dwerror=true "$@" || return
	fi
	check "build $kind" ninja -C "$dir" || return
	BUILT[$kind]=0
}

# progress - pass on meson's lines about single tests
progress()
{
	grep --line-buffered -E '^ *[0-9]+/[0-9]+ ' >&2 || true
}

# suite KIND NAME [MESON_TEST_OPTION...] - run one suite of one build
suite()
{
	local kind=$1 name=$2 json lines result test log rc=0 before=$FAILED
	local shown base=testlog-$name

	shift 2
	if suite_is_empty "$kind" "$name"; then
		return
	fi
	json=$VRDMA_ROOT/build-$kind/meson-logs/$base.json
	rm -f "$json"
	say "suite $name ($kind)"
	exec 8> >(progress)
	shown=$!
	in_background meson test -C "$VRDMA_ROOT/build-$kind" --no-rebuild \
		--suite "$name" --logbase "$base" "$@" >&8 2>&1 8>&- || rc=$?
	exec 8>&-
	wait $shown
	lines=$(results "$json") || rc=$?
	while IFS=$'\t' read -r result test log; do
		log=$(base64 -d <<<"$log")
		if [ "$result" = skipped ] && ! may_skip "${test#* / }"; then
			log+=$'\n'"skipped, but it is not in tests/may-skip.txt"
			result=failed
		fi
		count "$result" "$test ($kind)" "$log"
	done <<<"$lines"
	if [ $rc != 0 ] && [ "$FAILED" = "$before" ]; then
		count failed "suite $name ($kind)" "meson test ended with status $rc"
	fi
}

# suite_is_empty KIND NAME - has the build no test of that suite?
suite_is_empty()
{
	meson introspect --tests "$VRDMA_ROOT/build-$1" |
		jq -e --arg s "vrdma:$2" 'all(.[]; .suite | index($s) | not)' \
			>/dev/null
}

# results JSON - "result<TAB>name<TAB>log in base64" per test of a meson log.  A test
# that left a part of itself out, by its own or its framework's words (cmocka,
# unittest), counts as skipped.
results()
{
	jq -r '[
		if .result == "OK" and ((.stdout // "") + "\n" + (.stderr // "") |
			split("\n") | any(test("^\\[  SKIPPED \\] [a-z]|^OK \\(.*skipped=|^not run: ")))
		then "skipped"
		elif .result == "OK" or .result == "EXPECTEDFAIL" then "passed"
		elif .result == "SKIP" then "skipped"
		else "failed" end,
		.name,
		("result: \(.result)\n\(.stdout // "")\n\(.stderr // "")" | @base64)
	] | @tsv' "$1"
}

# our_files FIND_ARGUMENT... - files of the checkout, without what was built
our_files()
{
	find "$VRDMA_ROOT" -type d \( -name .git -o -name .cache -o -name 'build*' \) \
		-prune -o -type f "$@" -print0
}

style_format()
{
	our_files -name '*.[ch]' | xargs -0 clang-format --dry-run -Werror
}

style_shell()
{
	cd "$VRDMA_ROOT"
	our_files -size -64k |
		xargs -0 grep -lZ -m 1 -E '^#!/bin/(ba)?sh|^# shellcheck shell=' |
		xargs -0 shellcheck -x
}

run_style()
{
	check "C style (clang-format)" style_format || true
	check "shell style (shellcheck)" style_shell || true
}

# run_suites NAME... - suites of the gcc build
run_suites()
{
	local name

	CC=gcc build gcc || return 0
	for name; do
		suite gcc "$name"
	done
}

run_clang()
{
	CC=clang build clang || true
}

# One build serves sanitizers and fuzzing: the targets need both.
build_sanitize()
{
	CC=clang build sanitize -Dsanitize=address,undefined -Dfuzz=true
}

run_sanitize()
{
	local name

	build_sanitize || return 0
	for name in unit proto stress; do
		suite sanitize "$name" --timeout-multiplier 4
	done
}

run_threads()
{
	CC=clang build threads -Dsanitize=thread || return 0
	suite threads unit --timeout-multiplier 10
}

run_fuzz()
{
	build_sanitize || return 0
	suite sanitize fuzz
}

run_all()
{
	run_style
	run_suites unit proto
	run_clang
	run_sanitize
	run_threads
	run_fuzz
	run_suites stress vm
}

main()
{
	local what=all

	while [ $# != 0 ]; do
		case $1 in
		-h | --help)
			usage
			exit 0
			;;
		--quick)
			what=unit
			;;
		--suite)
			what=${2:-}
			shift
			;;
		*)
			usage >&2
			die "unknown argument $1"
			;;
		esac
		shift
	done
	case $what in
	all | style | clang | sanitize | threads | fuzz) what=run_$what ;;
	unit | proto | stress | vm) what="run_suites $what" ;;
	*) die "unknown suite '$what'" ;;
	esac
	trap 'give_back build-gcc build-clang build-sanitize build-threads' EXIT
	trap interrupted INT TERM HUP
	if in_background "$VRDMA_ROOT/scripts/setup.sh"; then
		export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
		$what
	else
		count failed "set-up"
	fi
	printf '%d passed, %d failed' $PASSED $FAILED
	[ $SKIPPED = 0 ] || printf ', %d skipped' $SKIPPED
	printf '\n'
	[ $FAILED = 0 ]
}

main "$@"

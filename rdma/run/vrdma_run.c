/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vrdma-run: run a program so that libibverbs finds userspace RoCEv2 devices.
 *
 * libibverbs looks for devices in sysfs, for their drivers where RDMAV_DRIVERS says, and
 * for a character device in /dev/infiniband. So the command runs in a mount namespace of
 * its own (mounts.c) with a sysfs tree for libibverbs alone (devices.c, SYSFS_PATH) and a
 * preloaded library for the two things that libibverbs asks the kernel for (preload.c).
 * As the tree lies in the namespace's memory it is gone when the command's last process
 * is, however that ends; and as the command replaces this program, signals and the exit
 * status are its own.
 *
 * docs/man/vrdma-run.1 is the user's view.
 */
#include "run.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* As env(1) and nice(1): ours, found but not executable, not found. */
enum { EXIT_OURS = 125, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

#define PLUGIN	"libvrdma" /* libibverbs appends -rdmav34.so */
#define PRELOAD "libvrdma-preload.so"
#define SOCKETS "libvrdma-socket.so"
/* Where a build has it, seen from this program. */
#define SOCKETS_BUILT "../../ivshmem/socket"
/* The shim's variable for its region's socket. */
#define REGION_VARIABLE "VRDMA_REGION"
#define REGION_DEFAULT	"/run/vrdma/region.sock"

/* What the command line asks for. */
struct options {
	struct device_list list;
	bool list_only;
	bool sockets;
	const char *region;
};

void die(const char *fmt, ...)
{
	va_list ap;

	fputs("vrdma-run: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(EXIT_OURS);
}

static void usage(FILE *to)
{
	fputs("Usage: vrdma-run [[--port INTERFACE] --addr ADDR[,ADDR]... "
	      "[OPTION]...]...\n"
	      "                 [--interface INTERFACE [--name NAME]]... [--sockets]\n"
	      "                 COMMAND [ARG]...\n"
	      "Runs COMMAND so that libibverbs finds userspace RoCEv2 devices.\n"
	      "\n"
	      "  -a, --addr ADDR[,ADDR]...  make a device on these IPv4 or IPv6 "
	      "addresses of\n"
	      "                   one interface: its GIDs, by index\n"
	      "  -i, --interface INTERFACE  make a device on all addresses of this "
	      "interface,\n"
	      "                   as they come and go; by default there is one for "
	      "each\n"
	      "                   interface that is up and has an address, loopback "
	      "left out\n"
	      "  -n, --name NAME  name of the last device; by default vrdma_ and the\n"
	      "                   interface's name\n"
	      "  -p, --port INTERFACE  the device on the next --addr is a host of its "
	      "own\n"
	      "                   on this interface; those ADDRs are ones that nobody "
	      "has,\n"
	      "                   with their prefix lengths: 10.0.0.5/24\n"
	      "  -m, --mac MAC    the last --port's MAC address\n"
	      "  -g, --gateway ADDR[,ADDR]  where the last --port sends what leaves its "
	      "prefixes\n"
	      "  -s, --sockets    TCP to programs of the same region goes through "
	      "shared\n"
	      "                   memory; devices are made where there are interfaces\n"
	      "  -r, --region PATH  the region's socket (default: $VRDMA_REGION, or\n"
	      "                   " REGION_DEFAULT ")\n"
	      "  -l, --list       show the devices and run nothing\n"
	      "  -h, --help       show this text\n"
	      "\n"
	      "See vrdma-run(1).\n",
		to);
}

/* The folder with the libraries: this program's own in a build, else as installed. */
static const char *library_dir(void)
{
	static char dir[PATH_MAX];
	char path[PATH_MAX + sizeof(PRELOAD) + 1];
	ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

	if (n > 0) {
		dir[n] = '\0';
		*strrchr(dir, '/') = '\0';
		snprintf(path, sizeof(path), "%s/%s", dir, PRELOAD);
		if (!access(path, R_OK))
			return dir;
	}
	return VRDMA_LIBRARY_DIR;
}

/* Put @value before what the variable has. */
static void prepend_env(const char *name, const char *value)
{
	const char *old = getenv(name);
	char *both;

	if (!old || !*old) {
		setenv(name, value, 1);
		return;
	}
	if (asprintf(&both, "%s:%s", value, old) < 0)
		die("out of memory");
	setenv(name, both, 1);
	free(both);
}

/* The first of the two that is there. */
static void find_sockets(char *path, size_t size)
{
	snprintf(path, size, "%s/" SOCKETS_BUILT "/" SOCKETS, library_dir());
	if (access(path, R_OK))
		snprintf(path, size, "%s/" SOCKETS, library_dir());
	if (access(path, R_OK))
		die("%s is missing; is vRDMA installed?", path);
}

static void set_sockets(const char *region)
{
	char preload[PATH_MAX + 64];

	find_sockets(preload, sizeof(preload));
	prepend_env("LD_PRELOAD", preload);
	if (region)
		setenv(REGION_VARIABLE, region, 1);
	else
		setenv(REGION_VARIABLE, REGION_DEFAULT, 0);
}

static void set_environment(void)
{
	const char *dir = library_dir();
	char plugin[PATH_MAX + 64], preload[PATH_MAX + 64];

	snprintf(preload, sizeof(preload), "%s/%s", dir, PRELOAD);
	if (access(preload, R_OK))
		die("%s is missing; is vRDMA installed?", preload);
	snprintf(plugin, sizeof(plugin), "%s/%s", dir, PLUGIN);
	prepend_env("LD_PRELOAD", preload);
	prepend_env("RDMAV_DRIVERS", plugin);
	setenv("SYSFS_PATH", TREE_DIR, 1);
}

/* A namespace that mounts_make() entered may have taken the privilege away. */
static void need_packet_sockets(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("--port: %s\n"
		    "It needs CAP_NET_RAW in the network namespace: root, or a user "
		    "namespace (or\n"
		    "container) with a network namespace of its own. As a user who is "
		    "root in neither,\n"
		    "use an address of the host: --addr alone.",
			strerror(errno));
	close(fd);
}

static void parse_args(int argc, char **argv, struct options *o)
{
	static const struct option options[] = {
		{"addr", required_argument, NULL, 'a'},
		{"interface", required_argument, NULL, 'i'},
		{"port", required_argument, NULL, 'p'},
		{"mac", required_argument, NULL, 'm'},
		{"gateway", required_argument, NULL, 'g'},
		{"name", required_argument, NULL, 'n'},
		{"sockets", no_argument, NULL, 's'},
		{"region", required_argument, NULL, 'r'},
		{"list", no_argument, NULL, 'l'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	const char *port = NULL;
	int opt;

	/* +: what follows the command is the command's */
	while ((opt = getopt_long(argc, argv, "+a:i:p:m:g:n:sr:lh", options, NULL)) !=
		-1) {
		switch (opt) {
		case 'a':
			if (port)
				devices_add_port(&o->list, port, optarg);
			else
				devices_add(&o->list, optarg);
			port = NULL;
			break;
		case 'i':
			devices_add_interface(&o->list, optarg);
			break;
		case 'p':
			port = optarg;
			break;
		case 'm':
			devices_set_mac(&o->list, optarg);
			break;
		case 'g':
			devices_set_gateway(&o->list, optarg);
			break;
		case 'n':
			devices_name_last(&o->list, optarg);
			break;
		case 'l':
			o->list_only = true;
			break;
		case 's':
			o->sockets = true;
			break;
		case 'r':
			o->region = optarg;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(EXIT_OURS);
		}
	}
	if (port)
		die("--port wants an --addr behind it");
}

/* The devices, and what libibverbs needs to find them. */
static void set_devices(struct options *o)
{
	/* Sockets need none; who asks for these may be where no interface is up. */
	if (!o->list.n && (!o->sockets || devices_are_possible()))
		devices_add_all(&o->list);
	if (o->list_only || !o->list.n)
		return;
	mounts_make();
	if (devices_have_port(&o->list))
		need_packet_sockets();
	devices_make_tree(&o->list);
	set_environment();
}

int main(int argc, char **argv)
{
	struct options o = {0};

	parse_args(argc, argv, &o);
	if (o.list_only == (optind < argc) || (o.region && !o.sockets)) {
		usage(stderr);
		return EXIT_OURS;
	}
	set_devices(&o);
	if (o.list_only) {
		devices_print(&o.list);
		return 0;
	}
	if (o.sockets)
		set_sockets(o.region);
	execvp(argv[optind], argv + optind);
	fprintf(stderr, "vrdma-run: %s: %s\n", argv[optind], strerror(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

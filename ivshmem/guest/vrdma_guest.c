/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vrdma-guest: the agent of a guest, a service in it (docs/socket-shim.md, section 5).
 * To the guest's processes it is the directory of a region, as the server is on the host.
 * Options, and the loop; the rest is directory.h and uplink.h. docs/man/vrdma-guest.8 is
 * the user's view.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "ivshmem/access.h"
#include "ivshmem/directory.h"
#include "ivshmem/dirproto.h"
#include "ivshmem/guest/uplink.h"
#include "ivshmem/listener.h"
#include "ivshmem/program.h"
#include "lib/log.h"
#include "lib/util.h"

#define REGION_DEFAULT	  "/run/vrdma/guest"
#define UPLINK_DEFAULT	  "/dev/virtio-ports/org.vrdma.directory"
#define PROCESSES_DEFAULT 1024

const char program_name[] = "vrdma-guest";

struct options {
	const char *region;
	uint32_t processes;
	struct access_list access;
	struct uplink_config uplink;
};

static void usage(FILE *to)
{
	fputs("Usage: vrdma-guest [OPTION]...\n"
	      "In a guest: lets programs with the socket shim reach programs in other "
	      "guests,\n"
	      "and on the host, through shared memory. Runs until SIGTERM or SIGINT.\n"
	      "\n"
	      "  -r, --region PATH      what programs name as their region: they connect "
	      "to\n"
	      "                         PATH" DIR_SUFFIX " (" REGION_DEFAULT ")\n"
	      "  -u, --uid USER         who may use it; may be repeated (default: the\n"
	      "  -g, --gid GROUP        agent's own user). These can see the region's "
	      "memory.\n"
	      "  -p, --processes N      at the same time (1024)\n"
	      "  -l, --uplink PATH      to the host's server: a virtio port, or a "
	      "socket\n"
	      "                         (" UPLINK_DEFAULT ")\n"
	      "  -m, --memory PATH      the region's memory (default: the ivshmem "
	      "device)\n"
	      "  -h, --help             show this text\n"
	      "\n"
	      "SIGUSR1 writes the state to standard output. See vrdma-guest(8).\n",
		to);
}

static uint32_t number(const char *text)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (*end || v < 1 || v > DIRECTORY_CLIENTS_MAX)
		program_die(EXIT_USAGE, "bad value '%s' for processes: 1 to %d", text,
			DIRECTORY_CLIENTS_MAX);
	return (uint32_t)v;
}

static void check(int rc, const char *what, const char *text)
{
	if (rc)
		program_die(EXIT_USAGE, "bad value '%s' for %s", text, what);
}

static void parse_args(int argc, char **argv, struct options *o)
{
	static const struct option options[] = {
		{"region", required_argument, NULL, 'r'},
		{"uid", required_argument, NULL, 'u'},
		{"gid", required_argument, NULL, 'g'},
		{"processes", required_argument, NULL, 'p'},
		{"uplink", required_argument, NULL, 'l'},
		{"memory", required_argument, NULL, 'm'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "r:u:g:p:l:m:h", options, NULL)) != -1) {
		switch (opt) {
		case 'r':
			o->region = optarg;
			break;
		case 'u':
			check(access_add_user(&o->access, optarg), "uid", optarg);
			break;
		case 'g':
			check(access_add_group(&o->access, optarg), "gid", optarg);
			break;
		case 'p':
			o->processes = number(optarg);
			break;
		case 'l':
			o->uplink.path = optarg;
			break;
		case 'm':
			o->uplink.memory = optarg;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(EXIT_USAGE);
		}
	}
	if (optind < argc)
		program_die(EXIT_USAGE, "unexpected argument '%s'", argv[optind]);
}

static const char *reason(int rc)
{
	switch (-rc) {
	case EADDRINUSE:
		return "another agent or server is there";
	case EEXIST:
		return "something else is there";
	default:
		return strerror(-rc);
	}
}

static struct directory *directory_start(const struct options *o)
{
	char path[LISTENER_PATH_SIZE + sizeof(DIR_SUFFIX)];
	struct directory *d;
	int rc;

	if (strlen(o->region) >= LISTENER_PATH_SIZE)
		program_die(EXIT_USAGE, "%s: the path is too long", o->region);
	snprintf(path, sizeof(path), "%s" DIR_SUFFIX, o->region);
	rc = directory_open(&d, path, &o->access, o->processes);
	if (rc)
		program_die(EXIT_FAILED, "%s: %s", path, reason(rc));
	return d;
}

static void status(const struct directory *d, const struct uplink *u)
{
	fputs("directory", stdout);
	directory_status(d, stdout);
	fputc('\n', stdout);
	uplink_status(u, stdout);
	fflush(stdout);
}

static int serve(struct directory *d, struct uplink *u, int signals)
{
	struct pollfd fds[] = {
		{.fd = signals, .events = POLLIN},
		{.fd = directory_fd(d), .events = POLLIN},
		{.fd = uplink_fd(u), .events = POLLIN},
	};

	for (;;) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		switch (program_signal(signals)) {
		case PROGRAM_GO_ON:
			break;
		case PROGRAM_STATUS:
			status(d, u);
			break;
		case PROGRAM_END:
			return 0;
		}
		directory_run_once(d);
		uplink_run_once(u);
	}
}

int main(int argc, char **argv)
{
	static struct options options = {
		.region = REGION_DEFAULT,
		.processes = PROCESSES_DEFAULT,
		.uplink.path = UPLINK_DEFAULT,
	};
	struct directory *d;
	struct uplink *u;
	int signals, rc;

	parse_args(argc, argv, &options);
	program_raise_fd_limit();
	signals = program_signals();
	d = directory_start(&options);
	rc = uplink_open(&u, &options.uplink, d);
	if (rc)
		program_die(EXIT_FAILED, "%s", strerror(-rc));
	log_write(LOG_LEVEL_INFO, "guest", "programs of region %s are served",
		options.region);
	rc = serve(d, u, signals);
	directory_close(d);
	uplink_close(u);
	if (rc)
		program_die(EXIT_FAILED, "%s", strerror(-rc));
	return 0;
}

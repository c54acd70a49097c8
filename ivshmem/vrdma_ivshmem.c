/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vrdma-ivshmem: the ivshmem server as a program, in the foreground. Options, signals and
 * the loop; the rest is server.h and config.h. docs/man/vrdma-ivshmem.1 is the user's
 * view.
 */
#include "ivshmem/config.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "ivshmem/program.h"
#include "lib/log.h"
#include "lib/util.h"

const char program_name[] = "vrdma-ivshmem";

/* Large: static rather than on the stack. */
static struct config config;

static void usage(FILE *to)
{
	fputs("Usage: vrdma-ivshmem [OPTION]... [--region KEY=VALUE,...]...\n"
	      "Serves regions of shared memory to guests (QEMU's ivshmem-doorbell) and\n"
	      "processes of this host, until SIGTERM or SIGINT.\n"
	      "\n"
	      "  -r, --region KEY=VALUE,...   a region; may be repeated. Keys:\n"
	      "        name=NAME              needed\n"
	      "        size=SIZE              needed; a power of two, such as 64M\n"
	      "        socket=PATH            needed; where clients connect\n"
	      "        tenant=NAME            whom it belongs to (default: its name)\n"
	      "        vectors=N              doorbells of each client (1)\n"
	      "        max-peers=N            clients at the same time (16)\n"
	      "        max-half-open=N        such as have not read yet (max-peers)\n"
	      "        sockets=N              processes that may use the socket shim "
	      "(0)\n"
	      "        guest=NAME@ADDRESS+... a guest whose programs use the socket "
	      "shim;\n"
	      "                               may be repeated\n"
	      "        hugepages=auto|always|never\n"
	      "        uid=USER, gid=GROUP    who may join; may be repeated (default:\n"
	      "                               the server's own user)\n"
	      "  -c, --config FILE            settings and regions in JSON\n"
	      "  -m, --max-memory SIZE        all regions together (half of the RAM)\n"
	      "  -s, --stall-timeout SECONDS  until one that does not read is dropped "
	      "(30)\n"
	      "  -j, --join-rate N            connections per second to a region (100)\n"
	      "  -h, --help                   show this text\n"
	      "\n"
	      "SIGUSR1 writes the state of all regions to standard output.\n"
	      "See vrdma-ivshmem(1).\n",
		to);
}

static void parse_args(int argc, char **argv)
{
	static const struct option options[] = {
		{"region", required_argument, NULL, 'r'},
		{"config", required_argument, NULL, 'c'},
		{"max-memory", required_argument, NULL, 'm'},
		{"stall-timeout", required_argument, NULL, 's'},
		{"join-rate", required_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	char error[CONFIG_ERROR_SIZE];
	int opt, index;

	while ((opt = getopt_long(argc, argv, "r:c:m:s:j:h", options, NULL)) != -1) {
		switch (opt) {
		case 'r':
			if (config_add_region(&config, optarg, error))
				program_die(EXIT_USAGE, "--region %s: %s", optarg, error);
			break;
		case 'c':
			if (config_add_file(&config, optarg, error))
				program_die(EXIT_USAGE, "%s: %s", optarg, error);
			break;
		case 'h':
			usage(stdout);
			exit(0);
		case '?':
			usage(stderr);
			exit(EXIT_USAGE);
		default:
			for (index = 0; options[index].val != opt; index++)
				;
			if (config_set(&config, options[index].name, optarg, error))
				program_die(EXIT_USAGE, "%s", error);
		}
	}
	if (optind < argc)
		program_die(EXIT_USAGE, "unexpected argument '%s'", argv[optind]);
	if (!config.n_regions)
		program_die(EXIT_USAGE, "no region is given (see --help)");
}

static const char *reason(int rc)
{
	switch (-rc) {
	case EDQUOT:
		return "more memory than --max-memory allows";
	case EADDRINUSE:
		return "another server is at its socket";
	case EEXIST:
		return "at its socket's path is something else";
	case EMFILE:
		return "its clients could need more descriptors than the limit (ulimit "
		       "-n)";
	default:
		return strerror(-rc);
	}
}

static struct server *start(void)
{
	struct server *s;
	int rc = server_open(&s, &config.server);

	if (rc)
		program_die(EXIT_FAILED, "%s", strerror(-rc));
	for (uint32_t i = 0; i < config.n_regions; i++) {
		const struct region_config *r = &config.regions[i];

		rc = server_region_add(s, r);
		if (rc) {
			server_close(s);
			program_die(EXIT_FAILED, "region %s (%s): %s", r->name, r->socket,
				reason(rc));
		}
	}
	return s;
}

static int serve(struct server *s, int signals)
{
	struct pollfd fds[] = {
		{.fd = signals, .events = POLLIN},
		{.fd = server_fd(s), .events = POLLIN},
	};
	int rc = 0;

	while (!rc) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return -errno;
		switch (program_signal(signals)) {
		case PROGRAM_GO_ON:
			break;
		case PROGRAM_STATUS:
			server_status(s, stdout);
			break;
		case PROGRAM_END:
			return 0;
		}
		rc = server_run_once(s);
	}
	return rc;
}

int main(int argc, char **argv)
{
	struct server *s;
	int signals, rc;

	config_init(&config);
	parse_args(argc, argv);
	program_raise_fd_limit(); /* a client costs one, and its vectors */
	signals = program_signals();
	s = start();
	log_write(LOG_LEVEL_INFO, "ivshmem", "%u regions are served", config.n_regions);
	rc = serve(s, signals);
	server_close(s);
	if (rc)
		program_die(EXIT_FAILED, "%s", strerror(-rc));
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A control thread for hello_peer.py to talk to: what the driver is told goes to standard
 * output line by line, commands come from standard input.
 *
 * Usage: hello_tool LOCAL PORT KEYFILE|- [PEER PORT]...
 * Commands: "counters" (answered by "counter NAME VALUE" lines and "."), "fail PEER";
 * the end of input stops it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "pmd/control.h"
#include "pmd/control_addr.h"

#define PEERS_MAX 16

static uint8_t local_gid[16];
static unsigned next_qpn = 0x100;

static int on_open(void *arg, unsigned peer, struct hello_endpoint *local)
{
	memcpy(local->gid, local_gid, sizeof(local->gid));
	local->caps = HELLO_CAP_CSUM | HELLO_CAP_TSO | HELLO_CAP_COALESCE;
	local->max_message = 65600;
	local->rx_depth = 512;
	local->path_mtu = 1024;
	local->mac[0] = 2;
	local->mac[5] = 7;
	local->n_qps = 2;
	for (int i = 0; i < 2; i++)
		local->qp[i] = (struct hello_qp){.qpn = next_qpn++, .psn = 0xfffff0u + i};
	snprintf(local->name, sizeof(local->name), "tool");
	printf("open %u\n", peer);
	return 0;
}

static int on_connect(void *arg, unsigned peer, const struct hello_endpoint *remote)
{
	printf("connect %u %s mtu=%u qps=%u qpn=%#x psn=%#x\n", peer, remote->name,
		remote->path_mtu, remote->n_qps, remote->qp[0].qpn, remote->qp[0].psn);
	return 0;
}

static void on_up(void *arg, unsigned peer)
{
	printf("up %u\n", peer);
}

static void on_down(void *arg, unsigned peer, const char *reason)
{
	printf("down %u %s\n", peer, reason);
}

static void counters_print(struct control *control)
{
	struct control_counter counters[64];
	unsigned n = control_counters_get(control, counters, 64);

	for (unsigned i = 0; i < n; i++)
		printf("counter %s %llu\n", counters[i].name,
			(unsigned long long)counters[i].value);
	printf(".\n");
}

int main(int argc, char **argv)
{
	static const struct control_ops ops = {on_open, on_connect, on_up, on_down, NULL};
	struct control_peer peers[PEERS_MAX];
	struct control_config config = {.peers = peers, .ops = &ops};
	struct control *control;
	union control_addr addr;
	struct hello_key key;
	char line[64], err[256];

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 4 || argc % 2 || argc > 4 + 2 * PEERS_MAX)
		return 2;
	config.local_address = argv[1];
	config.port = (uint16_t)atoi(argv[2]);
	if (strcmp(argv[3], "-") != 0) {
		if (hello_key_load(argv[3], &key, err, sizeof(err)) < 0) {
			fprintf(stderr, "%s\n", err);
			return 1;
		}
		config.key = &key;
	}
	for (int i = 4; i < argc; i += 2)
		peers[config.n_peers++] = (struct control_peer){
			.address = argv[i], .port = (uint16_t)atoi(argv[i + 1])};
	if (control_addr_parse(argv[1], 0, &addr) < 0)
		return 1;
	control_addr_gid(&addr, local_gid);
	if (control_start(&config, &control) < 0)
		return 1;

	while (fgets(line, sizeof(line), stdin)) {
		if (strcmp(line, "counters\n") == 0)
			counters_print(control);
		else if (strncmp(line, "fail ", 5) == 0)
			control_conn_failed(control, (unsigned)atoi(line + 5));
	}
	control_stop(control);
	return 0;
}

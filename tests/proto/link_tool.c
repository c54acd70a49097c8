/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma/io/udp and rdma/io/port for a test in another language. Opens a link, on an
 * address (argument ADDR) or an interface (arguments "port", IFNAME, ADDR/LEN and, if
 * any, GATEWAY and MAC), answers "ready IFNAME IP_MTU" (or "error ERRNO"), and then, line
 * by line:
 *
 *   packet DST SPORT_HASH HDR_LEN HEX
 *       add to the burst: BTH to pad, payload in two pieces
 *   send
 *       send the burst; answers "sent"
 *   recv N TIMEOUT_MS
 *       answers a line "SRC ECN HEX" for each packet, and "end" after N, or when none
 *       came for that long
 *   expect DST
 *       answers "expected"
 *   join GROUP, leave GROUP
 *       answers 0 or an errno
 *   stats
 *       JSON: the link's counters
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hex.h"
#include "lib/util.h"
#include "rdma/io/gid.h"
#include "rdma/io/port.h"
#include "rdma/io/udp.h"

#define PACKET_MAX 9216

static struct link_burst burst;
static uint8_t payload[LINK_BURST][PACKET_MAX];

static void piece_add(struct link_tx *tx, uint8_t *base, size_t size)
{
	burst.iov[burst.n_iovs++] = (struct iovec){base, size};
	tx->n_iov++;
	tx->payload_len += (uint32_t)size;
}

static void do_packet(const char *args)
{
	static char hex[2 * PACKET_MAX + 1];
	struct link_tx *tx = &burst.pkt[burst.n_pkts];
	uint8_t *data = payload[burst.n_pkts];
	char dst[64];
	uint32_t scope;
	int size, rest;

	*tx = (struct link_tx){.iov_first = (uint16_t)burst.n_iovs};
	if (burst.n_pkts == LINK_BURST ||
		sscanf(args, "%63s %hu %hhu %18432s", dst, &tx->sport_hash, &tx->hdr_len,
			hex) != 4)
		exit(2);
	size = hex_read(hex, data, PACKET_MAX);
	if (size < tx->hdr_len || tx->hdr_len > WIRE_HDR_MAX ||
		gid_parse(dst, tx->dgid, &scope) < 0)
		exit(2);
	memcpy(tx->hdr, data, tx->hdr_len);
	tx->pad = data[1] >> 4 & 3;
	rest = size - tx->hdr_len - tx->pad;
	data += tx->hdr_len;
	piece_add(tx, data, (size_t)(rest / 2));
	piece_add(tx, data + rest / 2, (size_t)(rest - rest / 2));
	burst.n_pkts++;
}

static void do_send(struct link *link)
{
	link->ops->send(link, &burst);
	burst.n_pkts = 0;
	burst.n_iovs = 0;
	printf("sent\n");
}

static void rx_print(const struct link_rx *rx)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, rx->sgid, text, sizeof(text));
	printf("%s %d ", text, rx->ecn);
	hex_print(rx->data, rx->len);
	printf("\n");
}

static void do_recv(struct link *link, const char *args)
{
	struct link_rx rx[LINK_BURST];
	int n, left, timeout_ms;

	if (sscanf(args, "%d %d", &left, &timeout_ms) != 2)
		exit(2);
	while (left > 0) {
		n = link->ops->recv(link, rx, MIN(left, LINK_BURST));
		if (n == 0 && !link_wait(link, timeout_ms))
			break;
		for (int i = 0; i < n; i++)
			rx_print(&rx[i]);
		left -= n;
	}
	printf("end\n");
}

static void do_stats(const struct link *link)
{
	const char *separator = "{";

#define X(counter)                                        \
	printf("%s\"" #counter "\": %llu", separator,     \
		(unsigned long long)link->stats.counter); \
	separator = ", ";
	LINK_COUNTERS(X)
#undef X
	printf("}\n");
}

static void do_group(struct link *link, const char *args, bool join)
{
	char text[64];
	uint8_t gid[16];
	uint32_t scope;
	int err = 0;

	if (sscanf(args, "%63s", text) != 1 || gid_parse(text, gid, &scope) < 0)
		exit(2);
	if (join)
		err = link->ops->join(link, gid);
	else
		link->ops->leave(link, gid);
	printf("%d\n", -err);
}

static void do_expect(struct link *link, const char *args)
{
	char text[64];
	uint8_t gid[16];
	uint32_t scope;

	if (sscanf(args, "%63s", text) != 1 || gid_parse(text, gid, &scope) < 0)
		exit(2);
	if (link->ops->expect)
		link->ops->expect(link, gid);
	printf("expected\n");
}

static int link_open(int argc, char **argv, struct link **out)
{
	struct link_port_attr attr = {0};

	if (strcmp(argv[1], "port") != 0)
		return argc == 2 ? link_udp_open(argv[1], out) : -EINVAL;
	if (argc < 4 || argc > 6)
		return -EINVAL;
	attr.ifname = argv[2];
	attr.addr = argv[3];
	attr.gateway = argc > 4 && *argv[4] ? argv[4] : NULL;
	attr.mac = argc > 5 ? argv[5] : NULL;
	return link_port_open(&attr, out);
}

static bool command(struct link *link, const char *line)
{
	if (!strncmp(line, "packet ", 7))
		do_packet(line + 7);
	else if (!strcmp(line, "send\n"))
		do_send(link);
	else if (!strncmp(line, "recv ", 5))
		do_recv(link, line + 5);
	else if (!strcmp(line, "stats\n"))
		do_stats(link);
	else if (!strncmp(line, "expect ", 7))
		do_expect(link, line + 7);
	else if (!strncmp(line, "join ", 5))
		do_group(link, line + 5, true);
	else if (!strncmp(line, "leave ", 6))
		do_group(link, line + 6, false);
	else
		return false;
	fflush(stdout);
	return true;
}

int main(int argc, char **argv)
{
	struct link *link;
	char *line = NULL;
	size_t room = 0;
	int err;

	if (argc < 2)
		return 2;
	err = link_open(argc, argv, &link);
	if (err) {
		printf("error %d\n", -err);
		return 1;
	}
	printf("ready %s %u\n", link->ifname, link->ip_mtu);
	fflush(stdout);
	while (getline(&line, &room, stdin) > 0) {
		if (!command(link, line))
			return 2;
	}
	free(line);
	link_close(link);
	return 0;
}

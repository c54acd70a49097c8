/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See args.h. The text is split here and not by rte_kvargs, which takes 32 arguments at
 * most, too few for a cluster's peers, and refuses a text without saying why.
 */
#include "pmd/args.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_ether.h>

#include "lib/util.h"
#include "pmd/frame.h"

struct parser {
	struct args *args;
	uint32_t seen; /* bit per entry of known[] */
	char *err;
	size_t err_size;
};

static int fail(struct parser *parser, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int fail(struct parser *parser, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(parser->err, parser->err_size, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int take_number(struct parser *parser, const char *key, const char *value,
	uint32_t min, uint32_t max, uint32_t *number)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (!isdigit((unsigned char)value[0]) || *end || errno || n < min || n > max)
		return fail(parser, "%s=%s: must be a number from %u to %u", key, value,
			min, max);
	*number = (uint32_t)n;
	return 0;
}

static int take_text(struct parser *parser, const char *key, const char *value,
	char *text, size_t size)
{
	if (!value[0] || strlen(value) >= size)
		return fail(parser, "%s=%s: must have 1 to %zu characters", key, value,
			size - 1);
	strcpy(text, value);
	return 0;
}

static bool is_address(const char *text)
{
	uint8_t addr[16];

	return inet_pton(AF_INET, text, addr) == 1 ||
	       inet_pton(AF_INET6, text, addr) == 1;
}

static int take_device(struct parser *parser, const char *key, const char *value)
{
	return take_text(parser, key, value, parser->args->device, ARGS_NAME_SIZE);
}

static int take_local(struct parser *parser, const char *key, const char *value)
{
	if (!is_address(value) || strlen(value) >= ARGS_ADDRESS_SIZE)
		return fail(parser, "%s=%s: not an IPv4 or IPv6 address", key, value);
	strcpy(parser->args->local, value);
	return 0;
}

/* split_port() - ADDRESS, IPV4:PORT or [IPV6]:PORT; @host has room for all of @value
 * Return: where the port is, NULL if there is none
 */
static const char *split_port(const char *value, char *host)
{
	char *end;

	strcpy(host, value);
	if (host[0] == '[') {
		end = strchr(host, ']');
		if (!end || end[1] != ':')
			return NULL;
		*end = 0;
		memmove(host, host + 1, strlen(host));
		return value + (end - host) + 2;
	}
	end = strchr(host, ':');
	if (!end || strchr(end + 1, ':'))
		return NULL;
	*end = 0;
	return value + (end - host) + 1;
}

static int take_peer(struct parser *parser, const char *key, const char *value)
{
	struct args *args = parser->args;
	struct args_peer *peer = &args->peers[args->n_peers];
	const char *port_text;
	uint32_t port = 0;
	int err;

	if (args->n_peers == ARGS_PEERS_MAX)
		return fail(parser, "%s=%s: %u peers are the most", key, value,
			ARGS_PEERS_MAX);
	if (strlen(value) >= ARGS_ADDRESS_SIZE)
		return fail(parser, "%s=%s: not an IPv4 or IPv6 address", key, value);
	port_text = split_port(value, peer->address);
	if (!is_address(peer->address))
		return fail(parser, "%s=%s: not an IPv4 or IPv6 address", key, value);
	if (port_text) {
		err = take_number(parser, key, port_text, 1, UINT16_MAX, &port);
		if (err)
			return err;
	}
	peer->port = (uint16_t)port;
	args->n_peers++;
	return 0;
}

static int take_key(struct parser *parser, const char *key, const char *value)
{
	return take_text(parser, key, value, parser->args->key, ARGS_PATH_SIZE);
}

static int take_node(struct parser *parser, const char *key, const char *value)
{
	return take_text(parser, key, value, parser->args->node, ARGS_NODE_SIZE);
}

static int take_hello_port(struct parser *parser, const char *key, const char *value)
{
	uint32_t port = 0;
	int err = take_number(parser, key, value, 1, UINT16_MAX, &port);

	parser->args->hello_port = (uint16_t)port;
	return err;
}

static int take_mac(struct parser *parser, const char *key, const char *value)
{
	struct rte_ether_addr addr;

	if (rte_ether_unformat_addr(value, &addr) ||
		!rte_is_valid_assigned_ether_addr(&addr))
		return fail(parser, "%s=%s: not the address of one station", key, value);
	memcpy(parser->args->mac, addr.addr_bytes, sizeof(parser->args->mac));
	return 0;
}

static int take_mtu(struct parser *parser, const char *key, const char *value)
{
	uint32_t mtu = 0;
	int err = take_number(parser, key, value, FRAME_MTU_MIN, FRAME_MTU_MAX, &mtu);

	parser->args->mtu = (uint16_t)mtu;
	return err;
}

static int take_rxbufs(struct parser *parser, const char *key, const char *value)
{
	return take_number(parser, key, value, ARGS_RXBUFS_MIN, ARGS_RXBUFS_MAX,
		&parser->args->rxbufs);
}

static int take_txq_size(struct parser *parser, const char *key, const char *value)
{
	int err = take_number(parser, key, value, ARGS_TXQ_SIZE_MIN, ARGS_TXQ_SIZE_MAX,
		&parser->args->txq_size);

	if (!err)
		parser->args->txq_size = round_up_pow2(parser->args->txq_size);
	return err;
}

static const struct arg {
	const char *key;
	int (*take)(struct parser *parser, const char *key, const char *value);
	bool repeatable;
} known[] = {
	{"device", take_device, false},
	{"local", take_local, false},
	{"peer", take_peer, true},
	{"key", take_key, false},
	{"node", take_node, false},
	{"hello_port", take_hello_port, false},
	{"mac", take_mac, false},
	{"mtu", take_mtu, false},
	{"rxbufs", take_rxbufs, false},
	{"txq_size", take_txq_size, false},
};

/* take_argument() - @text: KEY=VALUE; is written to */
static int take_argument(struct parser *parser, char *text)
{
	char *value = strchr(text, '=');

	if (value)
		*value++ = 0;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strcmp(known[i].key, text) != 0)
			continue;
		if (!value)
			return fail(parser, "%s: needs a value", text);
		if (!known[i].repeatable && (parser->seen & 1u << i))
			return fail(parser, "%s: given more than once", text);
		parser->seen |= 1u << i;
		return known[i].take(parser, text, value);
	}
	return fail(parser, "%s: unknown argument", text);
}

/* mac_from_address() - an address of our own that stays the same from start to start
 * and differs from node to node: locally administered, then the last bytes of the IP
 * address, which are what tells the nodes of one segment apart
 */
static void mac_from_address(const char *address, uint8_t mac[6])
{
	uint8_t addr[16] = {0};

	mac[0] = 0x02;
	mac[1] = 'V';
	if (inet_pton(AF_INET, address, addr) == 1) {
		memcpy(mac + 2, addr, 4);
		return;
	}
	inet_pton(AF_INET6, address, addr);
	mac[1] = addr[11];
	memcpy(mac + 2, addr + 12, 4);
}

static void set_defaults(struct args *args)
{
	strcpy(args->device, "auto");
	gethostname(args->node, sizeof(args->node));
	args->node[sizeof(args->node) - 1] = 0;
	args->mtu = ARGS_MTU_DEFAULT;
	args->rxbufs = ARGS_RXBUFS;
	args->txq_size = ARGS_TXQ_SIZE;
}

static int take_all(struct parser *parser, char *text)
{
	static const uint8_t no_mac[6];
	struct args *args = parser->args;
	char *argument;

	while ((argument = strsep(&text, ",")) != NULL) {
		int err = take_argument(parser, argument);

		if (err)
			return err;
	}
	if (!args->local[0])
		return fail(parser, "local: is missing");
	if (memcmp(args->mac, no_mac, sizeof(no_mac)) == 0)
		mac_from_address(args->local, args->mac);
	return 0;
}

int args_parse(const char *text, struct args *args, char *err, size_t err_size)
{
	struct parser parser = {.args = args, .err = err, .err_size = err_size};
	char *copy = NULL;
	int ret = -ENOMEM;

	memset(args, 0, sizeof(*args));
	set_defaults(args);
	args->peers = calloc(ARGS_PEERS_MAX, sizeof(*args->peers));
	copy = strdup(text ? text : "");
	if (!args->peers || !copy)
		snprintf(err, err_size, "out of memory");
	else
		ret = take_all(&parser, copy[0] ? copy : NULL);
	free(copy);
	if (ret)
		args_free(args);
	return ret;
}

void args_free(struct args *args)
{
	free(args->peers);
	args->peers = NULL;
	args->n_peers = 0;
}

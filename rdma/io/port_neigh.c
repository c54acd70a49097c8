/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The port's side of neigh.h: its lock, and frames for what it wants to ask. Sender and
 * receiver both come here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "lib/util.h"
#include "port_priv.h"

/* How often to insist that our address is ours (RFC 5227, DEFEND_INTERVAL). */
#define DEFEND_NS (10 * NSEC_PER_SEC)

static void table_lock(struct link_port *port)
{
	pthread_mutex_lock(&port->neigh_lock);
}

static void table_unlock(struct link_port *port)
{
	const struct neigh_stats *neigh = neigh_stats(port->neigh);
	struct link_stats *stats = &port->link.stats;

	stats->tx_no_route = neigh->no_route;
	stats->tx_unresolved = neigh->unresolved;
	stats->neigh_asked = neigh->asked;
	stats->neigh_answered = neigh->answered;
	stats->neigh_ignored = neigh->ignored;
	stats->neigh_moved = neigh->moved;
	stats->neigh_evicted = neigh->evicted;
	pthread_mutex_unlock(&port->neigh_lock);
}

static void ask(const struct link_port *port, const struct neigh_ask *what)
{
	uint8_t frame[NEIGH_MSG_MAX];

	if (what->wanted)
		port_frame_send(port, frame,
			neigh_query_put(&port->self, what->target,
				what->everybody ? NULL : what->mac, frame));
}

enum neigh_way port_neigh_find(struct link_port *port, const uint8_t dst[16],
	uint32_t n_packets, uint8_t mac[ETH_MAC_SIZE])
{
	struct neigh_ask what;
	enum neigh_way way;

	table_lock(port);
	way = neigh_find(port->neigh, dst, now_ns(), n_packets, mac, &what);
	table_unlock(port);
	ask(port, &what);
	return way;
}

/* Send what waited for @mac, and free it. */
static void held_send(const struct link_port *port, struct neigh_held *held,
	const uint8_t mac[ETH_MAC_SIZE])
{
	struct neigh_held *next;

	for (; held; held = next) {
		next = held->next;
		memcpy(held->data + PORT_VNET_SIZE, mac, ETH_MAC_SIZE);
		if (send(port->fd, held->data, held->size, MSG_DONTWAIT) < 0) {
			/* lost, like a packet on the wire */
		}
		free(held);
	}
}

void port_neigh_hold(
	struct link_port *port, const uint8_t dst[16], struct neigh_held *held)
{
	uint8_t mac[ETH_MAC_SIZE];
	bool known;

	table_lock(port);
	known = !neigh_hold(port->neigh, dst, held, now_ns(), mac);
	table_unlock(port);
	if (known)
		held_send(port, held, mac);
}

/* Somebody else says that our address is theirs. */
static void conflict(struct link_port *port, const struct neigh_msg *msg)
{
	static struct log_limit limit;
	uint8_t frame[NEIGH_MSG_MAX];
	char addr[INET6_ADDRSTRLEN];
	uint64_t now = now_ns();

	port->link.stats.neigh_conflicts++;
	inet_ntop(AF_INET6, port->self.gid, addr, sizeof(addr));
	log_limited(&limit, LOG_LEVEL_WARN, "port",
		"%s: address %s is also used by %02x:%02x:%02x:%02x:%02x:%02x",
		port->link.ifname, addr, msg->mac[0], msg->mac[1], msg->mac[2],
		msg->mac[3], msg->mac[4], msg->mac[5]);
	if (!port->defends || now - port->defended_ns < DEFEND_NS)
		return;
	port->defended_ns = now;
	port_frame_send(port, frame, neigh_announce_put(&port->self, frame));
}

static void answer(struct link_port *port, const struct neigh_msg *query)
{
	uint8_t frame[NEIGH_MSG_MAX];

	port->link.stats.neigh_answers++;
	port_frame_send(port, frame, neigh_answer_put(&port->self, query, frame));
}

static void told(struct link_port *port, const struct neigh_msg *msg)
{
	uint8_t mac[ETH_MAC_SIZE];
	struct neigh_held *held;
	struct neigh_ask what;

	table_lock(port);
	held = neigh_told(port->neigh, msg, now_ns(), mac, &what);
	table_unlock(port);
	ask(port, &what);
	held_send(port, held, mac);
}

void port_neigh_input(struct link_port *port, const uint8_t *frame, size_t size)
{
	struct neigh_msg msg;
	int err = neigh_msg_parse(frame, size, &msg);
	bool about_us;

	if (err) {
		port->link.stats.neigh_malformed += err == -EPROTO;
		return;
	}
	if (!memcmp(frame + 6, port->self.mac, ETH_MAC_SIZE))
		return; /* our own, come back */
	about_us = !memcmp(msg.target, port->self.gid, 16);
	if ((msg.has_from && !memcmp(msg.from, port->self.gid, 16)) ||
		(about_us && msg.kind != NEIGH_MSG_QUERY))
		conflict(port, &msg);
	else if (about_us)
		answer(port, &msg);
	else if (msg.kind != NEIGH_MSG_QUERY)
		told(port, &msg);
}

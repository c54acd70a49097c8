/* SPDX-License-Identifier: BSD-3-Clause */
#include "pmd/control_priv.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "lib/util.h"

struct peer *peer_find(struct control *control, const union control_addr *addr)
{
	for (size_t i = 0; i < ARRAY_SIZE(control->peers); i++) {
		struct peer *peer = &control->peers[i];

		if (peer->is_used && control_addr_same_host(&peer->addr, addr))
			return peer;
	}
	return NULL;
}

struct peer *peer_add(
	struct control *control, const union control_addr *addr, bool is_dynamic)
{
	for (size_t i = 0; i < ARRAY_SIZE(control->peers); i++) {
		struct peer *peer = &control->peers[i];

		if (peer->is_used)
			continue;
		peer->is_used = true;
		peer->is_dynamic = is_dynamic;
		peer->addr = *addr;
		return peer;
	}
	return NULL;
}

void peer_free(struct peer *peer)
{
	assert(!peer->claimed && !peer->outgoing);
	memset(peer, 0, sizeof(*peer));
}

unsigned peer_index(const struct control *control, const struct peer *peer)
{
	return (unsigned)(peer - control->peers);
}

uint64_t peer_deadline(const struct peer *peer)
{
	if (!peer->is_used || peer->is_dynamic || peer->is_removed || peer->claimed ||
		peer->outgoing)
		return UINT64_MAX;
	return peer->try_at_ns;
}

void peer_came_up(struct control *control, struct peer *peer, uint64_t now_ns)
{
	const struct hello_endpoint *ep = &peer->claimed->fsm.endpoint;
	char text[CONTROL_ADDR_TEXT];

	peer->up_since_ns = now_ns;
	peer->n_up++;
	peer->n_retries = 0;
	peer->last_error[0] = '\0';
	peer->refused_error[0] = '\0';
	control->n_ups++;
	log_limited(&peer->log_limit, LOG_LEVEL_INFO, CONTROL_MODULE,
		"peer %s is up: node %s, %u queue pair(s), path MTU %u",
		control_addr_text(&peer->addr, text),
		ep->name[0] ? ep->name : "(no name)", ep->n_qps, ep->path_mtu);
}

/* Doubles from try to try, and +-25 % so that a fleet does not try in step. */
static uint64_t backoff_next(const struct hello_timers *timers, struct peer *peer)
{
	uint64_t ns = peer->backoff_ns ? 2 * peer->backoff_ns : timers->backoff_min_ns;

	peer->backoff_ns = MIN(ns, timers->backoff_max_ns);
	return peer->backoff_ns - peer->backoff_ns / 4 +
	       peer->backoff_ns / 2 * (random_u32() >> 16) / 65536;
}

static void error_log(struct peer *peer, const char *error)
{
	bool was_up = peer->up_since_ns != 0;
	char text[CONTROL_ADDR_TEXT];

	if (was_up || strcmp(peer->last_error, error) != 0)
		log_limited(&peer->log_limit, LOG_LEVEL_WARN, CONTROL_MODULE,
			"peer %s %s: %s", control_addr_text(&peer->addr, text),
			was_up ? "is down" : "cannot be reached", error);
	snprintf(peer->last_error, sizeof(peer->last_error), "%s", error);
}

void peer_retry(
	struct control *control, struct peer *peer, const char *error, uint64_t now_ns)
{
	if (error)
		error_log(peer, error);
	if (peer->up_since_ns && now_ns - peer->up_since_ns >= control->timers.stable_ns)
		peer->backoff_ns = 0;
	peer->up_since_ns = 0;
	peer->try_at_ns = now_ns + backoff_next(&control->timers, peer);
}

void peer_refused(struct peer *peer, const char *error)
{
	char text[CONTROL_ADDR_TEXT];

	if (strcmp(peer->refused_error, error) == 0)
		return;
	snprintf(peer->refused_error, sizeof(peer->refused_error), "%s", error);
	log_limited(&peer->log_limit, LOG_LEVEL_WARN, CONTROL_MODULE,
		"connection from peer %s ended: %s", control_addr_text(&peer->addr, text),
		error);
}

void peer_snapshot(
	const struct peer *peer, struct control_peer_info *info, uint64_t now_ns)
{
	memset(info, 0, sizeof(*info));
	control_addr_text(&peer->addr, info->address);
	info->port = peer->is_dynamic ? 0 : control_addr_port(&peer->addr);
	info->dynamic = peer->is_dynamic;
	info->n_up = peer->n_up;
	info->n_retries = peer->n_retries;
	memcpy(info->last_error, peer->last_error, sizeof(info->last_error));

	if (peer->up_since_ns) {
		info->up = true;
		info->state = "up";
		info->uptime_ns = now_ns - peer->up_since_ns;
		info->remote = peer->claimed->fsm.endpoint;
	} else if (peer->claimed) {
		info->state = "handshake";
	} else if (peer->outgoing) {
		info->state = peer->outgoing->phase == CONN_CONNECTING ? "connecting"
								       : "handshake";
	} else {
		info->state = "waiting";
	}
	if (peer->claimed)
		info->instance = peer->claimed->fsm.remote.instance;
}

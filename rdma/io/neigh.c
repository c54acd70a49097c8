/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The times are those of RFC 4861 (section 10) in round numbers, but for the first
 * questions, which follow each other faster: RoCE gives up on a peer within seconds.
 */
#include "neigh.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "gid.h"
#include "lib/util.h"

#define ASK_FIRST_NS (50 * NSEC_PER_MSEC) /* doubles with each question, up to: */
#define ASK_LAST_NS  (1 * NSEC_PER_SEC)
#define FRESH_NS     (30 * NSEC_PER_SEC)
#define CHECKS	     3
#define HOLD_NS	     (1 * NSEC_PER_SEC)
#define IDLE_NS	     (1 * NSEC_PER_SEC) /* unused for so long, an entry may make room */
#define BUCKETS	     256

enum neigh_state {
	/* The MAC is not known; everybody is asked while there is something to send.
	 * Packets may be held. Left by an answer. */
	NEIGH_ASKING,
	/* The MAC is known. Left when it has not been confirmed for long, or is doubted.
	 */
	NEIGH_KNOWN,
	/* The MAC is known and used, and its host asked whether that is still so. After
	 * some questions in vain it is forgotten. */
	NEIGH_CHECKING,
	/* As NEIGH_CHECKING, but everybody is asked: somebody said another MAC. */
	NEIGH_DOUBTED,
};

struct neigh {
	TAILQ_ENTRY(neigh) by_use; /* the one used last is last */
	struct neigh *next;	   /* in the bucket */
	uint8_t gid[16];
	uint8_t mac[ETH_MAC_SIZE]; /* not in NEIGH_ASKING */
	enum neigh_state state;
	uint32_t n_asked; /* in this state */
	uint64_t asked_ns;
	uint64_t confirmed_ns;
	uint64_t used_ns;
	struct neigh_held *held, **held_end;
	size_t held_bytes;
};

struct neigh_table {
	struct neigh_config config;
	struct neigh_stats stats;
	uint32_t seed;
	uint32_t n;
	size_t held_bytes;
	TAILQ_HEAD(, neigh) by_use;
	struct neigh *bucket[BUCKETS];
};

int neigh_create(const struct neigh_config *config, struct neigh_table **out)
{
	struct neigh_table *table = calloc(1, sizeof(*table));

	if (!table)
		return -ENOMEM;
	table->config = *config;
	table->seed = random_u32() | 1;
	TAILQ_INIT(&table->by_use);
	*out = table;
	return 0;
}

const struct neigh_stats *neigh_stats(const struct neigh_table *table)
{
	return &table->stats;
}

/* Entries */

static struct neigh **bucket_of(struct neigh_table *table, const uint8_t gid[16])
{
	uint32_t hash = table->seed, word;

	for (int i = 0; i < 16; i += 4) {
		memcpy(&word, gid + i, sizeof(word));
		hash = (hash ^ word) * 0x9e3779b1u;
		hash ^= hash >> 15;
	}
	return &table->bucket[hash % BUCKETS];
}

static struct neigh *entry_find(struct neigh_table *table, const uint8_t gid[16])
{
	struct neigh *n = *bucket_of(table, gid);

	while (n && memcmp(n->gid, gid, sizeof(n->gid)) != 0)
		n = n->next;
	return n;
}

static struct neigh_held *held_take(struct neigh_table *table, struct neigh *n)
{
	struct neigh_held *held = n->held;

	table->held_bytes -= n->held_bytes;
	n->held_bytes = 0;
	n->held = NULL;
	n->held_end = &n->held;
	return held;
}

static void held_drop(struct neigh_table *table, struct neigh *n)
{
	struct neigh_held *held = held_take(table, n), *next;

	for (; held; held = next) {
		next = held->next;
		table->stats.unresolved += held->n_packets;
		free(held);
	}
}

static void entry_free(struct neigh_table *table, struct neigh *n)
{
	struct neigh **at = bucket_of(table, n->gid);

	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	TAILQ_REMOVE(&table->by_use, n, by_use);
	held_drop(table, n);
	table->n--;
	free(n);
}

void neigh_destroy(struct neigh_table *table)
{
	struct neigh *n;

	if (!table)
		return;
	while ((n = TAILQ_FIRST(&table->by_use)))
		entry_free(table, n);
	free(table);
}

static struct neigh *entry_make(
	struct neigh_table *table, const uint8_t gid[16], uint64_t now_ns)
{
	struct neigh *n = TAILQ_FIRST(&table->by_use), **bucket;

	if (table->n == NEIGH_MAX) {
		if (now_ns - n->used_ns < IDLE_NS)
			return NULL;
		entry_free(table, n);
		table->stats.evicted++;
	}
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	memcpy(n->gid, gid, sizeof(n->gid));
	n->held_end = &n->held;
	bucket = bucket_of(table, gid);
	n->next = *bucket;
	*bucket = n;
	TAILQ_INSERT_TAIL(&table->by_use, n, by_use);
	table->n++;
	return n;
}

/* The states */

static void state_set(struct neigh *n, enum neigh_state state)
{
	n->state = state;
	n->n_asked = 0;
}

static void ask_put(struct neigh_table *table, struct neigh *n, uint64_t now_ns,
	struct neigh_ask *ask)
{
	n->asked_ns = now_ns;
	n->n_asked++;
	table->stats.asked++;
	ask->wanted = true;
	ask->everybody = n->state != NEIGH_CHECKING;
	memcpy(ask->mac, n->mac, sizeof(ask->mac));
	memcpy(ask->target, n->gid, sizeof(ask->target));
}

static bool may_ask(const struct neigh *n, uint64_t now_ns)
{
	uint64_t wait = n->state == NEIGH_ASKING
				? MIN(ASK_FIRST_NS << MIN(n->n_asked, 8u), ASK_LAST_NS)
				: ASK_LAST_NS;

	/* a liar is not to make us ask all the time */
	return (n->n_asked == 0 && n->state != NEIGH_DOUBTED) ||
	       now_ns - n->asked_ns >= wait;
}

/* Somebody sends to the neighbour: ask, where it is time to. */
static void entry_use(struct neigh_table *table, struct neigh *n, uint64_t now_ns,
	struct neigh_ask *ask)
{
	if (n->state == NEIGH_KNOWN && now_ns - n->confirmed_ns >= FRESH_NS)
		state_set(n, NEIGH_CHECKING);
	if (n->state == NEIGH_KNOWN || !may_ask(n, now_ns))
		return;
	if (n->state != NEIGH_ASKING && n->n_asked == CHECKS)
		state_set(n, NEIGH_ASKING);
	ask_put(table, n, now_ns, ask);
}

bool neigh_in_network(const struct neigh_config *config, const uint8_t gid[16])
{
	uint32_t bytes = config->prefix_len / 8, bits = config->prefix_len % 8;

	if (gid[0] == 0xfe && (gid[1] & 0xc0) == 0x80) /* link-local */
		return true;
	if (memcmp(gid, config->gid, bytes) != 0)
		return false;
	return !bits || !((gid[bytes] ^ config->gid[bytes]) >> (8 - bits));
}

/* NULL: there is none. */
static const uint8_t *next_hop(const struct neigh_table *table, const uint8_t dst[16])
{
	if (neigh_in_network(&table->config, dst))
		return dst;
	return table->config.has_gateway ? table->config.gateway : NULL;
}

enum neigh_way neigh_find(struct neigh_table *table, const uint8_t dst[16],
	uint64_t now_ns, uint32_t n_packets, uint8_t mac[ETH_MAC_SIZE],
	struct neigh_ask *ask)
{
	const uint8_t *hop = next_hop(table, dst);
	struct neigh *n;

	ask->wanted = false;
	if (!hop) {
		table->stats.no_route += n_packets;
		return NEIGH_DROP;
	}
	n = entry_find(table, hop);
	if (!n)
		n = entry_make(table, hop, now_ns);
	if (!n) {
		table->stats.unresolved += n_packets;
		return NEIGH_DROP;
	}
	n->used_ns = now_ns;
	TAILQ_REMOVE(&table->by_use, n, by_use);
	TAILQ_INSERT_TAIL(&table->by_use, n, by_use);
	entry_use(table, n, now_ns, ask);
	if (n->state == NEIGH_ASKING)
		return NEIGH_WAIT;
	memcpy(mac, n->mac, sizeof(n->mac));
	return NEIGH_SEND;
}

bool neigh_hold(struct neigh_table *table, const uint8_t dst[16], struct neigh_held *held,
	uint64_t now_ns, uint8_t mac[ETH_MAC_SIZE])
{
	struct neigh *n = entry_find(table, next_hop(table, dst));

	if (n->state != NEIGH_ASKING) {
		memcpy(mac, n->mac, sizeof(n->mac));
		return false;
	}
	if (n->held && now_ns - n->held->since_ns >= HOLD_NS)
		held_drop(table, n);
	if (n->held_bytes + held->size > NEIGH_HELD_BYTES ||
		table->held_bytes + held->size > NEIGH_HELD_BYTES_ALL) {
		table->stats.unresolved += held->n_packets;
		free(held);
		return true;
	}
	held->since_ns = now_ns;
	held->next = NULL;
	*n->held_end = held;
	n->held_end = &held->next;
	n->held_bytes += held->size;
	table->held_bytes += held->size;
	return true;
}

/* Somebody tells another MAC than we know, unasked: ask everybody, but not too often. */
static void doubt(struct neigh_table *table, struct neigh *n, uint64_t now_ns,
	struct neigh_ask *ask)
{
	table->stats.ignored++;
	if (n->state == NEIGH_DOUBTED)
		return;
	state_set(n, NEIGH_DOUBTED);
	if (may_ask(n, now_ns)) /* else entry_use() does, in time */
		ask_put(table, n, now_ns, ask);
}

/* Does @msg answer what this entry waits for? */
static bool is_awaited(const struct neigh *n, const struct neigh_msg *msg, bool same_mac)
{
	switch (n->state) {
	case NEIGH_ASKING:
		return msg->has_mac;
	case NEIGH_CHECKING:
		return msg->kind == NEIGH_MSG_ANSWER && same_mac;
	case NEIGH_DOUBTED:
		return msg->kind == NEIGH_MSG_ANSWER && n->n_asked > 0;
	default:
		return false;
	}
}

struct neigh_held *neigh_told(struct neigh_table *table, const struct neigh_msg *msg,
	uint64_t now_ns, uint8_t mac[ETH_MAC_SIZE], struct neigh_ask *ask)
{
	struct neigh *n = entry_find(table, msg->target);
	bool same_mac;

	ask->wanted = false;
	if (!n) {
		table->stats.ignored++;
		return NULL;
	}
	same_mac = n->state != NEIGH_ASKING &&
		   (!msg->has_mac || !memcmp(n->mac, msg->mac, sizeof(n->mac)));
	if (!is_awaited(n, msg, same_mac)) {
		if (!same_mac && n->state != NEIGH_ASKING)
			doubt(table, n, now_ns, ask);
		return NULL;
	}
	if (n->state != NEIGH_ASKING && !same_mac)
		table->stats.moved++;
	if (msg->has_mac)
		memcpy(n->mac, msg->mac, sizeof(n->mac));
	memcpy(mac, n->mac, sizeof(n->mac));
	n->confirmed_ns = now_ns;
	table->stats.answered++;
	state_set(n, NEIGH_KNOWN);
	return held_take(table, n);
}

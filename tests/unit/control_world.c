/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/control_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "pmd/control_addr.h"

unsigned forced_pid;

/* Short enough that the test is quick, long enough for a busy machine. */
const struct hello_timers control_world_timers = {
	.connect_ns = 3 * NSEC_PER_SEC,
	.handshake_ns = 5 * NSEC_PER_SEC,
	.keepalive_ns = 100 * NSEC_PER_MSEC,
	.dead_ns = 5 * NSEC_PER_SEC,
	.linger_ns = 500 * NSEC_PER_MSEC,
	.backoff_min_ns = 20 * NSEC_PER_MSEC,
	.backoff_max_ns = 200 * NSEC_PER_MSEC,
	.stable_ns = 10 * NSEC_PER_SEC,
	.listen_retry_ns = 50 * NSEC_PER_MSEC,
};

/* ---- a driver that only keeps books ---- */

static int on_open(void *arg, unsigned peer, struct hello_endpoint *local)
{
	struct node *node = arg;
	struct book *book = &node->books[peer];
	int rc;

	pthread_mutex_lock(&node->lock);
	assert_false(book->open);
	rc = node->open_rc;
	if (!rc) {
		book->open = true;
		book->n_open++;
		memcpy(local->gid, node->gid, 16);
		local->max_message = 65536 + 64;
		local->rx_depth = 256;
		local->path_mtu = 4096;
		local->n_qps = 1;
		local->qp[0].qpn = ++node->qpn;
		local->qp[0].psn = 0x123456;
		snprintf(local->name, sizeof(local->name), "%s", node->address);
	}
	pthread_mutex_unlock(&node->lock);
	return rc;
}

static int on_connect(void *arg, unsigned peer, const struct hello_endpoint *remote)
{
	struct node *node = arg;
	struct book *book = &node->books[peer];
	int rc;

	pthread_mutex_lock(&node->lock);
	assert_true(book->open && !book->connected);
	rc = node->connect_rc;
	book->connected = !rc;
	book->remote = *remote;
	pthread_mutex_unlock(&node->lock);
	return rc;
}

static void on_up(void *arg, unsigned peer)
{
	struct node *node = arg;
	struct book *book = &node->books[peer];

	pthread_mutex_lock(&node->lock);
	assert_true(book->connected && !book->up);
	book->up = true;
	book->n_up++;
	pthread_mutex_unlock(&node->lock);
}

static void on_down(void *arg, unsigned peer, const char *reason)
{
	struct node *node = arg;
	struct book *book = &node->books[peer];

	pthread_mutex_lock(&node->lock);
	assert_true(book->open);
	assert_true(reason[0]);
	book->open = book->connected = book->up = false;
	book->n_down++;
	pthread_mutex_unlock(&node->lock);
}

const struct control_ops control_world_ops = {on_open, on_connect, on_up, on_down, NULL};

/* ---- helpers ---- */

const char *address(unsigned i, char text[TEXT_MAX])
{
	unsigned pid = forced_pid ? forced_pid : (unsigned)getpid();

	snprintf(text, TEXT_MAX, "127.%u.%u.%u", 16 + (pid >> 16) % 64, (pid >> 8) & 0xff,
		(pid & 0xff) ^ (i << 5));
	if (i >= 8)
		snprintf(text, TEXT_MAX, "127.%u.%u.%u", 80 + i, (pid >> 8) & 0xff,
			pid & 0xff);
	return text;
}

struct node *node_new(unsigned i)
{
	struct node *node = calloc(1, sizeof(*node));
	union control_addr addr;

	assert_non_null(node);
	address(i, node->address);
	assert_int_equal(control_addr_parse(node->address, 0, &addr), 0);
	control_addr_gid(&addr, node->gid);
	node->qpn = 16;
	pthread_mutex_init(&node->lock, NULL);
	return node;
}

void node_start_keyed(struct node *node, const int *peers, const struct hello_key *key)
{
	char texts[N_PEERS][TEXT_MAX];
	struct control_peer config_peers[N_PEERS] = {0};
	struct control_config config = {
		.local_address = node->address,
		.key = key,
		.peers = config_peers,
		.timers = &control_world_timers,
		.ops = &control_world_ops,
		.arg = node,
	};

	for (; peers[config.n_peers] >= 0; config.n_peers++)
		config_peers[config.n_peers].address =
			address((unsigned)peers[config.n_peers], texts[config.n_peers]);
	assert_int_equal(control_start(&config, &node->control), 0);
}

void node_start(struct node *node, const int *peers)
{
	node_start_keyed(node, peers, NULL);
}

void node_stop(struct node *node)
{
	control_stop(node->control);
	node->control = NULL;
	for (size_t i = 0; i < CONTROL_PEERS_MAX; i++) {
		assert_false(node->books[i].open);
		assert_int_equal(node->books[i].n_open, node->books[i].n_down);
	}
}

void node_free(struct node *node)
{
	pthread_mutex_destroy(&node->lock);
	free(node);
}

struct book book_get(struct node *node, unsigned peer)
{
	struct book book;

	pthread_mutex_lock(&node->lock);
	book = node->books[peer];
	pthread_mutex_unlock(&node->lock);
	return book;
}

uint64_t counter(struct node *node, const char *name)
{
	struct control_counter counters[64];
	unsigned n = control_counters_get(node->control, counters, 64);

	assert_true(n <= 64);
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(counters[i].name, name) == 0)
			return counters[i].value;
	}
	fail_msg("no counter %s", name);
	return 0;
}

uint64_t ends(struct node *node)
{
	struct control_counter counters[64];
	unsigned n = control_counters_get(node->control, counters, 64);
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++) {
		if (strncmp(counters[i].name, "hello_end_", 10) == 0 ||
			strncmp(counters[i].name, "hello_bye_", 10) == 0)
			sum += counters[i].value;
	}
	return sum;
}

bool is_up(struct node *node, unsigned peer)
{
	return book_get(node, peer).up;
}

int dial(const char *from, const char *to)
{
	union control_addr a, b;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(control_addr_parse(from, 0, &a), 0);
	assert_int_equal(control_addr_parse(to, HELLO_PORT_DEFAULT, &b), 0);
	assert_int_equal(bind(fd, &a.sa, sizeof(a.in4)), 0);
	if (connect(fd, &b.sa, sizeof(b.in4)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

bool dial_until(const char *from, const char *to, int *fd)
{
	return (*fd = dial(from, to)) >= 0;
}

void key_set(struct hello_key *key, const char *text)
{
	key->size = strlen(text);
	memcpy(key->bytes, text, key->size);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control threads over loopback: real sockets, real threads, short timers. Nothing here
 * asserts how long a thing takes; waits end in failure only after WAIT_S seconds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/util.h"
#include "pmd/control.h"
#include "pmd/control_addr.h"

#define WAIT_S	 60
#define N_PEERS	 16
#define TEXT_MAX 32

/* Short enough that the test is quick, long enough for a busy machine. */
static const struct hello_timers timers = {
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

/* What the driver has been told of one peer; the order is checked at each call. */
struct book {
	bool open, connected, up;
	unsigned n_open, n_up, n_down;
	struct hello_endpoint remote;
};

struct node {
	char address[TEXT_MAX];
	struct control *control;
	uint8_t gid[16];
	unsigned qpn;
	int open_rc, connect_rc;
	pthread_mutex_t lock;
	struct book books[CONTROL_PEERS_MAX];
};

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

static const struct control_ops ops = {on_open, on_connect, on_up, on_down};

/* ---- helpers ---- */

/* Loopback addresses of this process alone, as other tests run beside it. */
static unsigned forced_pid; /* in a child: the parent's */

static const char *address(unsigned i, char text[TEXT_MAX])
{
	unsigned pid = forced_pid ? forced_pid : (unsigned)getpid();

	snprintf(text, TEXT_MAX, "127.%u.%u.%u", 16 + (pid >> 16) % 64, (pid >> 8) & 0xff,
		(pid & 0xff) ^ (i << 5));
	if (i >= 8)
		snprintf(text, TEXT_MAX, "127.%u.%u.%u", 80 + i, (pid >> 8) & 0xff,
			pid & 0xff);
	return text;
}

static struct node *node_new(unsigned i)
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

/* @peers: numbers of nodes, ended by -1 */
static void node_start_keyed(
	struct node *node, const int *peers, const struct hello_key *key)
{
	char texts[N_PEERS][TEXT_MAX];
	struct control_peer config_peers[N_PEERS] = {0};
	struct control_config config = {
		.local_address = node->address,
		.key = key,
		.peers = config_peers,
		.timers = &timers,
		.ops = &ops,
		.arg = node,
	};

	for (; peers[config.n_peers] >= 0; config.n_peers++)
		config_peers[config.n_peers].address =
			address((unsigned)peers[config.n_peers], texts[config.n_peers]);
	assert_int_equal(control_start(&config, &node->control), 0);
}

static void node_start(struct node *node, const int *peers)
{
	node_start_keyed(node, peers, NULL);
}

static void node_stop(struct node *node)
{
	control_stop(node->control);
	node->control = NULL;
	for (size_t i = 0; i < CONTROL_PEERS_MAX; i++) {
		assert_false(node->books[i].open);
		assert_int_equal(node->books[i].n_open, node->books[i].n_down);
	}
}

static void node_free(struct node *node)
{
	pthread_mutex_destroy(&node->lock);
	free(node);
}

static struct book book_get(struct node *node, unsigned peer)
{
	struct book book;

	pthread_mutex_lock(&node->lock);
	book = node->books[peer];
	pthread_mutex_unlock(&node->lock);
	return book;
}

static uint64_t counter(struct node *node, const char *name)
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

/* Every TCP connection that is not open any more is in one end counter. */
static uint64_t ends(struct node *node)
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

#define WAIT_FOR(condition)                                                 \
	do {                                                                \
		uint64_t end_ns = now_ns() + WAIT_S * NSEC_PER_SEC;         \
                                                                            \
		while (!(condition)) {                                      \
			if (now_ns() > end_ns)                              \
				fail_msg("waited in vain for " #condition); \
			usleep(2000);                                       \
		}                                                           \
	} while (0)

static bool is_up(struct node *node, unsigned peer)
{
	return book_get(node, peer).up;
}

/* A TCP connection from @from to @to, as a stranger would make it; blocking. */
static int dial(const char *from, const char *to)
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

static bool dial_until(const char *from, const char *to, int *fd)
{
	return (*fd = dial(from, to)) >= 0;
}

/* ---- the tests ---- */

static void test_two_nodes(void **state)
{
	struct node *a = node_new(1), *b = node_new(2);
	struct control_peer_info info;

	node_start(a, (int[]){2, -1});
	node_start(b, (int[]){1, -1});
	WAIT_FOR(is_up(a, 0) && is_up(b, 0));

	/* Simultaneous connects: one connection came up, once, and nothing flapped. */
	assert_int_equal(book_get(a, 0).n_open, 1);
	assert_int_equal(book_get(b, 0).n_open, 1);
	assert_int_equal(book_get(a, 0).remote.qp[0].qpn, 17);
	assert_int_equal(book_get(a, 0).remote.qp[0].psn, 0x123456);
	assert_string_equal(book_get(a, 0).remote.name, b->address);

	assert_int_equal(control_peer_get(a->control, 0, &info), 0);
	assert_string_equal(info.address, b->address);
	assert_true(info.up && !info.dynamic && info.n_up == 1);
	assert_string_equal(info.state, "up");
	assert_memory_equal(info.remote.gid, b->gid, 16);
	assert_int_equal(control_peer_get(a->control, 1, &info), -ENOENT);
	assert_int_equal(control_peer_get(a->control, CONTROL_PEERS_MAX, &info), -ENOENT);

	node_stop(b);
	WAIT_FOR(!is_up(a, 0));
	assert_int_equal(control_peer_get(a->control, 0, &info), 0);
	assert_false(info.up);
	node_stop(a);
	node_free(a);
	node_free(b);
}

static void test_late_and_restarted(void **state)
{
	struct node *a = node_new(1), *b = node_new(2);

	node_start(a, (int[]){2, -1});
	WAIT_FOR(counter(a, "hello_end_connect") > 2);
	for (unsigned i = 1; i <= 5; i++) {
		node_start(b, (int[]){1, -1});
		WAIT_FOR(is_up(a, 0) && is_up(b, 0));
		assert_int_equal(book_get(a, 0).n_open, i);
		assert_int_equal(book_get(b, 0).n_open, i);
		node_stop(b);
	}
	node_stop(a);
	node_free(a);
	node_free(b);
}

/* Both sides connect at the same time, over and over: always one connection comes up. */
static void test_simultaneous(void **state)
{
	for (int i = 0; i < 50; i++) {
		struct node *a = node_new(1), *b = node_new(2);

		node_start(a, (int[]){2, -1});
		node_start(b, (int[]){1, -1});
		WAIT_FOR(is_up(a, 0) && is_up(b, 0));
		assert_int_equal(counter(a, "hello_ups"), 1);
		assert_int_equal(counter(b, "hello_ups"), 1);
		/* All connections are accounted for but the one that is there. */
		WAIT_FOR(counter(a, "hello_connects") + counter(a, "hello_accepts") ==
			 ends(a) + 1);
		WAIT_FOR(counter(b, "hello_connects") + counter(b, "hello_accepts") ==
			 ends(b) + 1);
		assert_true(is_up(a, 0) && is_up(b, 0));
		assert_int_equal(counter(a, "hello_ups"), 1);
		node_stop(a);
		node_stop(b);
		node_free(a);
		node_free(b);
	}
}

static void key_set(struct hello_key *key, const char *text)
{
	key->size = strlen(text);
	memcpy(key->bytes, text, key->size);
}

/* All of @n nodes but @self, ended by -1 */
static void others(unsigned n, unsigned self, int peers[N_PEERS + 1])
{
	unsigned k = 0;

	for (unsigned i = 0; i < n; i++) {
		if (i != self)
			peers[k++] = (int)i;
	}
	peers[k] = -1;
}

static unsigned n_up(struct node *node, unsigned n)
{
	unsigned up = 0;

	for (unsigned i = 0; i < n; i++)
		up += is_up(node, i);
	return up;
}

static void test_mesh_keyed(void **state)
{
	struct node *nodes[N_PEERS];
	int peers[N_PEERS + 1];
	struct hello_key key;

	key_set(&key, "a key that everybody knows");
	for (unsigned i = 0; i < N_PEERS; i++)
		nodes[i] = node_new(i);
	for (unsigned i = 0; i < N_PEERS; i++) {
		others(N_PEERS, i, peers);
		node_start_keyed(nodes[i], peers, &key);
	}
	for (unsigned i = 0; i < N_PEERS; i++)
		WAIT_FOR(n_up(nodes[i], N_PEERS) == N_PEERS - 1);
	for (unsigned i = 0; i < N_PEERS; i++)
		assert_int_equal(counter(nodes[i], "hello_ups"), N_PEERS - 1);
	for (unsigned i = 0; i < N_PEERS; i++) {
		node_stop(nodes[i]);
		node_free(nodes[i]);
	}
}

static void refused(const struct hello_key *key_a, const struct hello_key *key_b,
	const char *counter_a, const char *counter_b, const char *error)
{
	struct node *a = node_new(1), *b = node_new(2);
	struct control_peer_info info;

	node_start_keyed(a, (int[]){2, -1}, key_a);
	node_start_keyed(b, (int[]){1, -1}, key_b);
	WAIT_FOR(counter(a, counter_a) && counter(b, counter_b));
	WAIT_FOR(control_peer_get(a->control, 0, &info) == 0 &&
		 strcmp(info.last_error, error) == 0);
	assert_int_equal(book_get(a, 0).n_open, 0);
	assert_int_equal(book_get(b, 0).n_open, 0);
	node_stop(a);
	node_stop(b);
	node_free(a);
	node_free(b);
}

static void test_wrong_key(void **state)
{
	struct hello_key one, other;

	key_set(&one, "0123456789abcdef0123456789abcdef");
	key_set(&other, "0123456789abcdef0123456789abcdeF");
	/* In a's own tries b judges first. */
	refused(&one, &other, "hello_bye_auth", "hello_end_auth",
		"this side does not have the peer's key");
	refused(&one, NULL, "hello_bye_key_unexpected", "hello_end_key_unexpected",
		"the peer has no key and this side has one");
	refused(NULL, &one, "hello_bye_key_required", "hello_end_key_required",
		"the peer has a key and this side has none");
}

/* Without a key who is not configured gets nothing; with one it becomes a peer. */
static void test_strangers(void **state)
{
	struct node *a = node_new(1), *b = node_new(2);
	struct control_peer_info info;
	struct hello_key key;

	node_start(a, (int[]){-1});
	node_start(b, (int[]){1, -1});
	WAIT_FOR(counter(b, "hello_bye_unknown_peer"));
	assert_int_equal(book_get(a, 0).n_open, 0);
	node_stop(a);
	node_stop(b);

	key_set(&key, "sixteen letters!");
	node_start_keyed(a, (int[]){-1}, &key);
	node_start_keyed(b, (int[]){1, -1}, &key);
	WAIT_FOR(is_up(a, 0) && is_up(b, 0));
	assert_int_equal(control_peer_get(a->control, 0, &info), 0);
	assert_true(info.dynamic);
	assert_string_equal(info.address, b->address);

	/* It may be configured later, without a break; removed, it goes. */
	assert_int_equal(control_add_peer(a->control,
				 &(struct control_peer){.address = b->address}),
		0);
	assert_int_equal(control_peer_get(a->control, 0, &info), 0);
	assert_true(info.up && !info.dynamic);
	assert_int_equal(control_add_peer(a->control,
				 &(struct control_peer){.address = b->address}),
		-EEXIST);
	node_stop(b);
	WAIT_FOR(!is_up(a, 0));
	assert_int_equal(control_peer_get(a->control, 0, &info), 0);
	assert_int_equal(control_remove_peer(a->control, b->address), 0);
	WAIT_FOR(control_peer_get(a->control, 0, &info) == -ENOENT);
	assert_int_equal(control_remove_peer(a->control, b->address), -ENOENT);

	/* A dynamic one is forgotten when it is gone. */
	node_start_keyed(b, (int[]){1, -1}, &key);
	WAIT_FOR(is_up(a, 0));
	node_stop(b);
	WAIT_FOR(control_peer_get(a->control, 0, &info) == -ENOENT);
	node_stop(a);
	node_free(a);
	node_free(b);
}

static void test_add_remove(void **state)
{
	struct node *a = node_new(1), *b = node_new(2);

	node_start(a, (int[]){-1});
	node_start(b, (int[]){1, -1});
	assert_int_equal(control_add_peer(a->control,
				 &(struct control_peer){.address = b->address}),
		0);
	WAIT_FOR(is_up(a, 0) && is_up(b, 0));
	assert_int_equal(control_remove_peer(a->control, b->address), 0);
	WAIT_FOR(!is_up(a, 0) && !is_up(b, 0));
	WAIT_FOR(counter(b, "hello_bye_removed") && counter(b, "hello_bye_unknown_peer"));
	node_stop(a);
	node_stop(b);
	node_free(a);
	node_free(b);
}

/* A queue pair breaks on either side: both start over, and come up again. */
static void test_qp_failed(void **state)
{
	struct node *a = node_new(1), *b = node_new(2);

	node_start(a, (int[]){2, -1});
	node_start(b, (int[]){1, -1});
	for (unsigned i = 1; i <= 6; i++) {
		WAIT_FOR(is_up(a, 0) && is_up(b, 0));
		assert_int_equal(book_get(a, 0).n_up, i);
		assert_int_equal(book_get(b, 0).n_up, i);
		for (int again = 0; again < 3; again++)
			control_conn_failed((i % 2 ? a : b)->control, 0);
		WAIT_FOR(book_get(a, 0).n_down == i && book_get(b, 0).n_down == i);
	}
	control_conn_failed(a->control, CONTROL_PEERS_MAX);
	node_stop(a);
	node_stop(b);
	node_free(a);
	node_free(b);
}

/* The driver cannot make or connect queue pairs: refused, tried again, and then it can.
 */
static void test_driver_fails(void **state)
{
	struct node *a = node_new(1), *b = node_new(2);

	a->open_rc = -ENOMEM;
	node_start(a, (int[]){2, -1});
	node_start(b, (int[]){1, -1});
	WAIT_FOR(counter(b, "hello_bye_resources") > 2);
	pthread_mutex_lock(&a->lock);
	a->open_rc = 0;
	a->connect_rc = -EIO;
	pthread_mutex_unlock(&a->lock);
	WAIT_FOR(book_get(a, 0).n_down > 2);
	assert_false(is_up(b, 0));
	pthread_mutex_lock(&a->lock);
	a->connect_rc = 0;
	memset(a->gid, 1, 16); /* nor is a driver of ours that is wrong announced */
	pthread_mutex_unlock(&a->lock);
	WAIT_FOR(counter(b, "hello_bye_resources") > 8);
	assert_false(is_up(b, 0));
	node_stop(a);
	node_stop(b);
	node_free(a);
	node_free(b);
}

/* Strangers take what they get, and the peer comes up all the same. */
static void test_flood(void **state)
{
	struct node *a = node_new(1), *b = node_new(2);
	char from[TEXT_MAX];
	struct hello_key key;
	int fds[256];
	unsigned n = 0;

	key_set(&key, "a key that floods do not have");
	node_start_keyed(a, (int[]){2, -1}, &key);
	WAIT_FOR(dial_until(address(8, from), a->address, &fds[n]));
	n++;
	while (n < ARRAY_SIZE(fds)) {
		fds[n] = dial(address(8 + n / 4 % 60, from), a->address);
		assert_true(fds[n] >= 0);
		n++;
	}
	WAIT_FOR(counter(a, "hello_accepts") >= n);
	assert_true(counter(a, "hello_end_limit") >= n - 32);
	node_start_keyed(b, (int[]){1, -1}, &key);
	WAIT_FOR(is_up(a, 0) && is_up(b, 0));

	/* From the peer's own address: four, and what is up stays up. */
	for (unsigned i = 0; i < 16; i++) {
		int fd = dial(b->address, a->address);

		assert_true(fd >= 0);
		close(fds[i]);
		fds[i] = fd;
	}
	WAIT_FOR(counter(a, "hello_end_limit") >= n - 32 + 12);
	assert_int_equal(book_get(a, 0).n_down, 0);
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
	WAIT_FOR(counter(a, "hello_connects") + counter(a, "hello_accepts") ==
		 ends(a) + 1);
	assert_int_equal(book_get(a, 0).n_down, 0);
	node_stop(a);
	node_stop(b);
	node_free(a);
	node_free(b);
}

/* The listening port is taken at first; the driver gets it when it is free. */
static void test_port_taken(void **state)
{
	struct node *a = node_new(1), *b = node_new(2);
	union control_addr addr;
	int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(control_addr_parse(a->address, HELLO_PORT_DEFAULT, &addr), 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(bind(fd, &addr.sa, sizeof(addr.in4)), 0);
	assert_int_equal(listen(fd, 1), 0);
	node_start(a, (int[]){-1});
	WAIT_FOR(counter(a, "hello_listen_errors") > 1);
	close(fd);
	node_start(b, (int[]){1, -1});
	WAIT_FOR(counter(a, "hello_end_unknown_peer"));
	node_stop(a);
	node_stop(b);
	node_free(a);
	node_free(b);
}

/* In a process of its own: a node that has 12 more descriptors, then many. */
static void starved_node(void)
{
	struct node *a = node_new(1);
	struct rlimit limit;
	struct hello_key key;
	rlim_t many;
	int fd = dup(0);

	key_set(&key, "so that strangers may knock");
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	many = limit.rlim_cur;
	limit.rlim_cur = (rlim_t)fd + 12;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	node_start_keyed(a, (int[]){-1}, &key);
	WAIT_FOR(counter(a, "hello_listen_errors") > 1);
	limit.rlim_cur = many;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	WAIT_FOR(counter(a, "hello_accepts") == 24);
	node_stop(a);
	node_free(a);
}

/* Out of descriptors it waits, and goes on when there are some. */
static void test_out_of_descriptors(void **state)
{
	struct node *a = node_new(1);
	char to[TEXT_MAX], from[TEXT_MAX];
	int fds[24], status;
	pid_t pid;

	snprintf(to, sizeof(to), "%s", a->address);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		/* its own pid must not choose the address */
		forced_pid = (unsigned)getppid();
		starved_node();
		_exit(0);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		WAIT_FOR(dial_until(address(8 + i, from), to, &fds[i]));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	node_free(a);
}

static void start_fails(const char *local, const char *peer, int rc)
{
	struct control_peer peers[] = {{.address = peer}};
	struct control_config config = {
		.local_address = local, .peers = peers, .n_peers = 1, .ops = &ops};
	struct control *control = NULL;

	assert_int_equal(control_start(&config, &control), rc);
	assert_null(control);
}

static void test_arguments(void **state)
{
	start_fails(NULL, "127.0.0.1", -EINVAL);
	start_fails("", "127.0.0.1", -EINVAL);
	start_fails("0.0.0.0", "127.0.0.1", -EINVAL);
	start_fails("::", "::1", -EINVAL);
	start_fails("localhost", "127.0.0.1", -EINVAL);
	start_fails("127.1", "127.0.0.1", -EINVAL);
	start_fails("::ffff:127.0.0.1", "::1", -EINVAL);
	start_fails("127.0.0.1", NULL, -EINVAL);
	start_fails("127.0.0.1", "224.0.0.1", -EINVAL);
	start_fails("127.0.0.1", "255.255.255.255", -EINVAL);
	start_fails("127.0.0.1", "::1", -EINVAL);
	start_fails("::1", "ff02::1", -EINVAL);
	start_fails("127.0.0.1", "127.0.0.1", -EEXIST);
	control_stop(NULL);
}

static void test_too_many_peers(void **state)
{
	static char texts[CONTROL_PEERS_MAX + 1][TEXT_MAX];
	static struct control_peer peers[CONTROL_PEERS_MAX + 1];
	struct control_config config = {.local_address = "127.255.0.1",
		.peers = peers,
		.n_peers = CONTROL_PEERS_MAX + 1,
		.ops = &ops};
	struct control *control;

	for (unsigned i = 0; i < ARRAY_SIZE(peers); i++) {
		snprintf(texts[i], TEXT_MAX, "127.254.%u.%u", i / 200, 1 + i % 200);
		peers[i].address = texts[i];
	}
	assert_int_equal(control_start(&config, &control), -ENOSPC);
	peers[1] = peers[0];
	assert_int_equal(control_start(&config, &control), -EEXIST);
}

/* Two IPv6 addresses need a network namespace of our own. */
static void ipv6_nodes(void)
{
	struct node *a = node_new(1), *b = node_new(2);
	struct control_peer peer_a = {.address = "fd00::1"},
			    peer_b = {.address = "fd00::2"};
	struct control_config config = {.n_peers = 1, .timers = &timers, .ops = &ops};

	a->gid[0] = b->gid[0] = 0xfd;
	memset(a->gid + 1, 0, 14);
	memset(b->gid + 1, 0, 14);
	a->gid[15] = 1;
	b->gid[15] = 2;

	config.local_address = peer_a.address;
	config.peers = &peer_b;
	config.arg = a;
	assert_int_equal(control_start(&config, &a->control), 0);
	config.local_address = peer_b.address;
	config.peers = &peer_a;
	config.arg = b;
	assert_int_equal(control_start(&config, &b->control), 0);
	WAIT_FOR(is_up(a, 0) && is_up(b, 0));
	node_stop(a);
	node_stop(b);
	node_free(a);
	node_free(b);
}

static void test_ipv6(void **state)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		if (unshare(CLONE_NEWNET) < 0 ||
			system("ip link set lo up && ip addr add fd00::1/128 dev lo "
			       "nodad && "
			       "ip addr add fd00::2/128 dev lo nodad") != 0)
			_exit(77);
		ipv6_nodes();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message(
			"skipped: no right to make a network namespace, or no IPv6\n");
		skip();
	}
	assert_int_equal(status, 0);
}

static void key_file(const char *path, const char *content, size_t size, mode_t mode)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, size), (ssize_t)size);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void test_key_file(void **state)
{
	char dir[] = "/tmp/hello-key-XXXXXX", path[64], err[256];
	struct hello_key key;
	char big[HELLO_KEY_MAX + 2];

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/key", dir);

	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -ENOENT);
	assert_non_null(strstr(err, path));
	key_file(path, "0123456789abcdef\n", 17, 0600);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), 0);
	assert_int_equal(key.size, 16);
	assert_memory_equal(key.bytes, "0123456789abcdef", 16);
	key_file(path, "0123456789abcdef", 16, 0640);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), 0);
	assert_int_equal(key.size, 16);

	key_file(path, "0123456789abcdef", 16, 0604);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -EACCES);
	assert_non_null(strstr(err, "0604"));
	key_file(path, "0123456789abcdef", 16, 0620);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -EACCES);
	key_file(path, "0123456789abcde\n", 16, 0600);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -EINVAL);
	memset(big, 'k', sizeof(big));
	key_file(path, big, HELLO_KEY_MAX, 0600);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), 0);
	assert_int_equal(key.size, HELLO_KEY_MAX);
	key_file(path, big, HELLO_KEY_MAX + 1, 0600);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -EINVAL);
	key_file(path, big, HELLO_KEY_MAX + 2, 0600);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -EINVAL);

	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -EINVAL);
	unlink(path);
	assert_int_equal(hello_key_load(dir, &key, err, sizeof(err)), -EINVAL);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_nodes),
		cmocka_unit_test(test_late_and_restarted),
		cmocka_unit_test(test_simultaneous),
		cmocka_unit_test(test_mesh_keyed),
		cmocka_unit_test(test_wrong_key),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_add_remove),
		cmocka_unit_test(test_qp_failed),
		cmocka_unit_test(test_driver_fails),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_port_taken),
		cmocka_unit_test(test_out_of_descriptors),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_too_many_peers),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_key_file),
	};

	log_set_level(getenv("VRDMA_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control threads over loopback: real sockets, real threads, short timers. Nothing here
 * asserts how long a thing takes; waits end in failure only after WAIT_S seconds.
 */
#include "tests/unit/control_world.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "lib/log.h"
#include "pmd/control_addr.h"

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

static atomic_uint n_lines;

static void counting_sink(enum log_level level, const char *module, const char *msg)
{
	atomic_fetch_add(&n_lines, 1);
}

/* A peer that stays away, and one with another key: each a line, not one for each try. */
static void test_reason_is_logged_once(void **state)
{
	struct node *a = node_new(1), *b = node_new(2);
	struct hello_key one, other;

	key_set(&one, "0123456789abcdef0123456789abcdef");
	key_set(&other, "0123456789abcdef0123456789abcdeF");
	log_set_sink(counting_sink);
	log_set_level(LOG_LEVEL_DEBUG);
	atomic_store(&n_lines, 0);
	node_start_keyed(a, (int[]){2, -1}, &one);
	WAIT_FOR(counter(a, "hello_end_connect") > 6);
	assert_int_equal(
		atomic_load(&n_lines), 2); /* it listens, the peer is not there */
	node_start_keyed(b, (int[]){1, -1}, &other);
	WAIT_FOR(counter(a, "hello_bye_auth") > 6 && counter(b, "hello_bye_auth") > 6);
	/* b listens; on either side a line for connections out, and one for those in */
	assert_int_equal(atomic_load(&n_lines), 2 + 5);
	node_stop(a);
	node_stop(b);
	log_set_sink(NULL);
	log_set_level(LOG_LEVEL_ERR);
	node_free(a);
	node_free(b);
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
	struct control_config config = {.local_address = local,
		.peers = peers,
		.n_peers = 1,
		.ops = &control_world_ops};
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
		.ops = &control_world_ops};
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
	struct control_config config = {
		.n_peers = 1, .timers = &control_world_timers, .ops = &control_world_ops};

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_nodes),
		cmocka_unit_test(test_late_and_restarted),
		cmocka_unit_test(test_simultaneous),
		cmocka_unit_test(test_mesh_keyed),
		cmocka_unit_test(test_wrong_key),
		cmocka_unit_test(test_reason_is_logged_once),
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
	};

	log_set_level(getenv("VRDMA_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Nodes that are stopped and started, queue pairs that fail, peers that are removed and
 * added, strangers that talk nonsense: all at random, in a mesh with a key. The driver of
 * each node checks the order of its callbacks throughout; in the end all nodes must find
 * each other again, and every connection must be accounted for.
 *
 * Usage: control_chaos [SEED]
 */
#include "tests/unit/control_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/log.h"

#define N_NODES 5
#define N_STEPS 3000

static struct node *nodes[N_NODES];
static struct hello_key key;
static unsigned seed;

static unsigned rnd(unsigned n)
{
	return (unsigned)rand_r(&seed) % n;
}

/* All but itself, ended by -1 */
static void start(unsigned self)
{
	int peers[N_NODES];
	unsigned k = 0;

	for (unsigned i = 0; i < N_NODES; i++) {
		if (i != self)
			peers[k++] = (int)i;
	}
	peers[k] = -1;
	node_start_keyed(nodes[self], peers, &key);
}

/* A queue pair can only fail while there is one: between conn_open and conn_down. */
static void fail_qp(struct node *node)
{
	unsigned peer = rnd(N_NODES);

	pthread_mutex_lock(&node->lock);
	if (node->books[peer].open)
		control_conn_failed(node->control, peer);
	pthread_mutex_unlock(&node->lock);
}

static void talk_nonsense(struct node *node)
{
	char from[TEXT_MAX];
	uint8_t buf[200];
	size_t size = 1 + rnd(sizeof(buf));
	int fd = dial(address(rnd(2) ? 8 + rnd(20) : rnd(N_NODES), from), node->address);

	if (fd < 0)
		return;
	for (size_t i = 0; i < size; i++)
		buf[i] = (uint8_t)rnd(256);
	if (rnd(2))
		memcpy(buf, "VRDH\1\1\0\70\1\1\0\1", MIN(size, (size_t)12));
	(void)!send(fd, buf, size, MSG_NOSIGNAL);
	close(fd);
}

static void step(void)
{
	unsigned i = rnd(N_NODES), other = rnd(N_NODES);
	struct node *node = nodes[i];
	struct control_peer peer = {.address = nodes[other]->address};

	switch (rnd(12)) {
	case 0:
		node_stop(node);
		start(i);
		break;
	case 1:
		control_remove_peer(node->control, peer.address);
		break;
	case 2:
	case 3:
		control_add_peer(node->control, &peer); /* most often it is one already */
		break;
	case 4:
	case 5:
		fail_qp(node);
		break;
	case 6:
	case 7:
		talk_nonsense(node);
		break;
	default:
		usleep(rnd(3000));
		break;
	}
}

static unsigned n_up(struct node *node)
{
	struct control_peer_info info;
	unsigned n = 0;

	for (unsigned i = 0; i < CONTROL_PEERS_MAX && i < 4 * N_NODES; i++)
		n += control_peer_get(node->control, i, &info) == 0 && info.up;
	return n;
}

static void test_chaos(void **state)
{
	for (unsigned i = 0; i < N_NODES; i++) {
		nodes[i] = node_new(i);
		start(i);
	}
	for (int i = 0; i < N_STEPS; i++)
		step();

	/* Whoever was removed is added again; all come up, and nothing is left over. */
	for (unsigned i = 0; i < N_NODES; i++) {
		for (unsigned k = 0; k < N_NODES; k++) {
			struct control_peer peer = {.address = nodes[k]->address};

			if (k != i)
				control_add_peer(nodes[i]->control, &peer);
		}
	}
	for (unsigned i = 0; i < N_NODES; i++)
		WAIT_FOR(n_up(nodes[i]) == N_NODES - 1);
	for (unsigned i = 0; i < N_NODES; i++)
		WAIT_FOR(counter(nodes[i], "hello_connects") +
				 counter(nodes[i], "hello_accepts") ==
			 ends(nodes[i]) + N_NODES - 1);
	for (unsigned i = 0; i < N_NODES; i++) {
		node_stop(nodes[i]);
		node_free(nodes[i]);
	}
}

static void silent_sink(enum log_level level, const char *module, const char *msg)
{
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chaos),
	};

	seed = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 4791;
	print_message("seed %u\n", seed);
	key_set(&key, "a key for all of them");
	log_set_sink(silent_sink);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

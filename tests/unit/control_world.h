/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Nodes for the tests of the control thread: a driver that only keeps books and checks
 * the order of its callbacks, on loopback addresses of this process, with short timers.
 */
#ifndef TESTS_UNIT_CONTROL_WORLD_H
#define TESTS_UNIT_CONTROL_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#include "lib/util.h"
#include "pmd/control.h"

#define WAIT_S	 60
#define N_PEERS	 16
#define TEXT_MAX 32

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

extern const struct hello_timers control_world_timers;
extern const struct control_ops control_world_ops;

/* Waits, and fails only after WAIT_S seconds. */
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

/* In a child: the parent's pid, so that both mean the same addresses. */
extern unsigned forced_pid;

/* Loopback addresses of this process alone, as other tests run beside it. */
const char *address(unsigned i, char text[TEXT_MAX]);

struct node *node_new(unsigned i);
/* @peers: numbers of nodes, ended by -1 */
void node_start(struct node *node, const int *peers);
void node_start_keyed(struct node *node, const int *peers, const struct hello_key *key);
/* Stops it, if it runs, and checks that its books are closed. */
void node_stop(struct node *node);
void node_free(struct node *node);

struct book book_get(struct node *node, unsigned peer);
bool is_up(struct node *node, unsigned peer);
uint64_t counter(struct node *node, const char *name);
/* Every TCP connection that is not open any more is in one end counter: their sum. */
uint64_t ends(struct node *node);
void key_set(struct hello_key *key, const char *text);

/* A TCP connection from @from to @to, as a stranger would make it; -1 when refused. */
int dial(const char *from, const char *to);
bool dial_until(const char *from, const char *to, int *fd);

#endif

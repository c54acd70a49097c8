/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the control thread share:
 *
 *   control.c       the thread, its loop and timers, and the public calls
 *   control_peer.c  the table of peers: who is known, when to try, what to log
 *   control_conn.c  TCP connections: listen, connect, bytes to and from the state
 *                   machine, and what its actions mean for peers and driver
 *
 * control.c calls the other two, control_conn.c calls control_peer.c. All of it runs with
 * control->lock held, on the control thread unless a comment says otherwise.
 */
#ifndef PMD_CONTROL_PRIV_H
#define PMD_CONTROL_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "lib/log.h"
#include "pmd/control.h"
#include "pmd/control_addr.h"

#define CONTROL_MODULE	       "hello"
#define CONTROL_PER_ADDRESS    4  /* connections in, not claimed, from one address */
#define CONTROL_FROM_STRANGERS 32 /* the same from all addresses without a peer */

enum conn_phase {
	CONN_CONNECTING, /* the TCP connection is being made; fsm is not valid yet */
	CONN_ACTIVE,	 /* fsm runs */
	CONN_LINGERING,	 /* fsm is closed, its BYE is under way; belongs to no peer */
	CONN_DEAD,	 /* no socket any more; freed at the end of the round */
};

/** struct conn - one TCP connection */
struct conn {
	struct conn *next; /* in control->conns */
	enum conn_phase phase;
	int fd;
	bool is_initiator;
	bool wants_write;     /* epoll is told so */
	uint64_t deadline_ns; /* CONNECTING, LINGERING: the end of it */
	bool has_qps;	      /* conn_open went well: conn_down is due at the end */
	bool is_stranger;     /* came in from an address without a peer */
	struct peer *peer;    /* whose claimed or outgoing connection this is, or NULL */
	union control_addr addr; /* the other end; the port only if it is outgoing */
	struct hello_fsm fsm;
};

/** struct peer - a slot of the table; free when !is_used */
struct peer {
	bool is_used;
	bool is_dynamic; /* came and proved the key; forgotten when its connection ends */
	bool is_removed; /* control_remove_peer() was called; the thread does the rest */
	union control_addr addr;
	struct conn *claimed;  /* the one connection that has queue pairs, or NULL */
	struct conn *outgoing; /* our own try, not claimed yet, or NULL */
	uint64_t try_at_ns;    /* when to connect, if neither of the two is there */
	uint64_t backoff_ns;   /* the last one; 0: none yet */
	uint64_t up_since_ns;  /* 0: not up */
	uint64_t n_up;
	uint64_t n_retries;
	char last_error[128];	 /* of the claimed or outgoing connection */
	char refused_error[128]; /* of connections in: the last one that was logged */
	struct log_limit log_limit;
};

struct control {
	pthread_t thread;
	pthread_mutex_t lock; /* all below but what is const or atomic */
	atomic_bool stops;
	int epoll_fd;
	int wake_fd;		/* eventfd: something for the thread to look at */
	int listen_fd;		/* -1: not yet */
	uint64_t listen_at_ns;	/* when to try (again); UINT64_MAX while all is well */
	char listen_error[128]; /* the last one that was logged */
	struct log_limit stranger_limit;

	/* const */
	union control_addr local;
	uint8_t local_gid[16];
	uint64_t instance;
	struct hello_key key;
	bool has_key;
	struct hello_timers timers;
	const struct control_ops *ops;
	void *arg;

	uint64_t n_connects;
	uint64_t n_accepts;
	uint64_t n_ups;
	uint64_t n_listen_errors;
	uint64_t n_end[HELLO_REASON_N];
	uint64_t n_bye[HELLO_BYE_N];

	struct conn *conns;
	struct peer peers[CONTROL_PEERS_MAX];

	/* Set by control_conn_failed() on any thread, without the lock. */
	atomic_bool has_failed[CONTROL_PEERS_MAX];
};

/* ---- control_peer.c ---- */

/** peer_find() - the peer of an address, or NULL */
struct peer *peer_find(struct control *control, const union control_addr *addr);

/** peer_add() - take a free slot; NULL when there is none */
struct peer *peer_add(
	struct control *control, const union control_addr *addr, bool is_dynamic);

/** peer_free() - give the slot back; no connection may belong to it any more */
void peer_free(struct peer *peer);

unsigned peer_index(const struct control *control, const struct peer *peer);

uint64_t peer_deadline(const struct peer *peer);

/** peer_came_up() - its connection is UP: log it */
void peer_came_up(struct control *control, struct peer *peer, uint64_t now_ns);

/** peer_retry() - there is no connection with it: set the time of the next try
 * @error: why, a phrase, borrowed; logged if it is news. NULL: nothing is wrong
 */
void peer_retry(
	struct control *control, struct peer *peer, const char *error, uint64_t now_ns);

/** peer_refused() - a connection that it made ended unclaimed; logs that if it is news */
void peer_refused(struct peer *peer, const char *error);

void peer_snapshot(
	const struct peer *peer, struct control_peer_info *info, uint64_t now_ns);

/* ---- control_conn.c ---- */

/** listener_try() - listen if it is time to; sets listen_at_ns for the next try */
void listener_try(struct control *control, uint64_t now_ns);
void listener_accept(struct control *control, uint64_t now_ns);

/** peer_connect() - begin a connection to a peer that is due */
void peer_connect(struct control *control, struct peer *peer, uint64_t now_ns);

/** conn_ready() - epoll said that something can be read or written */
void conn_ready(struct control *control, struct conn *conn, uint64_t now_ns);

/** conn_tick() - time has passed */
void conn_tick(struct control *control, struct conn *conn, uint64_t now_ns);
uint64_t conn_deadline(const struct conn *conn);

/** conn_drop() - end a connection for a reason of ours; it may linger to say so */
void conn_drop(struct control *control, struct conn *conn, enum hello_reason reason,
	uint64_t now_ns);

/** conns_drop() - the same for all connections with an address but @but */
void conns_drop(struct control *control, const union control_addr *addr,
	const struct conn *but, enum hello_reason reason, uint64_t now_ns);

/** conn_kill() - close the socket at once; it must belong to no peer */
void conn_kill(struct conn *conn);

/** conns_reap() - free what is DEAD; no pointer to it may be left in the round */
void conns_reap(struct control *control);

#endif

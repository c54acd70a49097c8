/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One hello connection as a state machine: bytes and now_ns in, bytes and actions out. No
 * sockets, no clock, no randomness. Reference: docs/hello-protocol.md section 4.
 *
 * The owner (control.c) feeds what TCP brought with hello_fsm_rx(), sends what lies in
 * the transmit buffer, calls hello_fsm_tick() when hello_fsm_deadline() has passed, and
 * after each of these does what hello_fsm_next() asks for until that is HELLO_DO_NOTHING.
 */
#ifndef PMD_HELLO_FSM_H
#define PMD_HELLO_FSM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmd/hello_auth.h"
#include "pmd/hello_proto.h"

/** struct hello_timers - all times of the protocol; tests bring their own */
struct hello_timers {
	uint64_t connect_ns;	 /* until a TCP connection stands */
	uint64_t handshake_ns;	 /* from there until UP */
	uint64_t keepalive_ns;	 /* between two KEEPALIVEs when UP */
	uint64_t dead_ns;	 /* without a message from the peer when UP */
	uint64_t linger_ns;	 /* for the peer to read a BYE before the socket closes */
	uint64_t backoff_min_ns; /* between two tries: doubles from min to max, +-25 % */
	uint64_t backoff_max_ns;
	uint64_t stable_ns;	  /* UP for that long starts the backoff over */
	uint64_t listen_retry_ns; /* between two tries to listen, and after EMFILE */
};
extern const struct hello_timers hello_timers_default;

/* Section 4 has the diagram. Only state_set() in hello_fsm.c changes a state. */
enum hello_state {
	/* Nothing is known of the peer; the initiator has sent HELLO. Left when the
	 * peer's HELLO comes. */
	HELLO_STATE_HELLO_WAIT,
	/* With a key. Both HELLOs are there: remote is valid, version and roles are set;
	 * the initiator has sent AUTH. Left when the peer's AUTH holds. */
	HELLO_STATE_AUTH_WAIT,
	/* The owner was asked by HELLO_DO_CLAIM. The peer may be one: is_trusted is
	 * set. The follower has the peer's endpoint. Left by hello_fsm_claimed(). */
	HELLO_STATE_CLAIM,
	/* The leader has claimed and sent ENDPOINT; the follower has sent nothing and is
	 * not claimed. Left when ENDPOINT comes. */
	HELLO_STATE_ENDPOINT_WAIT,
	/* Both endpoints are known; the owner was asked by HELLO_DO_CONNECT. Left by
	 * hello_fsm_connected(). */
	HELLO_STATE_CONNECT,
	/* Our queue pairs receive, READY was sent. Left when the peer's READY comes. */
	HELLO_STATE_READY_WAIT,
	/* Both sides send and receive; KEEPALIVEs go to and fro. */
	HELLO_STATE_UP,
	/* Over: reason and by_peer are valid, what comes in is dropped, what lies in the
	 * transmit buffer (a BYE) may still be sent. Never left. */
	HELLO_STATE_CLOSED,
};

/* What the owner has to do now. */
enum hello_action {
	HELLO_DO_NOTHING, /* wait for the next event */
	HELLO_DO_CLAIM,	  /* make queue pairs: hello_fsm_claimed(), or _close() */
	HELLO_DO_CONNECT, /* queue pairs to RTS: hello_fsm_connected(), or _close() */
	HELLO_DO_UP,	  /* the peer may be sent to */
	HELLO_DO_CLOSE,	  /* the connection is over */
};

/** struct hello_params - what a connection starts with; borrowed pointers outlive it */
struct hello_params {
	bool is_initiator;
	uint64_t instance;		 /* of this driver */
	uint8_t nonce[HELLO_NONCE_SIZE]; /* fresh for each connection */
	uint8_t remote_gid[16];		 /* of the address at the other end of TCP */
	const struct hello_key *key;	 /* NULL: none */
	const struct hello_timers *timers;
};

/* Room for all that a handshake sends, and for KEEPALIVEs that a slow peer leaves. */
#define HELLO_TX_SIZE 2048

/** struct hello_fsm - the owner may read the first part; the rest is the machine's */
struct hello_fsm {
	enum hello_state state;
	struct hello_params params;
	struct hello_hello remote;	/* from AUTH_WAIT, ENDPOINT_WAIT or CLAIM on */
	struct hello_endpoint endpoint; /* from CONNECT (follower: CLAIM) on */
	bool is_leader;			/* valid with remote */
	bool is_trusted;		/* HELLO, and AUTH if there is a key, went well */
	bool by_peer;			/* CLOSED: the peer said BYE */
	enum hello_reason reason;	/* CLOSED: why */
	const char *detail;		/* CLOSED: static, what was wrong; or NULL */

	enum hello_action action; /* not yet handed to the owner */
	uint64_t deadline_ns;	  /* not UP: the handshake's end; UP: silence's end */
	uint64_t keepalive_at_ns; /* UP */
	struct hello_transcript transcript;
	bool tx_coded, rx_coded; /* this direction's messages carry codes */
	uint8_t tx_key[HELLO_MAC_SIZE], rx_key[HELLO_MAC_SIZE];
	uint64_t tx_seq, rx_seq;
	size_t rx_size, tx_size; /* bytes in the buffers */
	uint8_t rx[HELLO_MSG_MAX];
	uint8_t tx[HELLO_TX_SIZE];
};

/** hello_fsm_init() - a TCP connection stands
 * @params: copied
 */
void hello_fsm_init(
	struct hello_fsm *fsm, const struct hello_params *params, uint64_t now_ns);

/** hello_fsm_rx() - bytes came in
 * Return: how many of @size were taken. After hello_fsm_next() has been called until
 *         HELLO_DO_NOTHING at least one more is taken.
 */
size_t hello_fsm_rx(struct hello_fsm *fsm, const uint8_t *buf, size_t size);

/** hello_fsm_eof() - the TCP connection is at its end or broke */
void hello_fsm_eof(struct hello_fsm *fsm);

/** hello_fsm_tick() - time has passed; call it at hello_fsm_deadline() or later */
void hello_fsm_tick(struct hello_fsm *fsm, uint64_t now_ns);

/** hello_fsm_deadline() - when to call hello_fsm_tick(); UINT64_MAX when CLOSED */
uint64_t hello_fsm_deadline(const struct hello_fsm *fsm);

/** hello_fsm_next() - judge what came in, up to the next thing for the owner to do */
enum hello_action hello_fsm_next(struct hello_fsm *fsm, uint64_t now_ns);

/** hello_fsm_claimed() - answers HELLO_DO_CLAIM: the queue pairs are made
 * @local: borrowed; passes hello_endpoint_check()
 */
void hello_fsm_claimed(struct hello_fsm *fsm, const struct hello_endpoint *local);

/** hello_fsm_connected() - answers HELLO_DO_CONNECT: the queue pairs receive */
void hello_fsm_connected(struct hello_fsm *fsm);

/** hello_fsm_close() - end it; nothing happens when it is CLOSED already
 * @reason: one that BYE carries is said to the peer
 */
void hello_fsm_close(struct hello_fsm *fsm, enum hello_reason reason);

/** hello_fsm_tx_done() - the first @size bytes of tx were sent */
void hello_fsm_tx_done(struct hello_fsm *fsm, size_t size);

/** hello_state_name() - for people: "hello", "auth", ... */
const char *hello_state_name(enum hello_state state);

#endif

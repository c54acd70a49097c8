/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What uplink.c (the stream, sessions, the loop) and uplink_ask.c (what is asked for the
 * guest's processes) share.
 */
#ifndef IVSHMEM_GUEST_UPLINK_PRIV_H
#define IVSHMEM_GUEST_UPLINK_PRIV_H

#include <sys/queue.h>

#include "ivshmem/directory_elsewhere.h"
#include "ivshmem/guest/uplink.h"
#include "ivshmem/guest/upstream.h"

/* DOWN: there is no stream; it is tried again. GREETING: HELLO is sent. REFUSED: the
 * server speaks another version, or our memory is not the server's; tried again. UP.
 */
enum uplink_state {
	UPLINK_DOWN,
	UPLINK_GREETING,
	UPLINK_REFUSED,
	UPLINK_UP,
};

enum uplink_source {
	UPLINK_STREAM, /* struct uplink */
	UPLINK_TIMER,  /* struct uplink_timer */
	UPLINK_END,    /* struct uplink_end */
};

/* An end of a ring: until no process of the guest has it, and the server knows. */
struct uplink_end {
	enum uplink_source source;
	uint64_t id;
	int lifetime_fd;  /* -1: no process has it any more */
	uint64_t told_at; /* then, if told: how many questions had been asked */
	TAILQ_ENTRY(uplink_end) links;
};

TAILQ_HEAD(uplink_ends, uplink_end);

/* A question of ours that is not answered yet. */
struct question {
	uint16_t answer; /* enum up_type of it */
	uint64_t id;
	uint64_t number; /* counted from 1 */
	uint64_t asked_ns;
	TAILQ_ENTRY(question) links;
};

struct uplink_timer {
	enum uplink_source source;
	struct uplink *uplink;
	int fd;
};

struct uplink_stats {
	uint64_t sessions;
	uint64_t lost; /* sessions that ended, other than by us */
	uint64_t refused;
	uint64_t garbage;
	uint64_t timeouts;
	uint64_t offered, accepted, released;
	uint64_t accept_failed; /* the client's socket was not what it should be */
};

struct uplink {
	enum uplink_source source;
	struct uplink_config config;
	struct directory *directory;
	struct directory_elsewhere elsewhere;
	enum uplink_state state;
	int epoll;
	int fd; /* -1: none */
	bool wants_out;
	struct upstream stream;
	struct uplink_timer timer;
	uint64_t state_ns;	    /* since when it is in the state */
	uint8_t name[UP_NAME_SIZE]; /* of the session */
	uint8_t agent[UP_NAME_SIZE], boot[UP_NAME_SIZE];
	int memory_fd; /* -1: none */
	uint64_t size, map_unit;
	uint64_t last_id;  /* the highest number that was used */
	uint64_t first_id; /* numbers up to this one are of sessions before */
	uint32_t n_ends;
	struct uplink_ends ends; /* that processes have */
	struct uplink_ends gone; /* of which the server is to be told */
	struct uplink_ends told; /* of which it was, and may not have heard yet */
	bool listeners_wait;	 /* there may be some of which it is to be told */
	uint64_t n_asked;
	TAILQ_HEAD(, question) questions;
	struct uplink_stats stats;
};

/* -- uplink.c */

/** uplink_send() - a frame; if that can't be, the session is lost, soon */
void uplink_send(struct uplink *u, struct up_msg *msg);

/* -- uplink_ask.c */

/** uplink_serve() - fill in what the directory may ask */
void uplink_serve(struct uplink *u);

/** uplink_tell() - of ends that are gone, and of listeners, as much as the stream takes
 * now; call it again when it takes more
 */
void uplink_tell(struct uplink *u);

/** uplink_told() - a frame of a session came; 0 or -EPROTO */
int uplink_told(struct uplink *u, const struct up_msg *msg);

/** uplink_forget() - the session is over: what was asked has no answer any more
 * @drained: all was read that the server said, so who was to be told of an offer has been
 */
void uplink_forget(struct uplink *u, bool drained);

/** uplink_end_gone() - no process has it any more */
void uplink_end_gone(struct uplink *u, struct uplink_end *e);

/** uplink_ends_free() - forget them, whoever has them */
void uplink_ends_free(struct uplink_ends *ends);

#endif

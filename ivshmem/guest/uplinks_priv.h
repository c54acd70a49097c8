/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What uplinks_open.c (begin and end), uplinks.c (sessions, the loop), uplinks_ask.c
 * (what is asked), uplinks_rings.c (connections and their memory) and uplinks_status.c
 * share.
 */
#ifndef IVSHMEM_GUEST_UPLINKS_PRIV_H
#define IVSHMEM_GUEST_UPLINKS_PRIV_H

#include <sys/queue.h>
#include <sys/types.h>

#include "ivshmem/bucket.h"
#include "ivshmem/directory_elsewhere.h"
#include "ivshmem/guest/area.h"
#include "ivshmem/guest/uplinks.h"
#include "ivshmem/guest/upstream.h"
#include "ivshmem/listener.h"
#include "lib/log.h"

#define END_BUCKETS 256

/* What an event of the loop is about; first member of its struct. */
enum uplinks_source {
	UPLINKS_LISTENER, /* struct guest_listener */
	UPLINKS_STREAM,	  /* struct guest */
	UPLINKS_PROCESS,  /* struct guest_process */
	UPLINKS_END,	  /* struct ring_end */
	UPLINKS_TIMER,	  /* struct uplinks */
};

/* Who holds an end of a ring. An orphan is a guest's, whose agent is gone. */
enum end_holder {
	END_NOBODY,
	END_NATIVE,
	END_GUEST,
	END_ORPHAN,
};

struct ring_end {
	enum uplinks_source source;
	enum end_holder holder;
	struct ring *ring;
	struct guest *guest;	    /* END_GUEST, END_ORPHAN */
	uint64_t id;		    /* the guest's, or the directory's for END_NATIVE */
	int lifetime_fd;	    /* END_NATIVE */
	LIST_ENTRY(ring_end) links; /* of a guest: by id, or its orphans */
};

/* A piece of memory, for a connection with a guest. It is open while it is an offer. */
struct ring {
	struct uplinks *uplinks;
	uint64_t offset, size;
	struct ring_end ends[2]; /* 0: the client's */
	bool open;
	struct dir_addr src, dst;
	struct guest *to;	/* the listener's; NULL: a native process' */
	uint64_t to_netns;	/* then its namespace */
	LIST_ENTRY(ring) links; /* all, open offers first in a list of their own */
};

/* An address at which a program of a guest listens. */
struct guest_published {
	LIST_ENTRY(guest_published) links;
	uint64_t id;
	struct dir_addr addr;
};

struct guest_stats {
	uint64_t sessions;
	uint64_t frames;
	uint64_t published;
	uint64_t offered; /* got memory */
	uint64_t accepted;
	uint64_t cancelled;
	uint64_t no_listener;
	uint64_t no_offer;
	uint64_t no_memory;
	uint64_t limited; /* beyond a limit */
	uint64_t addr_refused;
	uint64_t throttled;
	uint64_t dropped_garbage;
	uint64_t dropped_stalled;
	uint64_t refused_access;
	uint64_t refused_busy;
};

struct guest;

struct guest_part {
	enum uplinks_source source;
	struct guest *guest;
};

struct guest {
	enum uplinks_source source;
	struct uplinks *uplinks;
	const struct guest_config *config;
	struct guest_part as_listener, as_process;
	struct listener listener;
	int sock; /* -1: no uplink */
	pid_t pid;
	int pidfd; /* of who has the uplink, or had it and may run still; -1: unknown */
	bool in_session;
	bool paused;  /* has said too much */
	bool stalled; /* does not read: is to be ended */
	uint32_t watched;
	struct upstream stream;
	uint8_t agent[UP_NAME_SIZE], boot[UP_NAME_SIZE]; /* of the last session */
	struct bucket frames;
	struct log_limit log;
	struct guest_stats stats;
	uint32_t n_published, n_ends, n_orphans;
	LIST_HEAD(, guest_published) published;
	LIST_HEAD(, ring_end) ends[END_BUCKETS];
	LIST_HEAD(, ring_end) orphans;
};

LIST_HEAD(rings, ring);

struct uplinks {
	enum uplinks_source source;
	struct uplinks_config config;
	struct directory *directory;
	struct directory_elsewhere elsewhere;
	int epoll;
	int timer;
	uint64_t map_unit; /* what can be mapped begins at its multiples */
	uint8_t name[UP_NAME_SIZE];
	struct areas areas;
	uint32_t n_rings;
	uint64_t native_no_memory;
	struct rings open, paired;
	struct guest *guests; /* config.n_guests */
};

/* -- uplinks.c */

/** guest_session_end() - what the agent said counts no more; memory may be used still */
void guest_session_end(struct guest *g);

/** guest_process_forget() - don't watch who has the uplink any more */
void guest_process_forget(struct guest *g);

/** guest_send() - a frame, or the uplink ends */
void guest_send(struct guest *g, struct up_msg *msg);

/** guest_of() - whose address it is, or NULL */
struct guest *guest_of(const struct uplinks *u, const struct dir_addr *addr);

/** guest_listens() - has a program of the guest published the address and port? */
bool guest_listens(const struct guest *g, const struct dir_addr *addr);

/* -- uplinks_ask.c */

/** guest_asks() - a frame came; Return: 0, or -EPROTO: no agent sends that */
int guest_asks(struct guest *g, struct up_msg *msg);

/** uplinks_serve_natives() - fill in what the directory may ask */
void uplinks_serve_natives(struct uplinks *u);

/* -- uplinks_rings.c */

/** ring_new() - with memory, and nobody at its ends yet; 0, -ENOSPC, -ENOMEM */
int ring_new(struct ring **out, struct uplinks *u, uint64_t size);

/** ring_drop() - one that nobody has; it is not open any more then */
void ring_drop(struct ring *r);

/** ring_open_find() - the offer of this connection to @to; NULL: there is none */
struct ring *ring_open_find(const struct uplinks *u, const struct dir_addr *src,
	const struct dir_addr *dst, const struct guest *to, uint64_t to_netns);

/** ring_close_offer() - nobody can accept it any more, or somebody has */
void ring_close_offer(struct ring *r);

/** ring_channel() - as a native process gets it; its lifetime is set elsewhere */
struct channel ring_channel(const struct ring *r);

/** end_take_guest() - the end is a guest's, which calls it @id */
void end_take_guest(struct ring_end *e, struct guest *g, uint64_t id);

/** end_take_native() - the end is a native process'; @theirs: to be passed and closed */
int end_take_native(struct ring_end *e, uint64_t id, int *theirs);

/** end_find() - the end that a guest calls @id, or NULL */
struct ring_end *end_find(const struct guest *g, uint64_t id);

/** end_release() - its holder is done with it; frees the ring if nobody has it now */
void end_release(struct ring_end *e);

/** ends_close_offers() - the guest's session is over: its offers are none any more */
void ends_close_offers(struct guest *g);

/** ends_orphan() - the agent is another one, which doesn't know of them */
void ends_orphan(struct guest *g);

/** ends_release_orphans() - the processes that had them are gone for sure */
void ends_release_orphans(struct guest *g);

#endif

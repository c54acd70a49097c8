/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What lies between a directory and those that know processes which are not its own: on
 * the host the guests' uplinks, in a guest the uplink (docs/socket-shim.md, section 5).
 * What the directory cannot do with its own processes alone it asks of them.
 */
#ifndef IVSHMEM_DIRECTORY_ELSEWHERE_H
#define IVSHMEM_DIRECTORY_ELSEWHERE_H

#include <stdbool.h>
#include <stdint.h>

#include "ivshmem/dirproto.h"

struct directory;

/* A socket that a client passed, as the kernel describes it. */
struct proof {
	struct dir_addr local;
	uint64_t netns;
};

/* A listening socket of a client. */
struct published {
	struct published *next;
	uint64_t id;
	struct proof at;
	bool v6only;
	uint32_t ring[2]; /* wishes, as in struct dir_request */
	uint64_t told;	  /* by who is elsewhere: the last session that heard of it */
	uint32_t n_ips;	  /* wildcard: the addresses that it stands for */
	struct dir_addr ips[];
};

/* A connection that a client is about to make. */
struct offer {
	struct offer *next;
	uint64_t id;
	struct dir_addr src, dst;
	uint64_t dst_netns; /* of the listener */
	bool elsewhere;	    /* is the listener */
	bool made;	    /* the client has been told; else it waits for an answer */
	int sock;
	struct dir_memory memory;
	int memory_fd; /* -1: elsewhere */
};

/* A channel's memory as a process gets it. */
struct channel {
	struct dir_memory memory;
	int fd;
	int lifetime_fd; /* -1: none */
};

/* Each is called with @arg first. Numbers of offers, published sockets and accepts are
 * unique in the directory. Those that return an int are to call directory_answer() for
 * that number, at once or later, if they return 0; an error is the answer.
 */
struct directory_elsewhere {
	void *arg;
	/* Is the address one that no process of the directory may publish? */
	bool (*owns)(void *arg, const struct dir_addr *addr);
	void (*published)(void *arg, struct published *p);
	void (*unpublished)(void *arg, uint64_t id);
	int (*offer)(void *arg, const struct offer *o, uint64_t size);
	/* Also for offers whose client has ended; then nobody waits for the answer. */
	int (*cancel)(void *arg, uint64_t id);
	int (*accept)(void *arg, uint64_t id, const struct dir_addr *src,
		const struct proof *dst);
};

/** directory_set_elsewhere() - from now on; @e is borrowed for the directory's life,
 * NULL: there is nobody
 */
void directory_set_elsewhere(struct directory *d, const struct directory_elsewhere *e);

/** directory_answer() - to the request that number @id is waiting for
 * @reply: its id is set here
 * @ch:    borrowed; NULL: there is no memory
 * Return: 0, or -ENOENT if nobody waits, -EPIPE if the client has ended
 */
int directory_answer(struct directory *d, uint64_t id, struct dir_reply *reply,
	const struct channel *ch);

/** directory_find() - who listens at @dst, for one who calls from @netns; NULL: nobody */
const struct published *directory_find(
	const struct directory *d, const struct dir_addr *dst, uint64_t netns);

/** directory_each_published() - call @fn for all of them */
void directory_each_published(
	const struct directory *d, void (*fn)(void *arg, struct published *p), void *arg);

/** directory_offer_is_connected() - is there such an offer, its socket connected from
 * where it said to where it said?
 */
bool directory_offer_is_connected(const struct directory *d, uint64_t id);

/** directory_offer_accepted() - an offer elsewhere was accepted: send the token on its
 * socket, and forget it
 * Return: 0, -ENOENT, -ENOTCONN
 */
int directory_offer_accepted(
	struct directory *d, uint64_t id, const uint8_t token[DIR_TOKEN_SIZE]);

#endif

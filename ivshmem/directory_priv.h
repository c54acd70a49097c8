/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What directory.c (clients, requests) and directory_match.c (who listens where, which
 * offer is meant) share.
 */
#ifndef IVSHMEM_DIRECTORY_PRIV_H
#define IVSHMEM_DIRECTORY_PRIV_H

#include <stdbool.h>

#include "ivshmem/directory.h"
#include "ivshmem/dirproto.h"
#include "ivshmem/listener.h"

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
	uint32_t n_ips;	  /* wildcard: the addresses that it stands for */
	struct dir_addr ips[];
};

/* A connection that a client is about to make. */
struct offer {
	struct offer *next;
	uint64_t id;
	struct dir_addr src, dst;
	uint64_t dst_netns; /* of the listener */
	int sock;
	struct dir_memory memory;
	int memory_fd;
};

struct dir_client {
	struct dir_client *next;
	struct directory *directory;
	int sock;
	bool ended;
	bool greeted;
	uint32_t n_published, n_offers;
	struct published *published;
	struct offer *offers;
};

struct directory {
	struct listener listener;
	const struct access_list *access;
	uint32_t max_clients;
	int epoll;
	uint64_t next_id;
	struct dir_client *clients;
	struct directory_stats stats;
};

/** proof_get() - what the kernel says of a TCP or UDP socket; 0 or a negative errno */
int proof_get(struct proof *out, int sock);

/** published_new() - judge a listening socket and the sockets that prove addresses
 * Return: 0, -EINVAL if it doesn't listen, -ENOMEM
 */
int published_new(struct published **out, struct directory *d, const int *fds, int n);

/** directory_find() - who listens at @dst, for one who calls from @netns; NULL: nobody */
const struct published *directory_find(
	const struct directory *d, const struct dir_addr *dst, uint64_t netns);

/** rings_agree() - the sizes of the rings between who asks and whom it calls
 * Return: bytes that the channel needs then
 */
uint64_t rings_agree(
	const struct dir_request *r, const struct published *to, uint32_t ring[2]);

/** offer_find() - the offer for the connection that @accepted is the other end of
 * Return: where it is linked, with its owner in @owner, or NULL
 */
struct offer **offer_find(struct directory *d, int accepted, struct dir_client **owner);

#endif

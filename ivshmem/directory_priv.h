/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What directory.c (clients, requests) and directory_match.c (who listens where, which
 * offer is meant) share.
 */
#ifndef IVSHMEM_DIRECTORY_PRIV_H
#define IVSHMEM_DIRECTORY_PRIV_H

#include <stdbool.h>

#include "ivshmem/directory.h"
#include "ivshmem/directory_elsewhere.h"
#include "ivshmem/dirproto.h"
#include "ivshmem/listener.h"
#include "lib/fdmsg.h"

struct dir_client {
	struct dir_client *next;
	struct directory *directory;
	int sock;
	bool ended;
	bool greeted;
	uint32_t asked; /* enum dir_op that is asked elsewhere; 0: none */
	uint64_t asked_id;
	uint32_t n_published, n_offers;
	struct published *published;
	struct offer *offers;
};

struct directory {
	struct listener listener;
	const struct access_list *access;
	const struct directory_elsewhere *elsewhere; /* or NULL */
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

/** rings_agree() - the sizes of the rings between who asks and whom it calls
 * Return: bytes that the channel needs then
 */
uint64_t rings_agree(
	const struct dir_request *r, const struct published *to, uint32_t ring[2]);

/** offer_is_connected() - is the client's end a connection to where the offer said? */
bool offer_is_connected(const struct offer *o);

/** peer_addr() - to where a socket is connected; 0 or a negative errno */
int peer_addr(struct dir_addr *out, int sock);

/** offer_find() - the offer for the connection that @accepted is the other end of
 * Return: where it is linked, with its owner in @owner, or NULL
 */
struct offer **offer_find(struct directory *d, int accepted, struct dir_client **owner);

/* directory_ask.c: a request as it came */
struct message {
	struct dir_request request;
	int n_fds;
	int fds[FDMSG_MAX];
};

/** message_close() - the descriptors that are still in it */
void message_close(struct message *m);

/** request_handle() - answer it, or have it answered later; takes descriptors out of it
 */
void request_handle(struct dir_client *c, struct message *m);

/** requests_forget() - the client has ended, and with it what it published and offers */
void requests_forget(struct dir_client *c);

/** client_garbage() - the client does what none does: it ends */
void client_garbage(struct dir_client *c);

#endif

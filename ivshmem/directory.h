/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The directory of a region: who listens where, and the bringing together of the two ends
 * of a connection (docs/socket-shim.md, sections 2 and 3). It believes no client: what is
 * published or offered comes with a socket of which the kernel says what it is.
 *
 * An object without threads; whoever has it calls directory_run_once() when
 * directory_fd() is readable. It never blocks.
 */
#ifndef IVSHMEM_DIRECTORY_H
#define IVSHMEM_DIRECTORY_H

#include <stdint.h>
#include <stdio.h>

#include "ivshmem/access.h"

#define DIRECTORY_LISTENERS_MAX 256  /* of a process */
#define DIRECTORY_OFFERS_MAX	4096 /* of a process, open at the same time */
#define DIRECTORY_CLIENTS_MAX	4096

/** struct directory_stats - n_*: now; the others since the beginning
 *
 * offered = n_offers + paired + cancelled
 */
struct directory_stats {
	uint32_t n_clients;
	uint32_t n_listeners;
	uint32_t n_offers;
	uint64_t joined;
	uint64_t refused_access;
	uint64_t refused_full;
	uint64_t dropped_garbage;
	uint64_t published;
	uint64_t offered;
	uint64_t no_listener; /* offers refused: nobody of the region listens there */
	uint64_t paired;
	uint64_t cancelled;	  /* taken back, or their owner ended */
	uint64_t accept_no_offer; /* accepted connections from elsewhere */
	uint64_t addr_foreign;	  /* addresses refused: another namespace has them */
};

struct directory;

/** directory_open() - listen at @path
 * @access: borrowed for the directory's life; who may connect
 * Return: 0 or a negative errno, see listener_open()
 */
int directory_open(struct directory **out, const char *path,
	const struct access_list *access, uint32_t max_clients);

/** directory_close() - disconnect everybody, remove the socket. NULL is fine. */
void directory_close(struct directory *d);

int directory_fd(const struct directory *d);
void directory_run_once(struct directory *d);
const struct directory_stats *directory_stats(const struct directory *d);

/** directory_status() - " processes=..." and so on, on the line that @to is in */
void directory_status(const struct directory *d, FILE *to);

#endif

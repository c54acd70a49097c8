/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a process with the socket shim and the directory of its region say to each other:
 * docs/socket-shim.md section 3. SOCK_SEQPACKET, one request and one answer at a time;
 * both sides are on one host, or in one guest, so numbers are in its byte order.
 */
#ifndef IVSHMEM_DIRPROTO_H
#define IVSHMEM_DIRPROTO_H

#include <assert.h>
#include <stdint.h>

#define DIR_VERSION	  2u
#define DIR_SUFFIX	  ".dir" /* behind the path of the region's socket */
#define DIR_TOKEN_SIZE	  16
#define DIR_FDS_MAX	  65	      /* with one request */
#define DIR_REPLY_FDS_MAX 2	      /* with one answer */
#define DIR_MEMORY_MAX	  (16u << 20) /* bytes that can be had for a channel */

enum dir_op {
	DIR_HELLO = 1,
	DIR_PUBLISH = 2,   /* + listening socket, sockets bound to the host's addresses */
	DIR_UNPUBLISH = 3, /* id */
	DIR_OFFER = 4,	   /* source, destination, size + socket */
	DIR_CANCEL = 5,	   /* id */
	DIR_ACCEPT = 6,	   /* + accepted socket */
};

/* An IPv4 address is ::ffff:a.b.c.d; the port is a number. */
struct dir_addr {
	uint8_t ip[16];
	uint32_t port;
};

struct dir_request {
	uint32_t version;
	uint32_t op;
	uint64_t id;
	struct dir_addr src;
	struct dir_addr dst;
	uint64_t size; /* bytes that the channel needs, with rings of these sizes: */
	/* The client's for writing, and for reading. OFFER: as it would have them;
	 * PUBLISH: as the listener wants them, 0: any. Of what the programs said the
	 * larger counts.
	 */
	uint32_t ring[2];
	uint32_t said; /* OFFER: bit n: the program said so of ring n */
	uint32_t zero;
};

/* Where a channel lies in a file: in a part that can be mapped. */
struct dir_memory {
	uint64_t map_offset;
	uint64_t map_size;
	uint64_t offset; /* in the file, within what is mapped */
	uint64_t size;
};

/* With memory come one or two descriptors: its file, and what is to be kept for as long
 * as it is mapped.
 */
struct dir_reply {
	int32_t error; /* 0 or a negative errno */
	uint32_t zero;
	uint64_t id;
	struct dir_memory memory;
	uint8_t token[DIR_TOKEN_SIZE];
	uint32_t
		ring[2]; /* OFFER: sizes that fit the memory; 0: as they were asked for */
};

static_assert(sizeof(struct dir_addr) == 20, "layout");
static_assert(sizeof(struct dir_request) == 80, "layout");
static_assert(sizeof(struct dir_memory) == 32, "layout");
static_assert(sizeof(struct dir_reply) == 72, "layout");

#endif

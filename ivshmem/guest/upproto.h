/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One message between a guest's agent and the server: docs/uplink-protocol.md. Pure.
 */
#ifndef IVSHMEM_GUEST_UPPROTO_H
#define IVSHMEM_GUEST_UPPROTO_H

#include <stdint.h>

#include "ivshmem/dirproto.h"

#define UP_FRAME_SIZE 128
#define UP_MAGIC      0x70757276u
#define UP_VERSION    1u
#define UP_NAME_SIZE  16 /* of a session, a boot, a memory */

enum up_type {
	UP_HELLO = 1,
	UP_WELCOME = 2,
	UP_PUBLISH = 3,
	UP_UNPUBLISH = 4,
	UP_OFFER = 5,
	UP_CANCEL = 6,
	UP_ACCEPT = 7,
	UP_RELEASE = 8,
	UP_OFFER_R = 16,
	UP_CANCEL_R = 17,
	UP_ACCEPT_R = 18,
	UP_ACCEPTED = 19,
};

/* The fields of section 1, as numbers of this host. */
struct up_msg {
	uint16_t version;
	uint16_t type;
	uint64_t id;
	int32_t error;
	struct dir_addr src;
	struct dir_addr dst;
	uint64_t offset;
	uint64_t size;
	uint8_t token[DIR_TOKEN_SIZE];
	uint8_t name[UP_NAME_SIZE];
	uint8_t boot[UP_NAME_SIZE];
};

/** up_encode() - write all of a frame; the version is UP_VERSION if @msg has none */
void up_encode(uint8_t frame[UP_FRAME_SIZE], const struct up_msg *msg);

/** up_decode() - read a frame
 * Return: 0, or -EPROTO if it begins with another magic, or a port is no port
 */
int up_decode(struct up_msg *msg, const uint8_t frame[UP_FRAME_SIZE]);

#endif

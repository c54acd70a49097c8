/* SPDX-License-Identifier: BSD-3-Clause */
#include "ivshmem/guest/upproto.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

struct up_frame {
	uint32_t magic_le;
	uint16_t version_le;
	uint16_t type_le;
	uint64_t id_le;
	uint32_t error_le;
	uint32_t zero;
	uint8_t src[16];
	uint8_t dst[16];
	uint32_t src_port_le;
	uint32_t dst_port_le;
	uint64_t offset_le;
	uint64_t size_le;
	uint8_t token[DIR_TOKEN_SIZE];
	uint8_t name[UP_NAME_SIZE];
	uint8_t boot[UP_NAME_SIZE];
};

static_assert(sizeof(struct up_frame) == UP_FRAME_SIZE, "layout");
static_assert(offsetof(struct up_frame, src) == 24, "layout");
static_assert(offsetof(struct up_frame, offset_le) == 64, "layout");
static_assert(offsetof(struct up_frame, boot) == 112, "layout");

void up_encode(uint8_t frame[UP_FRAME_SIZE], const struct up_msg *msg)
{
	struct up_frame f = {
		.magic_le = htole32(UP_MAGIC),
		.version_le = htole16(msg->version ? msg->version : UP_VERSION),
		.type_le = htole16(msg->type),
		.id_le = htole64(msg->id),
		.error_le = htole32((uint32_t)msg->error),
		.src_port_le = htole32(msg->src.port),
		.dst_port_le = htole32(msg->dst.port),
		.offset_le = htole64(msg->offset),
		.size_le = htole64(msg->size),
	};

	memcpy(f.src, msg->src.ip, sizeof(f.src));
	memcpy(f.dst, msg->dst.ip, sizeof(f.dst));
	memcpy(f.token, msg->token, sizeof(f.token));
	memcpy(f.name, msg->name, sizeof(f.name));
	memcpy(f.boot, msg->boot, sizeof(f.boot));
	memcpy(frame, &f, sizeof(f));
}

int up_decode(struct up_msg *msg, const uint8_t frame[UP_FRAME_SIZE])
{
	struct up_frame f;

	memcpy(&f, frame, sizeof(f));
	*msg = (struct up_msg){
		.version = le16toh(f.version_le),
		.type = le16toh(f.type_le),
		.id = le64toh(f.id_le),
		.error = (int32_t)le32toh(f.error_le),
		.src.port = le32toh(f.src_port_le),
		.dst.port = le32toh(f.dst_port_le),
		.offset = le64toh(f.offset_le),
		.size = le64toh(f.size_le),
	};
	memcpy(msg->src.ip, f.src, sizeof(f.src));
	memcpy(msg->dst.ip, f.dst, sizeof(f.dst));
	memcpy(msg->token, f.token, sizeof(f.token));
	memcpy(msg->name, f.name, sizeof(f.name));
	memcpy(msg->boot, f.boot, sizeof(f.boot));
	if (le32toh(f.magic_le) != UP_MAGIC || msg->src.port > UINT16_MAX ||
		msg->dst.port > UINT16_MAX)
		return -EPROTO;
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "gids_end.h"

#include "lib/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

union ibv_gid gids_of(const char *addr)
{
	union ibv_gid gid = {.raw = {[10] = 0xff, [11] = 0xff}};

	if (inet_pton(AF_INET, addr, gid.raw + 12) != 1)
		assert_int_equal(inet_pton(AF_INET6, addr, gid.raw), 1);
	return gid;
}

void gids_expect(struct ibv_context *ctx, uint32_t index, const char *addr)
{
	static const union ibv_gid none;
	union ibv_gid wanted = addr ? gids_of(addr) : none, gid;
	struct ibv_gid_entry entry;

	assert_int_equal(ibv_query_gid(ctx, 1, (int)index, &gid), 0);
	assert_memory_equal(gid.raw, wanted.raw, 16);
	if (!addr) {
		assert_int_equal(ibv_query_gid_ex(ctx, 1, index, &entry, 0), ENODATA);
		return;
	}
	assert_int_equal(ibv_query_gid_ex(ctx, 1, index, &entry, 0), 0);
	assert_memory_equal(entry.gid.raw, wanted.raw, 16);
	assert_int_equal(entry.gid_index, index);
	assert_int_equal(entry.gid_type, IBV_GID_TYPE_ROCE_V2);
	assert_int_not_equal(entry.ndev_ifindex, 0);
}

uint64_t gids_counter(struct ibv_context *ctx, const char *name)
{
	struct vrdma_counter counters[256];
	int n = vrdma_query_counters(ctx, counters, ARRAY_SIZE(counters)), i = 0;

	while (i < n && strcmp(counters[i].name, name) != 0)
		i++;
	assert_true(i < n);
	return counters[i].value;
}

void gids_expect_change(struct ibv_context *ctx)
{
	struct pollfd p = {.fd = ctx->async_fd, .events = POLLIN};
	struct ibv_async_event event;

	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(ibv_get_async_event(ctx, &event), 0);
	assert_int_equal(event.event_type, IBV_EVENT_GID_CHANGE);
	ibv_ack_async_event(&event);
}

struct ibv_ah *gids_make_ah(struct ibv_pd *pd, uint8_t index, const char *to)
{
	struct ibv_ah_attr attr = {.is_global = 1,
		.port_num = 1,
		.grh = {.dgid = gids_of(to), .sgid_index = index}};

	return ibv_create_ah(pd, &attr);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Any bytes as a message of the frame protocol: nothing behind them is read, and what
 * comes out is no longer than it may be. The first two bytes are the MTU.
 */
#include "tests/proto/frame_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t frame_max;

static void dropped(const char *counter)
{
}

static void good(const uint8_t *frame, uint32_t len)
{
	if (len > frame_max || len < FRAME_LEN_MIN)
		abort();
}

static void unfinished(const uint8_t *frame, const struct frame_layout *layout)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame_walk walk = {0, dropped, good, unfinished};

	if (size < 2 || size > 2 + FRAME_MSG_MAX)
		return 0;
	walk.mtu = MIN(
		MAX((uint32_t)(data[0] << 8 | data[1]), FRAME_MTU_MIN), FRAME_MTU_MAX);
	frame_max = walk.mtu + FRAME_OVERHEAD;
	frame_walk(&walk, data + 2, (uint32_t)size - 2);
	return 0;
}

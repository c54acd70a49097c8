/* SPDX-License-Identifier: BSD-3-Clause */
#include "buffers.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "ivshmem/shring.h"

#define SIZE_VARIABLE "VRDMA_SOCKET_BUFFER"
#define SIZE_DEFAULT  (256u << 10)
/* In the word's index: 1 is the smallest size, each next one twice as much; 0: none */
#define BITS 3
#define MASK ((1u << BITS) - 1)

static_assert(SHRING_SIZE_MIN << (MASK - 1) == SHRING_SIZE_MAX, "all sizes have a code");

static uint32_t size_for(unsigned long bytes)
{
	return round_up_pow2((uint32_t)MIN(MAX(bytes, SHRING_SIZE_MIN), SHRING_SIZE_MAX));
}

static int shift_of(int name)
{
	return name == SO_SNDBUF || name == SO_SNDBUFFORCE ? 0 : BITS;
}

void buffers_say(int fd, int name, int value)
{
	struct fdent e = fdtab_get(fd);
	uint32_t code = 1;

	if (e.kind != FD_TCP || value < 0 ||
		(name != SO_SNDBUF && name != SO_SNDBUFFORCE && name != SO_RCVBUF &&
			name != SO_RCVBUFFORCE))
		return;
	while (SHRING_SIZE_MIN << (code - 1) < size_for((unsigned long)value))
		code++;
	e.index &= ~(MASK << shift_of(name));
	e.index |= code << shift_of(name);
	fdtab_set(fd, e);
}

uint32_t buffers_said(struct fdent e, int name)
{
	uint32_t code = e.kind == FD_TCP ? e.index >> shift_of(name) & MASK : 0;

	return code ? SHRING_SIZE_MIN << (code - 1) : 0;
}

uint32_t buffers_default(void)
{
	const char *text = getenv(SIZE_VARIABLE);
	unsigned long size = text ? strtoul(text, NULL, 10) : 0;

	return size ? size_for(size) : SIZE_DEFAULT;
}

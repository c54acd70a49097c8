/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The frame protocol for frame_scapy.py. A line of input is the MTU and a message, in
 * hexadecimal ("-" for an empty one); a line of output tells what becomes of it, in
 * order: "drop=COUNTER", "frame=HEX", "pseudo=HEX" (the layer 4 checksum field of an
 * unfinished frame).
 */
#include <netinet/in.h>
#include <stdio.h>

#include "tests/proto/frame_walk.h"
#include "tests/proto/hex.h"

#define LINE_MAX_SIZE (2 * FRAME_MSG_MAX + 64)

static void dropped(const char *counter)
{
	printf("drop=%s ", counter);
}

static void good(const uint8_t *frame, uint32_t len)
{
	printf("frame=");
	hex_print(frame, len);
	printf(" ");
}

static void unfinished(const uint8_t *frame, const struct frame_layout *layout)
{
	const uint8_t *l4 = frame + layout->l2_len + layout->l3_len;

	printf("pseudo=");
	switch (layout->l4_proto) {
	case IPPROTO_TCP:
		hex_print(l4 + 16, 2);
		break;
	case IPPROTO_UDP:
		hex_print(l4 + 6, 2);
		break;
	default:
		hex_print(l4 + 8, 4);
	}
	printf(" ");
}

int main(void)
{
	static const struct frame_walk calls = {0, dropped, good, unfinished};
	static char line[LINE_MAX_SIZE], text[LINE_MAX_SIZE];
	static uint8_t bytes[FRAME_MSG_MAX + 16];

	while (fgets(line, sizeof(line), stdin)) {
		struct frame_walk walk = calls;
		uint8_t *msg;
		int size;

		if (sscanf(line, "%u %s", &walk.mtu, text) != 2)
			return 1;
		size = text[0] == '-' ? 0 : hex_read(text, bytes, sizeof(bytes));
		if (size < 0)
			return 1;
		msg = malloc((size_t)size + 1);
		memcpy(msg, bytes, (size_t)size);
		frame_walk(&walk, msg, (uint32_t)size);
		free(msg);
		printf("\n");
		fflush(stdout);
	}
	return 0;
}

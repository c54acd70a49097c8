/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes as hexadecimal text, for the tools that a Python test talks to.
 */
#ifndef TESTS_PROTO_HEX_H
#define TESTS_PROTO_HEX_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/** hex_read() - the bytes of @text, or -1 if it is no hexadecimal or more than @max */
static inline int hex_read(const char *text, uint8_t *out, int max)
{
	int n = 0;

	for (; *text; text += 2, n++) {
		unsigned int byte;

		if (n == max || !text[1] || sscanf(text, "%2x", &byte) != 1)
			return -1;
		out[n] = (uint8_t)byte;
	}
	return n;
}

static inline void hex_print(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		printf("%02x", data[i]);
}

#endif

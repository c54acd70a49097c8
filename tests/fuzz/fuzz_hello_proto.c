/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The decoders of the hello protocol. Input: one message; the header picks the decoder,
 * and the body is whatever follows. What is accepted must survive encoding and decoding.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "pmd/hello_proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hello_try(const uint8_t *body, size_t size)
{
	struct hello_hello hello, again = {0};
	uint8_t msg[HELLO_MSG_MAX];
	size_t n;

	if (hello_hello_decode(body, size, &hello) < 0)
		return;
	n = hello_hello_encode(msg, &hello);
	assert(hello_hello_decode(msg + HELLO_HDR_SIZE, n - HELLO_HDR_SIZE, &again) == 0);
	assert(again.instance == hello.instance && again.flags == hello.flags);
	assert(memcmp(again.nonce, hello.nonce, sizeof(hello.nonce)) == 0);
}

static void endpoint_try(const uint8_t *body, size_t size)
{
	struct hello_endpoint ep, again;
	uint8_t msg[HELLO_MSG_MAX];
	size_t n;

	if (hello_endpoint_decode(body, size, &ep) < 0 ||
		hello_endpoint_check(&ep, ep.gid))
		return;
	for (const char *c = ep.name; *c; c++)
		assert(*c > 0x20 && *c < 0x7f);
	n = hello_endpoint_encode(msg, &ep, 0);
	assert(n == HELLO_HDR_SIZE + size);
	assert(hello_endpoint_decode(msg + HELLO_HDR_SIZE, size, &again) == 0);
	assert(memcmp(&again, &ep, sizeof(ep)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hello_hdr hdr;
	enum hello_reason reason;
	uint8_t *body;

	if (size < HELLO_HDR_SIZE || hello_hdr_decode(data, &hdr) < 0)
		return 0;
	size -= HELLO_HDR_SIZE;
	/* just as large as it is, so that the sanitizer sees a read beyond it */
	body = malloc(MAX(size, 1u));
	if (!body)
		return 0;
	memcpy(body, data + HELLO_HDR_SIZE, size);
	if (hdr.type == HELLO_TYPE_HELLO)
		hello_try(body, size);
	else if (hdr.type == HELLO_TYPE_ENDPOINT)
		endpoint_try(body, size);
	else if (hello_bye_decode(body, size, &reason) == 0)
		assert(hello_reason_text(reason, true) &&
			hello_reason_text(reason, false));
	free(body);
	return 0;
}

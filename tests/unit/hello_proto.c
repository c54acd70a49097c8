/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The messages of the hello protocol, against bytes written down by hand from
 * docs/hello-protocol.md section 3, and every truncation of each.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "pmd/hello_auth.h"
#include "pmd/hello_proto.h"

static const uint8_t hello_bytes[] = {
	0x56,
	0x52,
	0x44,
	0x48,
	0x01,
	0x01,
	0x00,
	0x38,
	0x01,
	0x02,
	0x00,
	0x01,
	0x00,
	0x00,
	0x00,
	0x00,
	0x11,
	0x22,
	0x33,
	0x44,
	0x55,
	0x66,
	0x77,
	0x88,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
	0xaa,
};

static const uint8_t endpoint_bytes[] = {
	0x56, 0x52, 0x44, 0x48, 0x01, 0x03, 0x00, 0x58, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, /* GID ::ffff:10.1.2.3 */
	0x00, 0x00, 0xff, 0xff, 0x0a, 0x01, 0x02, 0x03, 0x00, 0x00, 0x00,
	0x05,			/* csum, coalesce */
	0x00, 0x01, 0x00, 0x40, /* 65600 bytes */
	0x00, 0x00, 0x02, 0x00, /* 512 deep */
	0x10, 0x00, 0x01, 0x00, /* path MTU 4096, one queue pair */
	0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, /* MAC address */
	'n', 'o', 'd', 'e', '1', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0xab, 0xcd, 0xef, /* QPN */
	0x00, 0x12, 0x34, 0x56,				/* PSN */
};

static const uint8_t gid[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3};

static struct hello_endpoint endpoint_make(void)
{
	struct hello_endpoint ep = {
		.caps = HELLO_CAP_CSUM | HELLO_CAP_COALESCE,
		.max_message = 65600,
		.rx_depth = 512,
		.path_mtu = 4096,
		.n_qps = 1,
		.mac = {2, 0, 0, 0, 0, 1},
		.name = "node1",
		.qp = {{.qpn = 0xabcdef, .psn = 0x123456}},
	};

	memcpy(ep.gid, gid, 16);
	return ep;
}

static void test_hello(void **state)
{
	struct hello_hello in = {.version_min = 1,
		.version_max = 2,
		.flags = HELLO_FLAG_KEYED,
		.instance = 0x1122334455667788};
	struct hello_hello out;
	uint8_t msg[HELLO_MSG_MAX];

	memset(in.nonce, 0xaa, sizeof(in.nonce));
	assert_int_equal(hello_hello_encode(msg, &in), sizeof(hello_bytes));
	assert_memory_equal(msg, hello_bytes, sizeof(hello_bytes));
	for (size_t size = 0; size <= HELLO_HELLO_BODY_MAX + 1; size++) {
		/* just as large as it says, so that a sanitizer sees a read beyond */
		uint8_t *body = calloc(1, MAX(size, 1u));
		int rc;

		assert_non_null(body);
		memcpy(body, msg + HELLO_HDR_SIZE, MIN(size, (size_t)HELLO_HELLO_BODY));
		rc = hello_hello_decode(body, size, &out);
		assert_int_equal(
			rc, size >= HELLO_HELLO_BODY && size <= HELLO_HELLO_BODY_MAX
				    ? 0
				    : -EPROTO);
		free(body);
	}
	assert_int_equal(
		hello_hello_decode(msg + HELLO_HDR_SIZE, HELLO_HELLO_BODY, &out), 0);
	assert_int_equal(out.version_min, 1);
	assert_int_equal(out.version_max, 2);
	assert_int_equal(out.flags, HELLO_FLAG_KEYED);
	assert_true(out.instance == in.instance);
	assert_memory_equal(out.nonce, in.nonce, sizeof(in.nonce));
}

static void test_header(void **state)
{
	struct hello_hdr hdr;
	uint8_t buf[HELLO_HDR_SIZE];

	assert_int_equal(hello_hdr_decode(hello_bytes, &hdr), 0);
	assert_int_equal(hdr.type, HELLO_TYPE_HELLO);
	assert_int_equal(hdr.length, sizeof(hello_bytes));
	for (unsigned length = 0; length <= 0xffff; length++) {
		memcpy(buf, hello_bytes, sizeof(buf));
		buf[6] = (uint8_t)(length >> 8);
		buf[7] = (uint8_t)length;
		assert_int_equal(hello_hdr_decode(buf, &hdr),
			length >= 8 && length <= 1024 ? 0 : -EPROTO);
	}
	for (size_t i = 0; i < 4; i++) {
		memcpy(buf, hello_bytes, sizeof(buf));
		buf[i] ^= 0x20;
		assert_int_equal(hello_hdr_decode(buf, &hdr), -EPROTO);
	}
	memcpy(buf, hello_bytes, sizeof(buf));
	buf[4] = 2;
	assert_int_equal(hello_hdr_decode(buf, &hdr), -EPROTONOSUPPORT);
}

static void test_endpoint(void **state)
{
	struct hello_endpoint in = endpoint_make(), out;
	uint8_t msg[HELLO_MSG_MAX];

	assert_int_equal(hello_endpoint_encode(msg, &in, 0), sizeof(endpoint_bytes));
	assert_memory_equal(msg, endpoint_bytes, sizeof(endpoint_bytes));
	assert_int_equal(
		hello_endpoint_decode(msg + 8, sizeof(endpoint_bytes) - 8, &out), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	assert_null(hello_endpoint_check(&out, gid));

	/* with room for a code: counted in the header, not in what is written */
	assert_int_equal(hello_endpoint_encode(msg, &in, HELLO_MAC_SIZE), 88);
	assert_int_equal(msg[7], 88 + 32);
}

/* For each number of queue pairs, only the one right size is a message. */
static void test_endpoint_sizes(void **state)
{
	for (unsigned n = 0; n <= 255; n++) {
		size_t right = HELLO_ENDPOINT_BODY + n * (size_t)HELLO_QP_SIZE;

		for (size_t size = 0; size <= right + 16 && size < HELLO_MSG_MAX;
			size++) {
			uint8_t *body = calloc(1, MAX(size, 1u));
			struct hello_endpoint ep;

			assert_non_null(body);
			if (size > 30)
				body[30] = (uint8_t)n;
			assert_int_equal(hello_endpoint_decode(body, size, &ep),
				size == right ? 0 : -EPROTO);
			if (size == right)
				assert_non_null(hello_endpoint_check(&ep, gid));
			free(body);
		}
	}
}

static void test_most_queue_pairs(void **state)
{
	struct hello_endpoint in = endpoint_make(), out;
	uint8_t msg[HELLO_MSG_MAX];
	size_t size;

	in.n_qps = HELLO_QPS_MAX;
	for (unsigned i = 0; i < HELLO_QPS_MAX; i++)
		in.qp[i] = (struct hello_qp){
			.qpn = HELLO_QPN_MAX - i, .psn = i * 1000003 & 0xffffff};
	size = hello_endpoint_encode(msg, &in, 0);
	assert_int_equal(hello_endpoint_decode(msg + 8, size - 8, &out), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	assert_null(hello_endpoint_check(&out, gid));
}

/* Nothing that a terminal or a JSON parser could take amiss comes out of a name. */
static void test_name(void **state)
{
	struct hello_endpoint in = endpoint_make(), out;
	uint8_t msg[HELLO_MSG_MAX];

	hello_endpoint_encode(msg, &in, 0);
	for (unsigned i = 0; i < HELLO_NAME_SIZE; i++)
		msg[8 + 40 + i] =
			i < 8 ? (uint8_t) "\033[2J\n\"\\ "[i] : (uint8_t)(0x80 + i);
	assert_int_equal(
		hello_endpoint_decode(msg + 8, sizeof(endpoint_bytes) - 8, &out), 0);
	assert_string_equal(out.name, "?[2J?\"\\????????????????????????");
	assert_int_equal(strlen(out.name), HELLO_NAME_SIZE - 1);
}

static void test_bye(void **state)
{
	uint8_t msg[HELLO_MSG_MAX];

	for (unsigned reason = 1; reason < HELLO_BYE_N; reason++) {
		enum hello_reason out;

		assert_int_equal(hello_bye_encode(msg, (enum hello_reason)reason, 0), 12);
		assert_int_equal(hello_bye_decode(msg + 8, 4, &out), 0);
		assert_int_equal(out, reason);
		for (size_t size = 0; size < 8; size++)
			assert_int_equal(hello_bye_decode(msg + 8, size, &out),
				size == 4 ? 0 : -EPROTO);
	}
	for (unsigned reason = 0; reason < HELLO_REASON_N; reason++) {
		if (reason)
			assert_non_null(
				hello_reason_text((enum hello_reason)reason, false));
		if (reason && reason < HELLO_BYE_N)
			assert_non_null(
				hello_reason_text((enum hello_reason)reason, true));
	}
}

/* Made with another implementation: the hmac module of Python. */
static void test_proof(void **state)
{
	static const uint8_t expected[4][4] = {
		{0x82, 0xdd, 0xb0, 0x5e},
		{0x67, 0x71, 0x76, 0xbf},
		{0xaf, 0x91, 0xd1, 0x8c},
		{0x61, 0xf4, 0xc4, 0x57},
	};
	struct hello_key key = {.size = 32};
	struct hello_transcript t;
	uint8_t out[HELLO_MAC_SIZE], code[HELLO_MAC_SIZE];

	memset(key.bytes, 'k', 32);
	memcpy(t.initiator, hello_bytes, sizeof(hello_bytes));
	t.initiator_size = sizeof(hello_bytes);
	memcpy(t.acceptor, hello_bytes, sizeof(hello_bytes));
	t.acceptor[16] = 0xff;
	t.acceptor_size = sizeof(hello_bytes);

	hello_auth_proof(&key, &t, true, out);
	assert_memory_equal(out, expected[0], 4);
	hello_auth_proof(&key, &t, false, out);
	assert_memory_equal(out, expected[1], 4);
	hello_auth_session_key(&key, &t, true, out);
	assert_memory_equal(out, expected[2], 4);
	hello_auth_session_key(&key, &t, false, out);
	hello_auth_code(
		out, 0x0102030405060708, endpoint_bytes, sizeof(endpoint_bytes), code);
	assert_memory_equal(code, expected[3], 4);
	assert_true(hello_auth_equal(code, code));
	out[31] = (uint8_t)(code[31] ^ 1);
	memcpy(out, code, 31);
	assert_false(hello_auth_equal(code, out));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hello),
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_endpoint),
		cmocka_unit_test(test_endpoint_sizes),
		cmocka_unit_test(test_most_queue_pairs),
		cmocka_unit_test(test_name),
		cmocka_unit_test(test_bye),
		cmocka_unit_test(test_proof),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmd/frame.c: records and the headers of frames, each cut off at every length and with
 * every single field spoilt.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/util.h"
#include "pmd/frame.h"

/* copy_exact() - a copy in a block of just that size, so that ASan sees a byte too far */
static uint8_t *copy_exact(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, size);
	return copy;
}

static int decode(const uint8_t *msg, uint32_t size, struct frame_record *record)
{
	uint8_t *copy = copy_exact(msg, size);
	int err = frame_record_decode(copy, size, 0, record);

	free(copy);
	return err;
}

static void record_round_trip(void **state)
{
	static const struct frame_record records[] = {
		{FRAME_LEN_MIN, 0, 0},
		{1514, 0, FRAME_CSUM},
		{1514, 0, FRAME_CSUM | FRAME_IPCSUM},
		{FRAME_LEN_MAX, 1448, FRAME_TSO | FRAME_CSUM},
		{FRAME_LEN_MAX, UINT16_MAX, FRAME_FLAGS},
	};
	static uint8_t msg[FRAME_MSG_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
		struct frame_record got;

		frame_record_encode(msg, &records[i]);
		assert_int_equal(decode(msg, FRAME_HDR_SIZE + records[i].len, &got), 0);
		assert_int_equal(got.len, records[i].len);
		assert_int_equal(got.mss, records[i].mss);
		assert_int_equal(got.flags, records[i].flags);
	}
}

static void record_truncated(void **state)
{
	struct frame_record record = {100, 0, 0}, got;
	uint8_t msg[FRAME_HDR_SIZE + 100] = {0};

	frame_record_encode(msg, &record);
	for (uint32_t size = 1; size < sizeof(msg); size++)
		assert_int_equal(decode(msg, size, &got), -EPROTO);
	assert_int_equal(decode(msg, sizeof(msg), &got), 0);
}

static void record_bad_fields(void **state)
{
	static const struct {
		uint8_t at, value;
	} spoil[] = {
		{0, 0},
		{0, 2},
		{0, 255}, /* type */
		{1, 8},
		{1, 128},
		{1, 255}, /* flags */
		{2, 1},
		{3, 1}, /* MSS without TSO */
		{4, 1},
		{5, 1},
		{6, 1}, /* longer than the message */
		{7, FRAME_LEN_MIN - 1},
		{7, 0},
		{7, 65},
	};
	struct frame_record record = {64, 0, 0}, got;
	uint8_t msg[FRAME_HDR_SIZE + 64] = {0};

	for (size_t i = 0; i < ARRAY_SIZE(spoil); i++) {
		frame_record_encode(msg, &record);
		msg[spoil[i].at] = spoil[i].value;
		assert_int_equal(decode(msg, sizeof(msg), &got), -EPROTO);
	}
}

static void record_longest(void **state)
{
	struct frame_record record = {FRAME_LEN_MAX + 1, 0, 0}, got;
	uint8_t *msg = calloc(1, FRAME_MSG_MAX + 1);

	assert_non_null(msg);
	frame_record_encode(msg, &record);
	assert_int_equal(frame_record_decode(msg, FRAME_MSG_MAX + 1, 0, &got), -EPROTO);
	free(msg);
}

static void record_tso_is_alone(void **state)
{
	struct frame_record plain = {60, 0, 0}, tso = {60, 1000, FRAME_TSO}, got;
	uint8_t msg[2 * (FRAME_HDR_SIZE + 60)] = {0};
	uint32_t second = FRAME_HDR_SIZE + 60;

	frame_record_encode(msg, &plain);
	frame_record_encode(msg + second, &tso);
	assert_int_equal(frame_record_decode(msg, sizeof(msg), 0, &got), 0);
	assert_int_equal(frame_record_decode(msg, sizeof(msg), second, &got), -EBADMSG);
	assert_int_equal(got.len, 60);
	frame_record_encode(msg, &tso);
	assert_int_equal(frame_record_decode(msg, sizeof(msg), 0, &got), -EBADMSG);
	assert_int_equal(frame_record_decode(msg, second, 0, &got), 0);
}

/* Frames with 40 bytes of payload, padded by 4 but for TCP. */
static const uint8_t tcp4[14 + 20 + 32 + 40] = {
	[12] = 8, 0, 0x45, 0, 0, 92, [23] = 6, [14 + 20 + 12] = 0x80};
static const uint8_t udp4_vlan[18 + 20 + 8 + 40 + 4] = {
	[12] = 0x81, 0, 0, 5, 8, 0, 0x45, 0, 0, 68, [27] = 17, [18 + 20 + 4] = 0, 48};
static const uint8_t sctp6_qinq[22 + 40 + 8 + 12 + 40 + 4] = {[12] = 0x88,
	0xa8,
	0,
	5,
	0x81,
	0,
	0,
	6,
	0x86,
	0xdd,
	0x60,
	0,
	0,
	0,
	0,
	60,
	60,
	[22 + 40] = 132,
	0};

struct frame_case {
	const uint8_t *frame;
	uint32_t len;
	struct frame_record record;
	uint32_t hdrs; /* bytes that must be at hand */
	struct frame_layout layout;
};

#define FRAME(name) name, sizeof(name)

static const struct frame_case frame_cases[] = {
	{FRAME(tcp4), {0, 1448, FRAME_TSO}, 66, {14, 20, 32, 4, 6, 106}},
	{FRAME(tcp4), {0, 0, FRAME_CSUM | FRAME_IPCSUM}, 66, {14, 20, 32, 4, 6, 106}},
	{FRAME(udp4_vlan), {0, 0, FRAME_CSUM}, 46, {18, 20, 8, 4, 17, 86}},
	{FRAME(sctp6_qinq), {0, 0, FRAME_CSUM}, 82, {22, 48, 12, 6, 132, 122}},
	{FRAME(tcp4), {0, 0, FRAME_IPCSUM}, 34, {14, 20, 0, 4, 6, 106}},
};

static int check(const struct frame_case *c, const uint8_t *frame, uint32_t avail,
	struct frame_layout *layout)
{
	struct frame_record record = c->record;
	uint8_t *copy = copy_exact(frame, avail);
	int err;

	record.len = c->len;
	err = frame_check_offload(&record, copy, avail, layout);
	free(copy);
	return err;
}

static void layout_found(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(frame_cases); i++) {
		const struct frame_case *c = &frame_cases[i];
		struct frame_layout got;

		assert_int_equal(check(c, c->frame, c->len, &got), 0);
		assert_int_equal(got.l2_len, c->layout.l2_len);
		assert_int_equal(got.l3_len, c->layout.l3_len);
		assert_int_equal(got.l4_len, c->layout.l4_len);
		assert_int_equal(got.ip_version, c->layout.ip_version);
		assert_int_equal(got.l4_proto, c->layout.l4_proto);
		assert_int_equal(got.ip_end, c->layout.ip_end);
	}
}

static void layout_truncated(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(frame_cases); i++) {
		const struct frame_case *c = &frame_cases[i];
		struct frame_layout got;

		for (uint32_t avail = 0; avail < c->len; avail++)
			assert_int_equal(check(c, c->frame, avail, &got),
				avail < c->hdrs ? -EPROTO : 0);
	}
}

static void layout_frame_shorter(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(frame_cases); i++) {
		struct frame_case c = frame_cases[i];
		struct frame_layout got;

		for (c.len = 1; c.len < c.layout.ip_end; c.len++)
			assert_int_equal(check(&c, c.frame, c.len, &got), -EPROTO);
	}
}

/* Each is one byte of a good frame changed to something that must not pass. */
static void layout_bad_fields(void **state)
{
	static const struct {
		uint8_t which, at, value;
	} spoil[] = {
		{0, 13, 1},    /* not IP */
		{0, 12, 0x86}, /* IPv6's EtherType is 0x86dd */
		{0, 14, 0x65}, /* version 6 */
		{0, 14, 0x44}, /* IHL 4 */
		{0, 14, 0x4f}, /* IHL 15: the TCP header is then elsewhere */
		{0, 16, 1},    /* total length beyond the frame */
		{0, 17, 19},   /* total length below the header's */
		{0, 17, 91},   /* TSO, and the packet ends before the frame */
		{0, 17, 52},   /* TSO without payload */
		{0, 20, 0x20}, /* more fragments */
		{0, 21, 1},    /* fragment offset */
		{0, 23, 17},   /* TSO of UDP */
		{0, 23, 1},    /* ICMP */
		{0, 46, 0x40}, /* data offset 4 */
		{1, 16, 0x81}, /* a second tag, then no EtherType that is known */
		{1, 42, 1},    /* UDP length beyond the packet */
		{1, 43, 7},    /* UDP length below its header's */
		{1, 27, 6},    /* TCP with data offset 0 */
		{2, 22, 0x40}, /* version 4 */
		{2, 26, 1},    /* payload length beyond the frame */
		{2, 28, 44},   /* a fragment header */
		{2, 28, 132},  /* SCTP: the lengths are then not checked, but below */
		{2, 63, 255},  /* an extension header of 2 KiB */
	};

	for (size_t i = 0; i < ARRAY_SIZE(spoil); i++) {
		const struct frame_case *c = &frame_cases[spoil[i].which == 0	? 0
							  : spoil[i].which == 1 ? 2
										: 3];
		uint8_t *frame = copy_exact(c->frame, c->len);
		struct frame_layout got;
		int err;

		frame[spoil[i].at] = spoil[i].value;
		err = check(c, frame, c->len, &got);
		free(frame);
		if (spoil[i].which == 2 && spoil[i].value == 132)
			assert_int_equal(err, 0); /* no extension header is good, too */
		else
			assert_int_equal(err, -EPROTO);
	}
}

static void layout_bad_mss(void **state)
{
	struct frame_case c = frame_cases[0];
	struct frame_layout got;

	c.record.mss = FRAME_MSS_MIN;
	assert_int_equal(check(&c, c.frame, c.len, &got), 0);
	c.record.mss = FRAME_MSS_MIN - 1;
	assert_int_equal(check(&c, c.frame, c.len, &got), -EPROTO);
}

static void layout_ipcsum_of_ipv6(void **state)
{
	struct frame_case c = frame_cases[3];
	struct frame_layout got;

	c.record.flags = FRAME_IPCSUM;
	assert_int_equal(check(&c, c.frame, c.len, &got), -EPROTO);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(record_round_trip),
		cmocka_unit_test(record_truncated),
		cmocka_unit_test(record_bad_fields),
		cmocka_unit_test(record_longest),
		cmocka_unit_test(record_tso_is_alone),
		cmocka_unit_test(layout_found),
		cmocka_unit_test(layout_truncated),
		cmocka_unit_test(layout_frame_shorter),
		cmocka_unit_test(layout_bad_fields),
		cmocka_unit_test(layout_bad_mss),
		cmocka_unit_test(layout_ipcsum_of_ipv6),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

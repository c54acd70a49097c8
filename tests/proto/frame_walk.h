/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A message taken apart and its frames finished, by the driver's own pure parts and in
 * the way of pmd/rx.c, for the judge and for the fuzzer.
 */
#ifndef TESTS_PROTO_FRAME_WALK_H
#define TESTS_PROTO_FRAME_WALK_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "pmd/frame.h"
#include "pmd/offload.h"

struct frame_walk {
	uint32_t mtu;
	void (*dropped)(const char *counter);
	void (*frame)(const uint8_t *frame, uint32_t len);
	/* as other ports are to finish it */
	void (*unfinished)(const uint8_t *frame, const struct frame_layout *layout);
};

/* frame_walk_tso() - exact blocks, so that ASan sees a byte too far */
static inline void frame_walk_tso(const struct frame_walk *walk, const uint8_t *frame,
	const struct frame_record *record, const struct frame_layout *layout)
{
	uint32_t hdrs = (uint32_t)layout->l3_len + layout->l4_len;
	uint32_t mss, n;

	if (walk->mtu <= hdrs) {
		walk->dropped("rx_drop_oversize");
		return;
	}
	mss = MIN(record->mss, walk->mtu - hdrs);
	n = offload_n_segments(record->len, layout, mss);
	for (uint32_t i = 0; i < n; i++) {
		uint8_t *out = malloc(layout->l2_len + hdrs + mss);

		walk->frame(
			out, offload_segment(frame, record->len, layout, mss, i, out));
		free(out);
	}
}

static inline void frame_walk_offload(
	const struct frame_walk *walk, uint8_t *frame, const struct frame_record *record)
{
	struct frame_layout layout;

	if (frame_check_offload(record, frame, record->len, &layout)) {
		walk->dropped("rx_drop_offload");
		return;
	}
	if (record->flags & (FRAME_CSUM | FRAME_TSO)) {
		offload_pseudo_csum(frame, &layout);
		walk->unfinished(frame, &layout);
	}
	if (record->flags & FRAME_TSO) {
		frame_walk_tso(walk, frame, record, &layout);
		return;
	}
	if (record->flags & FRAME_IPCSUM)
		offload_ipv4_csum(frame, &layout);
	if (record->flags & FRAME_CSUM)
		offload_l4_csum(frame, &layout);
	walk->frame(frame, record->len);
}

static inline void frame_walk_record(const struct frame_walk *walk, const uint8_t *bytes,
	const struct frame_record *record)
{
	uint8_t *frame;

	if (!(record->flags & FRAME_TSO) && record->len > walk->mtu + FRAME_OVERHEAD) {
		walk->dropped("rx_drop_oversize");
		return;
	}
	frame = malloc(record->len);
	memcpy(frame, bytes, record->len);
	if (record->flags)
		frame_walk_offload(walk, frame, record);
	else
		walk->frame(frame, record->len);
	free(frame);
}

static inline void frame_walk(
	const struct frame_walk *walk, const uint8_t *msg, uint32_t size)
{
	struct frame_record record;
	uint32_t at = 0;
	int err;

	if (!size)
		walk->dropped("rx_drop_record");
	while (at < size) {
		err = frame_record_decode(msg, size, at, &record);
		if (err == -EPROTO) {
			walk->dropped("rx_drop_record");
			return;
		}
		if (err)
			walk->dropped("rx_drop_offload");
		else
			frame_walk_record(walk, msg + at + FRAME_HDR_SIZE, &record);
		at += FRAME_HDR_SIZE + record.len;
	}
}

#endif

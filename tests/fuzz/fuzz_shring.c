/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A channel in which any word may change at any time: the input is a program of calls by
 * one side (or both), between which the shared words are overwritten. Whatever happens,
 * no call touches memory outside of the channel (the area is exactly as large as it must
 * be, so the address sanitizer sees that) or says more than it was asked for, and an
 * error that ended the connection stays.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ivshmem/shring.h"
#include "ivshmem/shring_layout.h"

#define BUF_SIZE (2 * SHRING_SIZE_MIN)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct program {
	const uint8_t *at, *end;
	uint8_t *area;
	size_t area_size;
	struct shring side[2];
	int ended[2]; /* the error that all later calls must give */
};

static uint8_t buf[BUF_SIZE];

static void check(bool holds)
{
	if (!holds)
		abort();
}

static uint32_t take(struct program *p, unsigned bytes)
{
	uint32_t value = 0;

	for (; bytes && p->at < p->end; bytes--)
		value = value << 8 | *p->at++;
	return value;
}

/* The words that matter; anything else of the control page is as good as data. */
static void scribble(struct program *p)
{
	static const uint16_t words[] = {0x0, 0x4, 0x8, 0xc, 0x80, 0x84, 0x100, 0x180,
		0x184, 0x188, 0x200, 0x204, 0x280, 0x300, 0x308};
	uint32_t which = take(p, 1), value = take(p, 4);
	uint8_t *word = p->area + words[(which & 0x7f) % ARRAY_SIZE(words)];
	uint32_t old;

	memcpy(&old, word, sizeof(old));
	if (which & 0x80)
		value = old + (uint32_t)(int16_t)value;
	memcpy(word, &value, sizeof(value));
}

static void check_result(struct program *p, int i, int64_t result, size_t most)
{
	check(result <= (int64_t)most);
	if (p->ended[i])
		check(result == p->ended[i] || result == 0);
	if (result == -EPROTO || result == -ECONNABORTED)
		p->ended[i] = (int)result;
}

static void check_pieces(const struct shring_end *end, const struct iovec iov[2])
{
	for (int i = 0; i < 2; i++) {
		size_t at = (size_t)((uint8_t *)iov[i].iov_base - end->data);

		check(at <= end->size && iov[i].iov_len <= end->size - at);
	}
}

/* What is written or read in place is really touched. */
static void in_place(struct program *p, int i, bool reading)
{
	struct shring *r = &p->side[i];
	struct shring_end *end = &r->end[reading ? SHRING_READ : SHRING_WRITE];
	size_t want = take(p, 2);
	struct iovec iov[2];
	ssize_t n = reading ? shring_peek(r, iov) : shring_reserve(r, iov);

	check_result(p, i, n, end->size);
	check_pieces(end, iov);
	check((n > 0 ? (size_t)n : 0) == iov[0].iov_len + iov[1].iov_len);
	for (int k = 0; k < 2; k++) {
		if (reading)
			memcpy(buf, iov[k].iov_base, iov[k].iov_len);
		else
			memset(iov[k].iov_base, k, iov[k].iov_len);
	}
	if (n <= 0)
		return;
	if (reading)
		shring_consume(r, MIN(want, (size_t)n));
	else
		shring_commit(r, MIN(want, (size_t)n));
}

static void step(struct program *p)
{
	uint32_t op = take(p, 1), len;
	int i = op >> 7;
	struct shring *r = &p->side[i];
	enum shring_dir dir = op & 0x40 ? SHRING_WRITE : SHRING_READ;

	switch (op & 0xf) {
	case 0:
	case 1:
		len = take(p, 2) * 2;
		check_result(p, i, shring_write(r, buf, len), len);
		break;
	case 2:
	case 3:
		len = take(p, 2) * 2;
		check_result(p, i, shring_read(r, buf, len), len);
		break;
	case 4:
	case 5:
		in_place(p, i, op & 1);
		break;
	case 6:
		if (shring_arm(r, dir))
			check(p->ended[i] == 0);
		break;
	case 7:
		shring_disarm(r, dir);
		break;
	case 8:
		check(shring_is_ready(r, dir) || p->ended[i] == 0);
		break;
	case 9:
		shring_shutdown(r, dir);
		break;
	case 10:
		if (op & 0x20)
			shring_abort(r);
		else if (op & 0x10)
			shring_peer_gone(r);
		break;
	case 11: {
		const struct shring_bell bell = {.fd = {-1, -1}};
		struct shring other;

		if (shring_attach(&other, p->area, p->area_size, &bell) == 0) {
			p->side[1] = other;
			p->ended[1] = 0;
		}
		break;
	}
	default:
		scribble(p);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct shring_bell bell = {.fd = {-1, -1}};
	struct program p = {.at = data, .end = data + size};

	p.area_size = shring_area_size(SHRING_SIZE_MIN, 2 * SHRING_SIZE_MIN);
	p.area = aligned_alloc(SHRING_CTRL_SIZE, p.area_size);
	check(p.area != NULL);
	check(shring_create(&p.side[0], p.area, p.area_size, SHRING_SIZE_MIN,
		      2 * SHRING_SIZE_MIN, &bell) == 0);
	check(shring_attach(&p.side[1], p.area, p.area_size, &bell) == 0);
	while (p.at < p.end)
		step(&p);
	free(p.area);
	return 0;
}

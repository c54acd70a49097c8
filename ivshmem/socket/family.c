/* SPDX-License-Identifier: BSD-3-Clause */
#include "family.h"

#include <fcntl.h>

#include "real.h"

static struct family *family;
static int file = -1;
static void (*on_lost)(uint32_t thing);
static _Atomic int32_t me = -1;

static bool file_lock(uint32_t number, int what, short *type)
{
	struct flock64 l = {
		.l_type = *type, .l_whence = SEEK_SET, .l_start = number, .l_len = 1};

	if (real.fcntl64(file, what, &l))
		return false;
	*type = l.l_type;
	return true;
}

/* Only of others: one's own locks are no obstacle. */
static bool is_dead(uint32_t number)
{
	short type = F_WRLCK;

	return (int32_t)number != atomic_load(&me) &&
	       file_lock(number, F_GETLK64, &type) && type == F_UNLCK;
}

static bool has(uint32_t number, uint32_t thing)
{
	return atomic_load(&family->has[number][thing / 64]) >> thing % 64 & 1;
}

static void bury(uint32_t number)
{
	for (uint32_t i = 0; i < FAMILY_THINGS / 64; i++) {
		uint64_t bits = atomic_exchange(&family->has[number][i], 0);

		for (; bits; bits &= bits - 1)
			on_lost(i * 64 + (uint32_t)__builtin_ctzll(bits));
	}
	atomic_store(&family->taken[number], 0);
}

/* Locked, so that none dies twice and no number is taken before it is free. */
static bool number_take(uint32_t number)
{
	short type = F_WRLCK;

	if (atomic_load(&family->taken[number]) || !file_lock(number, F_SETLK64, &type))
		return false;
	atomic_store(&family->taken[number], 1);
	if (number >= atomic_load(&family->n_numbers))
		atomic_store(&family->n_numbers, number + 1);
	atomic_store(&me, (int32_t)number);
	return true;
}

/* @thing: of those that have it; NULL: of all. Locked. */
static void bury_dead(const uint32_t *thing)
{
	for (uint32_t i = 0; i < atomic_load(&family->n_numbers); i++) {
		if (!atomic_load(&family->taken[i]) || (thing && !has(i, *thing)))
			continue;
		if (is_dead(i))
			bury(i);
	}
}

static bool take_any(void)
{
	for (uint32_t i = 0; i < FAMILY_MAX; i++) {
		if (number_take(i))
			return true;
	}
	return false;
}

static void join(void)
{
	if (!lock_take(&family->lock))
		return;
	if (!take_any()) {
		bury_dead(NULL);
		take_any();
	}
	lock_give(&family->lock);
}

void family_open(struct family *f, int fd, void (*lost)(uint32_t thing))
{
	family = f;
	file = fd;
	on_lost = lost;
}

static _Atomic uint64_t *word_of(uint32_t thing)
{
	return &family->has[atomic_load(&me)][thing / 64];
}

void family_take(uint32_t thing)
{
	if (atomic_load(&me) < 0)
		join();
	if (atomic_load(&me) >= 0)
		atomic_fetch_or(word_of(thing), UINT64_C(1) << thing % 64);
}

void family_give(uint32_t thing)
{
	if (atomic_load(&me) >= 0)
		atomic_fetch_and(word_of(thing), ~(UINT64_C(1) << thing % 64));
}

static void bury_dead_locked(const uint32_t *thing)
{
	if (!family || !lock_take(&family->lock))
		return;
	bury_dead(thing);
	lock_give(&family->lock);
}

void family_bury(uint32_t thing)
{
	bury_dead_locked(&thing);
}

void family_bury_all(void)
{
	bury_dead_locked(NULL);
}

void family_close(int fd)
{
	short type = F_WRLCK;
	bool locked = family && lock_take(&family->lock);

	real.close(fd);
	if (atomic_load(&me) >= 0)
		file_lock((uint32_t)atomic_load(&me), F_SETLK64, &type);
	if (locked)
		lock_give(&family->lock);
}

void family_leave(void)
{
	int32_t number = atomic_exchange(&me, -1);
	short type = F_UNLCK;

	if (number < 0)
		return;
	atomic_store(&family->taken[number], 0);
	file_lock((uint32_t)number, F_SETLK64, &type);
}

void family_forked(void)
{
	atomic_store(&me, -1);
}

int family_number(void)
{
	return atomic_load(&me);
}

void family_adopt(int number)
{
	atomic_store(&me, number < FAMILY_MAX ? number : -1);
}

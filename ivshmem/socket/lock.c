/* SPDX-License-Identifier: BSD-3-Clause */
#include "lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SPINS	 200
#define RETRY_NS (20 * 1000 * 1000)

__thread uint32_t lock_tid __attribute__((tls_model("initial-exec")));

void lock_forked(void)
{
	lock_tid = (uint32_t)syscall(SYS_gettid);
}

/* ESRCH: no such thread. One of another user (EPERM) lives. */
static bool is_dead(uint32_t tid)
{
	return syscall(SYS_tkill, tid, 0) && errno == ESRCH;
}

static void wait_for(struct lock *l, uint32_t seen)
{
	struct timespec ts = {0, RETRY_NS};
	uint32_t waited = seen | LOCK_WAITED;

	if (!(seen & LOCK_WAITED) &&
		!atomic_compare_exchange_strong(&l->word, &seen, waited))
		return;
	if (syscall(SYS_futex, &l->word, FUTEX_WAIT, waited, &ts, NULL, 0) &&
		errno == ETIMEDOUT && is_dead(waited & ~LOCK_WAITED))
		atomic_compare_exchange_strong(&l->word, &waited, 0);
}

static bool try(struct lock *l, uint32_t as)
{
	uint32_t free = 0;

	return atomic_compare_exchange_strong(&l->word, &free, as);
}

bool lock_take_slow(struct lock *l)
{
	int saved = errno;
	uint32_t seen;

	if (!lock_tid)
		lock_forked();
	if ((atomic_load(&l->word) & ~LOCK_WAITED) == lock_tid)
		return false;
	for (int i = 0; i < SPINS; i++) {
		if (try(l, lock_tid))
			return true;
	}
	/* Whoever waited takes it with the bit, as others may wait as well. */
	while (!try(l, lock_tid | LOCK_WAITED)) {
		seen = atomic_load(&l->word);
		if (seen)
			wait_for(l, seen);
	}
	errno = saved;
	return true;
}

void lock_wake(struct lock *l)
{
	int saved = errno;

	syscall(SYS_futex, &l->word, FUTEX_WAKE, 1, NULL, NULL, 0);
	errno = saved;
}

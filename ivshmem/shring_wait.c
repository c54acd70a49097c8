/* SPDX-License-Identifier: BSD-3-Clause */
#include "shring_wait.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#include "ivshmem/doorbell.h"

/* The clock is looked at once in so many polls: it costs as much as several of them. */
#define POLLS_PER_LOOK 16

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static bool spin_until(struct shring *r, enum shring_dir dir, uint64_t end_ns)
{
	do {
		for (int i = 0; i < POLLS_PER_LOOK; i++) {
			if (shring_is_ready(r, dir))
				return true;
			cpu_relax();
		}
	} while (now_ns() < end_ns);
	return false;
}

/* S3: sleep until the bell, and take its count. */
static int sleep_on(int fd, int64_t left_ns)
{
	struct timespec ts = {
		left_ns / (int64_t)NSEC_PER_SEC, left_ns % (int64_t)NSEC_PER_SEC};
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int n;

	/* For ever, and the descriptor blocks: reading is all that is needed. */
	if (left_ns < 0) {
		n = doorbell_take(fd, true);
		if (n != -EAGAIN)
			return n;
	}
	n = ppoll(&p, 1, left_ns < 0 ? NULL : &ts, NULL);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ETIMEDOUT;
	n = doorbell_take(fd, false);
	return n == -EAGAIN ? 0 : n;
}

static int wait_asleep(
	struct shring *r, enum shring_dir dir, int fd, uint64_t start, int64_t timeout_ns)
{
	int64_t left = -1;
	int rc;

	for (;;) {
		if (!shring_arm(r, dir))
			return 0;
		if (timeout_ns >= 0) {
			left = timeout_ns - (int64_t)(now_ns() - start);
			left = MAX(left, 0);
		}
		rc = sleep_on(fd, left);
		shring_disarm(r, dir);
		if (rc)
			return rc == -ETIMEDOUT && shring_is_ready(r, dir) ? 0 : rc;
	}
}

/* If spinning for the longest time would have met the event, it pays to do so. */
static void spin_adapt(struct shring_spin *spin, uint64_t waited_ns)
{
	spin->ns = waited_ns <= spin->max_ns ? spin->max_ns : spin->ns / 2;
}

int shring_wait(struct shring *r, enum shring_dir dir, int fd, struct shring_spin *spin,
	int64_t timeout_ns)
{
	uint64_t start, spin_ns = spin->ns;
	int rc;

	if (shring_is_ready(r, dir))
		return 0;
	if (timeout_ns == 0)
		return -ETIMEDOUT;
	start = now_ns();
	if (timeout_ns > 0)
		spin_ns = MIN(spin_ns, (uint64_t)timeout_ns);
	if (spin_ns && spin_until(r, dir, start + spin_ns))
		return 0;
	rc = wait_asleep(r, dir, fd, start, timeout_ns);
	spin_adapt(spin, now_ns() - start);
	return rc;
}

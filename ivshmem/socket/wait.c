/* SPDX-License-Identifier: BSD-3-Clause */
#include "wait.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "epoll.h"
#include "real.h"

#define SPIN_VARIABLE	"VRDMA_SOCKET_SPIN" /* microseconds */
#define SPIN_DEFAULT_US 50
#define SPIN_FAR_NS	NSEC_PER_MSEC /* longest between guests */
#define SLEPT_FACTOR	4
#define FAR_MISSES	16 /* 2^n: n spins in vain, each half as long, then none */
#define POLLS_PER_LOOK	16 /* the clock costs as much as several polls */
#define AGAIN_NS	(50 * NSEC_PER_USEC)
#define AGAIN_MAX	2000 /* of them in a row: then who sleeps is taken for dead */
#define READ_SHUT_NS	(500 * NSEC_PER_USEC) /* the shadow can't be slept on then */

static _Atomic uint64_t spin_max_ns;
static bool is_set; /* by the user */
static _Atomic bool is_far;

void wait_init(void)
{
	const char *text = getenv(SPIN_VARIABLE);

	is_set = text != NULL;
	spin_max_ns = (text ? strtoul(text, NULL, 10) : SPIN_DEFAULT_US) * NSEC_PER_USEC;
	/* The peer can't do anything while we spin on the only processor. That we are
	 * bound to one says nothing: the peer may well have another, and that's when
	 * spinning is best.
	 */
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		spin_max_ns = 0;
}

/* It pays to spin for about as long as a bell takes, and between guests it is a packet
 * with interrupts on its way. The peer has processors of its own, so that we have only
 * one says nothing; and if all this process' connections spin longer, the more so.
 */
void wait_bell_is_far(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	uint64_t ns;

	if (is_set || real.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return;
	ns = MAX(SPIN_DEFAULT_US, info.tcpi_rtt) * NSEC_PER_USEC;
	ns = MIN(ns, SPIN_FAR_NS);
	is_far = true;
	if (ns > spin_max_ns)
		spin_max_ns = ns;
}

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static bool may_write_unattached(const struct conn *c)
{
	return c->ring.end[SHRING_WRITE].pos < UNATTACHED_MAX;
}

bool conn_is_ready(struct conn *c, enum shring_dir dir)
{
	if (unlikely(atomic_load_explicit(&c->shadow_ended, memory_order_relaxed) ||
		     atomic_load_explicit(&c->dead, memory_order_relaxed)))
		return true;
	if (unlikely(atomic_load_explicit(
		    dir == SHRING_READ ? &c->read_shut : &c->write_shut,
		    memory_order_relaxed)))
		return true;
	if (unlikely(conn_state(c) != CONN_RING)) {
		if (conn_state(c) == CONN_CONNECTING)
			return false;
		if (dir == SHRING_WRITE)
			return may_write_unattached(c);
	}
	return shring_is_ready(&c->ring, dir);
}

/* -- going to sleep */

static void nap(uint64_t ns)
{
	struct timespec ts = {0, (long)ns};

	nanosleep(&ts, NULL);
}

/* Take away what rang before, or all but the last if another set has to wake by it: the
 * kernel tells a set of nothing that isn't there any more.
 * Return: false if somebody who sleeps in a call has to wake by it first
 */
static bool bells_drain(struct conn *c, int fd, bool leave_one)
{
	bool take = !c->asleep && !leave_one;
	char bells[64];
	ssize_t n;

	n = real.recv(fd, bells, sizeof(bells), MSG_DONTWAIT | (take ? 0 : MSG_PEEK));
	if (n > 1 && !c->asleep && leave_one)
		real.recv(fd, bells, (size_t)n - 1, MSG_DONTWAIT);
	if (n > 0)
		return !c->asleep;
	if (n == 0 && atomic_load(&c->read_shut))
		return true; /* our own doing: see shutdown() */
	if (n == 0)
		atomic_store(&c->shadow_ended, 1);
	else
		conn_shadow_failed(c, errno);
	return true;
}

void doze_bell(struct conn *c, int fd, bool leave_one)
{
	int saved = errno;

	if (!lock_take(&c->doze))
		return;
	if (conn_state(c) == CONN_RING)
		bells_drain(c, fd, leave_one);
	lock_give(&c->doze);
	errno = saved;
}

/* Who sleeps in a call needs all of them away. A set that was to wake by one, of another
 * thread or also of this one later, has to look without.
 */
static bool bells_take(struct conn *c, int fd)
{
	if (atomic_load(&c->watched))
		atomic_store(&conn_locals[conn_index(c)].bells_taken, 1);
	return bells_drain(c, fd, false);
}

void doze_pass_on(struct conn *c, int fd, struct fdent e)
{
	_Atomic uint32_t *taken = &conn_locals[conn_index(c)].bells_taken;

	if (unlikely(atomic_load(taken)) && atomic_exchange(taken, 0))
		epoll_bell_taken(fd, e);
}

/* As shring_arm(), but a ticket that others rely on stays. */
static bool arm(struct conn *c, enum shring_dir dir)
{
	shring_arm_anyway(&c->ring, dir);
	if (!conn_is_ready(c, dir))
		return true;
	if (!c->asleep && !atomic_load(&c->watched))
		shring_disarm(&c->ring, dir);
	return false;
}

enum doze doze_begin(struct conn *c, int fd, enum shring_dir dir)
{
	enum doze result = DOZE_SLEEP;
	int saved = errno;

	conn_advance(c, fd);
	if (conn_is_forsaken(c, fd))
		return DOZE_REVERT;
	if (!lock_take(&c->doze))
		return DOZE_READY;
	/* Who was killed in its sleep does not wake. */
	if (c->n_again > AGAIN_MAX)
		c->asleep = c->n_again = 0;
	if (conn_state(c) == CONN_RING && !bells_take(c, fd))
		result = DOZE_AGAIN;
	else if (conn_is_ready(c, dir) ||
		 (conn_state(c) != CONN_CONNECTING && !arm(c, dir)))
		result = DOZE_READY;
	else
		c->asleep++;
	c->n_again = result == DOZE_AGAIN ? c->n_again + 1 : 0;
	lock_give(&c->doze);
	errno = saved;
	return result;
}

void doze_end(struct conn *c, int fd, struct fdent e, enum shring_dir dir)
{
	int rc;
	struct conn *locked = conn_lock(fd, e, dir, &rc);

	if (lock_take(&c->doze)) {
		if (c->asleep)
			c->asleep--;
		if (locked && !c->asleep && !atomic_load(&c->watched))
			shring_disarm(&c->ring, dir);
		lock_give(&c->doze);
	}
	if (locked)
		conn_unlock(c, dir);
}

uint64_t conn_limit(const struct conn *c)
{
	if (conn_state(c) != CONN_OFFERED || !c->ring.end[SHRING_WRITE].pos)
		return 0;
	return c->offered_ns + UNATTACHED_NS + NSEC_PER_MSEC;
}

/* Until there's a byte on the shadow, or its end. Without a time to keep, the kernel's
 * own recv() makes sure that signals do what they do to a recv() (SA_RESTART).
 */
static int sleep_on_shadow(struct conn *c, int fd, uint64_t until_ns)
{
	bool connecting = conn_state(c) == CONN_CONNECTING;
	struct pollfd p = {.fd = fd, .events = connecting ? POLLOUT : POLLIN | POLLRDHUP};
	uint64_t now, left = 0;
	struct timespec ts;
	char byte;

	if (atomic_load(&c->read_shut)) {
		nap(READ_SHUT_NS);
		return 0;
	}
	if (until_ns) {
		now = now_ns();
		left = until_ns > now ? until_ns - now : 0;
		ts = (struct timespec){
			(time_t)(left / NSEC_PER_SEC), (long)(left % NSEC_PER_SEC)};
	} else if (!connecting) {
		if (real.recv(fd, &byte, 1, MSG_PEEK) >= 0)
			return 0;
		/* Nobody else is told. */
		conn_shadow_failed(c, errno);
		return errno == EINTR ? -EINTR : 0;
	}
	return real.ppoll(&p, 1, until_ns ? &ts : NULL, NULL) < 0 && errno == EINTR
		       ? -EINTR
		       : 0;
}

bool conn_spin(struct conn *c, enum shring_dir dir)
{
	uint64_t start = now_ns(), end = start + c->spin_ns[dir];

	if (conn_state(c) == CONN_CONNECTING || !c->spin_ns[dir])
		return false;
	do {
		for (int i = 0; i < POLLS_PER_LOOK; i++) {
			if (conn_is_ready(c, dir))
				return true;
			cpu_relax();
		}
		/* The peer may need this very processor. */
		sched_yield();
	} while (now_ns() < end);
	return false;
}

/* If spinning for the longest time would have met the event, it pays to do so. When both
 * sides sleep each wait is prolonged by two wake-ups, hence the factor: without it they
 * would never find out of it.
 */
uint64_t wait_spin_next(uint64_t spin_ns, uint64_t waited_ns)
{
	uint64_t max_ns = spin_max_ns;

	if (waited_ns <= max_ns)
		return max_ns;
	/* Where guests share processors the peer, or QEMU that carries the bell, may need
	 * the very one that we spin on. To spin for long in vain must not go on and on.
	 */
	if (is_far && spin_ns > max_ns / FAR_MISSES)
		return spin_ns / 2;
	return waited_ns <= SLEPT_FACTOR * max_ns ? max_ns : spin_ns / 2;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return !a || (b && b < a) ? b : a;
}

/* Locked at the beginning, unlocked at the end. */
static int doze(
	struct conn *c, int fd, struct fdent e, enum shring_dir dir, uint64_t deadline_ns)
{
	enum doze found = doze_begin(c, fd, dir);
	uint64_t until = earlier(deadline_ns, conn_limit(c));
	int rc = 0;

	conn_unlock(c, dir);
	doze_pass_on(c, fd, e);
	switch (found) {
	case DOZE_SLEEP:
		rc = sleep_on_shadow(c, fd, until);
		doze_end(c, fd, e, dir);
		break;
	case DOZE_REVERT:
		conn_revert(c, fd);
		break;
	case DOZE_AGAIN:
		nap(AGAIN_NS);
		break;
	case DOZE_READY:
		break;
	}
	if (!rc && deadline_ns && now_ns() >= deadline_ns)
		rc = -EAGAIN;
	return rc;
}

int conn_sleep(
	struct conn *c, int fd, struct fdent e, enum shring_dir dir, uint64_t deadline_ns)
{
	uint64_t start = now_ns();
	int rc = doze(c, fd, e, dir, deadline_ns);

	c->spin_ns[dir] = wait_spin_next(c->spin_ns[dir], now_ns() - start);
	return rc;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What makes a device go.
 *
 * Threads that poll a completion queue receive, expire timers and send, inline. A
 * background thread does the same when nobody polls. While somebody does it naps; else it
 * sleeps on the link's descriptor until a packet comes or a timer is due. So an idle
 * device costs nothing, and a busy one a look every NAP_NS.
 *
 * Who waits for a WRITE to change memory polls now and then only, and needs the thread in
 * between. So when a nap ends and the last poll was a while ago, the thread does not nap
 * again for LISTEN_NS.
 *
 * Who waits for events polls as well, whenever one came. So the thread does not nap while
 * a completion queue is armed or was armed since its last look.
 */
#include "provider_priv.h"

#include "lib/util.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAP_NS	   (2 * NSEC_PER_MSEC)
#define GAP_NS	   NSEC_PER_MSEC /* without a poll: nobody polls */
#define LISTEN_NS  (100 * NSEC_PER_MSEC)
#define SLICE_NS   (NSEC_PER_MSEC / 10) /* the least that Linux takes */
#define DEFER_PKTS 2

void progress_wake(struct device *dev)
{
	uint64_t one = 1;

	if (write(dev->wake_fd, &one, sizeof(one)) < 0) {
		/* The counter is full, so the thread is being woken already. */
	}
}

void engine_lock(struct device *dev)
{
	pthread_mutex_lock(&dev->lock);
}

static void send_all(struct device *dev, uint64_t now)
{
	while (engine_output(dev->engine, &dev->burst, now))
		link_set_send(dev->links, &dev->burst);
}

/* @send_now: false leaves what is to be sent to whoever takes the engine next */
static void unlock_at(struct device *dev, uint64_t now, bool send_now)
{
	uint64_t deadline = now;

	if (send_now) {
		send_all(dev, now);
		deadline = engine_deadline(dev->engine);
	}
	/* Seldom written, as many read it. */
	if (deadline != atomic_load_explicit(&dev->deadline_ns, memory_order_relaxed))
		atomic_store(&dev->deadline_ns, deadline);
	pthread_mutex_unlock(&dev->lock);
	/* Pairs with thread_sleep(), which sets sleeps_until_ns and then reads
	 * deadline_ns. */
	if (unlikely(deadline < atomic_load(&dev->sleeps_until_ns)))
		progress_wake(dev);
}

void engine_lock_sent(struct device *dev)
{
	engine_lock(dev);
	send_all(dev, now_ns());
}

void engine_unlock(struct device *dev)
{
	unlock_at(dev, now_ns(), true);
}

void device_pause(struct device *dev)
{
	pthread_mutex_lock(&dev->rx_lock);
	engine_lock(dev);
}

void device_resume(struct device *dev)
{
	engine_unlock(dev);
	pthread_mutex_unlock(&dev->rx_lock);
	/* the links' descriptor may be another one now */
	progress_wake(dev);
}

/* Under rx_lock. @cq: what the caller polls, or NULL. Return: how many packets came in
 *
 * When a few packets complete something that the caller waits for, it gets that before
 * their ACK is sent: its answer then carries the ACK along, which takes a system call off
 * each half of a ping-pong (11.5 to 5.2 us on a veth). The next poll sends it otherwise.
 */
static int run_once(struct device *dev, const struct cq *cq)
{
	int n = link_set_recv(dev->links, dev->rx, LINK_BURST);
	uint64_t now = now_ns();
	/* a timer, or what the last run left unsent */
	bool due = now >= atomic_load_explicit(&dev->deadline_ns, memory_order_relaxed);
	bool holds = link_set_holds(dev->links);

	if (cq)
		atomic_store_explicit(&dev->polled_ns, now, memory_order_relaxed);
	if (holds != atomic_load_explicit(&dev->link_holds, memory_order_relaxed))
		atomic_store(&dev->link_holds, holds);
	if (!n && !due)
		return 0;
	engine_lock(dev);
	engine_input(dev->engine, dev->rx, n, now);
	engine_expire(dev->engine, now);
	unlock_at(dev, now, due || n > DEFER_PKTS || !cq || cq_is_empty(cq));
	return n;
}

static void progress(struct device *dev, const struct cq *cq)
{
	if (pthread_mutex_trylock(&dev->rx_lock))
		return;
	run_once(dev, cq);
	/* Who polled may go to sleep on what was completed; the descriptor does not tell
	 * the thread of the rest. Pairs with sleep_until_needed(). */
	if (unlikely(atomic_load_explicit(&dev->link_holds, memory_order_relaxed)) &&
		atomic_load(&dev->sleeps_until_ns))
		progress_wake(dev);
	pthread_mutex_unlock(&dev->rx_lock);
}

void progress_for(struct device *dev, struct cq *cq)
{
	if (cq_expects_direct(cq))
		return;
	cq_unlock(cq); /* it comes after rx_lock */
	progress(dev, cq);
	cq_lock(cq);
}

void progress_arm(struct device *dev)
{
	atomic_fetch_add(&dev->n_armed, 1);
	atomic_fetch_add(&dev->n_arms, 1);
	/* Pairs with nap(): either it sees what was counted, or this sees that it naps.
	 */
	if (atomic_load(&dev->naps))
		progress_wake(dev);
}

void progress_disarm(struct device *dev)
{
	atomic_fetch_sub(&dev->n_armed, 1);
}

/* Sleep until woken, @until_ns, or (with @packets) a packet. */
static void thread_sleep(struct device *dev, uint64_t until_ns, bool packets)
{
	struct pollfd fds[] = {
		{.fd = dev->wake_fd, .events = POLLIN},
		{.fd = dev->port_fd, .events = POLLIN},
		{.fd = link_set_fd(dev->links), .events = POLLIN},
		{.fd = link_set_more_fd(dev->links), .events = POLLIN},
	};
	uint64_t now = now_ns();
	struct timespec ts, *timeout = NULL;
	uint64_t count;

	if (until_ns != ENGINE_NO_DEADLINE) {
		uint64_t ns = until_ns > now ? until_ns - now : 0;

		ts = (struct timespec){
			(time_t)(ns / NSEC_PER_SEC), (long)(ns % NSEC_PER_SEC)};
		timeout = &ts;
	}
	if (ppoll(fds, packets ? 4 : 2, timeout, NULL) > 0 && packets) {
		link_take_error(&fds[2]);
		link_take_error(&fds[3]);
	}
	if ((fds[0].revents & POLLIN) && read(dev->wake_fd, &count, sizeof(count)) < 0) {
		/* Somebody else can't have read it; nothing is lost if so. */
	}
	if (fds[1].revents)
		port_changed(dev);
	if (atomic_exchange(&dev->gids_due, false))
		gids_refresh(dev);
}

static void sleep_until_needed(struct device *dev)
{
	uint64_t deadline;

	atomic_store(&dev->sleeps_until_ns, ENGINE_NO_DEADLINE);
	/* Pairs with unlock_at(): either it sees that this thread sleeps, or this thread
	 * sees its deadline. */
	deadline = atomic_load(&dev->deadline_ns);
	atomic_store(&dev->sleeps_until_ns, deadline);
	if (!atomic_load(&dev->link_holds))
		thread_sleep(dev, deadline, true);
	atomic_store(&dev->sleeps_until_ns, 0);
}

static void nap(struct device *dev)
{
	atomic_store(&dev->naps, true);
	if (!atomic_load(&dev->n_armed))
		thread_sleep(dev, now_ns() + NAP_NS, false);
	atomic_store(&dev->naps, false);
}

/* Return: how many packets came in. If any, the link may hold more, which its descriptor
 * does not tell; the lock is free in between, so that a flood can't keep others out.
 */
static int run_locked(struct device *dev)
{
	int n;

	pthread_mutex_lock(&dev->rx_lock);
	n = run_once(dev, NULL);
	pthread_mutex_unlock(&dev->rx_lock);
	return n;
}

/* Who polls memory, and that on every core, leaves the thread no time but what the
 * scheduler takes from them: from Linux 6.12 on at once for threads with a short slice.
 * Not in a program with real-time priority: a thread with less, kept off its core while
 * it holds a lock, would stop it.
 */
static void ask_for_short_slice(void)
{
	/* sched_setattr(2); Linux' header and the C library's exclude each other */
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {.size = sizeof(attr), .policy = SCHED_OTHER, .runtime = SLICE_NS};

	if (sched_getscheduler(0) != SCHED_OTHER)
		return;
	/* Older kernels, and those that refuse, make it slower, not wrong. */
	syscall(SYS_sched_setattr, 0, &attr, 0);
}

/* Who is at it right now may be so for longer than GAP_NS: a poll sends all that an ACK
 * allows, which takes 1 ms and more where the processor is emulated.
 */
static bool somebody_polls(struct device *dev, uint64_t now)
{
	if (now < atomic_load(&dev->polled_ns) + GAP_NS ||
		pthread_mutex_trylock(&dev->rx_lock))
		return true;
	pthread_mutex_unlock(&dev->rx_lock);
	return false;
}

static void *thread_main(void *arg)
{
	struct device *dev = arg;
	uint64_t listen_until_ns = 0;
	uint32_t arms_seen = 0;
	bool napped = false;

	ask_for_short_slice();
	while (!atomic_load(&dev->stop)) {
		uint32_t arms = atomic_load(&dev->n_arms);
		bool waited_for = arms != arms_seen || atomic_load(&dev->n_armed);
		uint64_t now = now_ns();
		bool polled = somebody_polls(dev, now);

		arms_seen = arms;
		if (napped && !polled)
			listen_until_ns = now + LISTEN_NS;
		napped = polled && !waited_for && now >= listen_until_ns;
		if (napped)
			nap(dev);
		else if (!run_locked(dev))
			sleep_until_needed(dev);
	}
	return NULL;
}

int progress_start(struct device *dev)
{
	int rc;

	atomic_store(&dev->deadline_ns, ENGINE_NO_DEADLINE);
	dev->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->wake_fd < 0)
		return -errno;
	rc = pthread_create(&dev->thread, NULL, thread_main, dev);
	if (rc) {
		close(dev->wake_fd);
		return -rc;
	}
	pthread_setname_np(dev->thread, "vrdma");
	return 0;
}

void progress_stop(struct device *dev)
{
	atomic_store(&dev->stop, true);
	progress_wake(dev);
	pthread_join(dev->thread, NULL);
	close(dev->wake_fd);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waiting for a connection in a blocking call: spin a little, then sleep on the shadow
 * until the peer rings.
 *
 * Several threads and processes may sleep on one shadow, for either direction; a bell
 * wakes them all as long as its byte lies there. So it's taken away by whoever goes to
 * sleep next, and only when nobody sleeps: those who slept when it came have woken.
 */
#ifndef IVSHMEM_SOCKET_WAIT_H
#define IVSHMEM_SOCKET_WAIT_H

#include "conn.h"

/* What doze_begin() found. */
enum doze {
	DOZE_SLEEP,  /* armed: sleep on the shadow, then doze_end() */
	DOZE_READY,  /* no need to */
	DOZE_AGAIN,  /* others have to wake first: soon again */
	DOZE_REVERT, /* nobody will attach: conn_revert() */
};

/** wait_init() - how long to spin at most, by the number of processors */
void wait_init(void);

/** wait_bell_is_far() - between guests: spin longer, as the shadow @fd says */
void wait_bell_is_far(int fd);

/** wait_spin_next() - how long to spin next time, after a wait of @waited_ns */
uint64_t wait_spin_next(uint64_t spin_ns, uint64_t waited_ns);

/** conn_is_ready() - would a call for @dir not block? Locked for @dir. */
bool conn_is_ready(struct conn *c, enum shring_dir dir);

/** doze_begin() - about to sleep on the shadow for @dir; locked for it */
enum doze doze_begin(struct conn *c, int fd, enum shring_dir dir);

/** doze_bell() - take away what woke an epoll set; locked for reading
 * @leave_one: other sets may have to wake by it as well
 */
void doze_bell(struct conn *c, int fd, bool leave_one);

/** doze_pass_on() - after doze_begin(), without locks: tell this process' epoll sets of
 * bells that it took
 */
void doze_pass_on(struct conn *c, int fd, struct fdent e);

/** doze_end() - awake; without locks */
void doze_end(struct conn *c, int fd, struct fdent e, enum shring_dir dir);

/** conn_limit() - when one that sleeps must look again, as nobody has attached; 0: never
 */
uint64_t conn_limit(const struct conn *c);

/** conn_spin() - look for some time; locked for @dir
 * Return: would a call not block?
 */
bool conn_spin(struct conn *c, enum shring_dir dir);

/** conn_sleep() - until a call for @dir may not block; locked for it, unlocked on return
 * @deadline_ns: 0: for ever
 * Return: 0, -EAGAIN: the deadline, -EINTR
 */
int conn_sleep(struct conn *c, int fd, struct fdent e, enum shring_dir dir,
	uint64_t deadline_ns);

#endif

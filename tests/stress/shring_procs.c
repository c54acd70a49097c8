/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ivshmem/shring between two processes, each with one thread for both directions.
 *
 *  honest   random sizes both ways, asleep whenever there is nothing to do: every byte is
 *           compared
 *  killed   the peer is killed in the middle: what it wrote is right, then comes a reset
 *  hostile  the peer writes random values all over the channel, and rings, while we run:
 *           sessions go on or end with an error, and nothing outside the channel is
 *           touched (guard pages; the sanitizer builds see more)
 *
 * Usage: shring_procs [SEED]
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ivshmem/shring.h"
#include "ivshmem/shring_layout.h"

#define SIZE	   SHRING_SIZE_MIN
#define AREA_SIZE  (SHRING_CTRL_SIZE + 2u * SIZE)
#define LEN_MAX	   (SIZE + 1000)
#define N_BYTES	   (24ull << 20)
#define N_SESSIONS 3000
#define N_KILLS	   30
#define HANG_S	   100 /* the alarm then ends the test; no single step takes long */

static uint8_t *area;
static int fds[2]; /* side i sleeps on fds[i] */
static unsigned seed;

static void die(const char *what)
{
	fprintf(stderr, "shring_procs: %s (seed %u)\n", what, seed);
	exit(1);
}

static void check(bool holds, const char *what)
{
	if (!holds)
		die(what);
}

static unsigned rnd(unsigned n)
{
	return (unsigned)rand_r(&seed) % n;
}

/* Between two pages that nobody may touch. */
static void area_map(void)
{
	uint8_t *all = mmap(
		NULL, AREA_SIZE + 2 * 4096, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	check(all != MAP_FAILED, "mmap");
	area = all + 4096;
	check(mprotect(area, AREA_SIZE, PROT_READ | PROT_WRITE) == 0, "mprotect");
}

static struct shring_bell bell_of(int side)
{
	return (struct shring_bell){.fd = {fds[!side], fds[!side]}};
}

static void bells_open(void)
{
	for (int i = 0; i < 2; i++)
		fds[i] = eventfd(0, EFD_NONBLOCK);
}

static void bells_close(void)
{
	for (int i = 0; i < 2; i++)
		close(fds[i]);
}

static void ring_create(struct shring *r)
{
	struct shring_bell bell = bell_of(0);

	check(shring_create(r, area, AREA_SIZE, SIZE, SIZE, &bell) == 0, "create");
}

static void ring_attach(struct shring *r)
{
	struct shring_bell bell = bell_of(1);

	check(shring_attach(r, area, AREA_SIZE, &bell) == 0, "attach");
}

static uint8_t byte_at(int side, uint64_t pos)
{
	return (uint8_t)((pos + (uint64_t)side) * 0x9e3779b97f4a7c15ull >> 37);
}

/* One side's two streams. */
struct streams {
	struct shring ring;
	uint64_t sent, got;
	uint64_t total; /* to send */
	int sent_error, got_error;
	bool sent_all, got_all;
	uint64_t n_sleeps;
};

static void try_send(struct streams *s)
{
	static uint8_t buf[LEN_MAX];
	size_t len = 1 + rnd(rnd(3) ? 3000 : LEN_MAX);
	ssize_t n;

	len = MIN(len, s->total - s->sent);
	for (size_t i = 0; i < len; i++)
		buf[i] = byte_at((int)s->ring.side, s->sent + i);
	n = shring_write(&s->ring, buf, len);
	if (n > 0) {
		s->sent += (uint64_t)n;
	} else if (n != -EAGAIN) {
		s->sent_error = (int)n;
		s->sent_all = true;
	}
	if (s->sent == s->total) {
		shring_shutdown(&s->ring, SHRING_WRITE);
		s->sent_all = true;
	}
}

static void try_receive(struct streams *s)
{
	static uint8_t buf[LEN_MAX];
	ssize_t n = shring_read(&s->ring, buf, 1 + rnd(rnd(3) ? 3000 : LEN_MAX));

	for (ssize_t i = 0; i < n; i++) {
		if (buf[i] != byte_at(!s->ring.side, s->got + (uint64_t)i))
			die("a byte is wrong");
	}
	if (n > 0) {
		s->got += (uint64_t)n;
	} else if (n != -EAGAIN) {
		s->got_error = (int)n;
		s->got_all = true;
	}
}

/* Sleep for whatever is not done yet, as an event loop does. Return: did it wait? */
static void sleep_for(struct streams *s, int timeout_ms)
{
	struct pollfd p = {.fd = fds[s->ring.side], .events = POLLIN};
	const bool open[2] = {!s->got_all, !s->sent_all};
	bool may_sleep = true;
	eventfd_t count;

	for (int dir = 0; dir < 2; dir++)
		may_sleep = may_sleep &&
			    (!open[dir] || shring_arm(&s->ring, (enum shring_dir)dir));
	if (may_sleep) {
		s->n_sleeps++;
		poll(&p, 1, timeout_ms);
	}
	/* A bell may have come for what we did not sleep for in the end. */
	eventfd_read(p.fd, &count);
	for (int dir = 0; dir < 2; dir++)
		shring_disarm(&s->ring, (enum shring_dir)dir);
}

static bool is_over(const struct streams *s)
{
	return s->sent_all && s->got_all;
}

static void run(struct streams *s)
{
	while (!is_over(s)) {
		for (int i = 0; i < 4 && !is_over(s); i++) {
			if (!s->sent_all)
				try_send(s);
			if (!s->got_all)
				try_receive(s);
		}
		if (!is_over(s))
			sleep_for(s, -1);
	}
}

/* A child that does not outlive us */
static pid_t child_start(void)
{
	pid_t pid = fork();

	check(pid >= 0, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(HANG_S);
		seed ^= 0x5a5a;
	}
	return pid;
}

static void check_full(const struct streams *s, const char *who)
{
	check(s->sent_error == 0 && s->got_error == 0, "an honest stream failed");
	check(s->sent == N_BYTES && s->got == N_BYTES, "bytes are missing");
	printf("%s: %llu bytes each way, slept %llu times\n", who,
		(unsigned long long)N_BYTES, (unsigned long long)s->n_sleeps);
	check(s->n_sleeps > 0, "never slept, so this proves little");
}

static void honest(void)
{
	struct streams s = {.total = N_BYTES};
	int status;
	pid_t pid;

	bells_open();
	ring_create(&s.ring);
	pid = child_start();
	if (pid == 0) {
		ring_attach(&s.ring);
		run(&s);
		check_full(&s, "honest attacher");
		exit(0);
	}
	run(&s);
	check(waitpid(pid, &status, 0) == pid && status == 0, "the peer failed");
	check_full(&s, "honest creator");
	bells_close();
}

/* Tells the parent as the ivshmem server would. */
static volatile sig_atomic_t child_died;

static void on_child(int sig)
{
	int saved = errno;
	eventfd_t one = 1;
	ssize_t n = write(fds[0], &one, sizeof(one));

	(void)n;
	child_died = 1;
	errno = saved;
}

static void killed(void)
{
	uint64_t bytes = 0;

	for (int i = 0; i < N_KILLS; i++) {
		struct streams s = {.total = UINT64_MAX};
		unsigned after = rnd(2000000);
		pid_t pid;

		child_died = 0;
		bells_open();
		ring_create(&s.ring);
		signal(SIGCHLD, on_child);
		pid = child_start();
		if (pid == 0) {
			ring_attach(&s.ring);
			run(&s);
			exit(0);
		}
		while (!is_over(&s)) {
			if (s.got > after)
				kill(pid, SIGKILL);
			if (child_died)
				shring_peer_gone(&s.ring);
			if (!s.sent_all)
				try_send(&s);
			if (!s.got_all)
				try_receive(&s);
			if (!is_over(&s) && rnd(4) == 0)
				sleep_for(&s, -1);
		}
		signal(SIGCHLD, SIG_DFL);
		waitpid(pid, NULL, 0);
		check(s.sent_error == -ECONNRESET && s.got_error == -ECONNRESET,
			"a dead peer is not a reset");
		bytes += s.got;
		bells_close();
	}
	printf("killed: %d peers, after %llu bytes\n", N_KILLS,
		(unsigned long long)bytes);
}

/* Random values, mostly where it hurts, some that are nearly right. */
static void scribble_for_ever(void)
{
	_Atomic uint32_t *words = (void *)area;

	for (;;) {
		uint32_t at =
			rnd(8) ? rnd(sizeof(struct shring_ctrl) / 4) : rnd(AREA_SIZE / 4);
		uint32_t value =
			rnd(3) ? words[at] + rnd(300) : (uint32_t)rnd(RAND_MAX) * 2;

		words[at] = value;
		/* Not so often that no session gets anywhere. */
		if (rnd(16) == 0)
			usleep(rnd(50));
		if (rnd(8) == 0)
			eventfd_write(fds[rnd(2)], rnd(3));
	}
}

struct tally {
	unsigned n_violated, n_other, n_refused, n_survived;
	uint64_t n_bytes;
};

static void account(struct tally *tally, ssize_t n, size_t most, bool *over)
{
	check(n <= (ssize_t)most, "more than was asked for");
	if (n > 0)
		tally->n_bytes += (uint64_t)n;
	*over = *over || (n < 0 && n != -EAGAIN && n != -EPIPE);
	if (n == -EPROTO)
		tally->n_violated++;
	else if (*over)
		tally->n_other++;
}

static void read_in_place(struct shring *r, struct tally *tally, bool *over)
{
	static uint8_t buf[SIZE];
	struct iovec iov[2];
	ssize_t n = shring_peek(r, iov);

	account(tally, n, SIZE, over);
	check((size_t)MAX(n, 0) == iov[0].iov_len + iov[1].iov_len, "pieces");
	memcpy(buf, iov[0].iov_base, iov[0].iov_len);
	memcpy(buf, iov[1].iov_base, iov[1].iov_len);
	if (n > 0)
		shring_consume(r, 1 + rnd((unsigned)n));
}

static void hostile_session(struct tally *tally, int side)
{
	static uint8_t buf[LEN_MAX];
	struct streams s = {0};
	struct shring_bell bell = bell_of(side);
	bool over = false;

	ring_create(&s.ring);
	if (side == 1 && shring_attach(&s.ring, area, AREA_SIZE, &bell) != 0) {
		tally->n_refused++;
		return;
	}
	for (int i = 0; i < 200 && !over; i++) {
		size_t len = rnd(LEN_MAX);

		account(tally, shring_write(&s.ring, buf, len), len, &over);
		if (over)
			break;
		len = rnd(LEN_MAX);
		account(tally, shring_read(&s.ring, buf, len), len, &over);
		if (over)
			break;
		read_in_place(&s.ring, tally, &over);
		if (!over && rnd(8) == 0)
			sleep_for(&s, 1);
	}
	tally->n_survived += !over;
}

static void hostile(void)
{
	struct tally tally = {0};
	pid_t pid;

	bells_open();
	pid = child_start();
	if (pid == 0)
		scribble_for_ever();
	for (int i = 0; i < N_SESSIONS; i++)
		hostile_session(&tally, i & 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	bells_close();
	printf("hostile: %u sessions violated, %u ended otherwise, %u refused, %u "
	       "survived, "
	       "%llu bytes\n",
		tally.n_violated, tally.n_other, tally.n_refused, tally.n_survived,
		(unsigned long long)tally.n_bytes);
	check(tally.n_violated && tally.n_other && tally.n_bytes,
		"the scribbler did not meet the session");
}

int main(int argc, char **argv)
{
	setlinebuf(stdout);
	seed = argc > 1 ? (unsigned)atoi(argv[1]) : (unsigned)getpid();
	printf("seed %u\n", seed);
	alarm(HANG_S);
	area_map();
	honest();
	killed();
	hostile();
	return 0;
}

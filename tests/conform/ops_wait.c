/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Steps that ask or wait for readiness. Timeouts are in milliseconds.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <time.h>

#include "lib/util.h"
#include "tests/conform/conform.h"

#define FDS_MAX 64

/* Splits "slot:EVENTS" in place; returns the events. */
static uint32_t events_of(char *text)
{
	char *colon = strchr(text, ':');

	if (!colon)
		bad_scenario("no events", text);
	*colon = '\0';
	return (uint32_t)number(colon + 1);
}

static int poll_by(struct call *c, bool with_mask)
{
	int ms = (int)number(c->argv[1]), n_fds = MIN(c->argc - 2, FDS_MAX), n;
	struct timespec timeout = {ms / 1000, ms % 1000 * 1000000L};
	struct pollfd fds[FDS_MAX];
	char names[128];

	for (int i = 0; i < n_fds; i++) {
		fds[i].events = (short)events_of(c->argv[i + 2]);
		fds[i].fd = slot_fd(c->argv[i + 2]);
	}
	n = with_mask ? ppoll(fds, (nfds_t)n_fds, ms < 0 ? NULL : &timeout, NULL)
		      : poll(fds, (nfds_t)n_fds, ms);
	say_result(c, n);
	for (int i = 0; i < n_fds && n >= 0; i++)
		say(c, " %s=%s", c->argv[i + 2],
			flag_names(names, sizeof(names), "POLL",
				(unsigned short)fds[i].revents));
	return n;
}

/* poll TIMEOUT SLOT:EVENTS... */
static void op_poll(struct call *c)
{
	poll_by(c, false);
}

static void op_ppoll(struct call *c)
{
	poll_by(c, true);
}

struct sets {
	fd_set set[3]; /* r, w, e */
	int n_fds;
};

static const char set_names[] = "rwe";

/* An argument is like "r=a,b". */
static void sets_parse(struct sets *s, struct call *c)
{
	char copy[256], *at, *name;
	const char *which;
	int fd;

	for (int i = 2; i < c->argc; i++) {
		snprintf(copy, sizeof(copy), "%s", c->argv[i] + 2);
		which = strchr(set_names, c->argv[i][0]);
		if (!which)
			bad_scenario("no such set", c->argv[i]);
		for (at = copy; (name = strsep(&at, ","));) {
			fd = slot_fd(name);
			FD_SET(fd, &s->set[which - set_names]);
			s->n_fds = MAX(s->n_fds, fd + 1);
		}
	}
}

static void sets_say(const struct sets *s, struct call *c)
{
	for (int i = 0; i < 3; i++) {
		for (int fd = 0; fd < s->n_fds; fd++) {
			if (FD_ISSET(fd, &s->set[i]))
				say(c, " %c=%s", set_names[i], slot_name(fd));
		}
	}
}

static void select_by(struct call *c, bool with_mask)
{
	int ms = (int)number(c->argv[1]), n;
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};
	struct sets s = {0};

	sets_parse(&s, c);
	if (with_mask)
		n = pselect(s.n_fds, &s.set[0], &s.set[1], &s.set[2], ms < 0 ? NULL : &ts,
			NULL);
	else
		n = select(s.n_fds, &s.set[0], &s.set[1], &s.set[2], ms < 0 ? NULL : &tv);
	say_result(c, n);
	if (n >= 0)
		sets_say(&s, c);
}

/* select TIMEOUT r=SLOT,... w=SLOT,... e=SLOT,... */
static void op_select(struct call *c)
{
	select_by(c, false);
}

static void op_pselect(struct call *c)
{
	select_by(c, true);
}

/* -- epoll */

/* epoll SLOT */
static void op_epoll(struct call *c)
{
	int fd = epoll_create1(0);

	slot_set(c->argv[1], fd);
	say_result(c, fd < 0 ? -1 : 0);
}

/* ctl EPOLL EPOLL_CTL_x SLOT:EVENTS; the scenario's name is what comes back as data */
static void op_ctl(struct call *c)
{
	struct epoll_event event = {.events = events_of(c->argv[3])};

	snprintf((char *)&event.data, sizeof(event.data), "%s", c->argv[3]);
	say_result(c, epoll_ctl(slot_fd(c->argv[1]), (int)number(c->argv[2]),
			      slot_fd(c->argv[3]), &event));
}

static int by_data(const void *a, const void *b)
{
	const struct epoll_event *x = a, *y = b;

	return strncmp((const char *)&x->data, (const char *)&y->data, sizeof(x->data));
}

/* The order of events is nobody's promise, so they are sorted. */
static void events_say(struct call *c, struct epoll_event *events, int n)
{
	char names[256];

	say_result(c, n);
	if (n <= 0)
		return;
	qsort(events, (size_t)n, sizeof(*events), by_data);
	for (int i = 0; i < n; i++)
		say(c, " %.8s=%s", (const char *)&events[i].data,
			flag_names(names, sizeof(names), "EPOLL", events[i].events));
}

/* wait_events EPOLL TIMEOUT MAX */
static void op_epoll_wait(struct call *c)
{
	struct epoll_event events[FDS_MAX];
	int fd = slot_fd(c->argv[1]);

	events_say(c, events,
		epoll_wait(fd, events, MIN((int)number(c->argv[3]), FDS_MAX),
			(int)number(c->argv[2])));
}

static void op_epoll_pwait(struct call *c)
{
	struct epoll_event events[FDS_MAX];
	int fd = slot_fd(c->argv[1]);

	events_say(c, events,
		epoll_pwait(fd, events, MIN((int)number(c->argv[3]), FDS_MAX),
			(int)number(c->argv[2]), NULL));
}

static void op_epoll_pwait2(struct call *c)
{
	struct epoll_event events[FDS_MAX];
	int fd = slot_fd(c->argv[1]), ms = (int)number(c->argv[2]);
	struct timespec timeout = {ms / 1000, ms % 1000 * 1000000L};

	events_say(c, events,
		epoll_pwait2(fd, events, MIN((int)number(c->argv[3]), FDS_MAX),
			ms < 0 ? NULL : &timeout, NULL));
}

/* -- waiting for what must come, so that the next step finds a known state */

static void rest(void)
{
	const struct timespec some = {.tv_nsec = 200000};

	nanosleep(&some, NULL);
}

/* await SLOT EVENTS: until poll() shows all of them */
static void op_await(struct call *c)
{
	uint64_t end = now_ns() + (uint64_t)patience_ms() * NSEC_PER_MSEC;
	short want = (short)number(c->argv[2]);
	struct pollfd pfd = {.fd = slot_fd(c->argv[1]), .events = want};

	while ((pfd.revents & want) != want && now_ns() < end) {
		if (poll(&pfd, 1, patience_ms()) > 0 && (pfd.revents & want) != want)
			rest();
	}
	say(c, (pfd.revents & want) == want ? " ok" : " never");
}

/* await_bytes SLOT N: until so many can be read */
static void op_await_bytes(struct call *c)
{
	uint64_t end = now_ns() + (uint64_t)patience_ms() * NSEC_PER_MSEC;
	int want = (int)number(c->argv[2]), there = -1;

	while (!ioctl(slot_fd(c->argv[1]), FIONREAD, &there) && there != want &&
		now_ns() < end)
		rest();
	say(c, there == want ? " ok" : " never, but %d", there);
}

static void op_sleep(struct call *c)
{
	struct timespec t = {.tv_nsec = number(c->argv[1]) * 1000000L};

	say_result(c, nanosleep(&t, NULL));
}

const struct op wait_ops[] = {
	{"poll", op_poll, 1},
	{"ppoll", op_ppoll, 1},
	{"select", op_select, 1},
	{"pselect", op_pselect, 1},
	{"epoll", op_epoll, 1},
	{"ctl", op_ctl, 3},
	{"epoll_wait", op_epoll_wait, 3},
	{"epoll_pwait", op_epoll_pwait, 3},
	{"epoll_pwait2", op_epoll_pwait2, 3},
	{"await", op_await, 2},
	{"await_bytes", op_await_bytes, 2},
	{"sleep", op_sleep, 1},
	{NULL, NULL, 0},
};

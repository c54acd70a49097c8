/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guests' uplinks: who may have one, the sessions on it, frames in and out, and the
 * loop. Neighbours: see uplinks_priv.h. One event at a time is taken from epoll, as in
 * server.c.
 */
#include "ivshmem/guest/uplinks_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "ivshmem/sockaddr.h"
#include "lib/util.h"

#define EVENTS_PER_RUN 64
#define FRAME_RATE     20000
#define PAUSE_NS       (50 * NSEC_PER_MSEC)

/* -- addresses */

struct guest *guest_of(const struct uplinks *u, const struct dir_addr *addr)
{
	for (uint32_t i = 0; i < u->config.n_guests; i++) {
		const struct guest_config *c = &u->config.guests[i];

		for (uint32_t k = 0; k < c->n_addrs; k++) {
			if (dir_addr_same_ip(&c->addrs[k], addr))
				return &u->guests[i];
		}
	}
	return NULL;
}

bool guest_listens(const struct guest *g, const struct dir_addr *addr)
{
	const struct guest_published *p;

	LIST_FOREACH(p, &g->published, links)
	{
		if (dir_addr_same(&p->addr, addr))
			return true;
	}
	return false;
}

static void watch(struct guest *g)
{
	uint32_t wanted = upstream_waits(&g->stream) ? EPOLLOUT : g->paused ? 0 : EPOLLIN;
	struct epoll_event event = {.events = wanted, .data.ptr = g};

	if (g->sock < 0 || wanted == g->watched)
		return;
	g->watched = wanted;
	/* Cannot fail: it is there, and a change needs no memory. */
	epoll_ctl(g->uplinks->epoll, EPOLL_CTL_MOD, g->sock, &event);
}

/* Only marks it: the loop ends it when nothing looks at it any more. */
void guest_send(struct guest *g, struct up_msg *msg)
{
	if (g->sock < 0)
		return;
	if (upstream_send(&g->stream, msg)) {
		g->stalled = true;
		shutdown(g->sock, SHUT_RDWR);
	}
	watch(g);
}

/* -- sessions */

void guest_session_end(struct guest *g)
{
	struct guest_published *p;

	g->in_session = false;
	while ((p = LIST_FIRST(&g->published))) {
		LIST_REMOVE(p, links);
		free(p);
	}
	g->n_published = 0;
	ends_close_offers(g);
}

static void session_begin(struct guest *g, const struct up_msg *hello)
{
	struct up_msg reply = {.type = UP_WELCOME, .size = g->uplinks->config.size};
	bool has_booted = memcmp(g->boot, hello->boot, sizeof(g->boot)) != 0;

	guest_session_end(g);
	if (memcmp(g->agent, hello->token, sizeof(g->agent)) || has_booted)
		ends_orphan(g);
	/* Whatever it says: no processes but its own could still use that memory. */
	if (has_booted)
		ends_release_orphans(g);
	memcpy(g->agent, hello->token, sizeof(g->agent));
	memcpy(g->boot, hello->boot, sizeof(g->boot));
	memcpy(reply.name, hello->name, sizeof(reply.name));
	memcpy(reply.token, g->uplinks->name, sizeof(reply.token));
	if (hello->version == UP_VERSION)
		g->in_session = true;
	else
		reply.error = -EPROTONOSUPPORT;
	g->stats.sessions++;
	guest_send(g, &reply);
}

/* -- uplinks */

static void uplink_end(struct guest *g, uint64_t *why, const char *text)
{
	if (why)
		++*why;
	log_limited(&g->log, why ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "ivshmem",
		"region %s: guest %s: %s", g->uplinks->config.region, g->config->name,
		text);
	close(g->sock);
	g->sock = -1;
	upstream_free(&g->stream);
	guest_session_end(g);
}

static void timer_arm(struct uplinks *u)
{
	struct itimerspec when = {.it_value.tv_nsec = PAUSE_NS};

	timerfd_settime(u->timer, 0, &when, NULL);
}

static bool may_say_more(struct guest *g)
{
	if (bucket_take(&g->frames, FRAME_RATE, FRAME_RATE, now_ns()))
		return true;
	g->paused = true;
	g->stats.throttled++;
	timer_arm(g->uplinks);
	return false;
}

static int frame_handle(struct guest *g, struct up_msg *msg)
{
	g->stats.frames++;
	if (msg->type == UP_HELLO) {
		session_begin(g, msg);
		return 0;
	}
	/* An agent that has not heard of our being new yet goes on where it was. */
	return g->in_session ? guest_asks(g, msg) : 0;
}

/* What was read, as long as the guest reads its answers. */
static void frames_handle(struct guest *g)
{
	struct up_msg msg;
	int rc = 0;

	while (!rc && upstream_has(&g->stream) && !upstream_waits(&g->stream) &&
		may_say_more(g)) {
		rc = upstream_next(&g->stream, &msg);
		if (rc > 0)
			rc = frame_handle(g, &msg);
	}
	if (rc < 0)
		uplink_end(g, &g->stats.dropped_garbage, "sends what no agent does");
}

static void stream_ready(struct guest *g, uint32_t events)
{
	bool can_read;
	int n = 1;

	if (g->stalled) {
		uplink_end(g, &g->stats.dropped_stalled, "does not read");
		return;
	}
	if (!upstream_flush(&g->stream))
		frames_handle(g);
	if (g->sock < 0)
		return;
	can_read = !g->paused && !upstream_waits(&g->stream);
	if (can_read)
		n = upstream_fill(&g->stream);
	if (can_read ? n <= 0 && n != -EAGAIN : events & EPOLLHUP)
		uplink_end(g, NULL, "its uplink has ended");
	else if (can_read && n > 0)
		frames_handle(g);
	watch(g);
}

/* -- who has the uplink */

void guest_process_forget(struct guest *g)
{
	if (g->pidfd >= 0)
		close(g->pidfd);
	g->pidfd = -1;
}

/* The guest has ended: nobody has its memory any more. */
static void process_ended(struct guest *g)
{
	if (g->sock >= 0)
		uplink_end(g, NULL, "has ended");
	guest_process_forget(g);
	ends_orphan(g);
	ends_release_orphans(g);
}

static bool is_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

static void process_watch(struct guest *g, pid_t pid)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = &g->as_process};

	if (g->pidfd >= 0)
		return;
	g->pid = pid;
	/* Without it (another pid namespace) only a boot frees the orphans. */
	g->pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (g->pidfd >= 0 &&
		epoll_ctl(g->uplinks->epoll, EPOLL_CTL_ADD, g->pidfd, &event))
		guest_process_forget(g);
}

static bool may_connect(struct guest *g, int sock, pid_t *pid)
{
	struct access_peer who;
	bool allowed;

	if (access_peer_get(sock, &who))
		return false;
	allowed = access_allows(g->uplinks->config.access, &who);
	free(who.groups);
	*pid = who.pid;
	if (!allowed) {
		g->stats.refused_access++;
		return false;
	}
	if (g->pidfd >= 0 && is_readable(g->pidfd))
		process_ended(g);
	if (g->sock >= 0 || (g->pidfd >= 0 && g->pid != who.pid)) {
		g->stats.refused_busy++;
		return false;
	}
	return true;
}

static void listener_ready(struct guest *g)
{
	int sock = accept4(g->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = g};
	pid_t pid;

	if (sock < 0)
		return;
	if (!may_connect(g, sock, &pid) ||
		epoll_ctl(g->uplinks->epoll, EPOLL_CTL_ADD, sock, &event)) {
		close(sock);
		return;
	}
	g->sock = sock;
	g->watched = event.events;
	g->paused = g->stalled = false;
	upstream_init(&g->stream, sock);
	process_watch(g, pid);
	log_limited(&g->log, LOG_LEVEL_INFO, "ivshmem",
		"region %s: guest %s: has its uplink (pid %d)", g->uplinks->config.region,
		g->config->name, (int)pid);
}

/* -- the loop */

static void timer_ready(struct uplinks *u)
{
	uint64_t expirations;

	if (read(u->timer, &expirations, sizeof(expirations)) < 0)
		return;
	for (uint32_t i = 0; i < u->config.n_guests; i++) {
		struct guest *g = &u->guests[i];

		g->paused = false;
		if (g->sock >= 0)
			stream_ready(g, 0);
	}
}

void uplinks_run_once(struct uplinks *u)
{
	struct epoll_event event;

	for (int i = 0; i < EVENTS_PER_RUN; i++) {
		if (epoll_wait(u->epoll, &event, 1, 0) != 1)
			break;
		switch (*(enum uplinks_source *)event.data.ptr) {
		case UPLINKS_LISTENER:
			listener_ready(((struct guest_part *)event.data.ptr)->guest);
			break;
		case UPLINKS_STREAM:
			stream_ready(event.data.ptr, event.events);
			break;
		case UPLINKS_PROCESS:
			process_ended(((struct guest_part *)event.data.ptr)->guest);
			break;
		case UPLINKS_END:
			end_release(event.data.ptr);
			break;
		case UPLINKS_TIMER:
			timer_ready(u);
			break;
		}
	}
}

int uplinks_fd(const struct uplinks *u)
{
	return u->epoll;
}

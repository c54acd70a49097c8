/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The uplink's stream and its sessions, and the loop.
 *
 * A virtio port whose other side on the host is not connected reads as the end of the
 * stream, and says so to epoll all the time: it is closed, and opened again a second
 * later.
 */
#include "ivshmem/guest/uplink_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "ivshmem/guest/channel.h"
#include "ivshmem/guest/device.h"
#include "lib/log.h"
#include "lib/util.h"

#define EVENTS_PER_RUN 64
#define TICK_S	       1
#define GREETING_NS    (5 * NSEC_PER_SEC)  /* then HELLO is said again */
#define ANSWER_NS      (10 * NSEC_PER_SEC) /* then the server is taken for dead */

static void say(const struct uplink *u, const char *what)
{
	log_write(LOG_LEVEL_INFO, "guest", "uplink %s: %s", u->config.path, what);
}

static void state_set(struct uplink *u, enum uplink_state to)
{
	u->state = to;
	u->state_ns = now_ns();
}

/* -- the timer: while there is something to wait for */

static void timer_arm(struct uplink *u)
{
	struct itimerspec when = {.it_value.tv_sec = TICK_S};

	timerfd_settime(u->timer.fd, 0, &when, NULL);
}

/* -- the stream */

static void watch(struct uplink *u)
{
	bool wants_out = upstream_waits(&u->stream);
	struct epoll_event event = {
		.events = EPOLLIN | (wants_out ? EPOLLOUT : 0), .data.ptr = u};

	if (u->fd >= 0 && wants_out != u->wants_out)
		epoll_ctl(u->epoll, EPOLL_CTL_MOD, u->fd, &event);
	u->wants_out = wants_out;
}

/* The directory may be in the middle of something: the loop ends the session. */
void uplink_send(struct uplink *u, struct up_msg *msg)
{
	if (u->state != UPLINK_UP)
		return;
	if (upstream_send(&u->stream, msg)) {
		u->stats.lost++;
		u->state = UPLINK_REFUSED;
		u->state_ns = 0;
	}
	watch(u);
	timer_arm(u);
}

/* @drained: all was read that the server said */
static void down(struct uplink *u, bool drained, const char *why)
{
	if (u->state == UPLINK_UP) {
		u->stats.lost++;
		say(u, why);
	}
	if (u->fd >= 0)
		close(u->fd);
	u->fd = -1;
	u->wants_out = false;
	upstream_free(&u->stream);
	state_set(u, UPLINK_DOWN);
	uplink_forget(u, drained);
	timer_arm(u);
}

static int socket_connect(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int stream_open(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return -1;
	if (S_ISSOCK(st.st_mode))
		return socket_connect(path);
	return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

/* -- sessions */

static void greet(struct uplink *u)
{
	struct up_msg hello = {.type = UP_HELLO};

	uplink_forget(u, false);
	random_bytes(u->name, sizeof(u->name));
	memcpy(hello.name, u->name, sizeof(hello.name));
	memcpy(hello.token, u->agent, sizeof(hello.token));
	memcpy(hello.boot, u->boot, sizeof(hello.boot));
	if (upstream_send_now(&u->stream, &hello)) {
		down(u, false, "nobody is there");
		return;
	}
	state_set(u, UPLINK_GREETING);
	timer_arm(u);
}

static void up(struct uplink *u)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = u};

	u->fd = stream_open(u->config.path);
	if (u->fd >= 0 && !epoll_ctl(u->epoll, EPOLL_CTL_ADD, u->fd, &event)) {
		upstream_init(&u->stream, u->fd);
		greet(u);
	} else {
		down(u, true, "cannot be opened");
	}
}

static void refused(struct uplink *u, const char *why)
{
	u->stats.refused++;
	say(u, why);
	state_set(u, UPLINK_REFUSED);
	timer_arm(u);
}

/* Is our memory the server's? */
static bool memory_open(struct uplink *u, const struct up_msg *welcome)
{
	int fd = device_open(u->config.memory, welcome->size, welcome->token);

	if (fd < 0)
		return false;
	if (u->memory_fd >= 0)
		close(u->memory_fd);
	u->memory_fd = fd;
	u->size = welcome->size;
	u->map_unit = channel_unit(fd, u->size);
	return true;
}

static void welcomed(struct uplink *u)
{
	struct up_msg welcome;

	if (upstream_next(&u->stream, &welcome) != 1)
		return;
	if (welcome.error) {
		refused(u, "the server speaks another version");
	} else if (!memory_open(u, &welcome)) {
		refused(u, "no device has the memory of this server");
	} else {
		u->stats.sessions++;
		state_set(u, UPLINK_UP);
		say(u, "is up");
		u->listeners_wait = true;
	}
}

static void frames_handle(struct uplink *u)
{
	struct up_msg msg;
	int rc = 1;

	if (u->state == UPLINK_GREETING && upstream_skip(&u->stream, u->name))
		welcomed(u);
	while (u->state == UPLINK_UP && rc > 0) {
		rc = upstream_next(&u->stream, &msg);
		if (rc > 0 && uplink_told(u, &msg))
			rc = -EPROTO;
	}
	if (rc < 0) {
		u->stats.garbage++;
		down(u, false, "sends what no server does");
	}
}

static void stream_ready(struct uplink *u)
{
	int n;

	/* A failure to send shows as the end when all has been read. */
	upstream_flush(&u->stream);
	n = upstream_fill(&u->stream);
	if (n <= 0 && n != -EAGAIN) {
		down(u, true, "has ended");
		return;
	}
	frames_handle(u);
	/* What comes when there is no session is of no interest. */
	if (u->state == UPLINK_REFUSED)
		u->stream.at_in = u->stream.n_in;
	uplink_tell(u);
	watch(u);
}

/* -- the loop */

static bool is_overdue(const struct uplink *u, uint64_t now)
{
	const struct question *q = TAILQ_FIRST(&u->questions);

	return q && now - q->asked_ns > ANSWER_NS;
}

static void tick(struct uplink *u)
{
	uint64_t expirations, now = now_ns();

	if (read(u->timer.fd, &expirations, sizeof(expirations)) < 0)
		return;
	if (u->state == UPLINK_UP && is_overdue(u, now)) {
		u->stats.timeouts++;
		down(u, false, "the server does not answer");
	} else if (u->state == UPLINK_DOWN) {
		up(u);
	} else if (u->state != UPLINK_UP && now - u->state_ns > GREETING_NS) {
		greet(u);
	}
	if (u->state != UPLINK_UP || !TAILQ_EMPTY(&u->questions))
		timer_arm(u);
}

void uplink_run_once(struct uplink *u)
{
	struct epoll_event event;

	for (int i = 0; i < EVENTS_PER_RUN; i++) {
		if (epoll_wait(u->epoll, &event, 1, 0) != 1)
			return;
		switch (*(enum uplink_source *)event.data.ptr) {
		case UPLINK_STREAM:
			stream_ready(u);
			break;
		case UPLINK_TIMER:
			tick(u);
			break;
		case UPLINK_END:
			uplink_end_gone(u, event.data.ptr);
			break;
		}
	}
}

int uplink_fd(const struct uplink *u)
{
	return u->epoll;
}

/* -- opening */

/* As its 32 digits say; zeros if it can't be known. */
static void boot_read(uint8_t boot[UP_NAME_SIZE])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	unsigned value;
	int c;

	for (int i = 0; f && i < UP_NAME_SIZE; i++) {
		c = fgetc(f);
		if (c != '-')
			ungetc(c, f);
		if (fscanf(f, "%2x", &value) == 1)
			boot[i] = (uint8_t)value;
	}
	if (f)
		fclose(f);
}

int uplink_open(
	struct uplink **out, const struct uplink_config *config, struct directory *d)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct uplink *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return -ENOMEM;
	u->source = UPLINK_STREAM;
	u->config = *config;
	u->directory = d;
	u->fd = u->memory_fd = -1;
	u->timer = (struct uplink_timer){UPLINK_TIMER, u, -1};
	TAILQ_INIT(&u->ends);
	TAILQ_INIT(&u->gone);
	TAILQ_INIT(&u->told);
	TAILQ_INIT(&u->questions);
	boot_read(u->boot);
	random_bytes(u->agent, sizeof(u->agent));
	u->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (u->epoll >= 0)
		u->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	event.data.ptr = &u->timer;
	if (u->timer.fd < 0 || epoll_ctl(u->epoll, EPOLL_CTL_ADD, u->timer.fd, &event)) {
		rc = -errno;
		uplink_close(u);
		return rc;
	}
	uplink_serve(u);
	directory_set_elsewhere(d, &u->elsewhere);
	up(u);
	*out = u;
	return 0;
}

void uplink_close(struct uplink *u)
{
	struct question *q;

	if (!u)
		return;
	while ((q = TAILQ_FIRST(&u->questions))) {
		TAILQ_REMOVE(&u->questions, q, links);
		free(q);
	}
	/* Nothing is released: it is used still. */
	uplink_ends_free(&u->ends);
	uplink_ends_free(&u->gone);
	uplink_ends_free(&u->told);
	upstream_free(&u->stream);
	if (u->fd >= 0)
		close(u->fd);
	if (u->memory_fd >= 0)
		close(u->memory_fd);
	if (u->timer.fd >= 0)
		close(u->timer.fd);
	if (u->epoll >= 0)
		close(u->epoll);
	free(u);
}

void uplink_status(const struct uplink *u, FILE *to)
{
	static const char *const states[] = {
		[UPLINK_DOWN] = "down",
		[UPLINK_GREETING] = "greeting",
		[UPLINK_REFUSED] = "refused",
		[UPLINK_UP] = "up",
	};
	const struct uplink_stats *s = &u->stats;

	fprintf(to,
		"uplink state=%s ends=%u sessions=%" PRIu64 " lost=%" PRIu64
		" refused=%" PRIu64 " garbage=%" PRIu64 " timeouts=%" PRIu64
		" offered=%" PRIu64 " accepted=%" PRIu64 " released=%" PRIu64
		" accept_failed=%" PRIu64 " path=%s\n",
		states[u->state], u->n_ends, s->sessions, s->lost, s->refused, s->garbage,
		s->timeouts, s->offered, s->accepted, s->released, s->accept_failed,
		u->config.path);
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "pmd/control_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/util.h"

#define EVENTS_MAX 64 /* of epoll in one go */

/* ---- the thread ---- */

static void wake(struct control *control)
{
	uint64_t one = 1;

	/* EAGAIN means that the counter is full: it is awake then. */
	if (write(control->wake_fd, &one, sizeof(one)) < 0)
		return;
}

static void wake_drain(struct control *control)
{
	uint64_t n;

	if (read(control->wake_fd, &n, sizeof(n)) < 0)
		return;
}

static uint64_t next_deadline(const struct control *control)
{
	uint64_t at = control->listen_at_ns;

	for (const struct conn *conn = control->conns; conn; conn = conn->next)
		at = MIN(at, conn_deadline(conn));
	for (size_t i = 0; i < ARRAY_SIZE(control->peers); i++)
		at = MIN(at, peer_deadline(&control->peers[i]));
	return at;
}

/* For epoll_wait(): milliseconds, rounded up so that it does not wake too early. */
static int timeout_ms(uint64_t at, uint64_t now)
{
	if (at == UINT64_MAX)
		return -1;
	if (at <= now)
		return 0;
	return (int)MIN((at - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC, 60000u);
}

/* What other threads asked for, and peers that are to be tried or forgotten. */
static void peers_run(struct control *control, uint64_t now)
{
	for (size_t i = 0; i < ARRAY_SIZE(control->peers); i++) {
		struct peer *peer = &control->peers[i];

		if (!peer->is_used)
			continue;
		if (atomic_exchange(&control->has_failed[i], false) && peer->claimed)
			conn_drop(control, peer->claimed, HELLO_BYE_QP_FAILED, now);
		if (peer->is_removed)
			conns_drop(control, &peer->addr, NULL, HELLO_BYE_REMOVED, now);
		if ((peer->is_removed || peer->is_dynamic) && !peer->claimed)
			peer_free(peer);
		else if (peer_deadline(peer) <= now)
			peer_connect(control, peer, now);
	}
}

static void events_handle(
	struct control *control, const struct epoll_event *events, int n, uint64_t now)
{
	for (int i = 0; i < n; i++) {
		void *tag = events[i].data.ptr;

		if (tag == &control->wake_fd)
			wake_drain(control);
		else if (tag == &control->listen_fd)
			listener_accept(control, now);
		else
			conn_ready(control, tag, now);
	}
}

/*
 * Events come before timers: after a stall of this very process, what peers have sent
 * meanwhile is to count as a sign of life.
 */
static void control_round(
	struct control *control, const struct epoll_event *events, int n)
{
	uint64_t now = now_ns();

	events_handle(control, events, n, now);
	listener_try(control, now);
	for (struct conn *conn = control->conns; conn; conn = conn->next)
		conn_tick(control, conn, now);
	peers_run(control, now);
	conns_reap(control);
}

/* Says BYE to all. Nobody waits for them to read it, so what they sent is read first: see
 * conn_end() in control_conn.c. */
static void control_end(struct control *control)
{
	uint64_t now = now_ns();

	for (struct conn *conn = control->conns; conn; conn = conn->next) {
		uint8_t buf[2048];

		conn_drop(control, conn, HELLO_BYE_SHUTDOWN, now);
		if (conn->phase != CONN_LINGERING)
			continue;
		while (recv(conn->fd, buf, sizeof(buf), 0) > 0)
			;
		conn_kill(conn);
	}
	conns_reap(control);
}

static void *control_main(void *arg)
{
	struct control *control = arg;
	struct epoll_event events[EVENTS_MAX];
	int timeout = 0;
	bool again;
	int n;

	pthread_mutex_lock(&control->lock);
	while (!atomic_load(&control->stops)) {
		pthread_mutex_unlock(&control->lock);
		n = epoll_wait(control->epoll_fd, events, EVENTS_MAX, timeout);
		pthread_mutex_lock(&control->lock);
		control_round(control, events, n);
		again = control->ops->tick && control->ops->tick(control->arg);
		timeout = timeout_ms(next_deadline(control), now_ns());
		if (again && (timeout < 0 || timeout > CONTROL_TICK_MS))
			timeout = CONTROL_TICK_MS;
	}
	control_end(control);
	pthread_mutex_unlock(&control->lock);
	return NULL;
}

/* ---- start and stop ---- */

/* Parses and judges; 0 or a negative errno, and then says what is wrong. */
static int peer_configure(struct control *control, const struct control_peer *config)
{
	union control_addr addr;
	struct peer *known;
	const char *wrong = NULL;
	int rc = control_addr_parse(
		config->address, config->port ? config->port : HELLO_PORT_DEFAULT, &addr);

	if (rc) {
		wrong = "is not the address of a node";
	} else if (addr.sa.sa_family != control->local.sa.sa_family) {
		wrong = "is not of the local address's family";
		rc = -EINVAL;
	} else if (control_addr_same_host(&addr, &control->local)) {
		wrong = "is the local address";
		rc = -EEXIST;
	} else if ((known = peer_find(control, &addr)) && known->is_dynamic) {
		/* It came before we were told; it need not go for that. */
		known->is_dynamic = false;
		known->addr = addr;
	} else if (known) {
		wrong = "is a peer already";
		rc = -EEXIST;
	} else if (!peer_add(control, &addr, false)) {
		wrong = "is one peer too many";
		rc = -ENOSPC;
	}
	if (wrong)
		log_write(LOG_LEVEL_ERR, CONTROL_MODULE, "peer %s %s",
			config->address ? config->address : "(none)", wrong);
	return rc;
}

static int control_configure(struct control *control, const struct control_config *config)
{
	int rc = control_addr_parse(config->local_address,
		config->port ? config->port : HELLO_PORT_DEFAULT, &control->local);

	if (rc) {
		log_write(LOG_LEVEL_ERR, CONTROL_MODULE,
			"local address %s is not that of a node",
			config->local_address ? config->local_address : "(none)");
		return rc;
	}
	control_addr_gid(&control->local, control->local_gid);
	control->timers = config->timers ? *config->timers : hello_timers_default;
	control->ops = config->ops;
	control->arg = config->arg;
	if (config->key) {
		control->key = *config->key;
		control->has_key = true;
	}
	do
		random_bytes(&control->instance, sizeof(control->instance));
	while (!control->instance);

	for (unsigned i = 0; !rc && i < config->n_peers; i++)
		rc = peer_configure(control, &config->peers[i]);
	return rc;
}

static int fds_open(struct control *control)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &control->wake_fd};

	control->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	control->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (control->epoll_fd < 0 || control->wake_fd < 0 ||
		epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, control->wake_fd, &ev) < 0)
		return -errno;
	return 0;
}

static int thread_start(struct control *control)
{
	sigset_t all, before;
	int rc;

	/* Signals are for the threads of the program that we are a guest of. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&control->thread, NULL, control_main, control);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!rc)
		pthread_setname_np(control->thread, "vrdma-hello");
	return -rc;
}

static void control_free(struct control *control)
{
	if (control->listen_fd >= 0)
		close(control->listen_fd);
	if (control->wake_fd >= 0)
		close(control->wake_fd);
	if (control->epoll_fd >= 0)
		close(control->epoll_fd);
	pthread_mutex_destroy(&control->lock);
	hello_key_wipe(&control->key);
	free(control);
}

int control_start(const struct control_config *config, struct control **controlp)
{
	struct control *control = calloc(1, sizeof(*control));
	int rc;

	if (!control)
		return -ENOMEM;
	pthread_mutex_init(&control->lock, NULL);
	control->epoll_fd = control->wake_fd = control->listen_fd = -1;

	rc = control_configure(control, config);
	if (!rc)
		rc = fds_open(control);
	/* Set before the thread runs, as a callback may make others use it. */
	*controlp = control;
	if (!rc)
		rc = thread_start(control);
	if (rc) {
		*controlp = NULL;
		control_free(control);
	}
	return rc;
}

void control_stop(struct control *control)
{
	if (!control)
		return;
	atomic_store(&control->stops, true);
	wake(control);
	pthread_join(control->thread, NULL);
	control_free(control);
}

/* ---- calls from other threads ---- */

void control_conn_failed(struct control *control, unsigned peer)
{
	if (peer >= CONTROL_PEERS_MAX)
		return;
	if (!atomic_exchange(&control->has_failed[peer], true))
		wake(control);
}

int control_add_peer(struct control *control, const struct control_peer *peer)
{
	union control_addr addr;
	int rc;

	pthread_mutex_lock(&control->lock);
	rc = peer_configure(control, peer);
	if (!rc) {
		control_addr_parse(peer->address, 0, &addr);
		rc = (int)peer_index(control, peer_find(control, &addr));
	}
	pthread_mutex_unlock(&control->lock);
	if (rc >= 0)
		wake(control);
	return rc;
}

int control_remove_peer(struct control *control, const char *address)
{
	union control_addr addr;
	struct peer *peer;
	int rc = control_addr_parse(address, 0, &addr);

	if (rc)
		return rc;
	pthread_mutex_lock(&control->lock);
	peer = peer_find(control, &addr);
	if (peer && !peer->is_removed)
		peer->is_removed = true;
	else
		rc = -ENOENT;
	pthread_mutex_unlock(&control->lock);
	if (!rc)
		wake(control);
	return rc;
}

int control_peer_get(
	struct control *control, unsigned peer, struct control_peer_info *info)
{
	int rc = -ENOENT;

	if (peer >= CONTROL_PEERS_MAX)
		return rc;
	pthread_mutex_lock(&control->lock);
	if (control->peers[peer].is_used) {
		peer_snapshot(&control->peers[peer], info, now_ns());
		rc = 0;
	}
	pthread_mutex_unlock(&control->lock);
	return rc;
}

/* Adds one counter behind @n others. */
static unsigned counter_put(struct control_counter *counters, unsigned max, unsigned n,
	const char *name, uint64_t value)
{
	if (n < max)
		counters[n] = (struct control_counter){.name = name, .value = value};
	return n + 1;
}

unsigned control_counters_get(
	struct control *control, struct control_counter *counters, unsigned max)
{
	unsigned n = 0;

	pthread_mutex_lock(&control->lock);
#define PUT(name, value) n = counter_put(counters, max, n, "hello_" name, value);
	PUT("connects", control->n_connects)
	PUT("accepts", control->n_accepts)
	PUT("ups", control->n_ups)
	PUT("listen_errors", control->n_listen_errors)
#define X(id, number, name) PUT("end_" #name, control->n_end[HELLO_BYE_##id])
	HELLO_BYE_LIST(X)
#undef X
#define X(id, name) PUT("end_" #name, control->n_end[HELLO_END_##id])
	HELLO_END_LIST(X)
#undef X
#define X(id, number, name) PUT("bye_" #name, control->n_bye[HELLO_BYE_##id])
	HELLO_BYE_LIST(X)
#undef X
#undef PUT
	pthread_mutex_unlock(&control->lock);
	return n;
}

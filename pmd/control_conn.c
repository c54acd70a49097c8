/* SPDX-License-Identifier: BSD-3-Clause */
#include "pmd/control_priv.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/crypto.h>

#include "lib/util.h"

#define ACCEPT_BURST 16	  /* connections accepted before others get their turn */
#define READ_SIZE    2048 /* bytes read before others get their turn */

/* ---- sockets ---- */

/* A TCP socket bound to the local address; @port in host order, 0: any. */
static int socket_open(const struct control *control, uint16_t port)
{
	union control_addr addr = control->local;
	int fd = socket(addr.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;
	int rc;

	if (fd < 0)
		return -errno;
	if (addr.sa.sa_family == AF_INET)
		addr.in4.sin_port = htons(port);
	else
		addr.in6.sin6_port = htons(port);
	if (port)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	else /* ports are then taken per connection, not per local address */
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	if (bind(fd, &addr.sa, control_addr_size(&addr)) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static int epoll_set(struct control *control, int op, int fd, uint32_t events, void *tag)
{
	struct epoll_event ev = {.events = events, .data.ptr = tag};

	return epoll_ctl(control->epoll_fd, op, fd, &ev) < 0 ? -errno : 0;
}

/* ---- the listener ---- */

static void listener_log(const struct control *control)
{
	char text[CONTROL_ADDR_TEXT];

	log_write(LOG_LEVEL_INFO, CONTROL_MODULE, "listening on %s port %u",
		control_addr_text(&control->local, text),
		control_addr_port(&control->local));
}

static void listener_failed(
	struct control *control, const char *what, int rc, uint64_t now_ns)
{
	char text[CONTROL_ADDR_TEXT], error[sizeof(control->listen_error)];

	control->n_listen_errors++;
	control->listen_at_ns = now_ns + control->timers.listen_retry_ns;
	snprintf(error, sizeof(error), "%s: %s", what, strerror(-rc));
	if (strcmp(error, control->listen_error) == 0)
		return;
	memcpy(control->listen_error, error, sizeof(error));
	log_write(LOG_LEVEL_WARN, CONTROL_MODULE, "%s port %u: cannot %s; trying again",
		control_addr_text(&control->local, text),
		control_addr_port(&control->local), error);
}

/* Returns the listening socket, in epoll, or a negative errno. */
static int listener_open(struct control *control)
{
	int fd = socket_open(control, control_addr_port(&control->local));
	int rc = fd;

	if (fd < 0)
		return rc;
	rc = listen(fd, SOMAXCONN) < 0 ? -errno : 0;
	if (!rc)
		rc = epoll_set(control, EPOLL_CTL_ADD, fd, EPOLLIN, &control->listen_fd);
	if (rc) {
		close(fd);
		return rc;
	}
	return fd;
}

void listener_try(struct control *control, uint64_t now_ns)
{
	int rc;

	if (now_ns < control->listen_at_ns)
		return;
	if (control->listen_fd < 0) {
		rc = control->listen_fd = listener_open(control);
		if (rc >= 0)
			listener_log(control);
	} else {
		rc = epoll_set(control, EPOLL_CTL_MOD, control->listen_fd, EPOLLIN,
			&control->listen_fd);
	}
	if (rc < 0) {
		listener_failed(control, "listen", rc, now_ns);
		return;
	}
	control->listen_at_ns = UINT64_MAX;
}

/*
 * accept() failed for want of something. The connection stays in the queue and epoll
 * would report it again and again: look away for a while.
 */
static void listener_rest(struct control *control, int rc, uint64_t now_ns)
{
	listener_failed(control, "accept", rc, now_ns);
	epoll_set(control, EPOLL_CTL_MOD, control->listen_fd, 0, &control->listen_fd);
}

/* ---- life and death of a connection ---- */

static struct conn *conn_new(struct control *control, int fd,
	const union control_addr *addr, bool is_initiator, uint32_t events)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	int on = 1;

	if (!conn)
		return NULL;
	if (epoll_set(control, EPOLL_CTL_ADD, fd, events, conn) < 0) {
		free(conn);
		return NULL;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	conn->fd = fd;
	conn->addr = *addr;
	conn->is_initiator = is_initiator;
	conn->wants_write = events & EPOLLOUT;
	conn->next = control->conns;
	control->conns = conn;
	return conn;
}

void conn_kill(struct conn *conn)
{
	close(conn->fd); /* which takes it out of epoll */
	conn->fd = -1;
	conn->phase = CONN_DEAD;
	OPENSSL_cleanse(&conn->fsm, sizeof(conn->fsm));
}

void conns_reap(struct control *control)
{
	struct conn **link = &control->conns;

	while (*link) {
		struct conn *conn = *link;

		if (conn->phase == CONN_DEAD) {
			*link = conn->next;
			free(conn);
		} else {
			link = &conn->next;
		}
	}
}

static void conn_activate(struct control *control, struct conn *conn, uint64_t now_ns)
{
	struct hello_params params = {
		.is_initiator = conn->is_initiator,
		.instance = control->instance,
		.key = control->has_key ? &control->key : NULL,
		.timers = &control->timers,
	};

	random_bytes(params.nonce, sizeof(params.nonce));
	control_addr_gid(&conn->addr, params.remote_gid);
	hello_fsm_init(&conn->fsm, &params, now_ns);
	conn->phase = CONN_ACTIVE;
}

/*
 * Takes the connection off its peer, and the driver's queue pairs with it. @error says
 * why; it goes to the log unless nothing is wrong.
 */
static void conn_detach(struct control *control, struct conn *conn, const char *error,
	bool is_wrong, uint64_t now_ns)
{
	struct peer *peer = conn->peer;

	conn->peer = NULL;
	if (peer->outgoing == conn)
		peer->outgoing = NULL;
	if (conn->has_qps) {
		conn->has_qps = false;
		control->ops->conn_down(control->arg, peer_index(control, peer), error);
		atomic_store(&control->has_failed[peer_index(control, peer)], false);
	}
	if (peer->claimed == conn)
		peer->claimed = NULL;
	if (!peer->claimed)
		peer_retry(control, peer, is_wrong ? error : NULL, now_ns);
}

/* A connection ended that belonged to no peer: it came in and was not claimed. */
static void unclaimed_log(
	struct control *control, const struct conn *conn, const char *error)
{
	struct peer *peer = peer_find(control, &conn->addr);
	char text[CONTROL_ADDR_TEXT];

	if (conn->fsm.reason == HELLO_END_CLOSED)
		return; /* who closes it has a reason, and a log of its own */
	if (peer)
		peer_refused(peer, error);
	else
		log_limited(&control->stranger_limit, LOG_LEVEL_WARN, CONTROL_MODULE,
			"connection from %s, which is no peer: %s",
			control_addr_text(&conn->addr, text), error);
}

/* Tries to send what the machine has to say; an error shows when it is read next. */
static void conn_flush(struct control *control, struct conn *conn)
{
	struct hello_fsm *fsm = &conn->fsm;
	ssize_t n = 0;
	bool wants_write;

	if (fsm->tx_size)
		n = send(conn->fd, fsm->tx, fsm->tx_size, MSG_NOSIGNAL);
	if (n > 0)
		hello_fsm_tx_done(fsm, (size_t)n);
	wants_write = fsm->tx_size && (n >= 0 || errno == EAGAIN || errno == EINTR);
	if (wants_write == conn->wants_write)
		return;
	conn->wants_write = wants_write;
	epoll_set(control, EPOLL_CTL_MOD, conn->fd,
		EPOLLIN | (wants_write ? EPOLLOUT : 0), conn);
}

/* A lingering connection: nothing follows what lies in the buffer. */
static void linger_flush(struct control *control, struct conn *conn)
{
	conn_flush(control, conn);
	if (!conn->fsm.tx_size)
		shutdown(conn->fd, SHUT_WR);
}

/* Is this end worth a line in the log? Not when the pair has another connection, or when
 * all is being closed anyway. */
static bool is_wrong(enum hello_reason reason, bool by_peer)
{
	return reason != HELLO_BYE_DUPLICATE && (reason != HELLO_BYE_SHUTDOWN || by_peer);
}

/*
 * The machine is CLOSED. If it said BYE, the socket stays for a while: closing it while
 * something unread lies in it would make the kernel send a reset, and the peer might
 * never see the reason.
 */
static void conn_end(struct control *control, struct conn *conn, uint64_t now_ns)
{
	const struct hello_fsm *fsm = &conn->fsm;
	bool wrong = is_wrong(fsm->reason, fsm->by_peer);
	char error[128];

	snprintf(error, sizeof(error), "%s%s%s%s",
		hello_reason_text(fsm->reason, fsm->by_peer), fsm->detail ? " (" : "",
		fsm->detail ? fsm->detail : "", fsm->detail ? ")" : "");
	if (fsm->by_peer)
		control->n_bye[fsm->reason]++;
	else
		control->n_end[fsm->reason]++;

	if (conn->peer)
		conn_detach(control, conn, error, wrong, now_ns);
	else if (wrong)
		unclaimed_log(control, conn, error);

	if (!fsm->tx_size) {
		conn_kill(conn);
		return;
	}
	conn->phase = CONN_LINGERING;
	conn->deadline_ns = now_ns + control->timers.linger_ns;
	linger_flush(control, conn);
}

void conn_drop(struct control *control, struct conn *conn, enum hello_reason reason,
	uint64_t now_ns)
{
	if (conn->phase == CONN_CONNECTING) {
		control->n_end[reason]++;
		conn_detach(control, conn, hello_reason_text(reason, false),
			is_wrong(reason, false), now_ns);
		conn_kill(conn);
	} else if (conn->phase == CONN_ACTIVE) {
		hello_fsm_close(&conn->fsm, reason);
		conn_end(control, conn, now_ns);
	}
}

void conns_drop(struct control *control, const union control_addr *addr,
	const struct conn *but, enum hello_reason reason, uint64_t now_ns)
{
	for (struct conn *conn = control->conns; conn; conn = conn->next) {
		if (conn != but && control_addr_same_host(&conn->addr, addr))
			conn_drop(control, conn, reason, now_ns);
	}
}

/* ---- what the machine asks for ---- */

/* The peer that a trusted connection is to belong to, or NULL when it is refused. */
static struct peer *claim_peer(struct control *control, struct conn *conn)
{
	struct peer *peer = conn->peer ? conn->peer : peer_find(control, &conn->addr);

	/* Without a key only known addresses get this far: see accept_judge(). */
	if (!peer)
		peer = peer_add(control, &conn->addr, true);
	if (!peer)
		hello_fsm_close(&conn->fsm, HELLO_BYE_RESOURCES);
	else if (peer->is_removed)
		hello_fsm_close(&conn->fsm, HELLO_BYE_REMOVED);
	return conn->fsm.state == HELLO_STATE_CLOSED ? NULL : peer;
}

/* Section 6 of the protocol: is this connection to be the pair's one? */
static bool claim_wins(const struct conn *conn, const struct conn *old)
{
	return !old || !conn->fsm.is_leader ||
	       old->fsm.remote.instance != conn->fsm.remote.instance;
}

/* Takes the place of the pair's other connections. */
static void claim_take(
	struct control *control, struct conn *conn, struct peer *peer, uint64_t now_ns)
{
	struct conn *old = peer->claimed;

	if (old)
		conn_drop(control, old,
			old->fsm.remote.instance != conn->fsm.remote.instance
				? HELLO_END_RESTARTED
				: HELLO_BYE_DUPLICATE,
			now_ns);
	peer->claimed = conn;
	conn->peer = peer;
	if (peer->outgoing == conn)
		peer->outgoing = NULL;
	conns_drop(control, &conn->addr, conn, HELLO_BYE_DUPLICATE, now_ns);
}

/* Has the driver make queue pairs and say what to announce. */
static bool qps_open(
	struct control *control, struct conn *conn, struct hello_endpoint *local)
{
	const char *wrong;
	int rc;

	memset(local, 0, sizeof(*local));
	rc = control->ops->conn_open(
		control->arg, peer_index(control, conn->peer), local);
	if (rc) {
		log_limited(&conn->peer->log_limit, LOG_LEVEL_ERR, CONTROL_MODULE,
			"cannot make queue pairs: %s", strerror(-rc));
		return false;
	}
	conn->has_qps = true;
	wrong = hello_endpoint_check(local, control->local_gid);
	if (wrong)
		log_limited(&conn->peer->log_limit, LOG_LEVEL_ERR, CONTROL_MODULE,
			"this side's endpoint cannot be announced (%s)", wrong);
	return !wrong;
}

static void on_claim(struct control *control, struct conn *conn, uint64_t now_ns)
{
	struct peer *peer = claim_peer(control, conn);
	struct hello_endpoint local;

	if (!peer)
		return;
	if (!claim_wins(conn, peer->claimed)) {
		hello_fsm_close(&conn->fsm, HELLO_BYE_DUPLICATE);
		return;
	}
	claim_take(control, conn, peer, now_ns);
	if (qps_open(control, conn, &local))
		hello_fsm_claimed(&conn->fsm, &local);
	else
		hello_fsm_close(&conn->fsm, HELLO_BYE_RESOURCES);
}

static void on_connect(struct control *control, struct conn *conn)
{
	int rc = control->ops->conn_connect(
		control->arg, peer_index(control, conn->peer), &conn->fsm.endpoint);

	if (!rc) {
		hello_fsm_connected(&conn->fsm);
		return;
	}
	log_limited(&conn->peer->log_limit, LOG_LEVEL_ERR, CONTROL_MODULE,
		"cannot connect queue pairs: %s", strerror(-rc));
	hello_fsm_close(&conn->fsm, HELLO_BYE_RESOURCES);
}

/* Does what the machine asks for, until it waits. */
static void conn_run(struct control *control, struct conn *conn, uint64_t now_ns)
{
	while (conn->phase == CONN_ACTIVE) {
		switch (hello_fsm_next(&conn->fsm, now_ns)) {
		case HELLO_DO_NOTHING:
			conn_flush(control, conn);
			return;
		case HELLO_DO_CLAIM:
			on_claim(control, conn, now_ns);
			break;
		case HELLO_DO_CONNECT:
			on_connect(control, conn);
			break;
		case HELLO_DO_UP:
			peer_came_up(control, conn->peer, now_ns);
			control->ops->conn_up(
				control->arg, peer_index(control, conn->peer));
			break;
		case HELLO_DO_CLOSE:
			conn_end(control, conn, now_ns);
			break;
		}
	}
}

/* ---- connections in ---- */

/* Connections in that are not claimed: from @addr, and from all strangers. */
static void unclaimed_count(const struct control *control, const union control_addr *addr,
	unsigned *n_address, unsigned *n_strangers)
{
	*n_address = 0;
	*n_strangers = 0;
	for (const struct conn *conn = control->conns; conn; conn = conn->next) {
		if (conn->is_initiator || conn->phase == CONN_DEAD || conn->peer)
			continue;
		*n_address += control_addr_same_host(&conn->addr, addr);
		*n_strangers += conn->is_stranger;
	}
}

static void accept_one(
	struct control *control, int fd, const union control_addr *addr, uint64_t now_ns)
{
	bool is_stranger = !peer_find(control, addr);
	unsigned n_address, n_strangers;
	struct conn *conn;

	control->n_accepts++;
	unclaimed_count(control, addr, &n_address, &n_strangers);
	if (n_address >= CONTROL_PER_ADDRESS ||
		(is_stranger && n_strangers >= CONTROL_FROM_STRANGERS)) {
		control->n_end[HELLO_END_LIMIT]++;
		close(fd);
		return;
	}
	conn = conn_new(control, fd, addr, false, EPOLLIN);
	if (!conn) {
		control->n_end[HELLO_BYE_RESOURCES]++;
		close(fd);
		return;
	}
	conn->is_stranger = is_stranger;
	conn_activate(control, conn, now_ns);
	if (is_stranger && !control->has_key)
		conn_drop(control, conn, HELLO_BYE_UNKNOWN_PEER, now_ns);
}

void listener_accept(struct control *control, uint64_t now_ns)
{
	for (int i = 0; i < ACCEPT_BURST; i++) {
		union control_addr addr = {0};
		socklen_t size = sizeof(addr);
		int fd = accept4(control->listen_fd, &addr.sa, &size,
			SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			accept_one(control, fd, &addr, now_ns);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			   errno == ENOMEM) {
			listener_rest(control, -errno, now_ns);
			return;
		} else if (errno == EAGAIN) {
			return;
		}
		/* All else is an error of one connection that is gone: see accept(2). */
	}
}

/* ---- connections out ---- */

static void connect_failed(
	struct control *control, struct peer *peer, int rc, uint64_t now_ns)
{
	char error[128];

	snprintf(error, sizeof(error), "cannot connect: %s", strerror(-rc));
	control->n_end[HELLO_END_CONNECT]++;
	if (!peer->claimed)
		peer_retry(control, peer, error, now_ns);
}

/* Returns the connecting socket or a negative errno. */
static int connect_begin(struct control *control, const union control_addr *addr)
{
	int fd = socket_open(control, 0);
	int rc;

	if (fd < 0)
		return fd;
	if (connect(fd, &addr->sa, control_addr_size(addr)) < 0 && errno != EINPROGRESS) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

void peer_connect(struct control *control, struct peer *peer, uint64_t now_ns)
{
	int fd = connect_begin(control, &peer->addr);
	struct conn *conn;

	control->n_connects++;
	peer->n_retries++;
	if (fd < 0) {
		connect_failed(control, peer, fd, now_ns);
		return;
	}
	conn = conn_new(control, fd, &peer->addr, true, EPOLLOUT);
	if (!conn) {
		close(fd);
		connect_failed(control, peer, -ENOMEM, now_ns);
		return;
	}
	conn->phase = CONN_CONNECTING;
	conn->deadline_ns = now_ns + control->timers.connect_ns;
	conn->peer = peer;
	peer->outgoing = conn;
}

static void connecting_failed(
	struct control *control, struct conn *conn, int rc, uint64_t now_ns)
{
	struct peer *peer = conn->peer;

	conn->peer = NULL;
	peer->outgoing = NULL;
	conn_kill(conn);
	connect_failed(control, peer, rc, now_ns);
}

static void connecting_ready(struct control *control, struct conn *conn, uint64_t now_ns)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (error) {
		connecting_failed(control, conn, -error, now_ns);
		return;
	}
	conn_activate(control, conn, now_ns);
	conn_run(control, conn, now_ns);
}

/* ---- events ---- */

static bool is_end(ssize_t n)
{
	return !n || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static void active_ready(struct control *control, struct conn *conn, uint64_t now_ns)
{
	uint8_t buf[READ_SIZE];
	ssize_t n = recv(conn->fd, buf, sizeof(buf), 0);

	if (is_end(n))
		hello_fsm_eof(&conn->fsm);
	for (size_t i = 0; n > 0 && i < (size_t)n && conn->phase == CONN_ACTIVE;) {
		i += hello_fsm_rx(&conn->fsm, buf + i, (size_t)n - i);
		conn_run(control, conn, now_ns);
	}
	conn_run(control, conn, now_ns);
}

static void lingering_ready(struct control *control, struct conn *conn)
{
	uint8_t buf[READ_SIZE];

	if (is_end(recv(conn->fd, buf, sizeof(buf), 0)))
		conn_kill(conn);
	else
		linger_flush(control, conn);
}

void conn_ready(struct control *control, struct conn *conn, uint64_t now_ns)
{
	switch (conn->phase) {
	case CONN_CONNECTING:
		connecting_ready(control, conn, now_ns);
		break;
	case CONN_ACTIVE:
		active_ready(control, conn, now_ns);
		break;
	case CONN_LINGERING:
		lingering_ready(control, conn);
		break;
	case CONN_DEAD: /* died in this very round */
		break;
	}
}

uint64_t conn_deadline(const struct conn *conn)
{
	if (conn->phase == CONN_ACTIVE)
		return hello_fsm_deadline(&conn->fsm);
	return conn->phase == CONN_DEAD ? UINT64_MAX : conn->deadline_ns;
}

void conn_tick(struct control *control, struct conn *conn, uint64_t now_ns)
{
	if (conn_deadline(conn) > now_ns)
		return;
	switch (conn->phase) {
	case CONN_CONNECTING:
		connecting_failed(control, conn, -ETIMEDOUT, now_ns);
		break;
	case CONN_ACTIVE:
		hello_fsm_tick(&conn->fsm, now_ns);
		conn_run(control, conn, now_ns);
		break;
	case CONN_LINGERING:
		conn_kill(conn);
		break;
	case CONN_DEAD:
		break;
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Steps that make, name, configure and end sockets.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "lib/util.h"
#include "tests/conform/conform.h"

static uint16_t port_of(const struct sockaddr_storage *addr)
{
	if (addr->ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)addr)->sin6_port);
	return ntohs(((const struct sockaddr_in *)addr)->sin_port);
}

/* socket SLOT FAMILY TYPE [PROTOCOL] */
static void op_socket(struct call *c)
{
	int protocol = c->argc > 4 ? (int)number(c->argv[4]) : 0;
	int fd = socket((int)number(c->argv[2]), (int)number(c->argv[3]), protocol);

	slot_set(c->argv[1], fd);
	say_result(c, fd < 0 ? -1 : 0);
}

/* bind SLOT ADDRESS PORT */
static void op_bind(struct call *c)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = address_parse(&addr, c->argv[2], c->argv[3]);

	say_result(c, bind(slot_fd(c->argv[1]), (struct sockaddr *)&addr, len));
}

static void op_listen(struct call *c)
{
	say_result(c, listen(slot_fd(c->argv[1]), (int)number(c->argv[2])));
}

/* connect SLOT ADDRESS PORT [LENGTH] */
static void op_connect(struct call *c)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = address_parse(&addr, c->argv[2], c->argv[3]);

	if (c->argc > 4)
		len = (socklen_t)number(c->argv[4]);
	say_result(c, connect(slot_fd(c->argv[1]), (struct sockaddr *)&addr, len));
}

/* accept SLOT NEW [ROOM]: ROOM bytes for the peer's address, none by default */
static void op_accept(struct call *c)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = c->argc > 3 ? (socklen_t)number(c->argv[3]) : 0;
	socklen_t room = len;
	int fd = accept(slot_fd(c->argv[1]), room ? (struct sockaddr *)&addr : NULL,
		room ? &len : NULL);

	slot_set(c->argv[2], fd);
	say_result(c, fd < 0 ? -1 : 0);
	if (fd >= 0 && room >= sizeof(struct sockaddr_in))
		say_address(c, (struct sockaddr *)&addr, len);
	else if (fd >= 0 && room)
		say(c, " len=%u", len);
}

/* accept4 SLOT NEW FLAGS */
static void op_accept4(struct call *c)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);
	int fd = accept4(slot_fd(c->argv[1]), (struct sockaddr *)&addr, &len,
		(int)number(c->argv[3]));

	slot_set(c->argv[2], fd);
	say_result(c, fd < 0 ? -1 : 0);
	if (fd >= 0)
		say_address(c, (struct sockaddr *)&addr, len);
}

typedef int name_fn(int fd, struct sockaddr *addr, socklen_t *len);

static void say_name(struct call *c, name_fn *get)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);
	int rc = get(slot_fd(c->argv[1]), (struct sockaddr *)&addr, &len);

	say_result(c, rc);
	if (rc)
		return;
	say_address(c, (struct sockaddr *)&addr, len);
	if (c->argc > 2)
		set_var(c, c->argv[2], port_of(&addr));
}

/* name SLOT [VARIABLE]: getsockname; the port into VARIABLE */
static void op_name(struct call *c)
{
	say_name(c, getsockname);
}

static void op_peer(struct call *c)
{
	say_name(c, getpeername);
}

static void op_shutdown(struct call *c)
{
	say_result(c, shutdown(slot_fd(c->argv[1]), (int)number(c->argv[2])));
}

static void op_close(struct call *c)
{
	say_result(c, close(slot_fd(c->argv[1])));
}

/* set SLOT LEVEL OPTION VALUE [LENGTH] */
static void op_set(struct call *c)
{
	int value = (int)number(c->argv[4]);
	socklen_t len = c->argc > 5 ? (socklen_t)number(c->argv[5]) : sizeof(value);

	say_result(c, setsockopt(slot_fd(c->argv[1]), (int)number(c->argv[2]),
			      (int)number(c->argv[3]), &value, len));
}

/* get SLOT LEVEL OPTION [LENGTH] */
static void op_get(struct call *c)
{
	int value = -77;
	socklen_t len = c->argc > 4 ? (socklen_t)number(c->argv[4]) : sizeof(value);
	int level = (int)number(c->argv[2]), option = (int)number(c->argv[3]);
	int rc = getsockopt(slot_fd(c->argv[1]), level, option, &value, &len);

	say_result(c, rc);
	if (rc)
		return;
	if (level == SOL_SOCKET && option == SO_ERROR && value)
		say(c, " %s", strerrorname_np(value));
	else
		say(c, " %d len=%u", value, len);
}

/* linger SLOT ON SECONDS */
static void op_linger(struct call *c)
{
	struct linger linger = {
		.l_onoff = (int)number(c->argv[2]), .l_linger = (int)number(c->argv[3])};

	say_result(c, setsockopt(slot_fd(c->argv[1]), SOL_SOCKET, SO_LINGER, &linger,
			      sizeof(linger)));
}

static void op_get_linger(struct call *c)
{
	struct linger linger = {0};
	socklen_t len = sizeof(linger);

	say_result(
		c, getsockopt(slot_fd(c->argv[1]), SOL_SOCKET, SO_LINGER, &linger, &len));
	say(c, " %d %d len=%u", linger.l_onoff, linger.l_linger, len);
}

/* timeout SLOT SO_RCVTIMEO|SO_SNDTIMEO MILLISECONDS */
static void op_timeout(struct call *c)
{
	int64_t ms = number(c->argv[3]);
	struct timeval timeout = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	say_result(c, setsockopt(slot_fd(c->argv[1]), SOL_SOCKET, (int)number(c->argv[2]),
			      &timeout, sizeof(timeout)));
}

static void op_get_timeout(struct call *c)
{
	struct timeval timeout = {0};
	socklen_t len = sizeof(timeout);

	say_result(c, getsockopt(slot_fd(c->argv[1]), SOL_SOCKET, (int)number(c->argv[2]),
			      &timeout, &len));
	say(c, " %ld.%03ld len=%u", (long)timeout.tv_sec, (long)timeout.tv_usec / 1000,
		len);
}

/* tcp_state SLOT: what TCP_INFO tells of the state */
static void op_tcp_state(struct call *c)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	say_result(
		c, getsockopt(slot_fd(c->argv[1]), IPPROTO_TCP, TCP_INFO, &info, &len));
	say(c, " state=%d", info.tcpi_state);
}

const struct op socket_ops[] = {
	{"socket", op_socket, 3},
	{"bind", op_bind, 3},
	{"listen", op_listen, 2},
	{"connect", op_connect, 3},
	{"accept", op_accept, 2},
	{"accept4", op_accept4, 3},
	{"name", op_name, 1},
	{"peer", op_peer, 1},
	{"shutdown", op_shutdown, 2},
	{"close", op_close, 1},
	{"set", op_set, 4},
	{"get", op_get, 3},
	{"linger", op_linger, 3},
	{"get_linger", op_get_linger, 1},
	{"timeout", op_timeout, 3},
	{"get_timeout", op_get_timeout, 2},
	{"tcp_state", op_tcp_state, 1},
	{NULL, NULL, 0},
};

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Symbolic constants and addresses, in both directions.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "lib/util.h"
#include "tests/conform/conform.h"

struct constant {
	const char *name;
	int64_t value;
};

/* clang-format off */
#define C(name) {#name, name}
static const struct constant constants[] = {
	C(AF_INET), C(AF_INET6), C(AF_UNIX), C(AF_UNSPEC),
	C(SOCK_STREAM), C(SOCK_DGRAM), C(SOCK_NONBLOCK), C(SOCK_CLOEXEC),
	C(SHUT_RD), C(SHUT_WR), C(SHUT_RDWR),
	C(MSG_PEEK), C(MSG_WAITALL), C(MSG_DONTWAIT), C(MSG_NOSIGNAL), C(MSG_TRUNC),
	C(MSG_CTRUNC), C(MSG_OOB), C(MSG_MORE), C(MSG_CMSG_CLOEXEC), C(MSG_ERRQUEUE),
	C(MSG_EOR), C(MSG_CONFIRM), C(MSG_WAITFORONE),
	C(SOL_SOCKET), C(IPPROTO_TCP), C(IPPROTO_IP), C(IPPROTO_IPV6),
	C(SO_ACCEPTCONN), C(SO_BROADCAST), C(SO_DOMAIN), C(SO_ERROR), C(SO_KEEPALIVE),
	C(SO_LINGER), C(SO_OOBINLINE), C(SO_PRIORITY), C(SO_PROTOCOL), C(SO_RCVBUF),
	C(SO_RCVLOWAT), C(SO_RCVTIMEO), C(SO_REUSEADDR), C(SO_REUSEPORT), C(SO_SNDBUF),
	C(SO_SNDTIMEO), C(SO_TYPE), C(SO_DONTROUTE), C(SO_MARK), C(SO_BUSY_POLL),
	C(TCP_NODELAY), C(TCP_CORK), C(TCP_KEEPIDLE), C(TCP_KEEPINTVL), C(TCP_KEEPCNT),
	C(TCP_MAXSEG), C(TCP_DEFER_ACCEPT), C(TCP_QUICKACK), C(TCP_USER_TIMEOUT),
	C(TCP_INFO), C(TCP_SYNCNT), C(TCP_LINGER2), C(TCP_WINDOW_CLAMP), C(TCP_FASTOPEN),
	C(TCP_CONGESTION), C(TCP_NOTSENT_LOWAT),
	C(IP_TOS), C(IP_TTL), C(IP_MTU_DISCOVER), C(IP_FREEBIND),
	C(IPV6_V6ONLY), C(IPV6_UNICAST_HOPS), C(IPV6_TCLASS),
	C(POLLIN), C(POLLPRI), C(POLLOUT), C(POLLERR), C(POLLHUP), C(POLLNVAL),
	C(POLLRDHUP), C(POLLRDNORM), C(POLLWRNORM), C(POLLRDBAND), C(POLLWRBAND),
	C(EPOLLIN), C(EPOLLPRI), C(EPOLLOUT), C(EPOLLERR), C(EPOLLHUP), C(EPOLLRDHUP),
	C(EPOLLET), C(EPOLLONESHOT), C(EPOLLEXCLUSIVE), C(EPOLLRDNORM), C(EPOLLWRNORM),
	C(EPOLL_CTL_ADD), C(EPOLL_CTL_MOD), C(EPOLL_CTL_DEL), C(EPOLL_CLOEXEC),
	C(F_GETFL), C(F_SETFL), C(F_GETFD), C(F_SETFD), C(F_DUPFD), C(F_DUPFD_CLOEXEC),
	C(O_NONBLOCK), C(O_CLOEXEC), C(O_RDWR), C(O_ASYNC), C(FD_CLOEXEC),
	C(FIONREAD), C(FIONBIO), C(FIOCLEX), C(FIONCLEX), C(TIOCOUTQ),
	C(SIGUSR1), C(SIGUSR2), C(SIGPIPE), C(SIGALRM), C(SIGCHLD), C(SIGKILL), C(SIGTERM),
	C(SPLICE_F_NONBLOCK), C(SPLICE_F_MOVE), C(SPLICE_F_MORE),
	C(SEEK_SET), C(SEEK_CUR),
	C(POSIX_SPAWN_SETSIGMASK), C(POSIX_SPAWN_SETSIGDEF), C(POSIX_SPAWN_SETPGROUP),
	C(POSIX_SPAWN_SETSID), C(POSIX_SPAWN_RESETIDS),
};
#undef C
/* clang-format on */

int patience_ms(void)
{
	const char *text = getenv(PATIENCE_ENV);

	return text ? atoi(text) : 10000;
}

static int64_t term(const char *text)
{
	char *end;
	int64_t value = strtoll(text, &end, 0);

	if (*text && !*end)
		return value;
	for (size_t i = 0; i < ARRAY_SIZE(constants); i++) {
		if (!strcmp(constants[i].name, text))
			return constants[i].value;
	}
	bad_scenario("no such number", text);
}

int64_t number(const char *text)
{
	char copy[256], *at = copy, *piece;
	int64_t value = 0;

	snprintf(copy, sizeof(copy), "%s", text);
	while ((piece = strsep(&at, "|")))
		value |= term(piece);
	return value;
}

const char *flag_names(char *buf, size_t size, const char *prefix, uint64_t value)
{
	size_t len = 0;

	snprintf(buf, size, "0");
	for (size_t i = 0; i < ARRAY_SIZE(constants); i++) {
		uint64_t bit = (uint64_t)constants[i].value;

		if (strncmp(constants[i].name, prefix, strlen(prefix)) || !(value & bit))
			continue;
		len += (size_t)snprintf(
			buf + len, size - len, "%s%s", len ? "|" : "", constants[i].name);
		value &= ~bit;
	}
	if (value)
		snprintf(buf + len, size - len, "%s%#lx", len ? "|" : "",
			(unsigned long)value);
	return buf;
}

const char *constant_name(const char *prefix, int64_t value)
{
	for (size_t i = 0; i < ARRAY_SIZE(constants); i++) {
		if (constants[i].value == value &&
			!strncmp(constants[i].name, prefix, strlen(prefix)))
			return constants[i].name;
	}
	return "?";
}

socklen_t address_parse(struct sockaddr_storage *to, const char *text, const char *port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)to;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
	uint16_t port_be = htons((uint16_t)number(port));

	memset(to, 0, sizeof(*to));
	if (!strcmp(text, "unspec")) {
		to->ss_family = AF_UNSPEC;
		return sizeof(*in);
	}
	if (strchr(text, ':')) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = port_be;
		if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1)
			return sizeof(*in6);
	} else {
		in->sin_family = AF_INET;
		in->sin_port = port_be;
		if (inet_pton(AF_INET, text, &in->sin_addr) == 1)
			return sizeof(*in);
	}
	bad_scenario("no address", text);
}

void say_address(struct call *c, const struct sockaddr *addr, socklen_t len)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)addr;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
	char text[INET6_ADDRSTRLEN] = "?";

	say(c, " len=%u", len);
	if (len == 0)
		return;
	if (addr->sa_family == AF_INET) {
		inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
		say(c, " %s:@%u@", text, ntohs(in->sin_port));
	} else if (addr->sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
		say(c, " [%s]:@%u@", text, ntohs(in6->sin6_port));
	} else {
		say(c, " family %d", addr->sa_family);
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tells whether bytes went through the kernel's TCP, by asking the kernel itself: by
 * system calls, which no preloaded library sees. So the proof that the shim carried them
 * does not rest on the shim's word.
 */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/conform/conform.h"

#define NO_TCP UINT64_MAX

/* Does the program see a TCP socket? It may be the shim that shows it one. */
static bool looks_like_tcp(int fd)
{
	int domain = AF_UNSPEC;
	socklen_t len = sizeof(domain);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) &&
	       (domain == AF_INET || domain == AF_INET6);
}

/* Bytes that the kernel's TCP has taken on this descriptor, ever; NO_TCP if it has none.
 */
static uint64_t kernel_taken(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	if (syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return NO_TCP;
	return info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
}

uint64_t meter_begin(int fd)
{
	int saved = errno;
	uint64_t taken = kernel_taken(fd);

	errno = saved;
	return taken;
}

void meter_end(struct call *c, int fd, uint64_t before, ssize_t n)
{
	int saved = errno;
	uint64_t after;

	if (n < METER_TELLING)
		return;
	after = kernel_taken(fd);
	if (before != NO_TCP && after != NO_TCP && after - before >= (uint64_t)n)
		c->reply->n_kernel++;
	else if (looks_like_tcp(fd))
		c->reply->n_ring++;
	errno = saved;
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "keepalive.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "real.h"

#define DEAD_MS 25000 /* a guest that is paused for longer is taken for dead */

static const struct {
	int level, name, ours;
} options[CONN_KEEPALIVE_OPTIONS] = {
	{SOL_SOCKET, SO_KEEPALIVE, 1},
	{IPPROTO_TCP, TCP_KEEPIDLE, 10},
	{IPPROTO_TCP, TCP_KEEPINTVL, 5},
	/* With it keepalive's number of probes doesn't count; and bells that were not
	 * acknowledged, while which there is no keepalive, are given up as soon.
	 */
	{IPPROTO_TCP, TCP_USER_TIMEOUT, DEAD_MS},
};

void keepalive_begin(struct conn *c, int fd)
{
	socklen_t len = sizeof(int);

	for (int i = 0; conn_is_far(c) && i < CONN_KEEPALIVE_OPTIONS; i++) {
		real.getsockopt(
			fd, options[i].level, options[i].name, &c->keepalive[i], &len);
		real.setsockopt(fd, options[i].level, options[i].name, &options[i].ours,
			sizeof(int));
	}
}

void keepalive_end(const struct conn *c, int fd)
{
	for (int i = 0; conn_is_far(c) && i < CONN_KEEPALIVE_OPTIONS; i++)
		real.setsockopt(fd, options[i].level, options[i].name, &c->keepalive[i],
			sizeof(int));
}

int *keepalive_option(struct conn *c, int level, int name)
{
	for (int i = 0; conn_is_far(c) && i < CONN_KEEPALIVE_OPTIONS; i++) {
		if (options[i].level == level && options[i].name == name)
			return &c->keepalive[i];
	}
	return NULL;
}

int keepalive_set(
	struct conn *c, int fd, int level, int name, const void *value, socklen_t len)
{
	int *kept = keepalive_option(c, level, name);
	int ours = options[kept - c->keepalive].ours;
	int rc = real.setsockopt(fd, level, name, value, len);

	if (rc)
		return rc;
	memcpy(kept, value, sizeof(*kept));
	return real.setsockopt(fd, level, name, &ours, sizeof(ours));
}

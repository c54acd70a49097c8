/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libvrdma-preload.so: what libibverbs asks the kernel for, and no provider can answer.
 * vrdma-run preloads it into every program that the command starts, so it links nothing
 * but libc.
 */
#include "rdma/provider/comp_channel.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/netlink.h>
#include <sys/socket.h>

/* Where the kernel has RDMA, libibverbs finds devices through netlink and never looks at
 * our tree. Without that family it falls back to the tree.
 */
int socket(int domain, int type, int protocol)
{
	static int (*next)(int, int, int);

	if (domain == AF_NETLINK && protocol == NETLINK_RDMA) {
		errno = EPROTONOSUPPORT;
		return -1;
	}
	if (!next)
		next = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
	return next(domain, type, protocol);
}

/* libibverbs would ask the device's command descriptor, which is /dev/null. There are no
 * other devices than ours here (see above, and vrdma-run's tree).
 */
struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *ctx)
{
	return comp_channel_create(ctx);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vrdma.h - open the userspace RoCEv2 device inside this process
 *
 * The device is used through the public libibverbs API (verbs.h) alone; these are the
 * few calls that libibverbs has no place for. Link with libvrdma.
 */
#ifndef VRDMA_H
#define VRDMA_H

#include <stdint.h>
#include <infiniband/verbs.h>

#ifdef __cplusplus
extern "C" {
#endif

/** struct vrdma_attr - how to open a device; zero fields take their defaults
 *
 * Give @addr or @interface, and leave zero what you don't mean: fields may be added, so
 * use an initialiser with names.
 *
 * Without @port the device is on addresses of this host, and on UDP sockets. With it,
 * the device is a host of its own on that interface, with a MAC and an IP address that
 * the kernel does not know (of several addresses each has a MAC of its own, unless @mac
 * says); that needs CAP_NET_RAW.
 *
 * The addresses are the device's GID table: index 0 is the first one of @addr, or of
 * @interface (IPv4 first, then IPv6, link-local addresses last).
 */
struct vrdma_attr {
	const char *addr;    /* IPv4 or IPv6, "fe80::1%eth0": an interface's own; or, with
				@port, one that nobody has, and its prefix length:
				"10.0.0.5/24". Several of one interface: with commas
				between them, at most 32 */
	const char *name;    /* device name, at most 63 characters; default "vrdma0" */
	const char *port;    /* interface (Ethernet) */
	const char *mac;     /* with @port: "02:00:00:00:00:05"; default one that follows
				from the address */
	const char *gateway; /* with @port: where packets go that leave the prefix; for
				several prefixes several, with commas between them */
	const char *interface; /* all addresses of this interface, as they come and go,
				but those that other processes have */
};

/** vrdma_open_device() - open a userspace RoCEv2 device on local addresses
 * @attr: borrowed for the call
 * Return: a context for the public verbs calls, to be closed with ibv_close_device(); or
 *         NULL with errno: EINVAL (not an address, or of several interfaces),
 * EADDRNOTAVAIL (not an address of this host, or the interface has none), EADDRINUSE (UDP
 * port 4791 is taken there, on all addresses if an interface was given; or, with a port,
 * somebody has the address), ENODEV (no such interface), EPROTONOSUPPORT (not Ethernet),
 *         EPERM (no CAP_NET_RAW), EMFILE, ENOMEM
 */
struct ibv_context *vrdma_open_device(const struct vrdma_attr *attr);

/** vrdma_create_comp_channel() - in the place of ibv_create_comp_channel(3), which asks
 * the kernel, and fails with EBADF or the like for a device that vrdma_open_device() made
 * @ctx: from vrdma_open_device()
 * Return: a channel, to be ended with ibv_destroy_comp_channel(); or NULL with errno:
 *         ENOMEM, EMFILE
 */
struct ibv_comp_channel *vrdma_create_comp_channel(struct ibv_context *ctx);

/** struct vrdma_counter - one counter of a device */
struct vrdma_counter {
	const char *name; /* static; [a-z0-9_] */
	uint64_t value;
};

/** vrdma_query_counters() - read a device's counters (docs/counters.md has them all)
 * @ctx:      from vrdma_open_device()
 * @counters: room for @max entries; may be NULL when @max is 0
 * Return: how many counters there are (which may be more than @max), or -EINVAL when
 *         @ctx is no vRDMA device
 */
int vrdma_query_counters(
	struct ibv_context *ctx, struct vrdma_counter *counters, int max);

#ifdef __cplusplus
}
#endif

#endif

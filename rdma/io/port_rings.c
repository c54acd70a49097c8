/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packet port's way in by rings. There are two, as slots have one size and frames
 * have not: one for what a wire carries, and one for what a sender on this machine leaves
 * whole, for others to cut up. A ring belongs to a socket, so there are two sockets; they
 * share a place on the interface (PACKET_FANOUT), where a program tells by a frame's size
 * whose it is. The kernel sets the time in each slot, by which the order is put together
 * again.
 */
#include <errno.h>
#include <linux/filter.h>
#include <unistd.h>

#include "lib/util.h"
#include "port_priv.h"

/* In front of a frame in its slot: the slot's header, an address, the virtio-net header;
 * that is 76, or a little more in kernels to come.
 */
#define SLOT_FRONT 96

/* 896 frames of a path MTU of 4096, of 64 segments, and 60 frames of any size. 4 MiB
 * each; a queue pair has up to 1 MiB under way.
 */
static const struct port_ring_size ring_size[PORT_RINGS] = {
	[PORT_RING_SMALL] = {.slot = 4608, .block = 64 << 10, .n_blocks = 64},
	[PORT_RING_LARGE] = {.slot = 68 << 10, .block = 1 << 20, .n_blocks = 4},
};
_Static_assert(SLOT_FRONT + ETH_HEADERS_MAX + LINK_PKT_MAX <= 4608, "a packet fits");
_Static_assert(SLOT_FRONT + ETH_HEADERS_MAX + 65535 <= 68 << 10, "any frame fits");

/* The kernel may or may not count the Ethernet header here. */
#define SMALL_FRAME_MAX (4608 - SLOT_FRONT - ETH_SIZE)

/* Which ring is a frame's: the program's answer is the number of the socket, in the order
 * in which they came together.
 */
static int program_set(int fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SMALL_FRAME_MAX, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, PORT_RING_LARGE),
		BPF_STMT(BPF_RET | BPF_K, PORT_RING_SMALL),
	};
	struct sock_fprog prog = {.len = ARRAY_SIZE(code), .filter = code};

	return setsockopt(fd, SOL_PACKET, PACKET_FANOUT_DATA, &prog, sizeof(prog));
}

/* The first socket gets a number for both that nobody else has. */
static int fanout_join(const struct port_rings *rings)
{
	const int *fd = rings->fd;
	int group = (PACKET_FANOUT_CBPF | PACKET_FANOUT_FLAG_UNIQUEID) << 16;
	socklen_t size = sizeof(group);

	if (setsockopt(fd[0], SOL_PACKET, PACKET_FANOUT, &group, size) < 0 ||
		program_set(fd[0]) < 0 ||
		getsockopt(fd[0], SOL_PACKET, PACKET_FANOUT, &group, &size) < 0 ||
		setsockopt(fd[1], SOL_PACKET, PACKET_FANOUT, &group, size) < 0)
		return -errno;
	return 0;
}

static int ring_open(const struct link_port *port, struct port_rings *rings, int i)
{
	int fd = port_socket_open(port), err;

	if (fd < 0)
		return fd;
	rings->fd[i] = fd;
	err = port_ring_open(&rings->ring[i], fd, &ring_size[i]);
	return err ? err : port_socket_bind(port, fd);
}

int port_rings_open(struct link_port *port)
{
	struct port_rings *rings = &port->rx.rings;
	int err = 0;

	for (int i = 0; i < PORT_RINGS; i++)
		rings->fd[i] = -1;
	for (int i = 0; i < PORT_RINGS && !err; i++)
		err = ring_open(port, rings, i);
	if (!err)
		err = fanout_join(rings);
	if (err) {
		port_rings_close(port);
		return err;
	}
	port->fd = rings->fd[PORT_RING_SMALL];
	port->link.fd = rings->fd[PORT_RING_SMALL];
	port->link.more_fd = rings->fd[PORT_RING_LARGE];
	return 0;
}

void port_rings_close(struct link_port *port)
{
	struct port_rings *rings = &port->rx.rings;

	for (int i = 0; i < PORT_RINGS; i++) {
		port_ring_close(&rings->ring[i]);
		if (rings->fd[i] >= 0)
			close(rings->fd[i]);
	}
}

void port_rings_begin(struct link_port *port, bool keep)
{
	struct port_rings *rings = &port->rx.rings;

	for (int i = 0; i < PORT_RINGS; i++)
		port_ring_give_back(&rings->ring[i], keep && i == rings->last);
}

static bool is_before(const struct tpacket2_hdr *a, const struct tpacket2_hdr *b)
{
	return a->tp_sec != b->tp_sec ? a->tp_sec < b->tp_sec : a->tp_nsec < b->tp_nsec;
}

/* The ring whose turn it is, or -1. Frames of one flow are put in by one core, one behind
 * the other; so once one is seen, all before it are in their slots, whichever ring's.
 */
static int ring_next(const struct port_rings *rings, const struct tpacket2_hdr **hdr)
{
	const struct tpacket2_hdr *small = port_ring_peek(&rings->ring[PORT_RING_SMALL]);
	const struct tpacket2_hdr *large = port_ring_peek(&rings->ring[PORT_RING_LARGE]);

	if (large && !small)
		small = port_ring_peek(&rings->ring[PORT_RING_SMALL]);
	if (large && (!small || is_before(large, small))) {
		*hdr = large;
		return PORT_RING_LARGE;
	}
	*hdr = small;
	return small ? PORT_RING_SMALL : -1;
}

/* The kernel tells of drops in each slot until it was asked how many. */
static void drops_count(struct link_port *port, int fd)
{
	struct tpacket_stats stats;
	socklen_t size = sizeof(stats);

	port->link.stats.rx_syscalls++;
	if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0)
		port->link.stats.rx_overflow += stats.tp_drops;
}

bool port_rings_next(struct link_port *port, struct port_input *in)
{
	struct port_rings *rings = &port->rx.rings;
	const struct tpacket2_hdr *hdr;
	int i = ring_next(rings, &hdr);

	if (i < 0)
		return false;
	if (unlikely(hdr->tp_status & TP_STATUS_LOSING))
		drops_count(port, rings->fd[i]);
	in->data = (const uint8_t *)hdr + hdr->tp_mac - PORT_VNET_SIZE;
	in->size = PORT_VNET_SIZE + hdr->tp_snaplen;
	in->is_cut = hdr->tp_snaplen != hdr->tp_len;
	port_ring_take(&rings->ring[i]);
	rings->last = i;
	return true;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of a packet port: what it is on (port.c), its sockets (port_socket.c,
 * port_filter.c), where frames come in (port_rings.c, or else port_queue.c), its transmit
 * and receive sides (port_tx.c, port_rx.c), neighbours (port_neigh.c) and groups
 * (port_group.c).
 */
#ifndef RDMA_IO_PORT_PRIV_H
#define RDMA_IO_PORT_PRIV_H

#include <linux/virtio_net.h>
#include <pthread.h>
#include <sys/socket.h>

#include "eth.h"
#include "gid.h"
#include "neigh.h"
#include "port.h"
#include "port_ring.h"
#include "run.h"

#define PORT_GROUPS_MAX 257 /* the engine's, and the one that IPv6 neighbours ask */

/* In front of each frame, both ways: checksums and segmentation that are yet to be done
 * (PACKET_VNET_HDR).
 */
#define PORT_VNET_SIZE sizeof(struct virtio_net_hdr)

/* A frame as it came in, the virtio-net header first. */
struct port_input {
	const uint8_t *data;
	size_t size;
	bool is_cut; /* it was larger than what there is of it */
};

/* The frame that is being handed out, packet by packet. */
struct port_frame {
	struct eth_packet pkt;
	size_t segment;	 /* bytes of UDP payload of each packet; the last has the rest */
	size_t consumed; /* bytes of UDP payload handed out so far; all: none is left */
	uint16_t index;	 /* of the next packet */
};

enum { PORT_RING_SMALL, PORT_RING_LARGE, PORT_RINGS };

struct port_queue;

struct port_rings {
	int fd[PORT_RINGS];
	struct port_ring ring[PORT_RINGS];
	int last; /* where the last frame came from */
};

struct port_rx {
	bool has_rings; /* or else a queue */
	struct port_rings rings;
	struct port_queue *queue;
	struct port_frame frame;
};

struct link_port {
	struct link link; /* first, as ops get a pointer to it */
	struct neigh_self self;
	int ifindex;
	bool is_ipv4;
	int fd; /* to send from; what is does not come back */
	/* What is sent from this one does: packets to ourselves and to groups. */
	int tapped_fd;
	int name_fd; /* keeps other processes here from taking the address */
	struct run_tx tx;
	struct port_rx rx;

	pthread_mutex_t neigh_lock;
	struct neigh_table
		*neigh;	      /* under neigh_lock, as are its numbers in link.stats */
	bool defends;	      /* the address is ours, and others may not have it */
	uint64_t defended_ns; /* the last time; by the receiver */

	uint8_t group[PORT_GROUPS_MAX][16]; /* joined; by the receiver */
	int n_groups;
	uint64_t reported_ns;
};

static inline struct link_port *link_port(struct link *link)
{
	return (struct link_port *)link;
}

/* port_socket.c; 0, a descriptor, or negative errno */
/* With the link's filter, and for virtio-net headers; it gets nothing before it is bound,
 * but can send, from the interface that it is given.
 */
int port_socket_open(const struct link_port *port);
int port_socket_bind(const struct link_port *port, int fd);
/* One that gets nothing. */
int port_socket_open_mute(const struct link_port *port);
/* A buffer of @size, or as much as the caller's privileges allow: beyond the limit by
 * option @force, up to it by @plain. */
void port_buffer_grow(int fd, int force, int plain, int size);

/* port_filter.c: only what concerns this link gets into the socket */
int port_filter_set(const struct link_port *port, int fd);

/* port_tx.c */
void link_port_send(struct link *link, const struct link_burst *burst);
void link_port_expect(struct link *link, const uint8_t gid[16]);
/* One whole frame, by any thread. */
void port_frame_send(const struct link_port *port, const void *frame, size_t size);

/* port_rx.c */
int link_port_recv(struct link *link, struct link_rx *pkts, int max);

/* port_rings.c, port_queue.c: where frames come in. One of the two is opened: it sets
 * port->fd and the link's descriptors. */
int port_rings_open(struct link_port *port);
void port_rings_close(struct link_port *port);
int port_queue_open(struct link_port *port);
void port_queue_close(struct link_port *port);
/* A new look. Frames that were handed out are not read any more; with @keep the last one
 * still is. */
void port_rings_begin(struct link_port *port, bool keep);
void port_queue_begin(struct link_port *port, bool keep);
/* The next frame, valid until a look begins that does not keep it. false: none is there,
 * or this look is over. */
bool port_rings_next(struct link_port *port, struct port_input *in);
bool port_queue_next(struct link_port *port, struct port_input *in);

/* port_neigh.c */
/* As neigh_find(); what it wants to ask is asked. */
enum neigh_way port_neigh_find(struct link_port *port, const uint8_t dst[16],
	uint32_t n_packets, uint8_t mac[ETH_MAC_SIZE]);
/* As neigh_hold(), of a message: virtio-net header and frame, without the frame's MAC. */
void port_neigh_hold(
	struct link_port *port, const uint8_t dst[16], struct neigh_held *held);
/* A frame of ETH_KIND_NEIGHBOUR came in. */
void port_neigh_input(struct link_port *port, const uint8_t *frame, size_t size);

/* port_group.c */
int link_port_join(struct link *link, const uint8_t gid[16]);
void link_port_leave(struct link *link, const uint8_t gid[16]);
bool port_is_member(const struct link_port *port, const uint8_t gid[16]);
/* A frame of ETH_KIND_GROUP came in. */
void port_group_input(struct link_port *port, const uint8_t *frame, size_t size);
/* Those groups that a host is in by itself. */
int port_groups_open(struct link_port *port);
void port_groups_close(struct link_port *port);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of a UDP link: its transmit side (udp_tx.c), its receive side (udp_rx.c);
 * udp.c opens the sockets.
 */
#ifndef RDMA_IO_UDP_PRIV_H
#define RDMA_IO_UDP_PRIV_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "gid.h"
#include "run.h"

#define UDP_TX_SOCKETS	8
#define UDP_RX_BUFFERS	16
#define UDP_BUFFER_SIZE 65536 /* holds any UDP payload, and what GRO makes of many */

struct udp_tx_socket {
	int fd;
	uint16_t port; /* host order */
};

struct udp_tx {
	struct udp_tx_socket socket[UDP_TX_SOCKETS];
	struct run_tx runs;
	union gid_sockaddr to[LINK_BURST]; /* of each message */
	struct {
		_Alignas(struct cmsghdr) char buf[CMSG_SPACE(sizeof(uint16_t))];
	} control[LINK_BURST];
};

/* Where packets come in: the link's own socket, or that of a group (udp_group.c). */
struct udp_rx_socket {
	struct udp_rx_socket *next;
	int fd;
	uint8_t gid[16];       /* what it is bound to */
	uint32_t kernel_drops; /* the socket's counter as last seen */
};

struct udp_rx_buffer {
	union gid_sockaddr from;
	/* GRO's segment size, the count of drops, TOS or traffic class */
	_Alignas(struct cmsghdr) char control[3 * CMSG_SPACE(sizeof(int))];
	uint32_t size;	   /* bytes that the kernel put in */
	uint32_t segment;  /* bytes of each packet in it; the last may be shorter */
	uint32_t consumed; /* bytes handed out so far */
	uint8_t ecn;
	uint8_t gid[16]; /* from */
	uint16_t port;	 /* from, host order */
};

struct udp_rx {
	struct udp_rx_socket own;
	struct udp_rx_socket *groups;
	int epoll_fd;	  /* of all of them; -1 as long as there was no group */
	int n_filled;	  /* buffers that the last receive filled */
	int n_ask;	  /* that the next one asks for */
	int current;	  /* the one being handed out */
	uint8_t dgid[16]; /* of the packets in them */
	struct mmsghdr msg[UDP_RX_BUFFERS];
	struct iovec iov[UDP_RX_BUFFERS];
	struct udp_rx_buffer buffer[UDP_RX_BUFFERS];
	uint8_t *data; /* UDP_RX_BUFFERS of UDP_BUFFER_SIZE */
};

struct link_udp {
	struct link link; /* first, as ops get a pointer to it */
	uint32_t scope;	  /* index of the interface */
	bool is_ipv4;
	struct udp_tx tx;
	struct udp_rx rx;
};

static inline struct link_udp *link_udp(struct link *link)
{
	return (struct link_udp *)link;
}

void link_udp_send(struct link *link, const struct link_burst *burst);
int link_udp_recv(struct link *link, struct link_rx *pkts, int max);

/* udp.c; 0 or negative errno */
int udp_option_set(int fd, int level, int name, int value);
int udp_socket_open(const struct link_udp *udp);
int udp_socket_bind(
	const struct link_udp *udp, int fd, const uint8_t gid[16], uint16_t port);
int udp_rx_options(const struct link_udp *udp, int fd);

/* udp_group.c */
int link_udp_join(struct link *link, const uint8_t gid[16]);
void link_udp_leave(struct link *link, const uint8_t gid[16]);
void udp_groups_close(struct link_udp *udp);
/* The socket to receive from, or NULL: none has a packet. */
struct udp_rx_socket *udp_socket_ready(struct link_udp *udp);

/* Make the buffers ready, once data is there. */
void udp_rx_init(struct udp_rx *rx);

#endif

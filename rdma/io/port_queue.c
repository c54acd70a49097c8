/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packet port's way in where the kernel gives no rings: frames wait in the socket's
 * queue, and one system call fetches up to N_BUFFERS of them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/util.h"
#include "port_priv.h"

/* A burst at 4 KiB path MTU is 256 KiB; some tens of them may wait for a poll. */
#define N_BUFFERS   16
#define QUEUE_BYTES (16 << 20)
/* holds any frame, and what the peer's kernel leaves to be cut up */
#define BUFFER_SIZE (65536 + 64)

struct buffer {
	struct iovec iov;
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint32_t))];
	uint8_t data[BUFFER_SIZE];
};

struct port_queue {
	int n_filled;	       /* buffers that the last receive filled */
	int current;	       /* the next one to be handed out */
	uint32_t kernel_drops; /* the socket's counter as last seen */
	struct mmsghdr msg[N_BUFFERS];
	struct buffer buffer[N_BUFFERS];
};

int port_queue_open(struct link_port *port)
{
	int one = 1, fd, err = 0;

	port->rx.queue = calloc(1, sizeof(*port->rx.queue));
	if (!port->rx.queue)
		return -ENOMEM;
	fd = port_socket_open(port);
	if (fd < 0)
		return fd;
	port->fd = fd;
	port->link.fd = fd;
	port_buffer_grow(fd, SO_RCVBUFFORCE, SO_RCVBUF, QUEUE_BYTES);
	if (setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &one, sizeof(one)) < 0)
		err = -errno;
	return err ? err : port_socket_bind(port, fd);
}

void port_queue_close(struct link_port *port)
{
	if (port->fd >= 0)
		close(port->fd);
	free(port->rx.queue);
}

static void buffers_reset(struct port_queue *queue)
{
	for (int i = 0; i < N_BUFFERS; i++) {
		struct buffer *buf = &queue->buffer[i];

		buf->iov = (struct iovec){buf->data, sizeof(buf->data)};
		queue->msg[i].msg_hdr = (struct msghdr){
			.msg_iov = &buf->iov,
			.msg_iovlen = 1,
			.msg_control = buf->control,
			.msg_controllen = sizeof(buf->control),
		};
	}
}

void port_queue_begin(struct link_port *port, bool keep)
{
	struct port_queue *queue = port->rx.queue;
	int n;

	if (queue->current < queue->n_filled || keep)
		return;
	buffers_reset(queue);
	n = recvmmsg(port->fd, queue->msg, N_BUFFERS, MSG_DONTWAIT, NULL);
	port->link.stats.rx_syscalls++;
	/* Nothing there, or an error as of an interface that goes down. */
	queue->n_filled = MAX(n, 0);
	queue->current = 0;
}

/* The socket's count of frames for which it had no room: of 32 bits, it wraps. */
static void drops_count(struct link_port *port, struct msghdr *hdr)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(hdr);
	uint32_t drops;

	if (!cmsg || cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SO_RXQ_OVFL)
		return;
	memcpy(&drops, CMSG_DATA(cmsg), sizeof(drops));
	port->link.stats.rx_overflow += drops - port->rx.queue->kernel_drops;
	port->rx.queue->kernel_drops = drops;
}

bool port_queue_next(struct link_port *port, struct port_input *in)
{
	struct port_queue *queue = port->rx.queue;
	int i = queue->current;

	if (i == queue->n_filled)
		return false;
	queue->current++;
	drops_count(port, &queue->msg[i].msg_hdr);
	in->data = queue->buffer[i].data;
	in->size = queue->msg[i].msg_len;
	in->is_cut = queue->msg[i].msg_hdr.msg_flags & MSG_TRUNC;
	return true;
}

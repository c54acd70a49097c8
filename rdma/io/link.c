/* SPDX-License-Identifier: BSD-3-Clause */
#include "link_priv.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/util.h"

void link_take_error(const struct pollfd *pfd)
{
	int err;
	socklen_t size = sizeof(err);

	if ((pfd->revents & POLLERR) &&
		getsockopt(pfd->fd, SOL_SOCKET, SO_ERROR, &err, &size) < 0) {
		/* not a socket's */
	}
}

bool link_wait(const struct link *link, int timeout_ms)
{
	struct pollfd fds[] = {
		{.fd = link->fd, .events = POLLIN},
		{.fd = link->more_fd, .events = POLLIN},
	};

	poll(fds, ARRAY_SIZE(fds), timeout_ms);
	link_take_error(&fds[0]);
	link_take_error(&fds[1]);
	return (fds[0].revents | fds[1].revents) & POLLIN;
}

void link_tx_put(const struct link_burst *burst, const struct link_tx *pkt,
	const struct wire_flow *flow, uint16_t ip_id, uint8_t *to)
{
	const struct iovec *iov = &burst->iov[pkt->iov_first];
	const struct iovec *burst_end = &burst->iov[burst->n_iovs];
	uint8_t *p = to + pkt->hdr_len;
	uint32_t crc;

	crc = icrc_begin(flow, ip_id, pkt->hdr, pkt->hdr_len, link_tx_size(pkt));
	memcpy(to, pkt->hdr, pkt->hdr_len);
	for (int i = 0; i < pkt->n_iov; i++, iov++) {
		const void *next = iov + 1 < burst_end ? iov[1].iov_base : NULL;

		crc = icrc_copy(crc, p, iov->iov_base, iov->iov_len, next);
		p += iov->iov_len;
	}
	assert(p == to + pkt->hdr_len + pkt->payload_len);
	memset(p, 0, pkt->pad);
	icrc_end(icrc_add(crc, p, pkt->pad), p + pkt->pad);
}

/* The ICRC of a packet in one piece, all but its last four bytes. */
static void icrc_whole(const struct wire_flow *flow, uint16_t ip_id, const uint8_t *data,
	size_t size, uint8_t icrc[WIRE_ICRC_SIZE])
{
	size_t covered = size - WIRE_ICRC_SIZE;
	uint32_t crc = icrc_begin(flow, ip_id, data, WIRE_BTH_SIZE, size);

	icrc_end(icrc_add(crc, data + WIRE_BTH_SIZE, covered - WIRE_BTH_SIZE), icrc);
}

void link_icrc_write(
	const struct wire_flow *flow, uint16_t ip_id, uint8_t *data, size_t size)
{
	icrc_whole(flow, ip_id, data, size, data + size - WIRE_ICRC_SIZE);
}

bool link_icrc_ok(
	const struct wire_flow *flow, uint16_t ip_id, const uint8_t *data, size_t size)
{
	uint8_t icrc[WIRE_ICRC_SIZE];

	icrc_whole(flow, ip_id, data, size, icrc);
	return !memcmp(icrc, data + size - WIRE_ICRC_SIZE, sizeof(icrc));
}

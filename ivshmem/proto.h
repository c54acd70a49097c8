/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One message of the ivshmem client-server protocol, version 0, as QEMU's
 * ivshmem-doorbell has spoken it since 2.6: encode, decode, and pass over a UNIX stream
 * socket. The exchange is server.h's. Reference: QEMU docs/specs/ivshmem-spec, "The
 * ivshmem Client-Server Protocol"; docs/ivshmem.md section 2.
 *
 *   0               8 bytes                 with SCM_RIGHTS
 *   +---------------------------------+     +------------------+
 *   |  number, signed, little-endian  |  +  | 0 or 1 descriptor|
 *   +---------------------------------+     +------------------+
 *
 *   the first message   0         protocol version
 *   the second message  0..65535  the client's own ID
 *   afterwards          -1   + fd the shared memory
 *                       ID   + fd one vector of that peer (or of the client itself);
 *                                 the n-th of an ID is vector n - 1
 *                       ID        that peer is gone
 */
#ifndef IVSHMEM_PROTO_H
#define IVSHMEM_PROTO_H

#include <stdint.h>
#include <sys/types.h>

#define PROTO_MSG_SIZE 8
#define PROTO_VERSION  0
#define PROTO_MEMORY   (-1)
#define PROTO_ID_MAX   65535 /* the doorbell register has 16 bits for it */

void proto_encode(uint8_t buf[PROTO_MSG_SIZE], int64_t number);
int64_t proto_decode(const uint8_t buf[PROTO_MSG_SIZE]);

/** proto_send() - send one message without waiting
 * @sock: borrowed; a connected UNIX stream socket
 * @fd:   borrowed; goes with the message, -1 for none
 * Return: 0, -EAGAIN when the socket takes no more for now, another negative errno
 */
int proto_send(int sock, int64_t number, int fd);

#endif

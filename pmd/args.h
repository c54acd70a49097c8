/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The arguments of a net_vrdma device, as they come in --vdev or dpdk-devargs:
 *
 *   device=udp|auto|NAME  the ibv device of that name, or the userspace device, or (the
 *                         default) the ibv device that has the local address, if there is
 *                         one, else the userspace device
 *   local=ADDRESS         own address, IPv4 or IPv6; required
 *   peer=PEER             a node to connect to: ADDRESS, IPV4:PORT or [IPV6]:PORT;
 *                         repeatable
 *   key=FILE              peers must prove that they have the key in this file
 *   hello_port=PORT       TCP port of the hello protocol; also the peers' default
 *   node=NAME             own name, as others show it; default: the host's name
 *   mac=ADDRESS           the port's own; default: made from the local address
 *   mtu=BYTES             MTU until the application sets another
 *   rxbufs=N              receive buffers of 64 KiB
 *   txq_size=N            messages in flight to each peer
 */
#ifndef PMD_ARGS_H
#define PMD_ARGS_H

#include <stddef.h>
#include <stdint.h>

#define ARGS_PEERS_MAX	  1024
#define ARGS_ADDRESS_SIZE 64
#define ARGS_NAME_SIZE	  64
#define ARGS_NODE_SIZE	  32
#define ARGS_PATH_SIZE	  1024

#define ARGS_MTU_DEFAULT  1500
#define ARGS_RXBUFS	  512
#define ARGS_RXBUFS_MIN	  32
#define ARGS_RXBUFS_MAX	  16384
#define ARGS_TXQ_SIZE	  256
#define ARGS_TXQ_SIZE_MIN 32
#define ARGS_TXQ_SIZE_MAX 4096

struct args_peer {
	char address[ARGS_ADDRESS_SIZE];
	uint16_t port; /* 0: hello_port */
};

struct args {
	char device[ARGS_NAME_SIZE];
	char local[ARGS_ADDRESS_SIZE];
	char key[ARGS_PATH_SIZE]; /* empty: none */
	char node[ARGS_NODE_SIZE];
	uint8_t mac[6];
	uint16_t hello_port; /* 0: the protocol's default */
	uint16_t mtu;
	uint32_t rxbufs;
	uint32_t txq_size; /* power of two */
	struct args_peer *peers;
	uint32_t n_peers;
};

/** args_parse() - read and check all arguments
 * @text: borrowed; may be NULL or empty
 * @err:  at least @err_size bytes; a sentence that names the argument, when it failed
 * Return: 0 and @args, to be freed with args_free(); or -EINVAL or -ENOMEM
 */
int args_parse(const char *text, struct args *args, char *err, size_t err_size);
void args_free(struct args *args);

#endif

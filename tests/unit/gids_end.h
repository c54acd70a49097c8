/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What tests of devices with several addresses share: interfaces, and what programs see
 * of the GID table. What fails ends the test.
 */
#ifndef TESTS_UNIT_GIDS_END_H
#define TESTS_UNIT_GIDS_END_H

#include "verbs_end.h"

#define WAIT_MS 10000 /* never reached */

/* v0's addresses, in the order of a table of all; one that may come, too */
#define FIRST  "10.88.0.1"
#define SECOND "10.88.1.1"
#define THIRD  "fd88::1"
#define LOCAL  "fe80::8888"
#define COMES  "10.88.2.1"
#define IP_ADD "ip addr add "
#define IP_DEL "ip addr del "

/* For own_net(): v0 with these, and its peer v1 without any. */
#define GIDS_NET                                                      \
	"ip link set lo up && "                                       \
	"ip link add v0 mtu 9000 type veth peer name v1 mtu 9000 && " \
	"sysctl -qw net.ipv6.conf.v0.addr_gen_mode=1 "                \
	"net.ipv6.conf.v1.addr_gen_mode=1 && "                        \
	"ip link set v0 up && ip link set v1 up && "                  \
	"ip addr add " FIRST "/24 dev v0 && "                         \
	"ip addr add " SECOND "/24 dev v0 && "                        \
	"ip addr add " THIRD "/64 dev v0 nodad && "                   \
	"ip addr add " LOCAL "/64 dev v0 nodad"

union ibv_gid gids_of(const char *addr);
/* @addr: NULL: the entry is empty */
void gids_expect(struct ibv_context *ctx, uint32_t index, const char *addr);
/* The next event, which must be there soon. */
void gids_expect_change(struct ibv_context *ctx);
uint64_t gids_counter(struct ibv_context *ctx, const char *name);
/* NULL and errno if it can't be made. */
struct ibv_ah *gids_make_ah(struct ibv_pd *pd, uint8_t index, const char *to);

#endif

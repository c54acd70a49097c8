/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two UDP links in a network namespace of the test's own, and a burst of packets, the
 * sample, that goes from one to the other.
 */
#ifndef TESTS_UNIT_LINK_PAIR_H
#define TESTS_UNIT_LINK_PAIR_H

#include "rdma/io/gid.h"
#include "rdma/io/udp.h"

#define PAYLOAD_MAX 4096

struct pair {
	const char *addr[2];
	struct link *link[2];
};

/* One burst, and what each of its packets must look like when it arrives. */
struct sample {
	struct link_burst burst;
	uint8_t expected[LINK_BURST][WIRE_HDR_MAX + PAYLOAD_MAX + 3];
	uint32_t size[LINK_BURST];
};

extern struct sample sample;
extern uint32_t sample_next_psn;

/* Enter a network namespace with these addresses:
 * lo      127.0.0.0/8, fd00::1, fd00::2
 * groups  10.9.9.1, fd01::1, fd01::2; a tunnel, as the loopback interface carries no
 *         groups over IPv6
 * Return: 0, or the status of a test that can't run
 */
int pair_network(void);
void pair_open(struct pair *pair);
void pair_close(struct pair *pair);
/* Until packets are there. */
void pair_wait(const struct link *link);

/* All that link 0 sent has come to link 1, and nothing was wrong with it. */
void pair_check_counters(const struct pair *pair);

/* rand() with a fixed seed: the same packets in every run */
uint32_t sample_random(uint32_t n);
void sample_clear(void);
/* Add a packet with @size bytes of payload in up to @pieces pieces. */
void sample_add(const struct link *to, uint8_t opcode, uint32_t size, uint32_t pieces,
	uint16_t sport_hash);
/* Receive the sample at @to, at most @max packets a call. */
void sample_check(struct link *from, struct link *to, int max);
/* From link 0 to link 1. */
void sample_send(struct pair *pair, int max);

#endif

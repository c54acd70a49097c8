/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Processes that ask a directory whatever an input says, in its words or in none, with
 * descriptors of all kinds. For fuzz_ivshmem_sockets.c and fuzz_vrdma_guest.c.
 */
#ifndef TESTS_FUZZ_DIR_CLIENTS_H
#define TESTS_FUZZ_DIR_CLIENTS_H

#include <stdint.h>

#include "ivshmem/dirproto.h"

/* The rest of an input; at its end there are zeros. */
struct input {
	const uint8_t *at, *end;
};

static inline uint8_t take(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

/** dir_clients_begin() - nobody has connected; @path: the directory's socket */
void dir_clients_begin(const char *path);

/** dir_clients_step() - one of them does something; what is an input's word */
void dir_clients_step(struct input *in);

/** dir_clients_read() - they take their answers, which are judged
 * @memory: bytes in the file, for memory that isn't the connection's alone
 */
void dir_clients_read(uint64_t memory);

void dir_clients_end(void);

/** dir_clients_play() - one input: they and somebody else in turn, until all have ended
 * @other: the other's step
 * @serve: what they talk to does what there is to do
 * @read:  all take what they were told
 */
void dir_clients_play(struct input in, void (*other)(struct input *in),
	void (*serve)(void), void (*read)(void));

/** address_take() - one of those that make sense somewhere */
struct dir_addr address_take(struct input *in);

/** size_take() - of a channel */
uint64_t size_take(struct input *in);

#endif

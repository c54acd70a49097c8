/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Steps that move many bytes: a pattern, so that both ends know what is right without
 * talking. How the stream is cut into calls is not an observable; its bytes are.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "lib/util.h"
#include "tests/conform/conform.h"

#define PIECE 65536

static uint8_t pattern(uint64_t at, unsigned seed)
{
	return (uint8_t)((at * 2654435761u >> 13) + seed);
}

static void pattern_fill(uint8_t *buf, uint64_t at, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		buf[i] = pattern(at + i, seed);
}

/* sendall SLOT SIZE SEED: until all is sent or a call fails */
static void op_sendall(struct call *c)
{
	uint8_t buf[PIECE];
	uint64_t size = (uint64_t)number(c->argv[2]), at = 0, before;
	unsigned seed = (unsigned)number(c->argv[3]);
	int fd = slot_fd(c->argv[1]);
	ssize_t n = 0;

	while (at < size) {
		size_t want = MIN(size - at, sizeof(buf));

		pattern_fill(buf, at, want, seed);
		before = meter_begin(fd);
		n = send(fd, buf, want, 0);
		meter_end(c, fd, before, n);
		if (n < 0)
			break;
		at += (size_t)n;
	}
	say(c, " sent %lu", (unsigned long)at);
	if (n < 0)
		say_result(c, -1);
}

/* recvall SLOT SIZE SEED: until all is there, the end, or an error; -1: any size */
static void op_recvall(struct call *c)
{
	uint8_t buf[PIECE];
	uint64_t size = (uint64_t)number(c->argv[2]), at = 0, n_wrong = 0;
	unsigned seed = (unsigned)number(c->argv[3]);
	ssize_t n = 1;

	while (at < size && n > 0) {
		n = read(slot_fd(c->argv[1]), buf, MIN(size - at, sizeof(buf)));
		for (ssize_t i = 0; i < n; i++)
			n_wrong += buf[i] != pattern(at + (size_t)i, seed);
		at += n > 0 ? (size_t)n : 0;
	}
	say(c, " got %s, %lu wrong", at == size ? "all" : "less", (unsigned long)n_wrong);
	if (n < 0)
		say_result(c, -1);
	if (n == 0)
		say(c, " end");
}

/* fill SLOT SEED VARIABLE: write until that would block; how much is up to the system */
static void op_fill(struct call *c)
{
	uint8_t buf[PIECE];
	unsigned seed = (unsigned)number(c->argv[2]);
	int fd = slot_fd(c->argv[1]);
	uint64_t at = 0, before;
	ssize_t n;

	do {
		pattern_fill(buf, at, sizeof(buf), seed);
		before = meter_begin(fd);
		n = send(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL);
		meter_end(c, fd, before, n);
		at += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	say_result(c, n);
	say(c, at ? " some" : " none");
	set_var(c, c->argv[3], (int64_t)at);
}

/* file SLOT SIZE SEED: a file with the pattern in it */
static void op_file(struct call *c)
{
	size_t size = (size_t)number(c->argv[2]);
	int fd = memfd_create("conform", 0);
	uint8_t *map;

	if (fd < 0 || ftruncate(fd, (off_t)size))
		bad_scenario("memfd", c->argv[1]);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	pattern_fill(map, 0, size, (unsigned)number(c->argv[3]));
	munmap(map, size);
	slot_set(c->argv[1], fd);
}

/* sendfile OUT IN OFFSET SIZE; OFFSET "-": from where the file stands */
static void op_sendfile(struct call *c)
{
	bool own = !strcmp(c->argv[3], "-");
	off_t offset = own ? 0 : (off_t)number(c->argv[3]);
	int out = slot_fd(c->argv[1]), in = slot_fd(c->argv[2]);
	uint64_t before = meter_begin(out);
	ssize_t n = sendfile(out, in, own ? NULL : &offset, (size_t)number(c->argv[4]));

	meter_end(c, out, before, n);
	say_result(c, n);
	say(c, " offset=%ld stands=%ld", own ? -1L : (long)offset,
		(long)lseek(in, 0, SEEK_CUR));
}

/* splice IN OUT SIZE FLAGS */
static void op_splice(struct call *c)
{
	int in = slot_fd(c->argv[1]), out = slot_fd(c->argv[2]);
	uint64_t before = meter_begin(out);
	ssize_t n = splice(in, NULL, out, NULL, (size_t)number(c->argv[3]),
		(unsigned)number(c->argv[4]));

	meter_end(c, out, before, n);
	say_result(c, n);
}

const struct op bulk_ops[] = {
	{"sendall", op_sendall, 3},
	{"recvall", op_recvall, 3},
	{"fill", op_fill, 3},
	{"file", op_file, 3},
	{"sendfile", op_sendfile, 4},
	{"splice", op_splice, 4},
	{NULL, NULL, 0},
};

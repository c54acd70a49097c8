/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The conformance tool: executes a scenario of socket calls and logs everything that a
 * program can observe of them. The same scenario is executed with and without the socket
 * shim; logs that differ show what the shim does differently (judge.py compares).
 *
 * A scenario is a script, one step per line, in one total order. The *conductor*
 * (conductor.c) reads it and has each step executed by the *lane* that it names: A and B
 * are processes of their own, further lanes are their threads or forked children. The
 * conductor waits for the end of a step before the next, except for steps that are begun
 * only ("A& recv ..."), so all is deterministic although several processes take part.
 *
 * The lanes (actor.c) are served over socket pairs of the UNIX kind, which no shim
 * touches. The calls themselves are in ops_*.c, symbolic constants in names.c.
 *
 * README.md describes the language.
 */
#ifndef CONFORM_H
#define CONFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

#define N_LANES	      8	  /* A to H */
#define LANE_FD	      200 /* the actors' end of lane A; then B, ... */
#define TEXT_MAX      4096
#define ARGS_MAX      64
#define VAR_NAME_SIZE 16
#define PATIENCE_ENV  "CONFORM_PATIENCE_MS"

enum reply_kind {
	REPLY_HELLO, /* the lane is there */
	REPLY_BEGIN, /* the step has been begun */
	REPLY_DONE,  /* this came out of it */
};

/* From an actor to the conductor, for each step. */
struct reply {
	uint32_t kind;
	int32_t pid, tid;
	uint32_t n_ring,
		n_kernel;	 /* successful sends: past the kernel's TCP, through it */
	char var[VAR_NAME_SIZE]; /* set this variable, if it has a name */
	int64_t value;
	char text[TEXT_MAX];
};

/* One step, as an op sees it. */
struct call {
	int argc;
	char **argv; /* argv[0] names the op */
	size_t len;  /* of reply.text so far */
	struct reply *reply;
};

struct op {
	const char *name;
	void (*run)(struct call *c);
	int n_min; /* arguments at least */
};

/* Each ends with an op without a name. */
extern const struct op process_ops[], socket_ops[], data_ops[], bulk_ops[], wait_ops[],
	fd_ops[], child_ops[], pass_ops[];

/* -- actor.c */

/** actor_main() - serve the lane @lane; the slots come from the environment. No return.
 */
void actor_main(int lane);

/** slot_fd() - the descriptor that the scenario calls @name, "-" is -1; dies if unknown
 */
int slot_fd(const char *name);
void slot_set(const char *name, int fd);
/** slot_name() - what the scenario calls descriptor number @fd */
const char *slot_name(int fd);

/** say() - add to the step's log */
void say(struct call *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** say_result() - what a call returned: the number, or -1 and errno's name */
void say_result(struct call *c, ssize_t rc);
/** say_bytes() - @n bytes: themselves if they are few, else a hash */
void say_bytes(struct call *c, const void *buf, size_t n);
/** set_var() - the scenario can name @value "$name" from now on */
void set_var(struct call *c, const char *name, int64_t value);

/** patience_ms() - how long to wait for what is sure to come; only failures take it */
int patience_ms(void);

/** bad_scenario() - the script is wrong; ends the process */
void bad_scenario(const char *what, const char *which) __attribute__((noreturn));

/* -- names.c */

/** number() - the value of "12", "0x1f", "POLLIN|POLLOUT", ...; dies if unknown */
int64_t number(const char *text);
/** flag_names() - the bits of @value that begin with @prefix, as text in @buf */
const char *flag_names(char *buf, size_t size, const char *prefix, uint64_t value);
/** constant_name() - the constant of that value whose name begins with @prefix */
const char *constant_name(const char *prefix, int64_t value);

/** address_parse() - "127.0.0.1", "::1", "unspec" and a port; returns the length */
socklen_t address_parse(struct sockaddr_storage *to, const char *text, const char *port);
/** say_address() - the address, with its port marked for the conductor */
void say_address(struct call *c, const struct sockaddr *addr, socklen_t len);

/* -- meter.c */

/* Fewer bytes may be those by which the shim wakes the other end: they prove nothing. */
#define METER_TELLING 8

/** meter_begin(), meter_end() - around a send of @fd: was it the kernel's TCP that
 * took the @n bytes? Counts the answer in the reply.
 */
uint64_t meter_begin(int fd);
void meter_end(struct call *c, int fd, uint64_t before, ssize_t n);

#endif

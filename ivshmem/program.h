/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What our services' programs have in common: they run in the foreground, until SIGTERM
 * or SIGINT, and SIGUSR1 makes them write their state.
 */
#ifndef IVSHMEM_PROGRAM_H
#define IVSHMEM_PROGRAM_H

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

enum program_signal {
	PROGRAM_GO_ON,
	PROGRAM_STATUS,
	PROGRAM_END,
};

extern const char program_name[]; /* the program's */

/** program_die() - say why, after the program's name, and exit with @code */
void program_die(int code, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 2, 3)));

/** program_signals() - take them as readable events from now on; Return: what to poll */
int program_signals(void);

/** program_signal() - the next that came */
enum program_signal program_signal(int fd);

/** program_raise_fd_limit() - have as many descriptors as we may */
void program_raise_fd_limit(void);

#endif

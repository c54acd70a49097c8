/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The library's begin, and fork().
 */
#include <pthread.h>

#include "conn.h"
#include "dirclient.h"
#include "fdtab.h"
#include "real.h"
#include "setup.h"
#include "wait.h"

static void fork_prepare(void)
{
	dirclient_fork_lock(true);
	conn_hold_all(1);
}

static void fork_parent(void)
{
	dirclient_fork_lock(false);
}

static void fork_child(void)
{
	lock_forked();
	dirclient_fork_lock(false);
	dirclient_forked();
	setup_forked();
}

EXPORT pid_t fork(void)
{
	pid_t pid = real.fork();

	if (pid < 0)
		conn_hold_all(-1u);
	return pid;
}

static void __attribute__((constructor(101))) begin(void)
{
	real_init();
	fdtab_init();
	wait_init();
	dirclient_init();
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

static void __attribute__((destructor(101))) end(void)
{
	conn_leave_all();
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The library's begin, and fork().
 */
#include <pthread.h>
#include <unistd.h>

#include "conn.h"
#include "dirclient.h"
#include "exec.h"
#include "fdtab.h"
#include "real.h"
#include "setup.h"
#include "wait.h"

static void fork_prepare(void)
{
	conn_settle_all();
	setup_fork_lock(true);
	dirclient_fork_lock(true);
	conn_hold_all(1);
}

static void fork_parent(void)
{
	dirclient_fork_lock(false);
	setup_fork_lock(false);
}

static void fork_child(void)
{
	lock_forked();
	dirclient_fork_lock(false);
	setup_fork_lock(false);
	dirclient_forked();
	setup_forked();
	conn_forked();
}

EXPORT pid_t fork(void)
{
	pid_t pid = real.fork();

	if (pid < 0)
		conn_hold_all(-1u);
	return pid;
}

/* A child that shares our memory would change our tables as it closes and copies its
 * descriptors. POSIX lets vfork() be fork().
 */
EXPORT pid_t vfork(void)
{
	return fork();
}

/* The first constructor of all (meson.build), so libc has not got its environment yet. */
static void __attribute__((constructor(101))) begin(int argc, char **argv, char **envp)
{
	if (!environ)
		environ = envp;
	real_init();
	fdtab_init();
	wait_init();
	dirclient_init();
	exec_adopt();
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

static void __attribute__((destructor(101))) end(void)
{
	conn_leave_all();
}

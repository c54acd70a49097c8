/* SPDX-License-Identifier: BSD-3-Clause */
#include "dirclient.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "fdtab.h"
#include "lib/fdmsg.h"
#include "real.h"

#define REGION_VARIABLE "VRDMA_REGION"
#define RETRY_NS	NSEC_PER_SEC

static struct sockaddr_un server = {.sun_family = AF_UNIX};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int sock = -1;
static _Atomic uint32_t session;
static uint64_t failed_ns; /* when the last attempt to connect failed; 0: it did not */

void dirclient_init(void)
{
	const char *path = getenv(REGION_VARIABLE);

	if (path && *path && strlen(path) + sizeof(DIR_SUFFIX) <= sizeof(server.sun_path))
		snprintf(server.sun_path, sizeof(server.sun_path), "%s" DIR_SUFFIX, path);
}

bool dirclient_is_on(void)
{
	return server.sun_path[0] != '\0' && fdtab;
}

uint32_t dirclient_session(void)
{
	return atomic_load(&session);
}

static void drop(void)
{
	if (sock >= 0)
		fdtab_release(sock);
	sock = -1;
}

void dirclient_forked(void)
{
	drop();
}

void dirclient_fork_lock(bool take)
{
	if (take)
		pthread_mutex_lock(&mutex);
	else
		pthread_mutex_unlock(&mutex);
}

static int transmit(const struct dir_request *request, const int *fds, int n_fds)
{
	union fdmsg control;
	struct iovec iov = {(void *)request, sizeof(*request)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	fdmsg_put(&msg, &control, fds, n_fds);
	if (real.sendmsg(sock, &msg, MSG_NOSIGNAL) != sizeof(*request))
		return -ENOTCONN;
	return 0;
}

static int receive(struct dir_reply *reply, int *out_fds)
{
	union fdmsg control;
	int fds[FDMSG_MAX], n;
	struct iovec iov = {reply, sizeof(*reply)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	for (int i = 0; i < DIR_REPLY_FDS_MAX; i++)
		out_fds[i] = -1;
	fdmsg_expect(&msg, &control);
	if (real.recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != sizeof(*reply))
		return -EPIPE;
	n = fdmsg_take(&msg, fds);
	while (n > DIR_REPLY_FDS_MAX)
		real.close(fds[--n]);
	memcpy(out_fds, fds, (size_t)n * sizeof(int));
	return reply->error;
}

static int exchange(struct dir_request *request, const int *fds, int n_fds,
	struct dir_reply *reply, int *out_fds)
{
	int rc;

	request->version = DIR_VERSION;
	rc = transmit(request, fds, n_fds);
	return rc ? rc : receive(reply, out_fds);
}

static int join(void)
{
	struct dir_request hello = {.op = DIR_HELLO};
	struct dir_reply reply;
	int fd, none[DIR_REPLY_FDS_MAX];

	if (failed_ns && now_ns() - failed_ns < RETRY_NS)
		return -ENOTCONN;
	fd = real.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		sock = fdtab_protect(fd);
	if (sock >= 0 &&
		!real.connect(sock, (struct sockaddr *)&server, sizeof(server)) &&
		!exchange(&hello, NULL, 0, &reply, none)) {
		failed_ns = 0;
		atomic_fetch_add(&session, 1);
		return 0;
	}
	failed_ns = now_ns();
	drop();
	return -ENOTCONN;
}

static int ask_locked(struct dir_request *request, const int *fds, int n_fds,
	struct dir_reply *reply, int *out_fds)
{
	bool was_joined = sock >= 0;
	int rc = was_joined ? 0 : join();

	if (!rc)
		rc = exchange(request, fds, n_fds, reply, out_fds);
	if (rc != -ENOTCONN && rc != -EPIPE)
		return rc;
	drop();
	/* Another directory may be there by now. But if the one before has heard that
	 * a connection was accepted, it may have acted on that.
	 */
	if (!was_joined || (rc == -EPIPE && request->op == DIR_ACCEPT))
		return rc;
	return join() ? -ENOTCONN : exchange(request, fds, n_fds, reply, out_fds);
}

int dirclient_ask(struct dir_request *request, const int *fds, int n_fds,
	struct dir_reply *reply, int *out_fds)
{
	sigset_t all, before;
	int got[DIR_REPLY_FDS_MAX] = {-1, -1}, rc;

	/* A handler that asks would wait for this thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_mutex_lock(&mutex);
	rc = ask_locked(request, fds, n_fds, reply, got);
	pthread_mutex_unlock(&mutex);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	for (int i = 0; i < DIR_REPLY_FDS_MAX; i++) {
		if (out_fds)
			out_fds[i] = got[i];
		else if (got[i] >= 0)
			real.close(got[i]);
	}
	return rc;
}

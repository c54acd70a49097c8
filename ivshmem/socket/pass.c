/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections that go to another process with a message (SCM_RIGHTS), over a UNIX socket.
 *
 * With a connection go, behind the program's descriptors, its ring's, that of the table
 * of connections, and a note of what is what. The receiver's shim has room for them,
 * takes them off and joins the sender's family (family.h), if it has no other: one that
 * has connections of its own already belongs to those, and the connection ends there.
 *
 * Who has the table can do anything to all connections in it, and to their processes. So
 * it's taken only from the same user.
 */
#include "pass.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conn.h"
#include "dirclient.h"
#include "family.h"
#include "real.h"

#define FILE_NAME "vrdma-pass"
#define MAGIC	  0x70617373u
#define FDS_MAX	  253 /* the kernel's limit, for one message */

/* One connection; positions are among all descriptors of the message. */
struct passed {
	int32_t at;
	int32_t memory_at[2]; /* as conn_local.memory_fd; -1: none */
	struct fdent e;
};

struct note {
	uint32_t magic;
	uint32_t n;	   /* connections */
	int32_t n_program; /* descriptors that are the program's */
	int32_t arena_at;
	struct passed passed[FDS_MAX];
};

static int fds_in(const struct cmsghdr *h)
{
	if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
		return 0;
	return (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
}

/* -- sending */

/* What goes along. */
struct luggage {
	struct note note;
	int fds[FDS_MAX];
	int n;
};

static int pack_fd(struct luggage *l, int fd)
{
	if (fd < 0)
		return -1;
	if (l->note.n_program + l->n < FDS_MAX)
		l->fds[l->n] = fd;
	return l->note.n_program + l->n++;
}

static void note_conn(struct luggage *l, int at, int fd)
{
	struct fdent e = fdtab_get(fd);

	if (e.kind != FD_CONN || l->note.n == FDS_MAX)
		return;
	conn_settle(&conns[e.index], fd);
	if (conn_state(&conns[e.index]) == CONN_KERNEL)
		return;
	l->note.passed[l->note.n++] = (struct passed){.at = at, .e = e};
}

/* Which of the program's descriptors are connections? */
static void note_program(struct luggage *l, const struct msghdr *msg)
{
	struct cmsghdr *h;
	int fd;

	for (h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR((struct msghdr *)msg, h)) {
		for (int i = 0; i < fds_in(h); i++) {
			memcpy(&fd, CMSG_DATA(h) + (size_t)i * sizeof(fd), sizeof(fd));
			note_conn(l, l->note.n_program++, fd);
		}
	}
}

/* Return: the note's file, or -1 */
static int pack(struct luggage *l)
{
	struct note *note = &l->note;
	int file = memfd_create(FILE_NAME, MFD_CLOEXEC);

	note->magic = MAGIC;
	for (uint32_t i = 0; i < note->n; i++) {
		struct passed *p = &note->passed[i];

		for (int k = 0; k < 2; k++)
			p->memory_at[k] =
				pack_fd(l, conn_locals[p->e.index].memory_fd[k]);
	}
	note->arena_at = pack_fd(l, conn_arena_fd());
	pack_fd(l, file);
	if (note->n_program + l->n <= FDS_MAX &&
		real.write(file, note, sizeof(*note)) == sizeof(*note))
		return file;
	if (file >= 0)
		real.close(file);
	errno = EINVAL; /* too many */
	return -1;
}

/* As many processes more have them, until who takes them says that it's the one. */
static void hold(const struct note *note, bool on)
{
	for (uint32_t i = 0; i < note->n; i++)
		conn_hold(note->passed[i].e.index, on);
}

static ssize_t send_with(
	int fd, const struct msghdr *msg, int flags, const struct luggage *l)
{
	size_t own = CMSG_ALIGN(msg->msg_controllen), size = (size_t)l->n * sizeof(int);
	struct msghdr more = *msg;
	struct cmsghdr *h;
	ssize_t n;

	more.msg_controllen = own + CMSG_SPACE(size);
	more.msg_control = calloc(1, more.msg_controllen);
	if (!more.msg_control)
		return -1;
	memcpy(more.msg_control, msg->msg_control, msg->msg_controllen);
	h = (struct cmsghdr *)((char *)more.msg_control + own);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(h), l->fds, size);
	n = real.sendmsg(fd, &more, flags);
	free(more.msg_control);
	return n;
}

static ssize_t send_luggage(
	int fd, const struct msghdr *msg, int flags, struct luggage *l)
{
	int file = pack(l), saved;
	ssize_t n;

	if (file < 0)
		return -1;
	hold(&l->note, true);
	n = send_with(fd, msg, flags, l);
	saved = errno;
	if (n < 0)
		hold(&l->note, false);
	real.close(file);
	errno = saved;
	return n;
}

ssize_t pass_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct luggage *l;
	ssize_t n;

	if (likely(!conns || !msg || !msg->msg_control || !msg->msg_controllen))
		return real.sendmsg(fd, msg, flags);
	l = calloc(1, sizeof(*l));
	if (!l)
		return -1;
	note_program(l, msg);
	n = l->note.n ? send_luggage(fd, msg, flags, l) : real.sendmsg(fd, msg, flags);
	free(l);
	return n;
}

/* -- receiving */

static bool is_unix(int fd)
{
	int domain = 0;
	socklen_t len = sizeof(domain);

	return !real.getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) &&
	       domain == AF_UNIX;
}

/* Was it made by our user? A socket's credentials are of who made the socket, who may
 * have other rights than who sends.
 */
static bool is_of_our_user(int file)
{
	struct stat st;

	return !fstat(file, &st) && st.st_uid == geteuid();
}

/* Return: is the last of them a note? */
static bool note_read(struct note *note, const int *fds, int n)
{
	static const char name[] = "/memfd:" FILE_NAME " (deleted)";
	char path[64], target[64];

	if (n < 1)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[n - 1]);
	return readlink(path, target, sizeof(target)) == sizeof(name) - 1 &&
	       !memcmp(target, name, sizeof(name) - 1) &&
	       pread(fds[n - 1], note, sizeof(*note), 0) == sizeof(*note) &&
	       note->magic == MAGIC && note->n <= FDS_MAX && note->n_program >= 0 &&
	       note->n_program < n && note->arena_at >= note->n_program &&
	       note->arena_at < n;
}

static bool is_sound(const struct passed *p, const struct note *note, int n)
{
	return p->at >= 0 && p->at < note->n_program &&
	       p->memory_at[0] >= note->n_program && p->memory_at[0] < n &&
	       p->memory_at[1] < n &&
	       (p->memory_at[1] < 0 || p->memory_at[1] >= note->n_program) &&
	       p->e.kind == FD_CONN && p->e.index < CONNS_MAX &&
	       atomic_load(&conns[p->e.index].generation) == p->e.generation;
}

static bool unpack_one(const struct passed *p, const int *fds, bool peek)
{
	int memory_fd[2] = {-1, -1}, copy;

	for (int i = 0; i < 2; i++) {
		if (p->memory_at[i] < 0)
			continue;
		copy = real.fcntl64(fds[p->memory_at[i]], F_DUPFD_CLOEXEC, 0);
		memory_fd[i] = copy < 0 ? -1 : fdtab_protect(copy);
	}
	/* What is only looked at will come again. */
	if (peek)
		conn_hold(p->e.index, true);
	return conn_take_over(fds[p->at], p->e, memory_fd);
}

/* Return: how many of the @n are the program's; the others are closed */
static int unpack(const int *fds, int n, bool peek)
{
	struct note note;
	bool ours;

	if (!note_read(&note, fds, n))
		return n;
	ours = is_of_our_user(fds[n - 1]) && is_of_our_user(fds[note.arena_at]) &&
	       conn_join_arena(fds[note.arena_at]);
	for (uint32_t i = 0; i < note.n; i++) {
		const struct passed *p = &note.passed[i];

		if (ours && is_sound(p, &note, n) && unpack_one(p, fds, peek))
			continue;
		/* Better an end than silence. */
		if (p->at >= 0 && p->at < n)
			real.shutdown(fds[p->at], SHUT_RDWR);
	}
	for (int i = note.n_program; i < n; i++)
		family_close(fds[i]);
	return note.n_program;
}

/* The program's buffer for control messages, as far as it is full. */
struct out {
	char *at;
	size_t left;
	bool truncated;
};

/* As the kernel does it, also if there's no room for all. */
static void put(struct out *out, const struct cmsghdr *h, const void *data, size_t size)
{
	struct cmsghdr to = *h;
	size_t used;

	if (out->left < sizeof(to)) {
		out->truncated = true;
		return;
	}
	if (CMSG_LEN(size) > out->left) {
		out->truncated = true;
		size = out->left - CMSG_LEN(0);
	}
	to.cmsg_len = CMSG_LEN(size);
	memcpy(out->at, &to, sizeof(to));
	memcpy(out->at + CMSG_LEN(0), data, size);
	used = MIN(CMSG_SPACE(size), out->left);
	out->at += used;
	out->left -= used;
}

static void put_fds(struct out *out, const struct cmsghdr *h, bool peek)
{
	int fds[FDS_MAX], n = MIN(fds_in(h), FDS_MAX), room;

	memcpy(fds, CMSG_DATA(h), (size_t)n * sizeof(int));
	n = unpack(fds, n, peek);
	room = out->left < CMSG_LEN(0) ? 0
				       : (int)MIN((out->left - CMSG_LEN(0)) / sizeof(int),
						 (size_t)FDS_MAX);
	if (room)
		put(out, h, fds, (size_t)MIN(n, room) * sizeof(int));
	out->truncated |= n > room;
	while (n > room)
		close(fds[--n]);
}

static void deliver(struct msghdr *msg, const struct msghdr *got, bool peek)
{
	struct out out = {.at = msg->msg_control, .left = msg->msg_controllen};
	struct cmsghdr *h;

	for (h = CMSG_FIRSTHDR(got); h; h = CMSG_NXTHDR((struct msghdr *)got, h)) {
		if (fds_in(h))
			put_fds(&out, h, peek);
		else
			put(&out, h, CMSG_DATA(h), h->cmsg_len - CMSG_LEN(0));
	}
	msg->msg_controllen -= out.left;
	msg->msg_namelen = got->msg_namelen;
	msg->msg_flags = got->msg_flags | (out.truncated ? MSG_CTRUNC : 0);
}

ssize_t pass_recvmsg(int fd, struct msghdr *msg, int flags)
{
	struct msghdr own;
	ssize_t n;

	if (likely(!msg || !msg->msg_control || !msg->msg_controllen ||
		    !dirclient_is_on() || !is_unix(fd)))
		return real.recvmsg(fd, msg, flags);
	own = *msg;
	own.msg_controllen += CMSG_SPACE(FDS_MAX * sizeof(int));
	own.msg_control = malloc(own.msg_controllen);
	if (!own.msg_control)
		return -1;
	n = real.recvmsg(fd, &own, flags);
	if (n >= 0)
		deliver(msg, &own, flags & MSG_PEEK);
	free(own.msg_control);
	return n;
}

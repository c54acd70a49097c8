/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Streams on connections. libc's own reads and writes go past us, so such a stream is
 * made of functions (fopencookie()) that call ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fdtab.h"
#include "real.h"

#define STREAMS_MAX 1024

/* Streams of ours: libc knows no descriptor of theirs. */
static struct {
	_Atomic(FILE *) file;
	int fd;
} streams[STREAMS_MAX];

static ssize_t stream_read(void *cookie, char *buf, size_t len)
{
	return read((int)(intptr_t)cookie, buf, len);
}

/* 0 is how a stream's function says that it failed. */
static ssize_t stream_write(void *cookie, const char *buf, size_t len)
{
	ssize_t n = write((int)(intptr_t)cookie, buf, len);

	return n < 0 ? 0 : n;
}

static int stream_seek(void *cookie, off64_t *offset, int whence)
{
	errno = ESPIPE;
	return -1;
}

static int stream_close(void *cookie)
{
	return close((int)(intptr_t)cookie);
}

static bool remember(FILE *file, int fd)
{
	for (int i = 0; i < STREAMS_MAX; i++) {
		FILE *none = NULL;

		if (!atomic_load_explicit(&streams[i].file, memory_order_relaxed) &&
			atomic_compare_exchange_strong(&streams[i].file, &none, file)) {
			streams[i].fd = fd;
			return true;
		}
	}
	return false;
}

static int find(FILE *file)
{
	for (int i = 0; i < STREAMS_MAX; i++) {
		if (atomic_load_explicit(&streams[i].file, memory_order_relaxed) == file)
			return i;
	}
	return -1;
}

EXPORT FILE *fdopen(int fd, const char *mode)
{
	static const cookie_io_functions_t calls = {
		stream_read, stream_write, stream_seek, stream_close};
	enum fd_kind kind = fdtab_get(fd).kind;
	FILE *file;

	/* One that is not connected yet may become a connection. */
	if (kind != FD_CONN && kind != FD_TCP)
		return real.fdopen(fd, mode);
	file = fopencookie((void *)(intptr_t)fd, mode, calls);
	if (file && !remember(file, fd)) {
		/* It would close the descriptor. */
		errno = EMFILE;
		return NULL;
	}
	return file;
}

EXPORT int fileno_unlocked(FILE *file)
{
	int i = find(file);

	return i >= 0 ? streams[i].fd : real.fileno_unlocked(file);
}

EXPORT int fileno(FILE *file)
{
	return fileno_unlocked(file);
}

EXPORT int fclose(FILE *file)
{
	int i = find(file), fd;

	if (i >= 0) {
		atomic_store(&streams[i].file, NULL);
		return real.fclose(file);
	}
	fd = real.fileno_unlocked(file);
	if (fd >= 0 && fdtab_get(fd).kind != FD_KERNEL) {
		/* libc's close() goes past us; ours leaves it nothing to close but a
		 * copy. */
		int copy = real.fcntl64(fd, F_DUPFD_CLOEXEC, 0);

		fflush(file);
		close(fd);
		if (copy >= 0) {
			real.dup3(copy, fd, O_CLOEXEC);
			real.close(copy);
		}
	}
	return real.fclose(file);
}

EXPORT int vdprintf(int fd, const char *format, va_list ap)
{
	char *text;
	int n;

	if (fdtab_get(fd).kind != FD_CONN)
		return real.vdprintf(fd, format, ap);
	n = vasprintf(&text, format, ap);
	if (n < 0)
		return n;
	for (int done = 0; done < n;) {
		ssize_t sent = write(fd, text + done, (size_t)(n - done));

		if (sent < 0) {
			n = -1;
			break;
		}
		done += (int)sent;
	}
	free(text);
	return n;
}

EXPORT int dprintf(int fd, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vdprintf(fd, format, ap);
	va_end(ap);
	return n;
}

EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...);
EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list ap);

EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list ap)
{
	return vdprintf(fd, format, ap);
}

EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vdprintf(fd, format, ap);
	va_end(ap);
	return n;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libibverbs reads GIDs and partition keys from the device's sysfs folder when the
 * kernel's ioctl is not there (rdma-core, libibverbs/cmd_device.c). A device that lives
 * in this process has no such folder, so it makes a private one with the few files that
 * ibv_query_gid(), ibv_query_gid_ex() and ibv_query_pkey() read. Removed when the device
 * is closed; folders of processes that died are removed by the next device.
 */
#include "provider_priv.h"

#include "lib/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "vrdma-gid-"

static const char *base_dir(void)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	if (!dir || strlen(dir) > 32 || access(dir, W_OK))
		dir = geteuid() == 0 ? "/run" : "/tmp";
	return dir;
}

static int write_file(const char *dir, const char *name, const char *fmt, ...)
{
	char path[128], text[80];
	va_list ap;
	ssize_t n;
	int fd, len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	n = write(fd, text, (size_t)len);
	close(fd);
	return n == len ? 0 : -ENOSPC;
}

static int make_folders(const char *dir)
{
	static const char *const names[] = {"ports", "ports/1", "ports/1/gids",
		"ports/1/pkeys", "ports/1/gid_attrs", "ports/1/gid_attrs/types",
		"ports/1/gid_attrs/ndevs"};
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		if (mkdir(path, 0700))
			return -errno;
	}
	return 0;
}

static int write_files(const struct link *link, const char *dir)
{
	const uint8_t *g = link->gid;
	int rc;

	rc = write_file(dir, "ports/1/gids/0",
		"%02x%02x:%02x%02x:%02x%02x:%02x%02x:%02x%02x:%02x%02x:%02x%02x:%02x%"
		"02x\n",
		g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7], g[8], g[9], g[10], g[11],
		g[12], g[13], g[14], g[15]);
	if (!rc)
		rc = write_file(dir, "ports/1/gid_attrs/types/0", "RoCE v2\n");
	if (!rc)
		rc = write_file(dir, "ports/1/gid_attrs/ndevs/0", "%s\n", link->ifname);
	if (!rc)
		rc = write_file(dir, "ports/1/pkeys/0", "0x%04x\n", WIRE_PKEY_DEFAULT);
	return rc;
}

static void remove_stale(const char *base)
{
	DIR *d = opendir(base);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d))) {
		char path[300];
		struct stat st;
		int pid;

		if (sscanf(e->d_name, PREFIX "%d-", &pid) != 1 || pid <= 0 ||
			!kill(pid, 0) || errno != ESRCH)
			continue;
		snprintf(path, sizeof(path), "%s/%s", base, e->d_name);
		if (!lstat(path, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid())
			gid_dir_remove(path);
	}
	closedir(d);
}

int gid_dir_create(const struct link *link, char *path, size_t size)
{
	const char *base = base_dir();
	int rc;

	remove_stale(base);
	snprintf(path, size, "%s/" PREFIX "%d-XXXXXX", base, getpid());
	if (!mkdtemp(path)) {
		rc = -errno;
		path[0] = '\0';
		return rc;
	}
	rc = make_folders(path);
	if (!rc)
		rc = write_files(link, path);
	if (rc) {
		gid_dir_remove(path);
		path[0] = '\0';
	}
	return rc;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	remove(path);
	return 0;
}

void gid_dir_remove(const char *path)
{
	if (path[0])
		nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

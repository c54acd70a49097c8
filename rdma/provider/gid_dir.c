/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libibverbs reads GIDs and partition keys from the device's sysfs folder when the
 * kernel's ioctl is not there (rdma-core, libibverbs/cmd_device.c). A device that lives
 * in this process has no such folder, so it makes a private one with the few files that
 * ibv_query_gid(), ibv_query_gid_ex() and ibv_query_pkey() read. Removed when the device
 * is closed; folders of processes that died are removed by the next device.
 *
 * The folder shows the GID table as it is; empty entries read as zeros, as the kernel's
 * do. That goes for the folder that vrdma-run made, too.
 */
#include "provider_priv.h"

#include "device_dir.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
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

int gid_dir_create(const struct device *dev, char *path, size_t size)
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
	rc = device_dir_write(path, dev->guid, NULL, 0, dev->ifname);
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

void gid_dir_update(struct context *ctx)
{
	const struct device *dev = ctx->dev;
	uint8_t gids[DEVICE_GID_MAX][16];

	gids_read(dev, gids);
	for (int i = 0; i < dev->gids.size; i++) {
		if (ctx->has_shown && !memcmp(ctx->shown[i], gids[i], 16))
			continue;
		/* Somebody else's folder may be read-only; then it stays as it is. */
		device_dir_set_gid(
			ctx->vctx.context.device->ibdev_path, i, gids[i], dev->ifname);
	}
	memcpy(ctx->shown, gids, sizeof(gids));
	ctx->has_shown = true;
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "device_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rdma/wire/packet.h"

#define GID_TEXT                                                               \
	"%02x%02x:%02x%02x:%02x%02x:%02x%02x:%02x%02x:%02x%02x:%02x%02x:%02x%" \
	"02x"
#define GUID_TEXT "%02x%02x:%02x%02x:%02x%02x:%02x%02x"

int device_dir_put(const char *dir, const char *name, const char *text)
{
	char path[PATH_MAX], line[80];
	ssize_t n;
	int fd, len;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	len = snprintf(line, sizeof(line), "%s\n", text);
	if (len >= (int)sizeof(line))
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	n = write(fd, line, (size_t)len);
	close(fd);
	return n == len ? 0 : -ENOSPC;
}

static int make_folders(const char *dir)
{
	static const char *const names[] = {"ports", "ports/1", "ports/1/gids",
		"ports/1/pkeys", "ports/1/gid_attrs", "ports/1/gid_attrs/types",
		"ports/1/gid_attrs/ndevs"};
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (snprintf(path, sizeof(path), "%s/%s", dir, names[i]) >=
			(int)sizeof(path))
			return -ENAMETOOLONG;
		if (mkdir(path, 0755))
			return -errno;
	}
	return 0;
}

int device_dir_write(const char *dir, const uint8_t g[16], const char *ifname)
{
	char gid[40], guid[20], pkey[8];
	int rc;

	snprintf(gid, sizeof(gid), GID_TEXT, g[0], g[1], g[2], g[3], g[4], g[5], g[6],
		g[7], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
	snprintf(guid, sizeof(guid), GUID_TEXT, g[8], g[9], g[10], g[11], g[12], g[13],
		g[14], g[15]);
	snprintf(pkey, sizeof(pkey), "0x%04x", WIRE_PKEY_DEFAULT);
	rc = make_folders(dir);
	if (!rc)
		rc = device_dir_put(dir, "node_type", "1: CA");
	if (!rc)
		rc = device_dir_put(dir, "node_guid", guid);
	if (!rc)
		rc = device_dir_put(dir, "ports/1/gids/0", gid);
	if (!rc)
		rc = device_dir_put(dir, "ports/1/gid_attrs/types/0", "RoCE v2");
	if (!rc)
		rc = device_dir_put(dir, "ports/1/gid_attrs/ndevs/0", ifname);
	if (!rc)
		rc = device_dir_put(dir, "ports/1/pkeys/0", pkey);
	return rc;
}

int device_dir_addr(const char *dir, char *addr, size_t size)
{
	char path[PATH_MAX];
	ssize_t n;
	int fd;

	if (snprintf(path, sizeof(path), "%s/" DEVICE_DIR_ADDR, dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, addr, size - 1);
	close(fd);
	if (n <= 0)
		return -EIO;
	addr[n] = '\0';
	addr[strcspn(addr, "\n")] = '\0';
	return 0;
}

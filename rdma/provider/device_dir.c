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
#define GID_FILE  "ports/1/gids/0"
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

static int put_gid(const char *dir, const char *name, const uint8_t g[16])
{
	char text[40];

	snprintf(text, sizeof(text), GID_TEXT, g[0], g[1], g[2], g[3], g[4], g[5], g[6],
		g[7], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
	return device_dir_put(dir, name, text);
}

int device_dir_set_gid(const char *dir, const uint8_t gid[16])
{
	char from[PATH_MAX], to[PATH_MAX];
	int rc;

	/* Who reads meanwhile finds the old file or the new one. */
	if (snprintf(from, sizeof(from), "%s/" GID_FILE ".new", dir) >= (int)sizeof(from))
		return -ENAMETOOLONG;
	snprintf(to, sizeof(to), "%s/" GID_FILE, dir);
	unlink(from);
	rc = put_gid(dir, GID_FILE ".new", gid);
	if (!rc && rename(from, to))
		rc = -errno;
	return rc;
}

int device_dir_write(const char *dir, const uint8_t g[16], const char *ifname)
{
	char guid[20], pkey[8];
	int rc;

	snprintf(guid, sizeof(guid), GUID_TEXT, g[8], g[9], g[10], g[11], g[12], g[13],
		g[14], g[15]);
	snprintf(pkey, sizeof(pkey), "0x%04x", WIRE_PKEY_DEFAULT);
	rc = make_folders(dir);
	if (!rc)
		rc = device_dir_put(dir, "node_type", "1: CA");
	if (!rc)
		rc = device_dir_put(dir, "node_guid", guid);
	if (!rc)
		rc = put_gid(dir, GID_FILE, g);
	if (!rc)
		rc = device_dir_put(dir, "ports/1/gid_attrs/types/0", "RoCE v2");
	if (!rc)
		rc = device_dir_put(dir, "ports/1/gid_attrs/ndevs/0", ifname);
	if (!rc)
		rc = device_dir_put(dir, "ports/1/pkeys/0", pkey);
	return rc;
}

/* The file that tells our devices from others; the rest need not be there. */
#define FILE_ADDR    "vrdma_addr"
#define FILE_PORT    "vrdma_port"
#define FILE_MAC     "vrdma_mac"
#define FILE_GATEWAY "vrdma_gateway"

static int put_if_any(const char *dir, const char *name, const char *text)
{
	return text[0] ? device_dir_put(dir, name, text) : 0;
}

int device_dir_where_put(const char *dir, const struct device_where *where)
{
	int rc = device_dir_put(dir, FILE_ADDR, where->addr);

	if (!rc)
		rc = put_if_any(dir, FILE_PORT, where->port);
	if (!rc)
		rc = put_if_any(dir, FILE_MAC, where->mac);
	if (!rc)
		rc = put_if_any(dir, FILE_GATEWAY, where->gateway);
	return rc;
}

/* The first line of a file, or "". */
static int get(const char *dir, const char *name, char *text, size_t size)
{
	char path[PATH_MAX];
	ssize_t n;
	int fd;

	text[0] = '\0';
	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, size - 1);
	close(fd);
	if (n <= 0)
		return -EIO;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

static int get_if_any(const char *dir, const char *name, char *text, size_t size)
{
	int rc = get(dir, name, text, size);

	return rc == -ENOENT ? 0 : rc;
}

int device_dir_where_get(const char *dir, struct device_where *where)
{
	int rc = get(dir, FILE_ADDR, where->addr, sizeof(where->addr));

	if (!rc)
		rc = get_if_any(dir, FILE_PORT, where->port, sizeof(where->port));
	if (!rc)
		rc = get_if_any(dir, FILE_MAC, where->mac, sizeof(where->mac));
	if (!rc)
		rc = get_if_any(
			dir, FILE_GATEWAY, where->gateway, sizeof(where->gateway));
	return rc;
}

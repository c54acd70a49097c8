/* SPDX-License-Identifier: BSD-3-Clause */
#include "device_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/util.h"
#include "rdma/wire/packet.h"

#define GID_TEXT                                                               \
	"%02x%02x:%02x%02x:%02x%02x:%02x%02x:%02x%02x:%02x%02x:%02x%02x:%02x%" \
	"02x"
#define GIDS	  "ports/1/gids"
#define GID_ATTRS "ports/1/gid_attrs"
#define GUID_TEXT "%02x%02x:%02x%02x:%02x%02x:%02x%02x"

int device_dir_put(const char *dir, const char *name, const char *text)
{
	char path[PATH_MAX], line[sizeof(((struct device_where *)0)->addr) + 2];
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
	static const char *const names[] = {"ports", "ports/1", GIDS, "ports/1/pkeys",
		GID_ATTRS, GID_ATTRS "/types", GID_ATTRS "/ndevs"};
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

/* A file with one line, in the place of one that may be there: who reads meanwhile finds
 * the old one or the new one.
 */
static int replace(const char *dir, const char *name, const char *text)
{
	char new[64], from[PATH_MAX], to[PATH_MAX];
	int rc;

	snprintf(new, sizeof(new), "%s.new", name);
	if (snprintf(from, sizeof(from), "%s/%s", dir, new) >= (int)sizeof(from))
		return -ENAMETOOLONG;
	snprintf(to, sizeof(to), "%s/%s", dir, name);
	unlink(from);
	rc = device_dir_put(dir, new, text);
	return rc ? rc : rename(from, to) ? -errno : 0;
}

static int replace_gid(const char *dir, int index, const uint8_t g[16])
{
	char name[64], text[40];

	snprintf(name, sizeof(name), GIDS "/%d", index);
	snprintf(text, sizeof(text), GID_TEXT, g[0], g[1], g[2], g[3], g[4], g[5], g[6],
		g[7], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
	return replace(dir, name, text);
}

/* What goes with a GID: @text, or (NULL) nothing. */
static int set_gid_attr(const char *dir, const char *attr, int index, const char *text)
{
	char name[64], path[PATH_MAX];

	snprintf(name, sizeof(name), GID_ATTRS "/%s/%d", attr, index);
	if (text)
		return replace(dir, name, text);
	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	return unlink(path) && errno != ENOENT ? -errno : 0;
}

int device_dir_set_gid(
	const char *dir, int index, const uint8_t gid[16], const char *ifname)
{
	static const uint8_t none[16];
	bool is_empty = !memcmp(gid, none, sizeof(none));
	/* Empty ones have a type as well: reading the kernel's gives EINVAL, which a file
	 * can't; with any type ibv_query_gid_ex() goes on to the zeros and says ENODATA.
	 * Else who finds a GID finds what goes with it. */
	int rc = set_gid_attr(dir, "types", index, "RoCE v2");

	if (!rc && is_empty)
		rc = replace_gid(dir, index, gid);
	if (!rc)
		rc = set_gid_attr(dir, "ndevs", index, is_empty ? NULL : ifname);
	if (!rc && !is_empty)
		rc = replace_gid(dir, index, gid);
	return rc;
}

int device_dir_write(const char *dir, const uint8_t g[8], uint8_t gids[][16], int size,
	const char *ifname)
{
	char guid[20], pkey[8];
	int rc;

	snprintf(guid, sizeof(guid), GUID_TEXT, g[0], g[1], g[2], g[3], g[4], g[5], g[6],
		g[7]);
	snprintf(pkey, sizeof(pkey), "0x%04x", WIRE_PKEY_DEFAULT);
	rc = make_folders(dir);
	if (!rc)
		rc = device_dir_put(dir, "node_type", "1: CA");
	if (!rc)
		rc = device_dir_put(dir, "node_guid", guid);
	if (!rc)
		rc = device_dir_put(dir, "ports/1/pkeys/0", pkey);
	for (int i = 0; i < size && !rc; i++)
		rc = device_dir_set_gid(dir, i, gids[i], ifname);
	return rc;
}

bool device_where_item(const char *list, int i, char item[DEVICE_ADDR_SIZE])
{
	size_t len;

	item[0] = '\0';
	for (; i && list; i--) {
		list = strchr(list, ',');
		list = list ? list + 1 : NULL;
	}
	if (!list || !*list)
		return false;
	len = MIN(strcspn(list, ","), (size_t)DEVICE_ADDR_SIZE - 1);
	memcpy(item, list, len);
	item[len] = '\0';
	return true;
}

/* One of the first two tells our devices from others; the rest need not be there. */
#define FILE_ADDR      "vrdma_addr"
#define FILE_INTERFACE "vrdma_interface"
#define FILE_PORT      "vrdma_port"
#define FILE_MAC       "vrdma_mac"
#define FILE_GATEWAY   "vrdma_gateway"

static int put_if_any(const char *dir, const char *name, const char *text)
{
	return text[0] ? device_dir_put(dir, name, text) : 0;
}

int device_dir_where_put(const char *dir, const struct device_where *where)
{
	int rc = put_if_any(dir, FILE_ADDR, where->addr);

	if (!rc)
		rc = put_if_any(dir, FILE_INTERFACE, where->interface);
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
	int rc = get_if_any(dir, FILE_ADDR, where->addr, sizeof(where->addr));

	if (!rc)
		rc = get_if_any(
			dir, FILE_INTERFACE, where->interface, sizeof(where->interface));
	if (!rc && !where->addr[0] && !where->interface[0])
		rc = -ENOENT;
	if (!rc)
		rc = get_if_any(dir, FILE_PORT, where->port, sizeof(where->port));
	if (!rc)
		rc = get_if_any(dir, FILE_MAC, where->mac, sizeof(where->mac));
	if (!rc)
		rc = get_if_any(
			dir, FILE_GATEWAY, where->gateway, sizeof(where->gateway));
	return rc;
}

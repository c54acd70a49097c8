/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * No driver claims the device (1af4:1110), so sysfs offers its memory as it is. Source:
 * Linux Documentation/PCI/sysfs-pci.rst, QEMU docs/specs/ivshmem-spec.
 */
#include "ivshmem/guest/device.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices/*"
#define PAGE	4096

static bool is_memory(int fd, uint64_t size, const uint8_t *name)
{
	struct stat st;
	bool same;
	void *p;

	if (fstat(fd, &st) || (uint64_t)st.st_size != size || size < PAGE)
		return false;
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return false;
	same = !memcmp(p, name, UP_NAME_SIZE);
	munmap(p, PAGE);
	return same;
}

static int file_open(const char *path, uint64_t size, const uint8_t *name)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (is_memory(fd, size, name))
		return fd;
	close(fd);
	return -ENODEV;
}

static bool says(const char *device, const char *file, const char *text)
{
	char path[256], value[16] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", device, file);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(value, sizeof(value), f))
		value[0] = '\0';
	fclose(f);
	return !strncmp(value, text, strlen(text));
}

/* Its registers and memory answer only when it is enabled. */
static void enable(const char *device)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/enable", device);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (!says(device, "enable", "1") && write(fd, "1", 1) < 0)
		perror(path);
	close(fd);
}

static int pci_open(const char *device, uint64_t size, const uint8_t *name)
{
	char path[256];

	if (!says(device, "vendor", "0x1af4") || !says(device, "device", "0x1110"))
		return -ENODEV;
	enable(device);
	snprintf(path, sizeof(path), "%s/resource2", device);
	return file_open(path, size, name);
}

int device_open(const char *path, uint64_t size, const uint8_t name[UP_NAME_SIZE])
{
	int fd = -ENODEV, rc = -ENODEV;
	glob_t found;

	if (path)
		return file_open(path, size, name);
	if (glob(DEVICES, 0, NULL, &found))
		return -ENODEV;
	for (size_t i = 0; i < found.gl_pathc && fd < 0; i++) {
		fd = pci_open(found.gl_pathv[i], size, name);
		if (fd < 0 && fd != -ENODEV)
			rc = fd;
	}
	globfree(&found);
	return fd < 0 ? rc : fd;
}

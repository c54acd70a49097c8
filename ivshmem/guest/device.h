/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's ivshmem device: BAR 2, the region's memory, as a file that processes can
 * map.
 */
#ifndef IVSHMEM_GUEST_DEVICE_H
#define IVSHMEM_GUEST_DEVICE_H

#include "ivshmem/guest/upproto.h"

/** device_open() - the device whose memory begins with @name and has @size bytes
 * @path: a file to take instead of looking for a device, or NULL
 * Return: its file, or -ENODEV: there is none, or a negative errno of the last that could
 * not be opened
 */
int device_open(const char *path, uint64_t size, const uint8_t name[UP_NAME_SIZE]);

#endif

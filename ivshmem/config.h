/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What vrdma-ivshmem is told: limits and regions, from --region's "key=value,..." and
 * from a JSON file. Both have the same keys; docs/man/vrdma-ivshmem.1 lists them.
 */
#ifndef IVSHMEM_CONFIG_H
#define IVSHMEM_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "ivshmem/server.h"

#define CONFIG_ERROR_SIZE 256

struct config {
	struct server_config server;
	uint32_t n_regions;
	struct region_config regions[SERVER_REGIONS_MAX];
};

/** config_init() - the defaults; no regions */
void config_init(struct config *config);

/** config_set() - set one limit of the server: max-memory, stall-timeout or join-rate
 * @error: CONFIG_ERROR_SIZE bytes that take the reason of a failure
 * Return: 0, or -EINVAL
 */
int config_set(struct config *config, const char *key, const char *value, char *error);

/** config_add_region() - add a region from "name=a,size=4M,socket=/run/a.sock,..."
 * Return: 0, or -EINVAL; then @error says why and no region was added
 */
int config_add_region(struct config *config, const char *spec, char *error);

/** config_add_json() - take the settings and add the regions of a JSON text
 * @size: bytes of @text, which need not end with NUL
 * Return: 0, or -EINVAL; then @error says why
 */
int config_add_json(struct config *config, const char *text, size_t size, char *error);

/** config_add_file() - config_add_json() of a file; also what reading it fails with */
int config_add_file(struct config *config, const char *path, char *error);

#endif

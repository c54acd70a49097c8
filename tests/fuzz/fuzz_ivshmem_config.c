/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The configuration of the ivshmem server. Input: J and a JSON text, or anything else and
 * a region as --region has it. Whatever is accepted must be a possible region, and no two
 * regions may meet.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ivshmem/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct config config;

static void check(void)
{
	assert(config.server.stall_seconds && config.server.join_rate);
	assert(config.n_regions <= SERVER_REGIONS_MAX);
	for (uint32_t i = 0; i < config.n_regions; i++) {
		const struct region_config *r = &config.regions[i];

		assert(!region_config_check(r));
		assert(r->access.n_uids <= ACCESS_IDS_MAX);
		assert(r->access.n_gids <= ACCESS_IDS_MAX);
		for (uint32_t k = 0; k < i; k++) {
			assert(strcmp(r->name, config.regions[k].name) != 0);
			assert(strcmp(r->socket, config.regions[k].socket) != 0);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[CONFIG_ERROR_SIZE], *text;
	int rc;

	if (!size)
		return 0;
	/* just as large as it is, so that the sanitizer sees a read beyond it */
	text = malloc(size);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	config_init(&config);
	memset(error, 0, sizeof(error));
	if (data[0] == 'J')
		rc = config_add_json(&config, text, size - 1, error);
	else
		rc = config_add_region(&config, text, error);
	assert(!rc == !*error);
	check();
	free(text);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a server and its regions can be told to be.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ivshmem/directory.h"
#include "ivshmem/dirproto.h"
#include "ivshmem/server.h"
#include "ivshmem/sockaddr.h"

void server_config_init(struct server_config *config)
{
	uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES);

	config->memory_max = pages * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
	config->stall_seconds = 30;
	config->join_rate = 100;
}

void region_config_init(struct region_config *config)
{
	memset(config, 0, sizeof(*config));
	config->n_vectors = 1;
	config->max_peers = 16;
}

static bool is_name(const char *s)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789._-";

	return *s && s[strspn(s, allowed)] == '\0';
}

/* A path that can be shown in a log, at the end of a line. */
static bool is_path(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	}
	return true;
}

static bool shares_address(const struct guest_config *a, const struct guest_config *b)
{
	for (uint32_t i = 0; i < a->n_addrs; i++) {
		for (uint32_t k = 0; k < b->n_addrs; k++) {
			if (dir_addr_same_ip(&a->addrs[i], &b->addrs[k]))
				return true;
		}
	}
	return false;
}

static const char *guests_check(const struct region_config *config)
{
	if (config->n_guests && !config->n_processes)
		return "a region with guests needs sockets";
	for (uint32_t i = 0; i < config->n_guests; i++) {
		const struct guest_config *g = &config->guests[i];

		if (!is_name(g->name) || !g->n_addrs)
			return "a guest needs a name and an address";
		if (strlen(config->socket) + 1 + strlen(g->name) +
				strlen(UPLINKS_SUFFIX) >=
			LISTENER_PATH_SIZE)
			return "the path of the socket is too long for guests";
		for (uint32_t k = 0; k < i; k++) {
			if (!strcmp(g->name, config->guests[k].name))
				return "two guests have one name";
			if (shares_address(g, &config->guests[k]))
				return "two guests have one address";
		}
	}
	return NULL;
}

const char *region_config_check(const struct region_config *config)
{
	if (!is_name(config->name))
		return "a region needs a name of letters, digits, '.', '_' and '-'";
	if (*config->tenant && !is_name(config->tenant))
		return "a tenant's name is of letters, digits, '.', '_' and '-'";
	if (!is_path(config->socket))
		return "a region needs the path of a socket";
	if (config->size < SERVER_SIZE_MIN || config->size > SERVER_SIZE_MAX ||
		(config->size & (config->size - 1)))
		return "the size must be a power of two, 4K to 1T";
	if (config->n_vectors < 1 || config->n_vectors > SERVER_VECTORS_MAX)
		return "vectors: 1 to 64";
	if (config->max_peers < 1 || config->max_peers > SERVER_PEERS_MAX)
		return "max-peers: 1 to 1024";
	if (config->max_half_open > config->max_peers)
		return "max-half-open: at most max-peers";
	if (config->n_processes > DIRECTORY_CLIENTS_MAX)
		return "sockets: at most 4096";
	if (config->n_processes &&
		strlen(config->socket) + strlen(DIR_SUFFIX) >= LISTENER_PATH_SIZE)
		return "the path of the socket is too long for sockets";
	return guests_check(config);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A value is text wherever it comes from: JSON's numbers are written out first. So there
 * is one table of keys and one reader for each type.
 */
#include "ivshmem/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "ivshmem/sockaddr.h"
#include "lib/util.h"

#define FILE_MAX  (1u << 20) /* bytes of a configuration file */
#define VALUE_MAX 1024	     /* bytes of a value, with its NUL */
#define STALL_MAX 86400
#define RATE_MAX  1000000

static int fail(char *error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int fail(char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, CONFIG_ERROR_SIZE, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* -- values */

/* A number up to @max, without sign or blanks; *end is what follows it. */
static int read_digits(const char *text, uint64_t max, uint64_t *value, const char **end)
{
	char *after;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*value = strtoull(text, &after, 10);
	*end = after;
	return errno || *value > max ? -EINVAL : 0;
}

static int read_u32(const char *text, uint32_t *value)
{
	const char *end;
	uint64_t v;

	if (read_digits(text, UINT32_MAX, &v, &end) || *end)
		return -EINVAL;
	*value = (uint32_t)v;
	return 0;
}

/* 1 to @max; *value is changed only if it is. */
static int read_positive(const char *text, uint32_t max, uint32_t *value)
{
	uint32_t v;

	if (read_u32(text, &v) || !v || v > max)
		return -EINVAL;
	*value = v;
	return 0;
}

/* Bytes: a number, and K, M, G or T for powers of 1024. */
static int read_size(const char *text, uint64_t *value)
{
	static const char units[] = "KMGT";
	const char *end, *unit;
	unsigned shift;
	uint64_t v;

	if (read_digits(text, UINT64_MAX, &v, &end))
		return -EINVAL;
	if (*end) {
		unit = strchr(units, *end);
		if (!unit || end[1])
			return -EINVAL;
		shift = 10 * (unsigned)(unit - units + 1);
		if (v > UINT64_MAX >> shift)
			return -EINVAL;
		v <<= shift;
	}
	*value = v;
	return 0;
}

static int read_text(const char *text, char *buf, size_t size)
{
	if (strlen(text) >= size)
		return -EINVAL;
	memset(buf, 0, size);
	memcpy(buf, text, strlen(text));
	return 0;
}

static int read_huge(const char *text, enum memory_huge *value)
{
	static const char *const names[] = {
		[MEMORY_HUGE_AUTO] = "auto",
		[MEMORY_HUGE_ALWAYS] = "always",
		[MEMORY_HUGE_NEVER] = "never",
	};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(text, names[i])) {
			*value = (enum memory_huge)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int read_address(const char *text, struct dir_addr *addr)
{
	struct in_addr in;

	memset(addr, 0, sizeof(*addr));
	if (inet_pton(AF_INET, text, &in) == 1)
		dir_addr_set4(addr, &in);
	else if (inet_pton(AF_INET6, text, addr->ip) != 1)
		return -EINVAL;
	return dir_addr_is_any(addr) || dir_addr_is_loopback(addr) ? -EINVAL : 0;
}

/* NAME@ADDRESS+ADDRESS... */
static int read_guest(const char *text, struct guest_config *guest)
{
	char copy[VALUE_MAX], *rest = copy, *word;
	int rc;

	memset(guest, 0, sizeof(*guest));
	if (read_text(text, copy, sizeof(copy)))
		return -EINVAL;
	rc = read_text(strsep(&rest, "@"), guest->name, sizeof(guest->name));
	while (!rc && (word = strsep(&rest, "+"))) {
		if (guest->n_addrs == UPLINKS_ADDRS_MAX)
			return -EINVAL;
		rc = read_address(word, &guest->addrs[guest->n_addrs++]);
	}
	return rc || !guest->n_addrs ? -EINVAL : 0;
}

/* -- keys */

static int set_name(struct region_config *r, const char *text)
{
	return read_text(text, r->name, sizeof(r->name));
}

static int set_tenant(struct region_config *r, const char *text)
{
	return read_text(text, r->tenant, sizeof(r->tenant));
}

static int set_socket(struct region_config *r, const char *text)
{
	return read_text(text, r->socket, sizeof(r->socket));
}

static int set_size(struct region_config *r, const char *text)
{
	return read_size(text, &r->size);
}

static int set_vectors(struct region_config *r, const char *text)
{
	return read_u32(text, &r->n_vectors);
}

static int set_max_peers(struct region_config *r, const char *text)
{
	return read_u32(text, &r->max_peers);
}

static int set_max_half_open(struct region_config *r, const char *text)
{
	return read_u32(text, &r->max_half_open);
}

static int set_sockets(struct region_config *r, const char *text)
{
	return read_u32(text, &r->n_processes);
}

static int set_huge(struct region_config *r, const char *text)
{
	return read_huge(text, &r->huge);
}

static int set_uid(struct region_config *r, const char *text)
{
	return access_add_user(&r->access, text);
}

static int set_gid(struct region_config *r, const char *text)
{
	return access_add_group(&r->access, text);
}

static int set_guest(struct region_config *r, const char *text)
{
	if (r->n_guests == UPLINKS_GUESTS_MAX)
		return -ENOSPC;
	return read_guest(text, &r->guests[r->n_guests++]);
}

static const struct {
	const char *name;
	int (*set)(struct region_config *r, const char *text);
	bool repeats;
} region_keys[] = {
	{"name", set_name, false},
	{"tenant", set_tenant, false},
	{"size", set_size, false},
	{"socket", set_socket, false},
	{"vectors", set_vectors, false},
	{"max-peers", set_max_peers, false},
	{"max-half-open", set_max_half_open, false},
	{"sockets", set_sockets, false},
	{"hugepages", set_huge, false},
	{"uid", set_uid, true},
	{"gid", set_gid, true},
	{"guest", set_guest, true},
};

/* @seen: a bit for each key of region_keys that was there */
static int region_set(struct region_config *r, uint32_t *seen, const char *key,
	const char *value, char *error)
{
	for (unsigned i = 0; i < ARRAY_SIZE(region_keys); i++) {
		if (strcmp(key, region_keys[i].name) != 0)
			continue;
		if (!region_keys[i].repeats && *seen & 1u << i)
			return fail(error, "%s is given twice", key);
		*seen |= 1u << i;
		if (region_keys[i].set(r, value))
			return fail(error, "bad value '%s' for %s", value, key);
		return 0;
	}
	return fail(error, "a region has no key '%s'", key);
}

/* One socket or name in two regions would let tenants meet. */
static int region_finish(
	struct config *config, const struct region_config *r, char *error)
{
	const char *wrong = region_config_check(r);

	if (wrong)
		return fail(error, "region '%s': %s", r->name, wrong);
	for (uint32_t i = 0; i < config->n_regions; i++) {
		if (!strcmp(config->regions[i].name, r->name))
			return fail(error, "there are two regions '%s'", r->name);
		if (!strcmp(config->regions[i].socket, r->socket))
			return fail(error, "two regions have the socket %s", r->socket);
	}
	if (config->n_regions == SERVER_REGIONS_MAX)
		return fail(error, "more than %d regions", SERVER_REGIONS_MAX);
	config->regions[config->n_regions++] = *r;
	return 0;
}

void config_init(struct config *config)
{
	config->n_regions = 0;
	server_config_init(&config->server);
}

int config_set(struct config *config, const char *key, const char *value, char *error)
{
	struct server_config *server = &config->server;
	int rc;

	if (!strcmp(key, "max-memory")) {
		rc = read_size(value, &server->memory_max);
	} else if (!strcmp(key, "stall-timeout")) {
		rc = read_positive(value, STALL_MAX, &server->stall_seconds);
	} else if (!strcmp(key, "join-rate")) {
		rc = read_positive(value, RATE_MAX, &server->join_rate);
	} else {
		return fail(error, "there is no setting '%s'", key);
	}
	return rc ? fail(error, "bad value '%s' for %s", value, key) : 0;
}

int config_add_region(struct config *config, const char *spec, char *error)
{
	char *copy = strdup(spec), *rest = copy, *item, *value;
	struct region_config r;
	uint32_t seen = 0;
	int rc = 0;

	if (!copy)
		return fail(error, "out of memory");
	region_config_init(&r);
	while (!rc && (item = strsep(&rest, ","))) {
		value = strchr(item, '=');
		if (!value) {
			rc = fail(error, "'%s' is not KEY=VALUE", item);
			break;
		}
		*value++ = '\0';
		rc = region_set(&r, &seen, item, value, error);
	}
	free(copy);
	return rc ? rc : region_finish(config, &r, error);
}

/* -- JSON */

/* Text or a whole number, as text. */
static int json_value(const json_t *value, char *buf)
{
	if (json_is_string(value) &&
		strlen(json_string_value(value)) == json_string_length(value))
		return read_text(json_string_value(value), buf, VALUE_MAX);
	if (!json_is_integer(value))
		return -EINVAL;
	snprintf(buf, VALUE_MAX, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	return 0;
}

static int json_set(struct region_config *r, uint32_t *seen, const char *key,
	const json_t *value, char *error)
{
	char text[VALUE_MAX];

	if (json_value(value, text))
		return fail(error, "%s must be text or a whole number", key);
	return region_set(r, seen, key, text, error);
}

/* A key that repeats may have an array. */
static int json_set_all(struct region_config *r, uint32_t *seen, const char *key,
	const json_t *value, char *error)
{
	int rc = 0;

	if (!json_is_array(value))
		return json_set(r, seen, key, value, error);
	for (size_t i = 0; !rc && i < json_array_size(value); i++)
		rc = json_set(r, seen, key, json_array_get(value, i), error);
	return rc;
}

static int json_region(struct config *config, json_t *object, char *error)
{
	struct region_config r;
	uint32_t seen = 0;
	const char *key;
	json_t *value;
	int rc;

	if (!json_is_object(object))
		return fail(error, "a region must be an object");
	region_config_init(&r);
	json_object_foreach(object, key, value)
	{
		rc = json_set_all(&r, &seen, key, value, error);
		if (rc)
			return rc;
	}
	return region_finish(config, &r, error);
}

static int json_regions(struct config *config, const json_t *array, char *error)
{
	int rc = 0;

	if (!json_is_array(array))
		return fail(error, "regions must be an array");
	for (size_t i = 0; !rc && i < json_array_size(array); i++)
		rc = json_region(config, json_array_get(array, i), error);
	return rc;
}

static int json_setting(
	struct config *config, const char *key, const json_t *value, char *error)
{
	char text[VALUE_MAX];

	if (!strcmp(key, "regions"))
		return json_regions(config, value, error);
	if (json_value(value, text))
		return fail(error, "%s must be text or a whole number", key);
	return config_set(config, key, text, error);
}

int config_add_json(struct config *config, const char *text, size_t size, char *error)
{
	json_error_t wrong;
	json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &wrong);
	const char *key;
	json_t *value;
	int rc = 0;

	if (!root)
		return fail(error, "line %d: %s", wrong.line, wrong.text);
	if (!json_is_object(root))
		rc = fail(error, "the file must hold one object");
	json_object_foreach(root, key, value)
	{
		rc = json_setting(config, key, value, error);
		if (rc)
			break;
	}
	json_decref(root);
	return rc;
}

int config_add_file(struct config *config, const char *path, char *error)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t size;
	int rc;

	if (!file) {
		rc = -errno;
		fail(error, "%s", strerror(errno));
		return rc;
	}
	text = malloc(FILE_MAX);
	if (!text) {
		rc = fail(error, "out of memory");
		goto out;
	}
	size = fread(text, 1, FILE_MAX, file);
	if (ferror(file))
		rc = fail(error, "cannot be read");
	else if (size == FILE_MAX)
		rc = fail(error, "larger than %u bytes", FILE_MAX);
	else
		rc = config_add_json(config, text, size, error);
out:
	free(text);
	fclose(file);
	return rc;
}

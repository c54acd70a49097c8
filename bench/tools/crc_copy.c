/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crc_copy - what the CRC costs beside a copy: packets' payloads of 4 KiB from and to
 * memory that is in no cache, in an order that no prefetcher guesses
 *
 * The argument is what to do with each: "memcpy", "memcpy+crc" (two passes), "fused" (the
 * implementation that the device uses), or the name of one. Prints one line of JSON.
 */
#include "lib/util.h"
#include "rdma/wire/crc.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK	4096
#define N_CHUNK (1u << 15) /* 128 MiB from, 128 MiB to */

typedef uint32_t copy_fn(
	uint32_t crc, void *dst, const void *src, size_t size, const void *next);

static uint32_t plain(
	uint32_t crc, void *dst, const void *src, size_t size, const void *next)
{
	memcpy(dst, src, size);
	return crc;
}

static uint32_t two_passes(
	uint32_t crc, void *dst, const void *src, size_t size, const void *next)
{
	memcpy(dst, src, size);
	return crc_add(crc, src, size);
}

static copy_fn *find(const char *name)
{
	if (!strcmp(name, "memcpy"))
		return plain;
	if (!strcmp(name, "memcpy+crc"))
		return two_passes;
	if (!strcmp(name, "fused"))
		return crc_variant()->copy;
	for (int i = 0; i < CRC_VARIANTS_MAX; i++) {
		const struct crc_variant *v = &crc_variants[i];

		if (v->name && !strcmp(v->name, name) && v->usable())
			return v->copy;
	}
	errx(2, "%s: not known, or not of this CPU", name);
}

static uint8_t *memory(void)
{
	size_t size = (size_t)N_CHUNK * CHUNK;
	uint8_t *p = mmap(
		NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	/* Larger pages where there are some, so that the TLB is not what is measured. */
	madvise(p, size, MADV_HUGEPAGE);
	memset(p, 'v', size);
	return p;
}

static uint32_t *shuffled(void)
{
	uint32_t *order = malloc(N_CHUNK * sizeof(*order));

	if (!order)
		errx(1, "no memory");
	for (uint32_t i = 0; i < N_CHUNK; i++) {
		uint32_t j = random_u32() % (i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	return order;
}

int main(int argc, char **argv)
{
	copy_fn *copy = find(argc == 3 ? argv[1] : "");
	double seconds = strtod(argv[2], NULL);
	uint8_t *from = memory(), *to = memory();
	uint32_t *source = shuffled(), *target = shuffled();
	uint64_t start = now_ns(), now = start, n = 0;
	uint32_t crc = 0; /* told, so that it has to be computed */

	for (; (double)(now - start) < seconds * 1e9; now = now_ns())
		for (int i = 0; i < 256; i++, n++)
			crc += copy(0, to + (size_t)target[n % N_CHUNK] * CHUNK,
				from + (size_t)source[n % N_CHUNK] * CHUNK, CHUNK,
				from + (size_t)source[(n + 1) % N_CHUNK] * CHUNK);
	printf("{\"ns\": %.2f, \"uses\": \"%s\", \"crc\": %u}\n",
		(double)(now - start) / (double)n, crc_variant()->name, crc);
	return 0;
}

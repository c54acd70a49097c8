/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every folder needs and libc lacks. Nothing here has state.
 */
#ifndef LIB_UTIL_H
#define LIB_UTIL_H

#include <stddef.h>
#include <stdint.h>

/* DPDK's headers define the same three, and yield to us but not we to them. */
#ifndef likely
#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)     ((a) < (b) ? (a) : (b))
#define MAX(a, b)     ((a) > (b) ? (a) : (b))
#define CACHE_LINE    64

/* rdma-core's private headers bring one of their own, which checks types as well. */
#ifndef container_of
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#endif

#define NSEC_PER_USEC 1000ull
#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_SEC  1000000000ull

/** now_ns() - CLOCK_MONOTONIC in nanoseconds */
uint64_t now_ns(void);

/** random_bytes() - fill @buf from the kernel's generator; aborts if there is none,
 * as no caller could go on safely with guessable numbers
 */
void random_bytes(void *buf, size_t size);
uint32_t random_u32(void);

/** round_up_pow2() - the smallest power of two that is at least @n (1 for 0);
 * @n is at most 2^31
 */
uint32_t round_up_pow2(uint32_t n);

#endif

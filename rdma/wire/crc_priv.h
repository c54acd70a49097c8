/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the implementations of the CRC share.
 */
#ifndef RDMA_WIRE_CRC_PRIV_H
#define RDMA_WIRE_CRC_PRIV_H

#include "crc.h"

/* crc_words.c */
/* To be called once, before all else. */
void crc_words_init(void);
uint32_t crc_words_add(uint32_t crc, const void *src, size_t size);
uint32_t crc_words_copy(
	uint32_t crc, void *dst, const void *src, size_t size, const void *next);
/* Bytes by table, eight at a time. Here the state is the raw register, not complemented.
 */
uint32_t crc_table_raw(uint32_t state, const uint8_t *p, size_t size);

#ifdef __x86_64__
/* crc_x86.c */
bool crc_has_pclmul(void);
bool crc_has_vpclmul(void);
uint32_t crc_pclmul_add(uint32_t crc, const void *src, size_t size);
uint32_t crc_pclmul_copy(
	uint32_t crc, void *dst, const void *src, size_t size, const void *next);
uint32_t crc_vpclmul_add(uint32_t crc, const void *src, size_t size);
uint32_t crc_vpclmul_copy(
	uint32_t crc, void *dst, const void *src, size_t size, const void *next);
#endif

#endif

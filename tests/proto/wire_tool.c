/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma/wire for a test in another language. Reads commands, one a line, and answers each
 * with a line:
 *
 *   opcodes                            JSON: {"name": opcode, ...}
 *   parse HEX                          JSON: the fields, or {"error": "..."}
 *   build NAME=VALUE...                the headers in hex; names as parse gives them
 *   icrc SRC DST SPORT IP_ID HEX       the ICRC as on the wire; HEX is BTH to pad
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hex.h"
#include "lib/util.h"
#include "rdma/io/gid.h"
#include "rdma/wire/icrc.h"
#include "rdma/wire/packet.h"

#define FIELD(name)                                             \
	{                                                       \
#name, offsetof(struct wire_packet, name),      \
			sizeof(((struct wire_packet *)0)->name) \
	}

static const struct field {
	const char *name;
	size_t offset;
	size_t size;
} fields[] = {
	FIELD(opcode),
	FIELD(solicited),
	FIELD(mig_req),
	FIELD(ack_req),
	FIELD(fecn),
	FIELD(becn),
	FIELD(pad),
	FIELD(syndrome),
	FIELD(pkey),
	FIELD(dest_qpn),
	FIELD(psn),
	FIELD(msn),
	FIELD(qkey),
	FIELD(src_qpn),
	FIELD(va),
	FIELD(rkey),
	FIELD(dma_len),
	FIELD(imm_be),
	FIELD(swap_add),
	FIELD(compare),
	FIELD(orig_data),
};

/* Fields are of little-endian integers: this is a test on x86 or arm64. */
static uint64_t field_get(const struct wire_packet *pkt, const struct field *field)
{
	uint64_t value = 0;

	memcpy(&value, (const char *)pkt + field->offset, field->size);
	return value;
}

static void field_set(struct wire_packet *pkt, const char *name, uint64_t value)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!strcmp(fields[i].name, name)) {
			memcpy((char *)pkt + fields[i].offset, &value, fields[i].size);
			return;
		}
	}
	fprintf(stderr, "no field %s\n", name);
	exit(2);
}

static void do_opcodes(void)
{
	const char *separator = "";

	printf("{");
	for (int i = 0; i < 256; i++) {
		if (!wire_opcodes[i].name)
			continue;
		printf("%s\"%s\": %d", separator, wire_opcodes[i].name, i);
		separator = ", ";
	}
	printf("}\n");
}

static void do_parse(char *args)
{
	static uint8_t data[65536];
	struct wire_packet pkt;
	int size = hex_read(args, data, sizeof(data));

	if (size < 0 || wire_parse(data, (size_t)size, &pkt) < 0) {
		printf("{\"error\": \"invalid\"}\n");
		return;
	}
	printf("{");
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		printf("\"%s\": %llu, ", fields[i].name,
			(unsigned long long)field_get(&pkt, &fields[i]));
	printf("\"payload\": \"");
	hex_print(pkt.payload, pkt.payload_len);
	printf("\"}\n");
}

static void do_build(char *args)
{
	struct wire_packet pkt = {0};
	uint8_t hdr[WIRE_HDR_MAX];
	char *save = NULL;

	for (char *t = strtok_r(args, " ", &save); t; t = strtok_r(NULL, " ", &save)) {
		char *value = strchr(t, '=');

		if (!value)
			exit(2);
		*value++ = '\0';
		field_set(&pkt, t, strtoull(value, NULL, 0));
	}
	hex_print(hdr, wire_build(&pkt, hdr));
	printf("\n");
}

static void do_icrc(char *args)
{
	static uint8_t data[65536];
	static char hex[2 * sizeof(data) + 1];
	char src[64], dst[64];
	struct wire_flow flow = {.dport = WIRE_UDP_PORT};
	unsigned int ip_id;
	uint32_t scope, crc;
	uint8_t icrc[WIRE_ICRC_SIZE];
	int size;

	if (sscanf(args, "%63s %63s %hu %u %131072s", src, dst, &flow.sport, &ip_id,
		    hex) != 5)
		exit(2);
	size = hex_read(hex, data, sizeof(data));
	if (size < WIRE_BTH_SIZE || gid_parse(src, flow.src, &scope) < 0 ||
		gid_parse(dst, flow.dst, &scope) < 0)
		exit(2);
	crc = icrc_begin(&flow, (uint16_t)ip_id, data, WIRE_BTH_SIZE,
		(size_t)size + WIRE_ICRC_SIZE);
	icrc_end(icrc_add(crc, data + WIRE_BTH_SIZE, (size_t)size - WIRE_BTH_SIZE), icrc);
	hex_print(icrc, sizeof(icrc));
	printf("\n");
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, stdin) > 0) {
		char *args = line + strcspn(line, " \n");

		line[strcspn(line, "\n")] = '\0';
		if (*args == ' ')
			*args++ = '\0';
		if (!strcmp(line, "opcodes"))
			do_opcodes();
		else if (!strcmp(line, "parse"))
			do_parse(args);
		else if (!strcmp(line, "build"))
			do_build(args);
		else if (!strcmp(line, "icrc"))
			do_icrc(args);
		else
			return 2;
		fflush(stdout);
	}
	free(line);
	return 0;
}

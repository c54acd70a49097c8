/* SPDX-License-Identifier: BSD-3-Clause */
#include "model_packet.h"

static const char *const connected_forms[] = {"S(.", "S.", "S).", "S)I.", "S().", "S()I.",
	"W(T.", "W.", "W).", "W)I.", "W()T.", "W()TI."};
static const char *const reliable_forms[] = {"R()T", "r(A.", "r.", "r)A.", "r()A.",
	"a()A", "x()AV", "C()O", "F()O", NULL, "S)K.", "S()K."};

#define N_CONNECTED 12
#define N_RELIABLE  24

const char *mp_form(uint8_t opcode)
{
	int service = opcode >> 5, operation = opcode & 0x1f;

	if (service <= 1 && operation < N_CONNECTED)
		return connected_forms[operation];
	if (service == 0 && operation < N_RELIABLE)
		return reliable_forms[operation - N_CONNECTED];
	if (service == 3 && operation == 4)
		return "S()D.";
	if (service == 3 && operation == 5)
		return "S()DI.";
	return opcode == MP_CNP ? "N()Z" : NULL;
}

static uint32_t size_of(char header)
{
	static const char letters[] = "DTOAVIKZ";
	static const uint8_t sizes[] = {8, 16, 28, 4, 8, 4, 4, 16};
	const char *at = strchr(letters, header);

	return header && at ? sizes[at - letters] : 0;
}

static uint64_t load(const uint8_t **from, int n_bytes)
{
	uint64_t value = 0;

	while (n_bytes--)
		value = value << 8 | *(*from)++;
	return value;
}

static void store(uint8_t **to, int n_bytes, uint64_t value)
{
	while (n_bytes--)
		*(*to)++ = (uint8_t)(value >> 8 * n_bytes);
}

static void load_header(char header, const uint8_t *b, struct mp *p)
{
	switch (header) {
	case 'D':
		p->qkey = (uint32_t)load(&b, 4);
		p->src_qpn = (uint32_t)load(&b, 4) & 0xffffff;
		break;
	case 'T':
	case 'O':
		p->va = load(&b, 8);
		p->key = (uint32_t)load(&b, 4);
		if (header == 'T') {
			p->length = (uint32_t)load(&b, 4);
			break;
		}
		p->swap_add = load(&b, 8);
		p->compare = load(&b, 8);
		break;
	case 'A':
		p->syndrome = (uint8_t)load(&b, 1);
		p->msn = (uint32_t)load(&b, 3);
		break;
	case 'V':
		p->original = load(&b, 8);
		break;
	case 'I':
		memcpy(p->imm, b, 4);
		break;
	case 'K':
		p->to_invalidate = (uint32_t)load(&b, 4);
		break;
	}
}

static void store_header(char header, const struct mp *p, uint8_t *b)
{
	switch (header) {
	case 'D':
		store(&b, 4, p->qkey);
		store(&b, 4, p->src_qpn);
		break;
	case 'T':
	case 'O':
		store(&b, 8, p->va);
		store(&b, 4, p->key);
		if (header == 'T') {
			store(&b, 4, p->length);
			break;
		}
		store(&b, 8, p->swap_add);
		store(&b, 8, p->compare);
		break;
	case 'A':
		store(&b, 4, (uint32_t)p->syndrome << 24 | p->msn);
		break;
	case 'V':
		store(&b, 8, p->original);
		break;
	case 'I':
		memcpy(b, p->imm, 4);
		break;
	case 'K':
		store(&b, 4, p->to_invalidate);
		break;
	case 'Z':
		memset(b, 0, 16);
		break;
	}
}

bool mp_parse(const uint8_t *bytes, uint32_t size, struct mp *p)
{
	const uint8_t *b = bytes;
	uint32_t second, at = 12;

	*p = (struct mp){0};
	if (size < 12)
		return false;
	p->opcode = (uint8_t)load(&b, 1);
	second = (uint32_t)load(&b, 1);
	p->solicited = second & 0x80;
	p->pad = second >> 4 & 3;
	p->version = second & 15;
	p->pkey = (uint16_t)load(&b, 2);
	second = (uint32_t)load(&b, 4);
	p->becn = second >> 30 & 1;
	p->qpn = second & 0xffffff;
	second = (uint32_t)load(&b, 4);
	p->ack_req = second >> 31;
	p->psn = second & 0xffffff;
	p->form = mp_form(p->opcode);
	if (!p->form || p->version)
		return false;
	for (const char *h = p->form; *h; h++) {
		uint32_t n = size_of(*h);

		if (n > size - at)
			return false;
		load_header(*h, bytes + at, p);
		at += n;
	}
	if (!mp_has(p, '.'))
		return at == size && !p->pad; /* there is nothing to be padded */
	if (p->pad > size - at)
		return false;
	p->data = bytes + at;
	p->n_data = size - at - p->pad;
	return true;
}

uint32_t mp_build(const struct mp *p, uint8_t *bytes)
{
	const char *form = mp_form(p->opcode);
	uint8_t *b = bytes;

	store(&b, 1, p->opcode);
	store(&b, 1,
		(uint32_t)p->solicited << 7 | 0x40u | (uint32_t)p->pad << 4 | p->version);
	store(&b, 2, p->pkey);
	store(&b, 4, p->qpn);
	store(&b, 4, (uint32_t)p->ack_req << 31 | p->psn);
	for (const char *h = form ? form : "."; *h; h++) {
		store_header(*h, p, b);
		b += size_of(*h);
		if (*h != '.')
			continue;
		if (p->n_data)
			memcpy(b, p->data, p->n_data);
		memset(b + p->n_data, 0, p->pad);
		b += p->n_data + p->pad;
	}
	return (uint32_t)(b - bytes);
}

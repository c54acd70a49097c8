/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hostile peer at the other end of a hello connection.
 *
 * Input: a byte of flags, then records of {operation, length, bytes}. Bytes may go in as
 * they are, or as the body of a message of a chosen type, with the code that a peer with
 * the key would put behind it, so that the fuzzer gets past the key. Asserted are the
 * machine's promises: the order of its actions, a trusted peer and a sound endpoint
 * before they are used, bounded buffers, and that time ends every handshake.
 */
#include <assert.h>
#include <string.h>

#include "lib/util.h"
#include "pmd/hello_fsm.h"

enum flag {
	FLAG_INITIATOR = 1,
	FLAG_KEYED = 2,
	FLAG_LEADER = 4,
	FLAG_REFUSES_CLAIM = 8,
	FLAG_REFUSES_CONNECT = 16,
	FLAG_NEVER_SENDS = 32,
};

enum operation {
	OP_RAW,
	OP_MESSAGE, /* first byte: type */
	OP_PROOF,   /* the right AUTH */
	OP_TIME,    /* length is the number of 100 ms */
	OP_EOF,
	OP_CLOSE, /* length is the reason */
	OP_N,
};

struct world {
	struct hello_fsm fsm;
	uint64_t now;
	uint8_t flags;
	unsigned n_claims, n_connects, n_ups, n_closes;
	bool proved; /* the peer has had the help of OP_PROOF */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t remote_gid[16] = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 2};
static const struct hello_key key = {.bytes = "0123456789abcdef", .size = 16};

static void on_claim(struct world *w)
{
	struct hello_endpoint local = {.max_message = 65536,
		.rx_depth = 1,
		.path_mtu = 1024,
		.n_qps = 1,
		.qp = {{.qpn = 2}}};

	w->n_claims++;
	assert(w->n_claims == 1 && w->fsm.is_trusted);
	assert(!(w->flags & FLAG_KEYED) || w->proved);
	if (w->flags & FLAG_REFUSES_CLAIM)
		hello_fsm_close(&w->fsm, HELLO_BYE_DUPLICATE);
	else
		hello_fsm_claimed(&w->fsm, &local);
}

static void on_connect(struct world *w)
{
	w->n_connects++;
	assert(w->n_connects == 1 && w->n_claims == 1);
	assert(!hello_endpoint_check(&w->fsm.endpoint, remote_gid));
	if (w->flags & FLAG_REFUSES_CONNECT)
		hello_fsm_close(&w->fsm, HELLO_BYE_RESOURCES);
	else
		hello_fsm_connected(&w->fsm);
}

static void run(struct world *w)
{
	for (;;) {
		switch (hello_fsm_next(&w->fsm, w->now)) {
		case HELLO_DO_NOTHING:
			assert(w->fsm.tx_size <= HELLO_TX_SIZE);
			if (!(w->flags & FLAG_NEVER_SENDS))
				hello_fsm_tx_done(&w->fsm, w->fsm.tx_size);
			return;
		case HELLO_DO_CLAIM:
			on_claim(w);
			break;
		case HELLO_DO_CONNECT:
			on_connect(w);
			break;
		case HELLO_DO_UP:
			w->n_ups++;
			assert(w->n_ups == 1 && w->n_connects == 1);
			break;
		case HELLO_DO_CLOSE:
			w->n_closes++;
			assert(w->n_closes == 1 && w->fsm.reason > 0 &&
				w->fsm.reason < HELLO_REASON_N);
			assert(hello_reason_text(w->fsm.reason, w->fsm.by_peer));
			break;
		}
	}
}

static void feed(struct world *w, const uint8_t *buf, size_t size)
{
	while (size) {
		size_t n = hello_fsm_rx(&w->fsm, buf, size);

		assert(n > 0);
		buf += n;
		size -= n;
		run(w);
	}
}

static void message_feed(struct world *w, uint8_t type, const uint8_t *body, size_t size)
{
	uint8_t msg[HELLO_MSG_MAX] = {'V', 'R', 'D', 'H', HELLO_VERSION, type};
	size_t n = HELLO_HDR_SIZE + size;
	size_t total = n + (w->fsm.rx_coded ? HELLO_MAC_SIZE : 0);

	msg[6] = (uint8_t)(total >> 8);
	msg[7] = (uint8_t)total;
	memcpy(msg + HELLO_HDR_SIZE, body, size);
	if (w->fsm.rx_coded)
		hello_auth_code(w->fsm.rx_key, w->fsm.rx_seq, msg, n, msg + n);
	feed(w, msg, total);
}

static void proof_feed(struct world *w)
{
	uint8_t proof[HELLO_AUTH_BODY];

	if (w->fsm.state != HELLO_STATE_AUTH_WAIT)
		return;
	hello_auth_proof(&key, &w->fsm.transcript, !w->fsm.params.is_initiator, proof);
	w->proved = true;
	message_feed(w, HELLO_TYPE_AUTH, proof, sizeof(proof));
}

static void record_do(struct world *w, unsigned op, const uint8_t *bytes, size_t size)
{
	switch (op) {
	case OP_RAW:
		feed(w, bytes, size);
		break;
	case OP_MESSAGE:
		if (size)
			message_feed(w, bytes[0], bytes + 1, size - 1);
		break;
	case OP_PROOF:
		proof_feed(w);
		break;
	case OP_TIME:
		w->now += size * 100 * NSEC_PER_MSEC;
		hello_fsm_tick(&w->fsm, w->now);
		break;
	case OP_EOF:
		hello_fsm_eof(&w->fsm);
		break;
	default:
		if (size && size < HELLO_REASON_N)
			hello_fsm_close(&w->fsm, (enum hello_reason)size);
		break;
	}
	run(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hello_params params = {.timers = &hello_timers_default};
	static struct world w;

	if (!size)
		return 0;
	memset(&w, 0, sizeof(w));
	w.flags = *data++;
	size--;
	params.is_initiator = w.flags & FLAG_INITIATOR;
	params.instance = w.flags & FLAG_LEADER ? UINT64_MAX : 1;
	params.key = w.flags & FLAG_KEYED ? &key : NULL;
	memcpy(params.remote_gid, remote_gid, 16);
	hello_fsm_init(&w.fsm, &params, w.now);
	run(&w);

	while (size >= 2) {
		unsigned op = data[0] % OP_N;
		size_t n = data[1];
		size_t n_bytes = op <= OP_MESSAGE ? MIN(n, size - 2) : 0;

		record_do(&w, op, data + 2, op <= OP_MESSAGE ? n_bytes : n);
		data += 2 + n_bytes;
		size -= 2 + n_bytes;
	}
	/* Silence ends it, whatever came before. */
	hello_fsm_tick(&w.fsm, w.now + 3600 * NSEC_PER_SEC);
	run(&w);
	assert(w.fsm.state == HELLO_STATE_CLOSED && w.n_closes == 1);
	return 0;
}

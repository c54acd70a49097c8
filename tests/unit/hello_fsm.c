/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The hello state machine on a virtual clock: two machines, and a wire between them that
 * the tests may cut, bend and delay. Every test that concerns both runs in all modes:
 * with and without a key, with the initiator as leader and as follower.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "lib/util.h"
#include "pmd/hello_fsm.h"

#define T0	  (1000 * NSEC_PER_SEC)
#define TIMERS	  (&hello_timers_default)
#define NO_OFFSET SIZE_MAX

/* One direction of the wire, and what is done to it. */
struct wire {
	size_t n_sent;	/* bytes so far */
	size_t cut_at;	/* this byte and all later ones are lost, and the end is seen */
	size_t bend_at; /* this byte is changed */
	uint8_t bend;	/* by exclusive or */
	size_t chunk;	/* bytes handed over at a time */
	uint8_t record[8192];
};

struct side {
	struct hello_fsm fsm;
	struct hello_endpoint local;
	struct wire out;
	char name;    /* 'L' or 'F', in the transcript */
	bool refuses; /* answers CLAIM with BYE duplicate */
	unsigned n_ups;
};

struct world {
	struct side i, a; /* initiator, acceptor */
	struct hello_key key;
	uint64_t now;
	char transcript[128]; /* of what the owners were asked for */
};

struct mode {
	bool keyed;
	bool initiator_leads;
};

static const struct mode modes[] = {
	{false, false}, {false, true}, {true, false}, {true, true}};

#define FOR_EACH_MODE(mode) \
	for (const struct mode *mode = modes; mode < modes + ARRAY_SIZE(modes); mode++)

static void endpoint_fill(struct hello_endpoint *ep, uint8_t host)
{
	memset(ep, 0, sizeof(*ep));
	ep->gid[10] = ep->gid[11] = 0xff;
	ep->gid[12] = 10;
	ep->gid[15] = host;
	ep->caps = HELLO_CAP_CSUM | HELLO_CAP_TSO;
	ep->max_message = 65600;
	ep->rx_depth = 512;
	ep->path_mtu = 4096;
	ep->n_qps = 2;
	ep->qp[0] = (struct hello_qp){.qpn = 0x000100u + host, .psn = 0xfffffe};
	ep->qp[1] = (struct hello_qp){.qpn = 0xabcd00u + host, .psn = 0};
	snprintf(ep->name, sizeof(ep->name), "node%u", host);
}

static void side_init(
	struct world *w, struct side *side, const struct mode *mode, bool is_i)
{
	struct hello_params params = {
		.is_initiator = is_i,
		.instance = is_i == mode->initiator_leads ? 0x8000000000000001 : 0x77,
		.key = mode->keyed ? &w->key : NULL,
		.timers = TIMERS,
	};
	struct hello_endpoint remote;

	memset(params.nonce, is_i ? 0x11 : 0x22, sizeof(params.nonce));
	endpoint_fill(&side->local, is_i ? 1 : 2);
	endpoint_fill(&remote, is_i ? 2 : 1);
	memcpy(params.remote_gid, remote.gid, 16);
	side->name = is_i == mode->initiator_leads ? 'L' : 'F';
	side->out.cut_at = side->out.bend_at = NO_OFFSET;
	side->out.chunk = 1448;
	hello_fsm_init(&side->fsm, &params, w->now);
}

static void world_init(struct world *w, const struct mode *mode)
{
	memset(w, 0, sizeof(*w));
	w->now = T0;
	w->key.size = 32;
	memset(w->key.bytes, 0x5a, 32);
	side_init(w, &w->i, mode, true);
	side_init(w, &w->a, mode, false);
}

static void note(struct world *w, const struct side *side, const char *what)
{
	size_t n = strlen(w->transcript);

	snprintf(w->transcript + n, sizeof(w->transcript) - n, "%s%c:%s", n ? " " : "",
		side->name, what);
}

/* The owner: does at once what the machine asks for. */
static void side_run(struct world *w, struct side *side)
{
	for (;;) {
		switch (hello_fsm_next(&side->fsm, w->now)) {
		case HELLO_DO_NOTHING:
			return;
		case HELLO_DO_CLAIM:
			note(w, side, "claim");
			assert_true(side->fsm.is_trusted);
			if (side->refuses)
				hello_fsm_close(&side->fsm, HELLO_BYE_DUPLICATE);
			else
				hello_fsm_claimed(&side->fsm, &side->local);
			break;
		case HELLO_DO_CONNECT:
			note(w, side, "connect");
			hello_fsm_connected(&side->fsm);
			break;
		case HELLO_DO_UP:
			note(w, side, "up");
			side->n_ups++;
			break;
		case HELLO_DO_CLOSE:
			note(w, side, "close");
			break;
		}
	}
}

static void side_feed(struct world *w, struct side *side, const uint8_t *buf, size_t size)
{
	while (size) {
		size_t n = hello_fsm_rx(&side->fsm, buf, size);

		assert_true(n > 0);
		buf += n;
		size -= n;
		side_run(w, side);
	}
}

/* Moves one chunk over the wire; false when there is nothing to move. */
static bool wire_move(struct world *w, struct side *from, struct side *to)
{
	struct wire *wire = &from->out;
	size_t n = MIN(from->fsm.tx_size, wire->chunk);
	uint8_t buf[HELLO_TX_SIZE];

	if (!n)
		return false;
	memcpy(buf, from->fsm.tx, n);
	hello_fsm_tx_done(&from->fsm, n);
	assert_true(wire->n_sent + n <= sizeof(wire->record));
	memcpy(wire->record + wire->n_sent, buf, n);
	if (wire->bend_at >= wire->n_sent && wire->bend_at < wire->n_sent + n)
		buf[wire->bend_at - wire->n_sent] ^= wire->bend;
	if (wire->cut_at <= wire->n_sent + n) {
		size_t kept =
			wire->cut_at > wire->n_sent ? wire->cut_at - wire->n_sent : 0;

		side_feed(w, to, buf, kept);
		hello_fsm_eof(&to->fsm);
		side_run(w, to);
	} else {
		side_feed(w, to, buf, n);
	}
	wire->n_sent += n;
	return true;
}

/* Until nothing moves any more; a side that closed is seen as end of TCP by the other. */
static void pump(struct world *w)
{
	side_run(w, &w->i);
	side_run(w, &w->a);
	while (wire_move(w, &w->i, &w->a) || wire_move(w, &w->a, &w->i))
		;
	if (w->i.fsm.state == HELLO_STATE_CLOSED)
		hello_fsm_eof(&w->a.fsm);
	if (w->a.fsm.state == HELLO_STATE_CLOSED)
		hello_fsm_eof(&w->i.fsm);
	side_run(w, &w->i);
	side_run(w, &w->a);
}

static void tick_both(struct world *w, uint64_t now)
{
	w->now = now;
	hello_fsm_tick(&w->i.fsm, now);
	hello_fsm_tick(&w->a.fsm, now);
}

static void assert_closed(const struct side *side, enum hello_reason reason, bool by_peer)
{
	assert_int_equal(side->fsm.state, HELLO_STATE_CLOSED);
	assert_string_equal(hello_reason_text(side->fsm.reason, side->fsm.by_peer),
		hello_reason_text(reason, by_peer));
	assert_int_equal(hello_fsm_deadline(&side->fsm), UINT64_MAX);
}

static void assert_both_up(const struct world *w)
{
	const char *first = "L:claim F:claim F:connect L:connect ";

	assert_memory_equal(w->transcript, first, strlen(first));
	assert_true(w->i.n_ups == 1 && w->a.n_ups == 1); /* in either order */
	assert_memory_equal(&w->i.fsm.endpoint, &w->a.local, sizeof(w->a.local));
	assert_memory_equal(&w->a.fsm.endpoint, &w->i.local, sizeof(w->i.local));
}

/* ---- the exchange ---- */

static void test_exchange(void **state)
{
	FOR_EACH_MODE(mode)
	{
		struct world w;

		world_init(&w, mode);
		pump(&w);
		assert_both_up(&w);
		/* HELLO, (AUTH), ENDPOINT, READY, and nothing else */
		assert_int_equal(
			w.i.out.n_sent, 56 + 96 + 8 + (mode->keyed ? 40 + 64 : 0));
		assert_int_equal(w.i.out.n_sent, w.a.out.n_sent);
	}
}

static void test_byte_by_byte(void **state)
{
	FOR_EACH_MODE(mode)
	{
		struct world w;

		world_init(&w, mode);
		w.i.out.chunk = w.a.out.chunk = 1;
		pump(&w);
		assert_both_up(&w);
	}
}

/* The acceptor is silent until HELLO came, and no endpoint goes out before AUTH came. */
static void test_who_speaks_first(void **state)
{
	FOR_EACH_MODE(mode)
	{
		struct world w;

		world_init(&w, mode);
		side_run(&w, &w.a);
		assert_int_equal(w.a.fsm.tx_size, 0);
		assert_true(wire_move(&w, &w.i, &w.a)); /* HELLO */
		if (!mode->keyed)
			continue;
		assert_int_equal(w.a.fsm.tx_size, 56);	/* HELLO and no AUTH yet */
		assert_true(wire_move(&w, &w.a, &w.i)); /* HELLO */
		assert_int_equal(w.i.fsm.tx_size, 40);	/* AUTH and no ENDPOINT yet */
		assert_true(w.transcript[0] == '\0');
	}
}

static void test_keepalive_and_silence(void **state)
{
	FOR_EACH_MODE(mode)
	{
		struct world w;

		world_init(&w, mode);
		pump(&w);
		for (int i = 1; i <= 100; i++) {
			assert_int_equal(hello_fsm_deadline(&w.i.fsm),
				w.now + TIMERS->keepalive_ns);
			tick_both(&w, w.now + TIMERS->keepalive_ns);
			pump(&w);
			assert_both_up(&w);
		}
		/* The acceptor hears nothing any more, and says so. */
		w.i.out.cut_at = NO_OFFSET;
		for (uint64_t end = w.now + TIMERS->dead_ns; w.now < end;) {
			assert_int_equal(w.a.fsm.state, HELLO_STATE_UP);
			hello_fsm_tick(&w.a.fsm, w.now += TIMERS->keepalive_ns);
			wire_move(&w, &w.a, &w.i);
		}
		side_run(&w, &w.a);
		assert_closed(&w.a, HELLO_BYE_TIMEOUT, false);
		assert_closed(&w.i, HELLO_BYE_TIMEOUT, true);
	}
}

static void test_handshake_time(void **state)
{
	FOR_EACH_MODE(mode)
	{
		/* Whatever number of messages is let through first. */
		for (int n = 0; n < 5; n++) {
			struct world w;

			world_init(&w, mode);
			side_run(&w, &w.i);
			for (int i = 0; i < n; i++)
				(void)(i % 2 ? wire_move(&w, &w.a, &w.i)
					     : wire_move(&w, &w.i, &w.a));
			if (w.i.fsm.state == HELLO_STATE_UP ||
				w.a.fsm.state == HELLO_STATE_UP)
				continue;
			assert_int_equal(
				hello_fsm_deadline(&w.i.fsm), T0 + TIMERS->handshake_ns);
			tick_both(&w, T0 + TIMERS->handshake_ns - 1);
			assert_int_not_equal(w.i.fsm.state, HELLO_STATE_CLOSED);
			tick_both(&w, T0 + TIMERS->handshake_ns);
			assert_closed(&w.i, HELLO_BYE_TIMEOUT, false);
			assert_closed(&w.a, HELLO_BYE_TIMEOUT, false);
		}
	}
}

/* A peer that does not read cannot make the buffer grow. */
static void test_peer_does_not_read(void **state)
{
	static const uint8_t keepalive[] = {
		'V', 'R', 'D', 'H', 1, HELLO_TYPE_KEEPALIVE, 0, 8};
	struct world w;

	world_init(&w, &modes[0]);
	pump(&w);
	for (int i = 0; i < 1000 && w.i.fsm.state == HELLO_STATE_UP; i++) {
		side_feed(&w, &w.i, keepalive, sizeof(keepalive));
		hello_fsm_tick(&w.i.fsm, w.now += TIMERS->keepalive_ns);
	}
	assert_closed(&w.i, HELLO_BYE_TIMEOUT, false);
	assert_true(w.i.fsm.tx_size <= HELLO_TX_SIZE);
}

static void test_leader_refuses(void **state)
{
	FOR_EACH_MODE(mode)
	{
		struct world w;

		world_init(&w, mode);
		w.i.refuses = w.a.refuses = true;
		pump(&w);
		assert_string_equal(w.transcript, "L:claim L:close F:close");
		assert_closed(w.i.name == 'L' ? &w.i : &w.a, HELLO_BYE_DUPLICATE, false);
		assert_closed(w.i.name == 'L' ? &w.a : &w.i, HELLO_BYE_DUPLICATE, true);
	}
}

static void test_orderly_close(void **state)
{
	FOR_EACH_MODE(mode)
	{
		struct world w;

		world_init(&w, mode);
		pump(&w);
		hello_fsm_close(&w.i.fsm, HELLO_BYE_SHUTDOWN);
		hello_fsm_close(&w.i.fsm, HELLO_BYE_REMOVED); /* too late */
		pump(&w);
		assert_closed(&w.i, HELLO_BYE_SHUTDOWN, false);
		assert_closed(&w.a, HELLO_BYE_SHUTDOWN, true);
	}
}

/* ---- refusals ---- */

static void test_keys_differ(void **state)
{
	for (int i = 0; i < 2; i++) {
		struct world w;
		struct hello_key other;

		world_init(&w, &modes[2 + i]);
		other = w.key;
		other.bytes[31] ^= 1;
		w.i.fsm.params.key = &other;
		pump(&w);
		assert_closed(&w.a, HELLO_BYE_AUTH, false);
		assert_closed(&w.i, HELLO_BYE_AUTH, true);
		assert_null(strstr(w.transcript, "claim"));
	}
}

static void test_one_key(void **state)
{
	struct world w;
	struct mode half = {.keyed = true};

	world_init(&w, &half);
	w.a.fsm.params.key = NULL;
	pump(&w);
	assert_closed(&w.a, HELLO_BYE_KEY_UNEXPECTED, false);
	assert_closed(&w.i, HELLO_BYE_KEY_UNEXPECTED, true);

	half.keyed = false;
	world_init(&w, &half);
	w.a.fsm.params.key = &w.key;
	pump(&w);
	assert_closed(&w.a, HELLO_BYE_KEY_REQUIRED, false);
	assert_closed(&w.i, HELLO_BYE_KEY_REQUIRED, true);
}

/* A peer without a key that leaves the initiator's flag unread gets nothing either. */
static void test_acceptor_drops_key(void **state)
{
	struct hello_hello hello = {.version_min = 1, .version_max = 1, .instance = 5};
	uint8_t msg[HELLO_MSG_MAX];
	struct world w;

	world_init(&w, &modes[2]);
	side_feed(&w, &w.i, msg, hello_hello_encode(msg, &hello));
	assert_closed(&w.i, HELLO_BYE_KEY_REQUIRED, false);
}

static void test_self(void **state)
{
	FOR_EACH_MODE(mode)
	{
		struct world w;

		world_init(&w, mode);
		w.a.fsm.params.instance = w.i.fsm.params.instance;
		hello_fsm_init(&w.i.fsm,
			&(struct hello_params){.is_initiator = true,
				.instance = w.a.fsm.params.instance,
				.key = w.a.fsm.params.key,
				.timers = TIMERS},
			T0);
		pump(&w);
		assert_closed(&w.a, HELLO_BYE_SELF, false);
		assert_closed(&w.i, HELLO_BYE_SELF, true);
	}
}

static void hello_case(uint8_t min, uint8_t max, uint64_t instance, int reason)
{
	struct hello_hello hello = {
		.version_min = min, .version_max = max, .instance = instance};
	uint8_t msg[HELLO_MSG_MAX];
	struct world w;

	world_init(&w, &modes[0]);
	side_feed(&w, &w.a, msg, hello_hello_encode(msg, &hello));
	if (reason)
		assert_closed(&w.a, (enum hello_reason)reason, false);
	else
		assert_int_not_equal(w.a.fsm.state, HELLO_STATE_CLOSED);
}

static void test_versions(void **state)
{
	hello_case(1, 1, 5, 0);
	hello_case(1, 255, 5, 0);
	hello_case(2, 3, 5, HELLO_BYE_VERSION);
	hello_case(255, 255, 5, HELLO_BYE_VERSION);
	hello_case(0, 1, 5, HELLO_BYE_MALFORMED);
	hello_case(0, 0, 5, HELLO_BYE_MALFORMED);
	hello_case(2, 1, 5, HELLO_BYE_MALFORMED);
	hello_case(1, 1, 0, HELLO_BYE_MALFORMED);
}

/* A later version's longer HELLO is understood, and all of it is proved. */
static void test_longer_hello(void **state)
{
	FOR_EACH_MODE(mode)
	{
		struct world w;

		world_init(&w, mode);
		memset(w.i.fsm.tx + 56, 0xee, 200);
		w.i.fsm.tx_size = 256;
		w.i.fsm.tx[6] = 1; /* length 256 */
		w.i.fsm.tx[7] = 0;
		memcpy(w.i.fsm.transcript.initiator, w.i.fsm.tx, 256);
		w.i.fsm.transcript.initiator_size = 256;
		pump(&w);
		assert_both_up(&w);
	}
}

static void endpoint_case(void (*spoil)(struct hello_endpoint *ep), const char *detail)
{
	FOR_EACH_MODE(mode)
	{
		struct world w;

		world_init(&w, mode);
		spoil(&w.i.local);
		pump(&w);
		assert_closed(&w.a, HELLO_BYE_ENDPOINT, false);
		assert_closed(&w.i, HELLO_BYE_ENDPOINT, true);
		assert_string_equal(w.a.fsm.detail, detail);
		assert_int_equal(w.i.n_ups + w.a.n_ups, 0);
	}
}

#define SPOIL(name, statement)                      \
	static void name(struct hello_endpoint *ep) \
	{                                           \
		statement;                          \
	}
SPOIL(spoil_gid, ep->gid[15]++)
SPOIL(spoil_mapped, ep->gid[10] = 0)
SPOIL(spoil_message_small, ep->max_message = 1023)
SPOIL(spoil_message_large, ep->max_message = (16u << 20) + 1)
SPOIL(spoil_depth_zero, ep->rx_depth = 0)
SPOIL(spoil_depth_large, ep->rx_depth = (1u << 20) + 1)
SPOIL(spoil_mtu_small, ep->path_mtu = 128)
SPOIL(spoil_mtu_odd, ep->path_mtu = 1500)
SPOIL(spoil_mtu_large, ep->path_mtu = 8192)
SPOIL(spoil_no_qps, ep->n_qps = 0)
SPOIL(spoil_qpn_zero, ep->qp[1].qpn = 0)
SPOIL(spoil_qpn_management, ep->qp[0].qpn = 1)
SPOIL(spoil_qpn_multicast, ep->qp[0].qpn = 0xffffff)
SPOIL(spoil_qpn_wide, ep->qp[0].qpn = 0x1000100)
SPOIL(spoil_qpn_twice, ep->qp[1].qpn = ep->qp[0].qpn)
SPOIL(spoil_psn_wide, ep->qp[0].psn = 0x1000000)

static void test_endpoint_values(void **state)
{
	endpoint_case(spoil_gid, "GID is not the address");
	endpoint_case(spoil_mapped, "GID is not the address");
	endpoint_case(spoil_message_small, "largest message");
	endpoint_case(spoil_message_large, "largest message");
	endpoint_case(spoil_depth_zero, "receive depth");
	endpoint_case(spoil_depth_large, "receive depth");
	endpoint_case(spoil_mtu_small, "path MTU");
	endpoint_case(spoil_mtu_odd, "path MTU");
	endpoint_case(spoil_mtu_large, "path MTU");
	endpoint_case(spoil_no_qps, "number of queue pairs");
	endpoint_case(spoil_qpn_zero, "queue pair or packet sequence number");
	endpoint_case(spoil_qpn_management, "queue pair or packet sequence number");
	endpoint_case(spoil_qpn_multicast, "queue pair or packet sequence number");
	endpoint_case(spoil_qpn_wide, "queue pair or packet sequence number");
	endpoint_case(spoil_qpn_twice, "queue pair or packet sequence number");
	endpoint_case(spoil_psn_wide, "queue pair or packet sequence number");
}

/* ---- a hostile wire ---- */

/* The connection ends after each byte of each direction: both notice, nobody is misled.
 */
static void test_cut_everywhere(void **state)
{
	FOR_EACH_MODE(mode)
	{
		struct world whole;

		world_init(&whole, mode);
		pump(&whole);
		for (int way = 0; way < 2; way++) {
			size_t size = way ? whole.a.out.n_sent : whole.i.out.n_sent;

			for (size_t at = 0; at <= size; at++) {
				struct world w;
				struct side *from = way ? &w.a : &w.i;
				struct side *to = way ? &w.i : &w.a;

				world_init(&w, mode);
				from->out.cut_at = at;
				pump(&w);
				assert_int_equal(w.i.fsm.state, HELLO_STATE_CLOSED);
				assert_int_equal(w.a.fsm.state, HELLO_STATE_CLOSED);
				if (at > 0)
					assert_closed(to, HELLO_END_CLOSED, false);
				assert_int_equal(to->n_ups, at == size);
			}
		}
	}
}

/*
 * With a key: no byte of what one side sends can be changed so that the other side comes
 * up. A bent length may leave it waiting, until its time is over.
 */
static void test_bend_everywhere(void **state)
{
	static const uint8_t bends[] = {0x01, 0x80, 0xff};

	FOR_EACH_MODE(mode)
	{
		struct world whole;

		world_init(&whole, mode);
		pump(&whole);
		for (size_t k = 0; k < 2 * whole.i.out.n_sent * ARRAY_SIZE(bends); k++) {
			size_t at = k / 2 / ARRAY_SIZE(bends);
			struct world w;
			struct side *from = k % 2 ? &w.a : &w.i;
			struct side *to = k % 2 ? &w.i : &w.a;

			world_init(&w, mode);
			from->out.bend_at = at;
			from->out.bend = bends[k / 2 % ARRAY_SIZE(bends)];
			pump(&w);
			if (mode->keyed)
				assert_int_equal(to->n_ups, 0);
			tick_both(&w, T0 + 100 * NSEC_PER_SEC);
			side_run(&w, &w.i);
			side_run(&w, &w.a);
			assert_int_equal(w.i.fsm.state, HELLO_STATE_CLOSED);
			assert_int_equal(w.a.fsm.state, HELLO_STATE_CLOSED);
		}
	}
}

/* What was recorded from one connection is worth nothing in the next. */
static void test_replay(void **state)
{
	for (int i = 2; i < 4; i++) {
		struct world w, again;

		world_init(&w, &modes[i]);
		pump(&w);
		world_init(&again, &modes[i]);
		again.a.fsm.params.nonce[7] ^= 1; /* fresh */
		side_feed(&again, &again.a, w.i.out.record, w.i.out.n_sent);
		assert_closed(&again.a, HELLO_BYE_AUTH, false);
		assert_null(strstr(again.transcript, "claim"));
	}
}

/* A proof sent back to its maker is none. */
static void test_reflection(void **state)
{
	struct hello_hello hello = {.version_min = 1,
		.version_max = 1,
		.flags = HELLO_FLAG_KEYED,
		.instance = 5};
	uint8_t msg[HELLO_MSG_MAX];
	struct world w;

	world_init(&w, &modes[2]);
	hello_fsm_tx_done(&w.i.fsm, w.i.fsm.tx_size);
	side_feed(&w, &w.i, msg, hello_hello_encode(msg, &hello));
	assert_int_equal(w.i.fsm.tx_size, 40);
	memcpy(msg, w.i.fsm.tx, 40);
	side_feed(&w, &w.i, msg, 40);
	assert_closed(&w.i, HELLO_BYE_AUTH, false);
}

/* A keyed message twice, or in another place, is refused. */
static void test_sequence(void **state)
{
	struct world w;
	size_t at;

	world_init(&w, &modes[3]);
	pump(&w);
	assert_both_up(&w);
	tick_both(&w, w.now + TIMERS->keepalive_ns);
	at = w.i.out.n_sent;
	pump(&w);
	side_feed(&w, &w.a, w.i.out.record + at, 40);
	assert_closed(&w.a, HELLO_BYE_AUTH, false);
}

static void garbage_case(const void *bytes, size_t size, enum hello_reason reason)
{
	struct world w;

	world_init(&w, &modes[0]);
	side_feed(&w, &w.a, bytes, size);
	assert_closed(&w.a, reason, false);
	assert_non_null(strstr(w.transcript, ":close"));
	assert_null(strstr(w.transcript, "claim"));
}

static void test_garbage(void **state)
{
	garbage_case("GET / HTTP/1.1\r\n\r\n", 18, HELLO_BYE_MALFORMED);
	garbage_case("\0\0\0\0\0\0\0\0", 8, HELLO_BYE_MALFORMED);
	/* lengths: less than a header, one too many, huge; judged before they are read */
	garbage_case("VRDH\1\1\0\0", 8, HELLO_BYE_MALFORMED);
	garbage_case("VRDH\1\1\0\7", 8, HELLO_BYE_MALFORMED);
	garbage_case("VRDH\1\1\4\1", 8, HELLO_BYE_MALFORMED);
	garbage_case("VRDH\1\1\377\377", 8, HELLO_BYE_MALFORMED);
	/* a HELLO without, and types that there are not */
	garbage_case("VRDH\1\1\0\10", 8, HELLO_BYE_MALFORMED);
	garbage_case("VRDH\1\0\0\10", 8, HELLO_BYE_MALFORMED);
	garbage_case("VRDH\1\7\0\10", 8, HELLO_BYE_MALFORMED);
	garbage_case("VRDH\1\377\0\10", 8, HELLO_BYE_MALFORMED);
	garbage_case("VRDH\2\1\0\10", 8, HELLO_BYE_VERSION);
	garbage_case("VRDH\0\1\0\10", 8, HELLO_BYE_VERSION);
	/* BYE with a reason that there is not, or of another size */
	garbage_case("VRDH\1\6\0\14\0\0\0\0", 12, HELLO_BYE_MALFORMED);
	garbage_case("VRDH\1\6\0\14\0\17\0\0", 12, HELLO_BYE_MALFORMED);
	garbage_case("VRDH\1\6\0\12\0\1", 10, HELLO_BYE_MALFORMED);
}

/* Builds a well-formed message of a type, for a peer that has no key. */
static size_t message_build(uint8_t *msg, unsigned type)
{
	static const struct hello_hello hello = {
		.version_min = 1, .version_max = 1, .instance = 5};
	static const uint8_t proof[HELLO_AUTH_BODY];
	struct hello_endpoint ep;

	endpoint_fill(&ep, 1);
	switch (type) {
	case HELLO_TYPE_HELLO:
		return hello_hello_encode(msg, &hello);
	case HELLO_TYPE_AUTH:
		return hello_auth_encode(msg, proof);
	case HELLO_TYPE_ENDPOINT:
		return hello_endpoint_encode(msg, &ep, 0);
	case HELLO_TYPE_BYE:
		return hello_bye_encode(msg, HELLO_BYE_QP_FAILED, 0);
	default:
		return hello_plain_encode(msg, (enum hello_type)type, 0);
	}
}

/* In each state each message but the expected one and BYE is an error; BYE always ends.
 */
static void test_each_message_in_each_state(void **state)
{
	static const unsigned script[] = {HELLO_TYPE_HELLO, HELLO_TYPE_ENDPOINT,
		HELLO_TYPE_READY, HELLO_TYPE_KEEPALIVE};

	for (int leads = 0; leads < 2; leads++) {
		for (size_t done = 0; done < ARRAY_SIZE(script); done++) {
			for (unsigned type = 1; type <= HELLO_TYPE_BYE; type++) {
				struct mode mode = {.initiator_leads = !leads};
				uint8_t msg[HELLO_MSG_MAX];
				struct world w;

				world_init(&w, &mode);
				for (size_t i = 0; i < done; i++)
					side_feed(&w, &w.a, msg,
						message_build(msg, script[i]));
				side_feed(&w, &w.a, msg, message_build(msg, type));
				if (type == HELLO_TYPE_BYE)
					assert_closed(&w.a, HELLO_BYE_QP_FAILED, true);
				else if (type != script[done])
					assert_closed(&w.a, HELLO_BYE_MALFORMED, false);
				else
					assert_int_not_equal(
						w.a.fsm.state, HELLO_STATE_CLOSED);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_who_speaks_first),
		cmocka_unit_test(test_keepalive_and_silence),
		cmocka_unit_test(test_handshake_time),
		cmocka_unit_test(test_peer_does_not_read),
		cmocka_unit_test(test_leader_refuses),
		cmocka_unit_test(test_orderly_close),
		cmocka_unit_test(test_keys_differ),
		cmocka_unit_test(test_one_key),
		cmocka_unit_test(test_acceptor_drops_key),
		cmocka_unit_test(test_self),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_longer_hello),
		cmocka_unit_test(test_endpoint_values),
		cmocka_unit_test(test_cut_everywhere),
		cmocka_unit_test(test_bend_everywhere),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_reflection),
		cmocka_unit_test(test_sequence),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_each_message_in_each_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "pmd/hello_fsm.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <openssl/crypto.h>

#include "lib/util.h"

const struct hello_timers hello_timers_default = {
	.connect_ns = 3 * NSEC_PER_SEC,
	.handshake_ns = 5 * NSEC_PER_SEC,
	.keepalive_ns = 1 * NSEC_PER_SEC,
	.dead_ns = 5 * NSEC_PER_SEC,
	.linger_ns = 1 * NSEC_PER_SEC,
	.backoff_min_ns = 200 * NSEC_PER_MSEC,
	.backoff_max_ns = 10 * NSEC_PER_SEC,
	.stable_ns = 10 * NSEC_PER_SEC,
	.listen_retry_ns = 1 * NSEC_PER_SEC,
};

/* The owner's task on entering a state. */
static const enum hello_action state_action[] = {
	[HELLO_STATE_CLAIM] = HELLO_DO_CLAIM,
	[HELLO_STATE_CONNECT] = HELLO_DO_CONNECT,
	[HELLO_STATE_UP] = HELLO_DO_UP,
	[HELLO_STATE_CLOSED] = HELLO_DO_CLOSE,
};

static void state_set(struct hello_fsm *fsm, enum hello_state state)
{
	assert(fsm->state != HELLO_STATE_CLOSED);
	fsm->state = state;
	fsm->action = state_action[state];
	if (state == HELLO_STATE_CLOSED) {
		fsm->rx_size = 0;
		OPENSSL_cleanse(fsm->tx_key, sizeof(fsm->tx_key));
		OPENSSL_cleanse(fsm->rx_key, sizeof(fsm->rx_key));
	}
}

/* Why it ended, without a word to the peer. */
static void closed_set(struct hello_fsm *fsm, enum hello_reason reason, bool by_peer)
{
	fsm->reason = reason;
	fsm->by_peer = by_peer;
	state_set(fsm, HELLO_STATE_CLOSED);
}

/*
 * Sends the message of @size bytes (without its code) that was built in @msg. A peer that
 * reads so slowly that there is no room is as good as silent.
 */
static void message_send(struct hello_fsm *fsm, uint8_t msg[HELLO_MSG_MAX], size_t size)
{
	if (fsm->tx_coded) {
		hello_auth_code(fsm->tx_key, fsm->tx_seq++, msg, size, msg + size);
		size += HELLO_MAC_SIZE;
	}
	if (size > sizeof(fsm->tx) - fsm->tx_size) {
		closed_set(fsm, HELLO_BYE_TIMEOUT, false);
		return;
	}
	memcpy(fsm->tx + fsm->tx_size, msg, size);
	fsm->tx_size += size;
}

static size_t code_size(const struct hello_fsm *fsm)
{
	return fsm->tx_coded ? HELLO_MAC_SIZE : 0;
}

static void plain_send(struct hello_fsm *fsm, enum hello_type type)
{
	uint8_t msg[HELLO_MSG_MAX];

	message_send(fsm, msg, hello_plain_encode(msg, type, code_size(fsm)));
}

void hello_fsm_close(struct hello_fsm *fsm, enum hello_reason reason)
{
	uint8_t msg[HELLO_MSG_MAX];

	if (fsm->state == HELLO_STATE_CLOSED)
		return;
	if (reason < HELLO_BYE_N)
		message_send(fsm, msg, hello_bye_encode(msg, reason, code_size(fsm)));
	if (fsm->state != HELLO_STATE_CLOSED)
		closed_set(fsm, reason, false);
}

static void hello_send(struct hello_fsm *fsm)
{
	struct hello_transcript *t = &fsm->transcript;
	struct hello_hello hello = {
		.version_min = HELLO_VERSION,
		.version_max = HELLO_VERSION,
		.flags = fsm->params.key ? HELLO_FLAG_KEYED : 0,
		.instance = fsm->params.instance,
	};
	uint8_t msg[HELLO_MSG_MAX];
	size_t size;

	memcpy(hello.nonce, fsm->params.nonce, sizeof(hello.nonce));
	size = hello_hello_encode(msg, &hello);
	if (fsm->params.is_initiator) {
		memcpy(t->initiator, msg, size);
		t->initiator_size = size;
	} else {
		memcpy(t->acceptor, msg, size);
		t->acceptor_size = size;
	}
	message_send(fsm, msg, size);
}

/* Proves the key; from here on our messages carry codes. */
static void auth_send(struct hello_fsm *fsm)
{
	const struct hello_params *p = &fsm->params;
	uint8_t proof[HELLO_AUTH_BODY];
	uint8_t msg[HELLO_MSG_MAX];

	hello_auth_proof(p->key, &fsm->transcript, p->is_initiator, proof);
	message_send(fsm, msg, hello_auth_encode(msg, proof));
	hello_auth_session_key(p->key, &fsm->transcript, p->is_initiator, fsm->tx_key);
	fsm->tx_coded = true;
}

void hello_fsm_init(
	struct hello_fsm *fsm, const struct hello_params *params, uint64_t now_ns)
{
	memset(fsm, 0, sizeof(*fsm));
	fsm->params = *params;
	fsm->state = HELLO_STATE_HELLO_WAIT;
	fsm->deadline_ns = now_ns + params->timers->handshake_ns;
	if (params->is_initiator)
		hello_send(fsm);
}

/* HELLO, and AUTH with a key, went well: the leader chooses, the follower waits. */
static void trusted(struct hello_fsm *fsm)
{
	fsm->is_trusted = true;
	state_set(fsm, fsm->is_leader ? HELLO_STATE_CLAIM : HELLO_STATE_ENDPOINT_WAIT);
}

/* What is wrong with the peer's HELLO; 0 when nothing is. */
static unsigned hello_judge(const struct hello_fsm *fsm)
{
	const struct hello_hello *remote = &fsm->remote;
	bool peer_keyed = remote->flags & HELLO_FLAG_KEYED;

	if (remote->version_min > HELLO_VERSION || remote->version_max < HELLO_VERSION)
		return HELLO_BYE_VERSION;
	if (remote->instance == fsm->params.instance)
		return HELLO_BYE_SELF;
	if (fsm->params.key && !peer_keyed)
		return HELLO_BYE_KEY_REQUIRED;
	if (!fsm->params.key && peer_keyed)
		return HELLO_BYE_KEY_UNEXPECTED;
	return 0;
}

static void on_hello(
	struct hello_fsm *fsm, const uint8_t *body, size_t size, uint64_t now_ns)
{
	bool is_initiator = fsm->params.is_initiator;
	struct hello_transcript *t = &fsm->transcript;
	const uint8_t *msg = body - HELLO_HDR_SIZE;
	unsigned wrong;

	if (hello_hello_decode(body, size, &fsm->remote) < 0) {
		hello_fsm_close(fsm, HELLO_BYE_MALFORMED);
		return;
	}
	wrong = hello_judge(fsm);
	if (wrong) {
		hello_fsm_close(fsm, (enum hello_reason)wrong);
		return;
	}
	memcpy(is_initiator ? t->acceptor : t->initiator, msg, HELLO_HDR_SIZE + size);
	*(is_initiator ? &t->acceptor_size : &t->initiator_size) = HELLO_HDR_SIZE + size;
	fsm->is_leader = fsm->params.instance > fsm->remote.instance;

	if (!is_initiator)
		hello_send(fsm);
	if (!fsm->params.key) {
		trusted(fsm);
		return;
	}
	if (is_initiator)
		auth_send(fsm);
	state_set(fsm, HELLO_STATE_AUTH_WAIT);
}

static void on_auth(
	struct hello_fsm *fsm, const uint8_t *body, size_t size, uint64_t now_ns)
{
	const struct hello_params *p = &fsm->params;
	uint8_t proof[HELLO_AUTH_BODY];

	if (size != HELLO_AUTH_BODY) {
		hello_fsm_close(fsm, HELLO_BYE_MALFORMED);
		return;
	}
	hello_auth_proof(p->key, &fsm->transcript, !p->is_initiator, proof);
	if (!hello_auth_equal(proof, body)) {
		hello_fsm_close(fsm, HELLO_BYE_AUTH);
		return;
	}
	hello_auth_session_key(p->key, &fsm->transcript, !p->is_initiator, fsm->rx_key);
	fsm->rx_coded = true;
	if (!p->is_initiator)
		auth_send(fsm);
	trusted(fsm);
}

static void on_endpoint(
	struct hello_fsm *fsm, const uint8_t *body, size_t size, uint64_t now_ns)
{
	if (hello_endpoint_decode(body, size, &fsm->endpoint) < 0) {
		hello_fsm_close(fsm, HELLO_BYE_MALFORMED);
		return;
	}
	fsm->detail = hello_endpoint_check(&fsm->endpoint, fsm->params.remote_gid);
	if (fsm->detail) {
		hello_fsm_close(fsm, HELLO_BYE_ENDPOINT);
		return;
	}
	state_set(fsm, fsm->is_leader ? HELLO_STATE_CONNECT : HELLO_STATE_CLAIM);
}

static void on_ready(
	struct hello_fsm *fsm, const uint8_t *body, size_t size, uint64_t now_ns)
{
	if (size) {
		hello_fsm_close(fsm, HELLO_BYE_MALFORMED);
		return;
	}
	fsm->deadline_ns = now_ns + fsm->params.timers->dead_ns;
	fsm->keepalive_at_ns = now_ns + fsm->params.timers->keepalive_ns;
	state_set(fsm, HELLO_STATE_UP);
}

static void on_keepalive(
	struct hello_fsm *fsm, const uint8_t *body, size_t size, uint64_t now_ns)
{
	if (size)
		hello_fsm_close(fsm, HELLO_BYE_MALFORMED);
	else
		fsm->deadline_ns = now_ns + fsm->params.timers->dead_ns;
}

static void on_bye(struct hello_fsm *fsm, const uint8_t *body, size_t size)
{
	enum hello_reason reason;

	if (hello_bye_decode(body, size, &reason) < 0)
		hello_fsm_close(fsm, HELLO_BYE_MALFORMED);
	else
		closed_set(fsm, reason, true);
}

/* Which message is expected in which state, and what it does there; BYE always is. */
static const struct {
	enum hello_state state;
	void (*handle)(
		struct hello_fsm *fsm, const uint8_t *body, size_t size, uint64_t now_ns);
} messages[] = {
	[HELLO_TYPE_HELLO] = {HELLO_STATE_HELLO_WAIT, on_hello},
	[HELLO_TYPE_AUTH] = {HELLO_STATE_AUTH_WAIT, on_auth},
	[HELLO_TYPE_ENDPOINT] = {HELLO_STATE_ENDPOINT_WAIT, on_endpoint},
	[HELLO_TYPE_READY] = {HELLO_STATE_READY_WAIT, on_ready},
	[HELLO_TYPE_KEEPALIVE] = {HELLO_STATE_UP, on_keepalive},
};

/* Checks and cuts off the code; returns false when it closed the connection. */
static bool code_check(struct hello_fsm *fsm, size_t *length)
{
	uint8_t code[HELLO_MAC_SIZE];

	if (!fsm->rx_coded)
		return true;
	if (*length >= HELLO_HDR_SIZE + HELLO_MAC_SIZE) {
		*length -= HELLO_MAC_SIZE;
		hello_auth_code(fsm->rx_key, fsm->rx_seq++, fsm->rx, *length, code);
		if (hello_auth_equal(code, fsm->rx + *length))
			return true;
	}
	hello_fsm_close(fsm, HELLO_BYE_AUTH);
	return false;
}

/* Judges the whole message of @hdr->length bytes at the front of the receive buffer. */
static void message_handle(
	struct hello_fsm *fsm, const struct hello_hdr *hdr, uint64_t now_ns)
{
	const uint8_t *body = fsm->rx + HELLO_HDR_SIZE;
	size_t length = hdr->length;

	if (!code_check(fsm, &length))
		return;
	if (hdr->type == HELLO_TYPE_BYE)
		on_bye(fsm, body, length - HELLO_HDR_SIZE);
	else if (hdr->type < ARRAY_SIZE(messages) && messages[hdr->type].handle &&
		 messages[hdr->type].state == fsm->state)
		messages[hdr->type].handle(fsm, body, length - HELLO_HDR_SIZE, now_ns);
	else
		hello_fsm_close(fsm, HELLO_BYE_MALFORMED);
}

/* Takes one message off the receive buffer; returns false when there is no whole one. */
static bool message_take(struct hello_fsm *fsm, uint64_t now_ns)
{
	struct hello_hdr hdr;
	int rc;

	if (fsm->rx_size < HELLO_HDR_SIZE)
		return false;
	rc = hello_hdr_decode(fsm->rx, &hdr);
	if (rc) {
		hello_fsm_close(fsm,
			rc == -EPROTONOSUPPORT ? HELLO_BYE_VERSION : HELLO_BYE_MALFORMED);
		return true;
	}
	if (fsm->rx_size < hdr.length)
		return false;

	message_handle(fsm, &hdr, now_ns);
	if (fsm->state != HELLO_STATE_CLOSED) {
		fsm->rx_size -= hdr.length;
		memmove(fsm->rx, fsm->rx + hdr.length, fsm->rx_size);
	}
	return true;
}

/* In CLAIM and CONNECT the owner is to act first; when CLOSED nobody listens any more. */
static bool state_reads(enum hello_state state)
{
	return state != HELLO_STATE_CLAIM && state != HELLO_STATE_CONNECT &&
	       state != HELLO_STATE_CLOSED;
}

enum hello_action hello_fsm_next(struct hello_fsm *fsm, uint64_t now_ns)
{
	enum hello_action action;

	while (!fsm->action && state_reads(fsm->state) && message_take(fsm, now_ns))
		;
	action = fsm->action;
	fsm->action = HELLO_DO_NOTHING;
	return action;
}

size_t hello_fsm_rx(struct hello_fsm *fsm, const uint8_t *buf, size_t size)
{
	size_t n = MIN(size, sizeof(fsm->rx) - fsm->rx_size);

	if (fsm->state == HELLO_STATE_CLOSED)
		return size;
	memcpy(fsm->rx + fsm->rx_size, buf, n);
	fsm->rx_size += n;
	return n;
}

void hello_fsm_eof(struct hello_fsm *fsm)
{
	hello_fsm_close(fsm, HELLO_END_CLOSED);
}

void hello_fsm_tick(struct hello_fsm *fsm, uint64_t now_ns)
{
	if (fsm->state == HELLO_STATE_CLOSED)
		return;
	if (now_ns >= fsm->deadline_ns) {
		hello_fsm_close(fsm, HELLO_BYE_TIMEOUT);
	} else if (fsm->state == HELLO_STATE_UP && now_ns >= fsm->keepalive_at_ns) {
		fsm->keepalive_at_ns = now_ns + fsm->params.timers->keepalive_ns;
		plain_send(fsm, HELLO_TYPE_KEEPALIVE);
	}
}

uint64_t hello_fsm_deadline(const struct hello_fsm *fsm)
{
	if (fsm->state == HELLO_STATE_CLOSED)
		return UINT64_MAX;
	if (fsm->state == HELLO_STATE_UP)
		return MIN(fsm->deadline_ns, fsm->keepalive_at_ns);
	return fsm->deadline_ns;
}

void hello_fsm_claimed(struct hello_fsm *fsm, const struct hello_endpoint *local)
{
	uint8_t msg[HELLO_MSG_MAX];

	assert(fsm->state == HELLO_STATE_CLAIM);
	message_send(fsm, msg, hello_endpoint_encode(msg, local, code_size(fsm)));
	if (fsm->state == HELLO_STATE_CLAIM)
		state_set(fsm,
			fsm->is_leader ? HELLO_STATE_ENDPOINT_WAIT : HELLO_STATE_CONNECT);
}

void hello_fsm_connected(struct hello_fsm *fsm)
{
	assert(fsm->state == HELLO_STATE_CONNECT);
	plain_send(fsm, HELLO_TYPE_READY);
	if (fsm->state == HELLO_STATE_CONNECT)
		state_set(fsm, HELLO_STATE_READY_WAIT);
}

void hello_fsm_tx_done(struct hello_fsm *fsm, size_t size)
{
	assert(size <= fsm->tx_size);
	fsm->tx_size -= size;
	memmove(fsm->tx, fsm->tx + size, fsm->tx_size);
}

const char *hello_state_name(enum hello_state state)
{
	static const char *const names[] = {
		[HELLO_STATE_HELLO_WAIT] = "hello",
		[HELLO_STATE_AUTH_WAIT] = "auth",
		[HELLO_STATE_CLAIM] = "claim",
		[HELLO_STATE_ENDPOINT_WAIT] = "endpoint",
		[HELLO_STATE_CONNECT] = "connect",
		[HELLO_STATE_READY_WAIT] = "ready",
		[HELLO_STATE_UP] = "up",
		[HELLO_STATE_CLOSED] = "closed",
	};

	return names[state];
}

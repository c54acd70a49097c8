/* SPDX-License-Identifier: BSD-3-Clause */
#include "pmd/hello_proto.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "lib/util.h"

static_assert(HELLO_HDR_SIZE + HELLO_ENDPOINT_BODY + HELLO_QPS_MAX * HELLO_QP_SIZE +
			      HELLO_MAC_SIZE <=
		      HELLO_MSG_MAX,
	"the longest message fits");
static_assert(HELLO_HDR_SIZE + HELLO_HELLO_BODY_MAX <= HELLO_MSG_MAX,
	"a later version's HELLO fits");

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, (uint16_t)(v >> 16));
	put16(p + 2, (uint16_t)v);
}

static void put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)(v >> 32));
	put32(p + 4, (uint32_t)v);
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static uint64_t get64(const uint8_t *p)
{
	return (uint64_t)get32(p) << 32 | get32(p + 4);
}

int hello_hdr_decode(const uint8_t *buf, struct hello_hdr *hdr)
{
	hdr->version = buf[4];
	hdr->type = buf[5];
	hdr->length = get16(buf + 6);

	if (get32(buf) != HELLO_MAGIC)
		return -EPROTO;
	if (hdr->version != HELLO_VERSION)
		return -EPROTONOSUPPORT;
	if (hdr->length < HELLO_HDR_SIZE || hdr->length > HELLO_MSG_MAX)
		return -EPROTO;
	return 0;
}

int hello_hello_decode(const uint8_t *body, size_t size, struct hello_hello *hello)
{
	if (size < HELLO_HELLO_BODY || size > HELLO_HELLO_BODY_MAX)
		return -EPROTO;

	hello->version_min = body[0];
	hello->version_max = body[1];
	hello->flags = get16(body + 2);
	hello->instance = get64(body + 8);
	memcpy(hello->nonce, body + 16, HELLO_NONCE_SIZE);

	if (!hello->version_min || hello->version_min > hello->version_max ||
		!hello->instance)
		return -EPROTO;
	return 0;
}

/* What a peer calls itself goes to logs and telemetry: nothing but printable ASCII. */
static void name_decode(const uint8_t *wire, char *name)
{
	size_t i;

	memset(name, 0, HELLO_NAME_SIZE);
	for (i = 0; i < HELLO_NAME_SIZE - 1 && wire[i]; i++)
		name[i] = wire[i] > 0x20 && wire[i] < 0x7f ? (char)wire[i] : '?';
}

int hello_endpoint_decode(const uint8_t *body, size_t size, struct hello_endpoint *ep)
{
	memset(ep, 0, sizeof(*ep));
	if (size < HELLO_ENDPOINT_BODY)
		return -EPROTO;

	memcpy(ep->gid, body, sizeof(ep->gid));
	ep->caps = get32(body + 16);
	ep->max_message = get32(body + 20);
	ep->rx_depth = get32(body + 24);
	ep->path_mtu = get16(body + 28);
	ep->n_qps = body[30];
	memcpy(ep->mac, body + 32, sizeof(ep->mac));
	name_decode(body + 40, ep->name);

	if (size != HELLO_ENDPOINT_BODY + (size_t)ep->n_qps * HELLO_QP_SIZE)
		return -EPROTO;
	for (size_t i = 0; i < ep->n_qps && i < HELLO_QPS_MAX; i++) {
		const uint8_t *qp = body + HELLO_ENDPOINT_BODY + i * HELLO_QP_SIZE;

		ep->qp[i].qpn = get32(qp);
		ep->qp[i].psn = get32(qp + 4);
	}
	return 0;
}

int hello_bye_decode(const uint8_t *body, size_t size, enum hello_reason *reason)
{
	uint16_t v;

	if (size != HELLO_BYE_BODY)
		return -EPROTO;
	v = get16(body);
	if (!v || v >= HELLO_BYE_N)
		return -EPROTO;
	*reason = (enum hello_reason)v;
	return 0;
}

/* Writes the header; returns the size of header and body. */
static size_t hdr_encode(
	uint8_t *buf, enum hello_type type, size_t body_size, size_t mac_size)
{
	put32(buf, HELLO_MAGIC);
	buf[4] = HELLO_VERSION;
	buf[5] = (uint8_t)type;
	put16(buf + 6, (uint16_t)(HELLO_HDR_SIZE + body_size + mac_size));
	memset(buf + HELLO_HDR_SIZE, 0, body_size);
	return HELLO_HDR_SIZE + body_size;
}

size_t hello_hello_encode(uint8_t *buf, const struct hello_hello *hello)
{
	size_t size = hdr_encode(buf, HELLO_TYPE_HELLO, HELLO_HELLO_BODY, 0);
	uint8_t *body = buf + HELLO_HDR_SIZE;

	body[0] = hello->version_min;
	body[1] = hello->version_max;
	put16(body + 2, hello->flags);
	put64(body + 8, hello->instance);
	memcpy(body + 16, hello->nonce, HELLO_NONCE_SIZE);
	return size;
}

size_t hello_auth_encode(uint8_t *buf, const uint8_t proof[HELLO_AUTH_BODY])
{
	size_t size = hdr_encode(buf, HELLO_TYPE_AUTH, HELLO_AUTH_BODY, 0);

	memcpy(buf + HELLO_HDR_SIZE, proof, HELLO_AUTH_BODY);
	return size;
}

size_t hello_endpoint_encode(
	uint8_t *buf, const struct hello_endpoint *ep, size_t mac_size)
{
	size_t n_qps = ep->n_qps;
	size_t size = hdr_encode(buf, HELLO_TYPE_ENDPOINT,
		HELLO_ENDPOINT_BODY + n_qps * HELLO_QP_SIZE, mac_size);
	uint8_t *body = buf + HELLO_HDR_SIZE;

	assert(n_qps <= HELLO_QPS_MAX);
	memcpy(body, ep->gid, sizeof(ep->gid));
	put32(body + 16, ep->caps);
	put32(body + 20, ep->max_message);
	put32(body + 24, ep->rx_depth);
	put16(body + 28, ep->path_mtu);
	body[30] = ep->n_qps;
	memcpy(body + 32, ep->mac, sizeof(ep->mac));
	memcpy(body + 40, ep->name, strnlen(ep->name, HELLO_NAME_SIZE - 1));
	for (size_t i = 0; i < n_qps; i++) {
		uint8_t *qp = body + HELLO_ENDPOINT_BODY + i * HELLO_QP_SIZE;

		put32(qp, ep->qp[i].qpn);
		put32(qp + 4, ep->qp[i].psn);
	}
	return size;
}

size_t hello_bye_encode(uint8_t *buf, enum hello_reason reason, size_t mac_size)
{
	size_t size = hdr_encode(buf, HELLO_TYPE_BYE, HELLO_BYE_BODY, mac_size);

	assert(reason >= 1 && reason < HELLO_BYE_N);
	put16(buf + HELLO_HDR_SIZE, (uint16_t)reason);
	return size;
}

size_t hello_plain_encode(uint8_t *buf, enum hello_type type, size_t mac_size)
{
	assert(type == HELLO_TYPE_READY || type == HELLO_TYPE_KEEPALIVE);
	return hdr_encode(buf, type, 0, mac_size);
}

static bool path_mtu_is_legal(uint16_t mtu)
{
	return mtu >= 256 && mtu <= 4096 && !(mtu & (mtu - 1));
}

static bool qp_is_legal(const struct hello_endpoint *ep, size_t i)
{
	const struct hello_qp *qp = &ep->qp[i];

	if (qp->qpn < HELLO_QPN_MIN || qp->qpn > HELLO_QPN_MAX || qp->psn > HELLO_24BIT)
		return false;
	for (size_t k = 0; k < i; k++) {
		if (ep->qp[k].qpn == qp->qpn)
			return false;
	}
	return true;
}

const char *hello_endpoint_check(const struct hello_endpoint *ep, const uint8_t gid[16])
{
	if (memcmp(ep->gid, gid, sizeof(ep->gid)) != 0)
		return "GID is not the address";
	if (ep->max_message < HELLO_MESSAGE_MIN || ep->max_message > HELLO_MESSAGE_MAX)
		return "largest message";
	if (!ep->rx_depth || ep->rx_depth > HELLO_RX_DEPTH_MAX)
		return "receive depth";
	if (!path_mtu_is_legal(ep->path_mtu))
		return "path MTU";
	if (!ep->n_qps || ep->n_qps > HELLO_QPS_MAX)
		return "number of queue pairs";
	for (size_t i = 0; i < ep->n_qps; i++) {
		if (!qp_is_legal(ep, i))
			return "queue pair or packet sequence number";
	}
	return NULL;
}

/* What happened, seen from this side: [0] this side ended it, [1] the peer said BYE. */
static const char *const reason_text[HELLO_REASON_N][2] = {
	[HELLO_BYE_SHUTDOWN] = {"this side is being closed", "the peer was shut down"},
	[HELLO_BYE_VERSION] = {"no common protocol version",
		"no common protocol version"},
	[HELLO_BYE_KEY_REQUIRED] = {"the peer has no key and this side has one",
		"the peer has a key and this side has none"},
	[HELLO_BYE_KEY_UNEXPECTED] = {"the peer has a key and this side has none",
		"the peer has no key and this side has one"},
	[HELLO_BYE_AUTH] = {"the peer does not have this side's key",
		"this side does not have the peer's key"},
	[HELLO_BYE_UNKNOWN_PEER] = {"it is not among this side's peers",
		"this side is not among its peers"},
	[HELLO_BYE_MALFORMED] = {"the peer does not keep to the protocol",
		"the peer says that this side does not keep to the protocol"},
	[HELLO_BYE_ENDPOINT] = {"the peer's endpoint cannot be used",
		"the peer cannot use this side's endpoint"},
	[HELLO_BYE_DUPLICATE] = {"another connection serves",
		"the peer has another connection from here"},
	[HELLO_BYE_TIMEOUT] = {"the peer is silent", "the peer hears nothing from here"},
	[HELLO_BYE_RESOURCES] = {"no room or no queue pairs for the peer",
		"the peer has no room or no queue pairs for this side"},
	[HELLO_BYE_QP_FAILED] = {"the queue pair failed", "the peer's queue pair failed"},
	[HELLO_BYE_REMOVED] = {"it was removed from this side's peers",
		"this side was removed from its peers"},
	[HELLO_BYE_SELF] = {"the peer is this very driver",
		"the peer is this very driver"},
	[HELLO_END_CLOSED] = {"the peer closed the connection"},
	[HELLO_END_CONNECT] = {"cannot connect"},
	[HELLO_END_RESTARTED] = {"the peer was started anew"},
	[HELLO_END_LIMIT] = {"too many connections from it"},
};

const char *hello_reason_text(enum hello_reason reason, bool by_peer)
{
	return reason_text[reason][by_peer];
}

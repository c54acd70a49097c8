/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The messages of the hello protocol: encode and decode, bytes in, structs out. Pure.
 * The exchange is hello_fsm.h, the proofs hello_auth.h. Reference:
 * docs/hello-protocol.md section 3. All fields on the wire are big-endian.
 *
 *   header, 8 bytes             HELLO body, 48 bytes       ENDPOINT body, 72 + 8 n bytes
 *   0  magic "VRDH"             0  lowest version          0  GID (16 bytes)
 *   4  version                  1  highest version         16 capabilities    (32)
 *   5  type                     2  flags        (16)       20 largest message (32)
 *   6  length, all of the       4  reserved     (32)       24 receive depth   (32)
 *      message          (16)    8  instance     (64)       28 path MTU        (16)
 *                               16 nonce  (32 bytes)       30 n, queue pairs  (8)
 *   BYE body, 4 bytes                                      31 reserved        (8)
 *   0  reason           (16)    AUTH body, 32 bytes        32 MAC address (6 bytes)
 *   2  reserved         (16)    0  proof                   38 reserved        (16)
 *                                                          40 node name (32 bytes)
 *   READY, KEEPALIVE: no body                              72 n x { QPN, PSN } (32, 32)
 *
 * With a key, every message after AUTH ends with a 32-byte code that length includes.
 */
#ifndef PMD_HELLO_PROTO_H
#define PMD_HELLO_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HELLO_MAGIC	   0x56524448u /* "VRDH" */
#define HELLO_PORT_DEFAULT 4791	       /* TCP; the twin of RoCEv2's UDP port */
#define HELLO_VERSION	   1	       /* the only one so far */
#define HELLO_HDR_SIZE	   8
#define HELLO_MSG_MAX	   1024 /* no message is longer, of any version */

#define HELLO_HELLO_BODY     48
#define HELLO_HELLO_BODY_MAX 248 /* later versions may add fields at its end */
#define HELLO_AUTH_BODY	     32
#define HELLO_ENDPOINT_BODY  72 /* and HELLO_QP_SIZE for each queue pair */
#define HELLO_QP_SIZE	     8
#define HELLO_BYE_BODY	     4
#define HELLO_MAC_SIZE	     32
#define HELLO_NONCE_SIZE     32
#define HELLO_NAME_SIZE	     32

#define HELLO_QPS_MAX	   16
#define HELLO_24BIT	   0xffffffu
#define HELLO_QPN_MIN	   2	     /* 0 and 1 are the management queue pairs */
#define HELLO_QPN_MAX	   0xfffffeu /* 0xffffff is multicast */
#define HELLO_MESSAGE_MIN  1024u     /* bounds of max_message, bytes */
#define HELLO_MESSAGE_MAX  (16u << 20)
#define HELLO_RX_DEPTH_MAX (1u << 20)

enum hello_type {
	HELLO_TYPE_HELLO = 1,
	HELLO_TYPE_AUTH = 2,
	HELLO_TYPE_ENDPOINT = 3,
	HELLO_TYPE_READY = 4,
	HELLO_TYPE_KEEPALIVE = 5,
	HELLO_TYPE_BYE = 6,
};

/* HELLO flags */
#define HELLO_FLAG_KEYED (1u << 0) /* the sender has a key and insists on it */

/* Capabilities: what a sender may use toward the peer that announced it. */
#define HELLO_CAP_CSUM	   (1u << 0) /* frames whose checksum is left to fill in */
#define HELLO_CAP_TSO	   (1u << 1) /* frames that are still to be segmented */
#define HELLO_CAP_COALESCE (1u << 2) /* several frames in one message */

/*
 * Why a connection ended. The first list travels in BYE, the second is only known
 * locally: X(constant's end, number or nothing, name of the counter).
 */
#define HELLO_BYE_LIST(X)                                                              \
	X(SHUTDOWN, 1, shutdown)	     /* the driver is being closed */          \
	X(VERSION, 2, version)		     /* no common version */                   \
	X(KEY_REQUIRED, 3, key_required)     /* sender has a key, receiver has none */ \
	X(KEY_UNEXPECTED, 4, key_unexpected) /* receiver has a key, sender has none */ \
	X(AUTH, 5, auth)		     /* a proof or code was wrong */           \
	X(UNKNOWN_PEER, 6, unknown_peer)     /* receiver is none of sender's peers */  \
	X(MALFORMED, 7, malformed)	     /* receiver broke the protocol */         \
	X(ENDPOINT, 8, endpoint)	     /* values that sender cannot use */       \
	X(DUPLICATE, 9, duplicate)	     /* another connection serves already */   \
	X(TIMEOUT, 10, timeout)		     /* receiver was silent for too long */    \
	X(RESOURCES, 11, resources)	     /* no room, or no queue pairs */          \
	X(QP_FAILED, 12, qp_failed)	     /* sender's queue pairs failed */         \
	X(REMOVED, 13, removed)		     /* receiver was taken off the peers */    \
	X(SELF, 14, self)		     /* the two are one driver */
#define HELLO_END_LIST(X)                                              \
	X(CLOSED, closed)	/* TCP ended without a BYE */          \
	X(CONNECT, connect)	/* TCP connection could not be made */ \
	X(RESTARTED, restarted) /* the peer came as a new instance */  \
	X(LIMIT, limit)		/* too many unclaimed connections */

#define HELLO_BYE_ENUM(id, number, name) HELLO_BYE_##id = (number),
#define HELLO_END_ENUM(id, name)	 HELLO_END_##id,
enum hello_reason {
	HELLO_BYE_LIST(HELLO_BYE_ENUM) /* from 1 on without a gap */
	HELLO_END_LIST(HELLO_END_ENUM) /* and on */
	HELLO_REASON_N,
	HELLO_BYE_N = HELLO_END_CLOSED,
};

/** struct hello_qp - one queue pair of an endpoint */
struct hello_qp {
	uint32_t qpn; /* HELLO_QPN_MIN..HELLO_QPN_MAX */
	uint32_t psn; /* of the first packet that its owner sends; 24 bits */
};

/** struct hello_endpoint - what a peer must know to use a queue pair; host order */
struct hello_endpoint {
	uint8_t gid[16];      /* IPv4 as ::ffff:a.b.c.d */
	uint32_t caps;	      /* HELLO_CAP_*; bits that are not known are ignored */
	uint32_t max_message; /* largest message that its receive buffers take, bytes */
	uint32_t rx_depth;    /* receive buffers posted for all peers together */
	uint16_t path_mtu; /* bytes: 256, 512, 1024, 2048, 4096; both use the smaller */
	uint8_t n_qps;	   /* 1..HELLO_QPS_MAX; both use the smaller number */
	uint8_t mac[6];	   /* the port's, for people to read; may be all zero */
	char name[HELLO_NAME_SIZE]; /* node name, for people; ends with NUL */
	struct hello_qp qp[HELLO_QPS_MAX];
};

/** struct hello_hello - the decoded body of HELLO */
struct hello_hello {
	uint8_t version_min;
	uint8_t version_max;
	uint16_t flags;
	uint64_t instance; /* drawn at random when the driver starts; never 0 */
	uint8_t nonce[HELLO_NONCE_SIZE];
};

/** struct hello_hdr - the decoded header */
struct hello_hdr {
	uint8_t version;
	uint8_t type;
	uint16_t length; /* bytes, this header included */
};

/** hello_hdr_decode() - judge the first HELLO_HDR_SIZE bytes of a message
 * @buf: borrowed, HELLO_HDR_SIZE bytes
 * Return: 0, or -EPROTO when magic or length are out of bounds, or -EPROTONOSUPPORT
 *         when the version is not HELLO_VERSION; type is the caller's to judge
 */
int hello_hdr_decode(const uint8_t *buf, struct hello_hdr *hdr);

/** hello_hello_decode() - and the like: judge one body
 * @body: borrowed, @size bytes: the message without header and without code
 * Return: 0, or -EPROTO when it is malformed; then the result is not to be used. The
 *         values of an endpoint are for hello_endpoint_check() to judge.
 */
int hello_hello_decode(const uint8_t *body, size_t size, struct hello_hello *hello);
int hello_endpoint_decode(const uint8_t *body, size_t size, struct hello_endpoint *ep);
int hello_bye_decode(const uint8_t *body, size_t size, enum hello_reason *reason);

/** hello_hello_encode() - and the like: write one whole message, header included
 * @buf:      at least HELLO_MSG_MAX bytes
 * @mac_size: 0, or HELLO_MAC_SIZE to leave room at the end for the code, which the
 *            length field includes and the returned size does not
 * Return: bytes written
 */
size_t hello_hello_encode(uint8_t *buf, const struct hello_hello *hello);
size_t hello_auth_encode(uint8_t *buf, const uint8_t proof[HELLO_AUTH_BODY]);
size_t hello_endpoint_encode(
	uint8_t *buf, const struct hello_endpoint *ep, size_t mac_size);
size_t hello_bye_encode(uint8_t *buf, enum hello_reason reason, size_t mac_size);
/* @type: HELLO_TYPE_READY or HELLO_TYPE_KEEPALIVE */
size_t hello_plain_encode(uint8_t *buf, enum hello_type type, size_t mac_size);

/** hello_endpoint_check() - are all values of an endpoint within the protocol's bounds?
 * @gid:  the address that its owner is reached at
 * Return: NULL, or the name of the value that is not, such as "path MTU"
 */
const char *hello_endpoint_check(const struct hello_endpoint *ep, const uint8_t gid[16]);

/** hello_reason_text() - a phrase for people
 * @by_peer: the peer ended the connection with this reason; else this side did
 */
const char *hello_reason_text(enum hello_reason reason, bool by_peer);

#endif

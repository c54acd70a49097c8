/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The key of the hello protocol: reading its file, proving that one has it, and the
 * code at the end of later messages. HMAC-SHA256 by libcrypto. Reference:
 * docs/hello-protocol.md section 5.
 */
#ifndef PMD_HELLO_AUTH_H
#define PMD_HELLO_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmd/hello_proto.h"

#define HELLO_KEY_MIN 16
#define HELLO_KEY_MAX 256

/** struct hello_key - the shared secret; wipe it with hello_key_wipe() */
struct hello_key {
	uint8_t bytes[HELLO_KEY_MAX];
	size_t size; /* bytes, HELLO_KEY_MIN..HELLO_KEY_MAX */
};

/** hello_key_load() - read a key file
 * The key is the file's content without one newline at its end. The file must be a
 * regular one of root or of the user, not writable by its group and closed to others.
 * @err: at least @err_size bytes; a sentence that names the file, when it failed
 * Return: 0 or a negative errno (-EACCES: permissions; -EINVAL: not a regular file, or
 *         too short or too long; or what open() gave)
 */
int hello_key_load(const char *path, struct hello_key *key, char *err, size_t err_size);
void hello_key_wipe(struct hello_key *key);

/** struct hello_transcript - both HELLOs as they were on the wire */
struct hello_transcript {
	uint8_t initiator[HELLO_HDR_SIZE + HELLO_HELLO_BODY_MAX];
	uint8_t acceptor[HELLO_HDR_SIZE + HELLO_HELLO_BODY_MAX];
	size_t initiator_size;
	size_t acceptor_size;
};

/** hello_auth_proof() - what the AUTH message of one side says
 * @by_initiator: whose proof
 */
void hello_auth_proof(const struct hello_key *key,
	const struct hello_transcript *transcript, bool by_initiator,
	uint8_t proof[HELLO_AUTH_BODY]);

/** hello_auth_session_key() - the key for the codes of one side's messages */
void hello_auth_session_key(const struct hello_key *key,
	const struct hello_transcript *transcript, bool by_initiator,
	uint8_t session_key[HELLO_MAC_SIZE]);

/** hello_auth_code() - the code at the end of a message
 * @seq:  which message of its direction, 0 for the first behind AUTH
 * @msg:  header and body, @size bytes
 */
void hello_auth_code(const uint8_t session_key[HELLO_MAC_SIZE], uint64_t seq,
	const uint8_t *msg, size_t size, uint8_t code[HELLO_MAC_SIZE]);

/** hello_auth_equal() - compare two codes or proofs in constant time */
bool hello_auth_equal(const uint8_t a[HELLO_MAC_SIZE], const uint8_t b[HELLO_MAC_SIZE]);

#endif

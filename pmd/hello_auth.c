/* SPDX-License-Identifier: BSD-3-Clause */
#include "pmd/hello_auth.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

static int key_file_check(int fd, const char *path, char *err, size_t err_size)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int rc = -errno;

		snprintf(err, err_size, "key file %s: %s", path, strerror(-rc));
		return rc;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(err, err_size, "key file %s is not a regular file", path);
		return -EINVAL;
	}
	if (st.st_uid && st.st_uid != geteuid()) {
		snprintf(err, err_size, "key file %s belongs to another user", path);
		return -EACCES;
	}
	if (st.st_mode & (S_IWGRP | S_IRWXO)) {
		snprintf(err, err_size,
			"key file %s has mode %04o: others must have no access and its "
			"group must not write (chmod 0600 or 0640)",
			path, st.st_mode & 07777);
		return -EACCES;
	}
	return 0;
}

/* Reads at most @size bytes; one read() need not give all that there is. */
static ssize_t read_all(int fd, uint8_t *buf, size_t size)
{
	size_t n = 0;

	while (n < size) {
		ssize_t got = read(fd, buf + n, size - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		n += (size_t)got;
	}
	return (ssize_t)n;
}

static int key_read(
	int fd, const char *path, struct hello_key *key, char *err, size_t err_size)
{
	/* room for a newline, and for one byte that shows that it is too long */
	uint8_t buf[HELLO_KEY_MAX + 2];
	ssize_t n = read_all(fd, buf, sizeof(buf));
	int rc = 0;

	if (n < 0) {
		snprintf(err, err_size, "key file %s: %s", path, strerror((int)-n));
		return (int)n;
	}
	if (n && buf[n - 1] == '\n')
		n--;
	if (n < HELLO_KEY_MIN || n > HELLO_KEY_MAX) {
		snprintf(err, err_size, "key file %s: a key has %d to %d bytes", path,
			HELLO_KEY_MIN, HELLO_KEY_MAX);
		rc = -EINVAL;
	} else {
		memcpy(key->bytes, buf, (size_t)n);
		key->size = (size_t)n;
	}
	OPENSSL_cleanse(buf, sizeof(buf));
	return rc;
}

int hello_key_load(const char *path, struct hello_key *key, char *err, size_t err_size)
{
	/* O_NONBLOCK: a FIFO must not hang the driver; it is refused right after. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int rc;

	memset(key, 0, sizeof(*key));
	if (fd < 0) {
		rc = -errno;
		snprintf(err, err_size, "key file %s: %s", path, strerror(-rc));
		return rc;
	}
	rc = key_file_check(fd, path, err, err_size);
	if (!rc)
		rc = key_read(fd, path, key, err, err_size);
	close(fd);
	return rc;
}

void hello_key_wipe(struct hello_key *key)
{
	OPENSSL_cleanse(key, sizeof(*key));
}

/*
 * HMAC-SHA256. It fails only when libcrypto is broken or out of memory, and no caller
 * could go on safely then.
 */
static void hmac(const uint8_t *key, size_t key_size, const uint8_t *data, size_t size,
	uint8_t out[HELLO_MAC_SIZE])
{
	unsigned out_size = 0;

	if (!HMAC(EVP_sha256(), key, (int)key_size, data, size, out, &out_size) ||
		out_size != HELLO_MAC_SIZE)
		abort();
}

/* @what: "auth" or "code"; the label of section 5 then has at most LABEL_SIZE bytes. */
#define LABEL_SIZE 28

static void transcript_hmac(const struct hello_key *key, const char *what,
	bool by_initiator, const struct hello_transcript *t, uint8_t out[HELLO_MAC_SIZE])
{
	char label[LABEL_SIZE + 1];
	uint8_t buf[LABEL_SIZE + sizeof(t->initiator) + sizeof(t->acceptor)];
	size_t size = (size_t)snprintf(label, sizeof(label), "vrdma-hello-1 %s %s", what,
		by_initiator ? "initiator" : "acceptor");

	assert(size <= LABEL_SIZE);
	memcpy(buf, label, size);
	memcpy(buf + size, t->initiator, t->initiator_size);
	size += t->initiator_size;
	memcpy(buf + size, t->acceptor, t->acceptor_size);
	size += t->acceptor_size;
	hmac(key->bytes, key->size, buf, size, out);
}

void hello_auth_proof(const struct hello_key *key,
	const struct hello_transcript *transcript, bool by_initiator,
	uint8_t proof[HELLO_AUTH_BODY])
{
	transcript_hmac(key, "auth", by_initiator, transcript, proof);
}

void hello_auth_session_key(const struct hello_key *key,
	const struct hello_transcript *transcript, bool by_initiator,
	uint8_t session_key[HELLO_MAC_SIZE])
{
	transcript_hmac(key, "code", by_initiator, transcript, session_key);
}

void hello_auth_code(const uint8_t session_key[HELLO_MAC_SIZE], uint64_t seq,
	const uint8_t *msg, size_t size, uint8_t code[HELLO_MAC_SIZE])
{
	uint8_t buf[8 + HELLO_MSG_MAX];

	assert(size <= HELLO_MSG_MAX);
	for (int i = 0; i < 8; i++)
		buf[i] = (uint8_t)(seq >> (56 - 8 * i));
	memcpy(buf + 8, msg, size);
	hmac(session_key, HELLO_MAC_SIZE, buf, 8 + size, code);
}

bool hello_auth_equal(const uint8_t a[HELLO_MAC_SIZE], const uint8_t b[HELLO_MAC_SIZE])
{
	return CRYPTO_memcmp(a, b, HELLO_MAC_SIZE) == 0;
}

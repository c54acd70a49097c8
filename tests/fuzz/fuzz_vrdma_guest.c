/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The agent of a guest: its processes (dir_clients.h) and the server at its uplink do and
 * say whatever the input says. Judged: what the agent says to the server is as the
 * document has it, and what it gives to processes lies in the memory that was agreed on.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dir_clients.h"
#include "ivshmem/directory.h"
#include "ivshmem/guest/uplink.h"
#include "ivshmem/guest/upproto.h"
#include "ivshmem/listener.h"
#include "lib/log.h"
#include "lib/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE (1u << 20)

static const uint8_t memory_name[UP_NAME_SIZE] = "the memory";
static const struct access_list access_all;
static char dir[] = "/tmp/vrdma-fuzz-guest-XXXXXX";
static char region_path[200], uplink_path[200], memory_path[64];
static struct listener listener; /* the server's */
static struct directory *directory;
static struct uplink *uplink;
static int sock;	   /* the server's end of the uplink */
static struct up_msg said; /* the last that the agent said */
static uint64_t last_id;

static void silent(enum log_level level, const char *module, const char *msg)
{
}

static void end_all(void)
{
	listener_close(&listener);
	rmdir(dir);
}

static void begin_once(void)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	log_set_sink(silent);
	if (!mkdtemp(dir) || fd < 0 || ftruncate(fd, SIZE) ||
		pwrite(fd, memory_name, sizeof(memory_name), 0) != sizeof(memory_name))
		abort();
	snprintf(memory_path, sizeof(memory_path), "/proc/self/fd/%d", fd);
	snprintf(region_path, sizeof(region_path), "%s/r" DIR_SUFFIX, dir);
	snprintf(uplink_path, sizeof(uplink_path), "%s/u", dir);
	if (listener_open(&listener, uplink_path, SOCK_STREAM, true))
		abort();
	atexit(end_all);
}

static void begin(void)
{
	static const struct uplink_config config = {uplink_path, memory_path};

	if (!listener.fd)
		begin_once();
	if (directory_open(&directory, region_path, &access_all, 16) ||
		uplink_open(&uplink, &config, directory))
		abort();
	sock = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert(sock >= 0);
	dir_clients_begin(region_path);
	memset(&said, 0, sizeof(said));
	last_id = 0;
}

static void serve(void)
{
	struct pollfd fds[] = {
		{.fd = directory_fd(directory), .events = POLLIN},
		{.fd = uplink_fd(uplink), .events = POLLIN},
	};

	while (poll(fds, ARRAY_SIZE(fds), 0) > 0) {
		directory_run_once(directory);
		uplink_run_once(uplink);
	}
}

/* -- the server */

static void say(const struct up_msg *msg)
{
	uint8_t frame[UP_FRAME_SIZE];

	up_encode(frame, msg);
	send(sock, frame, sizeof(frame), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void welcome(struct input *in)
{
	struct up_msg msg = {.type = UP_WELCOME, .size = SIZE};

	memcpy(msg.name, said.name, sizeof(msg.name));
	memcpy(msg.token, memory_name, sizeof(msg.token));
	switch (take(in)) {
	case 1:
		msg.token[0]++;
		break;
	case 2:
		msg.size++;
		break;
	case 3:
		msg.error = -EPROTONOSUPPORT;
		break;
	case 4:
		msg.name[3]++;
		break;
	}
	say(&msg);
}

static void judge(const struct up_msg *msg)
{
	assert(msg->version == UP_VERSION && !msg->error && !msg->offset);
	switch (msg->type) {
	case UP_HELLO:
		assert(!msg->id);
		return;
	case UP_OFFER:
	case UP_ACCEPT:
		/* numbers are not used twice */
		assert(msg->id > last_id);
		last_id = msg->id;
		return;
	case UP_PUBLISH:
	case UP_UNPUBLISH:
	case UP_CANCEL:
	case UP_RELEASE:
		assert(msg->id);
		return;
	default:
		assert(!"no agent says that");
	}
}

static void hear(void)
{
	uint8_t frame[UP_FRAME_SIZE];

	while (recv(sock, frame, sizeof(frame), MSG_DONTWAIT) == sizeof(frame)) {
		assert(!up_decode(&said, frame));
		judge(&said);
	}
}

static void server_answer(struct input *in)
{
	static const uint16_t types[] = {UP_OFFER_R, UP_OFFER_R, UP_CANCEL_R, UP_ACCEPT_R,
		UP_ACCEPT_R, UP_ACCEPTED, UP_WELCOME};
	static const uint64_t offsets[] = {4096, 65536, 0, SIZE - 4096, SIZE, UINT64_MAX};
	static const int errors[] = {0, 0, 0, -ENOENT, -EBUSY, -ENOSPC, 1, INT32_MIN};
	struct up_msg msg = {.type = types[take(in) % ARRAY_SIZE(types)]};
	uint8_t what = take(in);

	/* mostly to what was asked last */
	msg.id = what < 200 ? said.id : what % 16;
	if (what < 100 && said.type >= UP_OFFER && said.type <= UP_ACCEPT)
		msg.type = (uint16_t)(said.type - UP_OFFER + UP_OFFER_R);
	msg.error = errors[take(in) % ARRAY_SIZE(errors)];
	msg.offset = offsets[take(in) % ARRAY_SIZE(offsets)];
	msg.size = size_take(in);
	say(&msg);
}

static void server_step(struct input *in)
{
	uint8_t what = take(in), raw[200];

	hear();
	if (said.type == UP_HELLO && what < 240) {
		welcome(in);
		said.type = 0;
	} else if (what >= 250) {
		memset(raw, take(in), sizeof(raw));
		send(sock, raw, take(in) % sizeof(raw), MSG_DONTWAIT | MSG_NOSIGNAL);
	} else if (what >= 248) {
		shutdown(sock, SHUT_RDWR);
	} else {
		server_answer(in);
	}
}

static void read_answers(void)
{
	dir_clients_read(SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 600)
		return 0;
	begin();
	dir_clients_play(
		(struct input){data, data + size}, server_step, serve, read_answers);
	serve();
	hear();
	assert(directory_stats(directory)->n_clients == 0 &&
		directory_stats(directory)->n_offers == 0);
	directory_close(directory);
	uplink_close(uplink);
	close(sock);
	return 0;
}

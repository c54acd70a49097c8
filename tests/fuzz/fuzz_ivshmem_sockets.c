/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The directory of a region with two guests: native processes (dir_clients.h) and guests'
 * uplinks ask and say whatever the input says, come and go. Judged: every answer makes
 * sense, memory that is given out lies in the region, and in the end all of it has come
 * back but what a guest may use still.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dir_clients.h"
#include "ivshmem/config.h"
#include "ivshmem/guest/upproto.h"
#include "ivshmem/server.h"
#include "lib/log.h"
#include "lib/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE   (1u << 20)
#define GUESTS 2

static struct server *server;
static struct config config;
static char dir[] = "/tmp/vrdma-fuzz-sockets-XXXXXX";
static int uplinks[GUESTS];

static void silent(enum log_level level, const char *module, const char *msg)
{
}

static void remove_dir(void)
{
	rmdir(dir);
}

static void begin_once(void)
{
	struct server_config limits = {1 << 24, 3600, 1000000};
	char error[CONFIG_ERROR_SIZE], spec[400];

	log_set_sink(silent);
	if (!mkdtemp(dir) || server_open(&server, &limits))
		abort();
	atexit(remove_dir);
	config_init(&config);
	snprintf(spec, sizeof(spec),
		"name=r,size=1M,socket=%s/r,sockets=16,hugepages=never,"
		"guest=a@10.0.0.1,guest=b@10.0.0.2",
		dir);
	if (config_add_region(&config, spec, error))
		abort();
}

static void begin(void)
{
	char path[200];

	if (!server)
		begin_once();
	if (server_region_add(server, &config.regions[0]))
		abort();
	snprintf(path, sizeof(path), "%s/r" DIR_SUFFIX, dir);
	dir_clients_begin(path);
	for (int i = 0; i < GUESTS; i++)
		uplinks[i] = -1;
}

static void serve(void)
{
	struct pollfd fd = {.fd = server_fd(server), .events = POLLIN};

	while (poll(&fd, 1, 0) > 0)
		assert(server_run_once(server) == 0);
}

/* -- guests */

static void uplink_close(int *sock)
{
	if (*sock >= 0)
		close(*sock);
	*sock = -1;
}

static void say(int sock, const struct up_msg *msg)
{
	uint8_t frame[UP_FRAME_SIZE];

	up_encode(frame, msg);
	send(sock, frame, sizeof(frame), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void uplink_open(int i)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct up_msg hello = {.type = UP_HELLO, .name = "n"};

	uplinks[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/r.%c.guest", dir, 'a' + i);
	if (connect(uplinks[i], (struct sockaddr *)&addr, sizeof(addr)))
		uplink_close(&uplinks[i]);
	else
		say(uplinks[i], &hello);
}

static void uplink_say(int sock, struct input *in)
{
	static const uint16_t types[] = {UP_PUBLISH, UP_PUBLISH, UP_UNPUBLISH, UP_OFFER,
		UP_OFFER, UP_CANCEL, UP_ACCEPT, UP_ACCEPT, UP_RELEASE, UP_HELLO};
	struct up_msg msg = {.type = types[take(in) % ARRAY_SIZE(types)], .name = "n"};
	uint8_t what = take(in);

	msg.id = what == 255 ? 0 : 1 + what % 8;
	if (what == 254)
		msg.type = take(in);
	msg.src = address_take(in);
	msg.dst = address_take(in);
	msg.size = size_take(in);
	if (msg.type == UP_HELLO)
		msg.boot[0] = take(in) % 2;
	say(sock, &msg);
}

static void uplink_step(struct input *in)
{
	uint8_t what = take(in), raw[200];
	int i = what % GUESTS;

	if (uplinks[i] < 0) {
		uplink_open(i);
	} else if (what >= 250) {
		memset(raw, take(in), sizeof(raw));
		send(uplinks[i], raw, take(in) % sizeof(raw),
			MSG_DONTWAIT | MSG_NOSIGNAL);
	} else if (what >= 244) {
		uplink_close(&uplinks[i]);
	} else {
		uplink_say(uplinks[i], in);
	}
}

/* What the server says is always sound. */
static bool hear(int sock)
{
	uint8_t frame[UP_FRAME_SIZE];
	struct up_msg msg;
	ssize_t n = recv(sock, frame, sizeof(frame), MSG_DONTWAIT);

	if (n <= 0)
		return false;
	assert(n == sizeof(frame) && !up_decode(&msg, frame));
	assert(msg.error <= 0);
	switch (msg.type) {
	case UP_OFFER_R:
	case UP_ACCEPT_R:
		if (!msg.error)
			assert(msg.size && msg.offset >= 4096 && msg.offset % 4096 == 0 &&
				msg.offset + msg.size <= SIZE);
		/* fall through */
	case UP_CANCEL_R:
	case UP_ACCEPTED:
		assert(msg.id);
		break;
	default:
		assert(msg.type == UP_WELCOME && msg.size == SIZE && !msg.id);
	}
	return true;
}

static void read_all(void)
{
	dir_clients_read(SIZE);
	for (int i = 0; i < GUESTS; i++) {
		while (uplinks[i] >= 0 && hear(uplinks[i]))
			;
	}
}

/* -- the end */

static uint64_t value(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void check(void)
{
	char *text;
	size_t size;
	FILE *to = open_memstream(&text, &size);
	uint64_t kept = 0;

	server_status(server, to);
	fclose(to);
	assert(value(text, " processes=") == 0 && value(text, " listeners=") == 0 &&
		value(text, " offers=") == 0);
	assert(value(text, " offered=") ==
		value(text, " paired=") + value(text, " cancelled="));
	for (const char *g = text; (g = strstr(g, "\nguest ")); g++) {
		assert(value(g, " listeners=") == 0);
		kept += value(g, " orphans=") + value(g, " ends=");
	}
	assert(value(text, " rings=") <= kept);
	assert((value(text, " rings=") == 0) == (value(text, " ring_memory=") == 0));
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 600)
		return 0;
	begin();
	dir_clients_play((struct input){data, data + size}, uplink_step, serve, read_all);
	for (int i = 0; i < GUESTS; i++)
		uplink_close(&uplinks[i]);
	serve();
	check();
	server_region_remove(server, "r");
	return 0;
}

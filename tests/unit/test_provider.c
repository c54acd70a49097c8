/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The userspace device through the public libibverbs API alone: two devices of this
 * process, on two loopback addresses, over real UDP sockets. Also for IPv6.
 */
#include "verbs_end.h"

#include "lib/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static void ping_pong(const char *a, const char *b)
{
	static const uint32_t sizes[] = {0, 1, 64, 4096, 4097, 65536 + 16, END_MSG};
	struct end e[2];
	struct ibv_wc wc;

	end_open(&e[0], a, NULL);
	end_open(&e[1], b, NULL);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (int k = 0; k < 4; k++) {
			struct end *from = &e[k & 1], *to = &e[!(k & 1)];

			random_bytes(from->buf, END_MSG);
			end_post_recv(to);
			end_post_send(from, sizes[i]);
			end_wait_wc(to->rcq, &wc);
			assert_int_equal(wc.byte_len, sizes[i]);
			assert_int_equal(wc.wr_id, 7);
			assert_memory_equal(to->buf, from->buf, sizes[i]);
			end_wait_wc(from->scq, &wc);
			assert_int_equal(wc.wr_id, 8);
		}
	}
	end_close(&e[0]);
	end_close(&e[1]);
}

static void ping_pong_ipv4(void **state)
{
	ping_pong("127.0.0.1", "127.0.0.2");
}

static bool have_ipv6(void)
{
	return access("/proc/net/if_inet6", R_OK) == 0;
}

/* One device talks to itself: both ends of ::1, as there is just one address. */
static void loopback_ipv6(void **state)
{
	struct end e;
	struct ibv_wc wc;

	if (!have_ipv6()) {
		print_message("skipped: no IPv6 here\n");
		skip();
	}
	end_open(&e, "::1", NULL);
	end_connect(&e, &e);
	end_post_recv(&e);
	end_post_send(&e, 10000);
	end_wait_wc(e.rcq, &wc);
	assert_int_equal(wc.byte_len, 10000);
	end_wait_wc(e.scq, &wc);
	end_close(&e);
}

static uint64_t counter(struct ibv_context *ctx, const char *name)
{
	struct vrdma_counter c[128];
	int n = vrdma_query_counters(ctx, c, 128);

	assert_in_range(n, 1, 128);
	for (int i = 0; i < n; i++) {
		if (!strcmp(c[i].name, name))
			return c[i].value;
	}
	fail_msg("no counter %s", name);
	return 0;
}

/* The receiver never polls: its background thread receives and acknowledges. */
static void background_progress(void **state)
{
	struct end e[2];
	struct ibv_wc wc;

	end_open(&e[0], "127.0.0.1", NULL);
	end_open(&e[1], "127.0.0.2", NULL);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	for (int i = 0; i < 20; i++) {
		end_post_recv(&e[1]);
		end_post_send(&e[0], 100000);
		end_wait_wc(e[0].scq, &wc);
	}
	assert_int_equal(counter(e[1].ctx, "rx_send_messages"), 20);
	for (int i = 0; i < 20; i++)
		assert_int_equal(ibv_poll_cq(e[1].rcq, 1, &wc), 1);
	end_close(&e[0]);
	end_close(&e[1]);
}

/* Neither side polls, no buffer is there at first: timers of the background threads. */
static void background_retry(void **state)
{
	struct end e[2];
	struct ibv_wc wc;
	uint64_t end = now_ns() + 10 * NSEC_PER_SEC;

	end_open(&e[0], "127.0.0.1", NULL);
	end_open(&e[1], "127.0.0.2", NULL);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	end_post_send(&e[0], 5);
	while (counter(e[0].ctx, "rx_naks_rnr") < 3)
		assert_true(now_ns() < end);
	end_post_recv(&e[1]);
	while (counter(e[0].ctx, "rx_acks") == 0)
		assert_true(now_ns() < end);
	assert_int_equal(ibv_poll_cq(e[1].rcq, 1, &wc), 1);
	end_close(&e[0]);
	end_close(&e[1]);
}

/* The receiver's poll gives the completion before the ACK is sent; whoever ends the queue
 * pair at once still owes it to the peer.
 */
static void last_ack(void **state)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};
	struct end e[2];
	struct ibv_wc wc;

	for (int i = 0; i < 2; i++) {
		end_open(&e[0], "127.0.0.1", NULL);
		end_open(&e[1], "127.0.0.2", NULL);
		end_connect(&e[0], &e[1]);
		end_connect(&e[1], &e[0]);
		end_post_recv(&e[1]);
		end_post_send(&e[0], 5);
		end_wait_wc(e[1].rcq, &wc);
		if (i == 0)
			assert_int_equal(ibv_modify_qp(e[1].qp, &attr, IBV_QP_STATE), 0);
		end_close(&e[1]);
		end_wait_wc(e[0].scq, &wc);
		end_close(&e[0]);
	}
}

/* Two threads on one device: one posts and reaps sends, the other receives. */
struct pump {
	struct end *e;
	int n;
};

static void *pump_sends(void *arg)
{
	struct pump *p = arg;
	struct ibv_wc wc;
	int posted = 0, done = 0;

	while (done < p->n) {
		while (posted < p->n && posted - done < END_DEPTH / 2) {
			end_post_send(p->e, 3000);
			posted++;
		}
		done += ibv_poll_cq(p->e->scq, 1, &wc);
	}
	return NULL;
}

static void threads(void **state)
{
	struct end e[2];
	struct pump p[2];
	pthread_t t[2];
	int got[2] = {0};
	struct ibv_wc wc;

	end_open(&e[0], "127.0.0.1", NULL);
	end_open(&e[1], "127.0.0.2", NULL);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < END_DEPTH; k++)
			end_post_recv(&e[i]);
		p[i] = (struct pump){&e[i], 5000};
		pthread_create(&t[i], NULL, pump_sends, &p[i]);
	}
	while (got[0] < 5000 || got[1] < 5000) {
		for (int i = 0; i < 2; i++) {
			if (ibv_poll_cq(e[i].rcq, 1, &wc) == 1) {
				assert_int_equal(wc.status, IBV_WC_SUCCESS);
				assert_int_equal(wc.byte_len, 3000);
				got[i]++;
				end_post_recv(&e[i]);
			}
		}
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	end_close(&e[0]);
	end_close(&e[1]);
}

static void gid_and_attributes(void **state)
{
	struct vrdma_attr attr = {.addr = "127.0.0.1", .name = "somename"};
	struct ibv_context *ctx = vrdma_open_device(&attr);
	struct ibv_device_attr dev;
	struct ibv_gid_entry entry;
	char text[INET6_ADDRSTRLEN];
	__be16 pkey;

	assert_non_null(ctx);
	assert_string_equal(ibv_get_device_name(ctx->device), "somename");
	assert_int_equal(ibv_query_device(ctx, &dev), 0);
	assert_true(dev.max_sge >= 16);
	assert_int_equal(ibv_query_gid_ex(ctx, 1, 0, &entry, 0), 0);
	assert_int_equal(entry.gid_type, IBV_GID_TYPE_ROCE_V2);
	inet_ntop(AF_INET6, entry.gid.raw, text, sizeof(text));
	assert_string_equal(text, "::ffff:127.0.0.1");
	assert_int_equal(ibv_query_pkey(ctx, 1, 0, &pkey), 0);
	assert_int_equal(pkey, 0xffff);
	assert_int_equal(ibv_close_device(ctx), 0);
}

static void open_errors(void **state)
{
	struct vrdma_attr attr = {.addr = "127.0.0.1"};
	struct sockaddr_in in = {.sin_family = AF_INET,
		.sin_port = htons(4791),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ibv_context *ctx;

	assert_null(vrdma_open_device(&(struct vrdma_attr){.addr = "nonsense"}));
	assert_int_equal(errno, EINVAL);
	assert_null(vrdma_open_device(&(struct vrdma_attr){0}));
	assert_int_equal(errno, EINVAL);
	assert_null(vrdma_open_device(&(struct vrdma_attr){.addr = "192.0.2.77"}));
	assert_int_equal(errno, EADDRNOTAVAIL);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_null(vrdma_open_device(&attr));
	assert_int_equal(errno, EADDRINUSE);
	close(fd);
	ctx = vrdma_open_device(&attr);
	assert_non_null(ctx);
	ibv_close_device(ctx);
}

/* Two contexts of one device: their queue pairs are connected, one goes first. */
static void opened_twice(void **state)
{
	struct end e[2];
	struct ibv_wc wc;

	end_open(&e[0], "127.0.0.1", NULL);
	end_open(&e[1], "127.0.0.1", NULL);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	end_post_recv(&e[1]);
	end_post_send(&e[0], 10000);
	end_wait_wc(e[1].rcq, &wc);
	end_wait_wc(e[0].scq, &wc);
	end_close(&e[0]);
	end_post_recv(&e[1]);
	assert_int_equal(
		ibv_modify_qp(e[1].qp, &(struct ibv_qp_attr){.qp_state = IBV_QPS_RESET},
			IBV_QP_STATE),
		0);
	end_connect(&e[1], &e[1]);
	end_post_send(&e[1], 10000);
	end_wait_wc(e[1].rcq, &wc);
	end_close(&e[1]);
}

/* An idle device sleeps: its process uses no processor time. */
static void idle_costs_nothing(void **state)
{
	struct vrdma_attr attr = {.addr = "127.0.0.1"};
	struct ibv_context *ctx = vrdma_open_device(&attr);
	struct timespec before, after;
	int64_t used_ns;

	assert_non_null(ctx);
	poll(NULL, 0, 20);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	poll(NULL, 0, 300);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	used_ns = (after.tv_sec - before.tv_sec) * (int64_t)NSEC_PER_SEC + after.tv_nsec -
		  before.tv_nsec;
	assert_true(used_ns < 10 * (int64_t)NSEC_PER_MSEC);
	ibv_close_device(ctx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gid_and_attributes),
		cmocka_unit_test(open_errors),
		cmocka_unit_test(opened_twice),
		cmocka_unit_test(ping_pong_ipv4),
		cmocka_unit_test(loopback_ipv6),
		cmocka_unit_test(background_progress),
		cmocka_unit_test(background_retry),
		cmocka_unit_test(last_ack),
		cmocka_unit_test(threads),
		cmocka_unit_test(idle_costs_nothing),
	};

	return cmocka_run_group_tests_name("provider", tests, NULL, NULL);
}

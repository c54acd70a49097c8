/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_bw - what the userspace device does by itself: RC SENDs or WRITEs from one
 * process to another, through the public verbs calls
 *
 * bench/rdma measures with it, and for bench/uplink it is the yardstick. The server is
 * started first and serves one client; the client prints one line of JSON.
 */
#include "lib/util.h"
#include "pair.h"
#include "rc.h"
#include "rdma/include/vrdma.h"

#include <err.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QPS_MAX	  10000
#define DEPTH	  64   /* requests in flight for each queue pair, unless told */
#define DEPTH_MAX 4096 /* requests that are posted in one go are these at most, too */
#define POLL_MAX  64

enum mode { THROUGHPUT, PINGPONG };

/* What one side tells the other. */
struct endpoint {
	uint32_t n_qp;
	enum ibv_mtu mtu;
	uint32_t rkey;
	uint64_t addr;
	uint32_t qpn[QPS_MAX];
	union ibv_gid gid;
};

struct options {
	const char *local;
	const char *peer; /* NULL: server */
	const char *port; /* interface; NULL: the device is on @local */
	const char *port_addr;
	uint32_t size;
	uint32_t n_qp;
	uint32_t depth;
	uint32_t outstanding; /* of all queue pairs together */
	double seconds;
	enum mode mode;
	bool is_write;
};

struct run {
	struct options opt;
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_mr *mr;
	struct ibv_qp *qp[QPS_MAX];
	uint8_t *buffer; /* one message to send, then one slot for each receive */
	struct endpoint peer;
	int tcp;
};

/* ---- verbs ---- */

static uint32_t n_slots(const struct run *r)
{
	return r->opt.n_qp * r->opt.depth;
}

static void open_device(struct run *r)
{
	size_t bytes = (size_t)r->opt.size * (1 + n_slots(r));
	struct vrdma_attr attr = {
		.addr = r->opt.port ? r->opt.port_addr : r->opt.local,
		.port = r->opt.port,
	};

	r->ctx = vrdma_open_device(&attr);
	if (!r->ctx)
		err(1, "open the device on %s", attr.addr);
	r->buffer = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
	if (!r->buffer)
		errx(1, "no memory");
	memset(r->buffer, 'v', bytes);
	r->pd = ibv_alloc_pd(r->ctx);
	r->cq = ibv_create_cq(r->ctx, 2 * (int)n_slots(r), NULL, NULL, 0);
	if (!r->pd || !r->cq)
		err(1, "set up the device");
	r->mr = ibv_reg_mr(r->pd, r->buffer, bytes,
		IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	if (!r->mr)
		err(1, "register memory");
}

/* Receive into @slot, all of one queue pair. A slot is also the id of its request, and
 * slot / depth its queue pair.
 */
static void post_recvs(struct run *r, const uint64_t *slot, int n)
{
	struct ibv_recv_wr wr[POLL_MAX], *bad;
	struct ibv_sge sge[POLL_MAX];

	for (int i = 0; i < n; i++) {
		sge[i] = (struct ibv_sge){
			.addr = (uintptr_t)(r->buffer + r->opt.size * (slot[i] + 1)),
			.length = r->opt.size,
			.lkey = r->mr->lkey};
		wr[i] = (struct ibv_recv_wr){
			.wr_id = slot[i], .sg_list = &sge[i], .num_sge = 1};
		if (i)
			wr[i - 1].next = &wr[i];
	}
	if (n && ibv_post_recv(r->qp[slot[0] / r->opt.depth], wr, &bad))
		errx(1, "post a receive");
}

static void post_sends(struct run *r, const uint64_t *slot, int n)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)r->buffer, .length = r->opt.size, .lkey = r->mr->lkey};
	struct ibv_send_wr wr[POLL_MAX], *bad;

	for (int i = 0; i < n; i++) {
		wr[i] = (struct ibv_send_wr){
			.wr_id = slot[i],
			.sg_list = &sge,
			.num_sge = 1,
			.opcode = r->opt.is_write ? IBV_WR_RDMA_WRITE : IBV_WR_SEND,
			.send_flags =
				r->opt.size <= BENCH_INLINE_MAX ? IBV_SEND_INLINE : 0,
			.wr.rdma = {.remote_addr =
					    r->peer.addr + r->opt.size * (slot[i] + 1),
				.rkey = r->peer.rkey},
		};
		if (i)
			wr[i - 1].next = &wr[i];
	}
	if (n && ibv_post_send(r->qp[slot[0] / r->opt.depth], wr, &bad))
		errx(1, "post a send");
}

typedef void post_fn(struct run *r, const uint64_t *slot, int n);

/* Post for all @slot, those of one queue pair that follow each other in one go. */
static void post_grouped(struct run *r, post_fn *post, const uint64_t *slot, int n)
{
	int first = 0;

	for (int i = 1; i <= n; i++) {
		if (i < n && slot[i] / r->opt.depth == slot[first] / r->opt.depth)
			continue;
		post(r, slot + first, i - first);
		first = i;
	}
}

/* Post for the first @n slots. */
static void post_first(struct run *r, post_fn *post, uint32_t n)
{
	for (uint64_t slot = 0; slot < n; slot++)
		post(r, &slot, 1);
}

static void connect_all(struct run *r)
{
	struct endpoint mine = {
		.n_qp = r->opt.n_qp, .rkey = r->mr->rkey, .addr = (uintptr_t)r->buffer};

	for (uint32_t i = 0; i < r->opt.n_qp; i++) {
		r->qp[i] = rc_create(r->pd, r->cq, r->opt.depth);
		mine.qpn[i] = r->qp[i]->qp_num;
	}
	rc_own_address(r->ctx, &mine.gid, &mine.mtu);
	pair_exchange(r->tcp, &mine, &r->peer, sizeof(mine));
	if (r->peer.n_qp != r->opt.n_qp)
		errx(1, "the other side has %u queue pairs", r->peer.n_qp);
	for (uint32_t i = 0; i < r->opt.n_qp; i++)
		rc_connect(r->qp[i], &r->peer.gid, r->peer.qpn[i],
			MIN(mine.mtu, r->peer.mtu));
	post_first(r, post_recvs, n_slots(r));
	pair_barrier(r->tcp);
}

/* ---- the runs ---- */

/* The slots of the receives among @wc. Return: how many */
static int received(const struct ibv_wc *wc, int n, uint64_t *slot)
{
	int n_slot = 0;

	for (int i = 0; i < n; i++)
		if (wc[i].opcode == IBV_WC_RECV)
			slot[n_slot++] = wc[i].wr_id;
	return n_slot;
}

/* Receive until the client ends; with PINGPONG send one back for each. */
static void serve(struct run *r)
{
	struct ibv_wc wc[POLL_MAX];
	uint64_t slot[POLL_MAX];

	for (unsigned int turn = 0;; turn++) {
		int n = rc_poll(r->cq, wc, POLL_MAX);

		/* Looking at the socket costs a system call: not at every turn. */
		if (!n && turn % 1024 == 0 && pair_ended(r->tcp))
			return;
		n = received(wc, n, slot);
		post_grouped(r, post_recvs, slot, n);
		if (r->opt.mode == PINGPONG)
			post_grouped(r, post_sends, slot, n);
	}
}

static uint64_t run_end(const struct run *r)
{
	return now_ns() + (uint64_t)(r->opt.seconds * (double)NSEC_PER_SEC);
}

/* Slots that wait for their turn, in a ring with room for all of them. */
struct turns {
	uint64_t *slot;
	uint32_t size;
	uint32_t next, end; /* free-running */
};

static void turns_init(struct turns *t, uint32_t n_slots, uint32_t first)
{
	t->slot = calloc(n_slots, sizeof(*t->slot));
	if (!t->slot)
		errx(1, "no memory");
	t->size = n_slots;
	t->next = t->end = 0;
	for (uint64_t slot = first; slot < n_slots; slot++)
		t->slot[t->end++] = slot;
}

/* Those in @slot line up behind all others; in their place come those whose turn it is.
 */
static void turns_rotate(struct turns *t, uint64_t *slot, int n)
{
	for (int i = 0; i < n; i++)
		t->slot[t->end++ % t->size] = slot[i];
	for (int i = 0; i < n; i++)
		slot[i] = t->slot[t->next++ % t->size];
}

static void run_throughput(struct run *r)
{
	uint32_t first = MIN(r->opt.outstanding, n_slots(r));
	uint64_t start = now_ns(), end = run_end(r), n_done = 0, in_flight = first;
	struct ibv_wc wc[POLL_MAX];
	uint64_t slot[POLL_MAX];
	struct turns turns;
	double seconds;

	turns_init(&turns, n_slots(r), first);
	post_first(r, post_sends, first);
	while (in_flight) {
		int n = rc_poll(r->cq, wc, POLL_MAX);

		n_done += (uint64_t)n;
		if (n && now_ns() >= end) {
			in_flight -= (uint64_t)n;
			continue;
		}
		for (int i = 0; i < n; i++)
			slot[i] = wc[i].wr_id;
		turns_rotate(&turns, slot, n);
		post_grouped(r, post_sends, slot, n);
	}
	seconds = (double)(now_ns() - start) / (double)NSEC_PER_SEC;
	free(turns.slot);
	printf("{\"bytes\": %llu, \"messages\": %llu, \"seconds\": %.6f}\n",
		(unsigned long long)(n_done * r->opt.size), (unsigned long long)n_done,
		seconds);
}

static void await_answer(struct run *r)
{
	struct ibv_wc wc;

	do {
		while (!rc_poll(r->cq, &wc, 1)) {
		}
	} while (wc.opcode != IBV_WC_RECV);
	post_recvs(r, &wc.wr_id, 1);
}

static void run_pingpong(struct run *r)
{
	uint64_t start = now_ns(), end = run_end(r), now = start, n_done = 0, slot = 0;

	for (; now < end; n_done++) {
		post_sends(r, &slot, 1);
		await_answer(r);
		now = now_ns();
	}
	printf("{\"half_round_trip_us\": %.3f}\n",
		(double)(now - start) / (2e3 * (double)n_done));
}

static const struct option long_options[] = {
	{"local", required_argument, NULL, 'l'},
	{"peer", required_argument, NULL, 'p'},
	{"port", required_argument, NULL, 'i'},
	{"port-addr", required_argument, NULL, 'a'},
	{"size", required_argument, NULL, 's'},
	{"qps", required_argument, NULL, 'q'},
	{"depth", required_argument, NULL, 'd'},
	{"outstanding", required_argument, NULL, 'o'},
	{"write", no_argument, NULL, 'w'},
	{"seconds", required_argument, NULL, 't'},
	{"pingpong", no_argument, NULL, 'P'},
	{NULL, 0, NULL, 0},
};

static void usage(void)
{
	errx(2, "usage: verbs_bw --local ADDR [--peer ADDR] "
		"[--port INTERFACE --port-addr ADDR/LEN] [--size BYTES] [--qps N] "
		"[--depth N] [--outstanding N] [--write] [--seconds S] [--pingpong], the "
		"same on both sides but for the addresses");
}

static void parse(int argc, char **argv, struct options *opt)
{
	int c;

	*opt = (struct options){.size = 65536,
		.n_qp = 1,
		.depth = DEPTH,
		.outstanding = UINT32_MAX,
		.seconds = 3};
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		switch (c) {
		case 'l':
			opt->local = optarg;
			break;
		case 'p':
			opt->peer = optarg;
			break;
		case 'i':
			opt->port = optarg;
			break;
		case 'a':
			opt->port_addr = optarg;
			break;
		case 's':
			opt->size = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'q':
			opt->n_qp = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'd':
			opt->depth = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'o':
			opt->outstanding = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'w':
			opt->is_write = true;
			break;
		case 't':
			opt->seconds = strtod(optarg, NULL);
			break;
		case 'P':
			opt->mode = PINGPONG;
			break;
		default:
			usage();
		}
	if (!opt->local || !opt->port != !opt->port_addr || optind != argc ||
		opt->n_qp < 1 || opt->n_qp > QPS_MAX || opt->depth < 1 ||
		opt->depth > DEPTH_MAX || (opt->is_write && opt->mode == PINGPONG) ||
		opt->size < 1 || opt->size > 1u << 24)
		usage();
}

int main(int argc, char **argv)
{
	struct run r = {0};

	parse(argc, argv, &r.opt);
	open_device(&r);
	r.tcp = pair_open(r.opt.local, r.opt.peer);
	connect_all(&r);
	if (!r.opt.peer)
		serve(&r);
	else if (r.opt.mode == PINGPONG)
		run_pingpong(&r);
	else
		run_throughput(&r);
	return 0;
}

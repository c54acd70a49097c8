/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_bw - what the userspace device does by itself: RC SENDs from one process to
 * another, through the public verbs calls
 *
 * It is the yardstick of the uplink: bench/uplink and bench/rdma run it on the two nodes' addresses.
 * The server is started first and serves one client; both exchange their queue pairs'
 * numbers over TCP, whose end also ends the run. The client prints one line of JSON.
 */
#include "lib/util.h"
#include "rdma/include/vrdma.h"

#include <err.h>
#include <getopt.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define QPS_MAX	    16
#define DEPTH	    64 /* requests in flight for each queue pair */
#define TCP_PORT    "18515"
#define PORT	    1
#define GID_INDEX   0
#define TIMEOUT	    14 /* 67 ms */
#define RETRIES	    7
#define RNR_TIMER   12 /* 0.64 ms */
#define CONNECT_TRY 100

enum mode { THROUGHPUT, PINGPONG };

/* What one side tells the other: plain bytes between two processes of one program. */
struct endpoint {
	uint32_t n_qp;
	uint32_t mtu;
	uint32_t qpn[QPS_MAX];
	union ibv_gid gid;
};

struct options {
	const char *local;
	const char *peer; /* NULL: server */
	uint32_t size;
	uint32_t n_qp;
	double seconds;
	enum mode mode;
};

struct run {
	struct options opt;
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_mr *mr;
	struct ibv_qp *qp[QPS_MAX];
	uint8_t *buffer; /* one message to send, then one slot for each receive */
	int tcp;
};

/* ---- TCP: the other side's numbers ---- */

static struct addrinfo *resolve(const char *host)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
	struct addrinfo *ai;
	int rc = getaddrinfo(host, TCP_PORT, &hints, &ai);

	if (rc)
		errx(1, "%s: %s", host, gai_strerror(rc));
	return ai;
}

static int tcp_accept(const char *local)
{
	struct addrinfo *ai = resolve(local);
	int one = 1, fd, conn;

	fd = socket(ai->ai_family, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, 1))
		err(1, "listen on %s", local);
	conn = accept(fd, NULL, NULL);
	if (conn < 0)
		err(1, "accept");
	close(fd);
	freeaddrinfo(ai);
	return conn;
}

/* The server may still be starting. */
static int tcp_connect(const char *peer)
{
	struct addrinfo *ai = resolve(peer);

	for (int i = 0; i < CONNECT_TRY; i++) {
		int fd = socket(ai->ai_family, SOCK_STREAM, 0);

		if (!connect(fd, ai->ai_addr, ai->ai_addrlen)) {
			freeaddrinfo(ai);
			return fd;
		}
		close(fd);
		usleep(50000);
	}
	err(1, "connect to %s", peer);
}

static void tcp_exchange(int fd, const struct endpoint *mine, struct endpoint *theirs)
{
	if (send(fd, mine, sizeof(*mine), MSG_NOSIGNAL) != sizeof(*mine) ||
		recv(fd, theirs, sizeof(*theirs), MSG_WAITALL) != sizeof(*theirs))
		errx(1, "the other side has gone");
}

/* Both sides are ready when this returns. */
static void tcp_barrier(int fd)
{
	char c = 0;

	if (send(fd, &c, 1, MSG_NOSIGNAL) != 1 || recv(fd, &c, 1, MSG_WAITALL) != 1)
		errx(1, "the other side has gone");
}

static bool tcp_ended(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* ---- verbs ---- */

static uint32_t n_slots(const struct run *r)
{
	return r->opt.n_qp * DEPTH;
}

static void open_device(struct run *r)
{
	size_t bytes = (size_t)r->opt.size * (1 + n_slots(r));

	r->ctx = vrdma_open_device(&(struct vrdma_attr){.addr = r->opt.local});
	if (!r->ctx)
		err(1, "open the device on %s", r->opt.local);
	r->buffer = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
	if (!r->buffer)
		errx(1, "no memory");
	memset(r->buffer, 'v', bytes);
	r->pd = ibv_alloc_pd(r->ctx);
	r->cq = ibv_create_cq(r->ctx, 2 * (int)n_slots(r), NULL, NULL, 0);
	if (!r->pd || !r->cq)
		err(1, "set up the device");
	r->mr = ibv_reg_mr(r->pd, r->buffer, bytes, IBV_ACCESS_LOCAL_WRITE);
	if (!r->mr)
		err(1, "register memory");
}

static void create_qp(struct run *r, struct ibv_qp **qp)
{
	struct ibv_qp_init_attr init = {
		.send_cq = r->cq,
		.recv_cq = r->cq,
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
		.cap = {.max_send_wr = DEPTH,
			.max_recv_wr = DEPTH,
			.max_send_sge = 1,
			.max_recv_sge = 1},
	};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = PORT};
	int mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;

	*qp = ibv_create_qp(r->pd, &init);
	if (!*qp || ibv_modify_qp(*qp, &attr, mask))
		err(1, "create a queue pair");
}

static void connect_qp(
	struct ibv_qp *qp, const struct endpoint *theirs, uint32_t qpn, enum ibv_mtu mtu)
{
	struct ibv_qp_attr rtr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = mtu,
		.dest_qp_num = qpn,
		.min_rnr_timer = RNR_TIMER,
		.ah_attr = {.is_global = 1,
			.port_num = PORT,
			.grh = {.dgid = theirs->gid,
				.sgid_index = GID_INDEX,
				.hop_limit = 64}},
	};
	int rtr_mask = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
		       IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	struct ibv_qp_attr rts = {
		.qp_state = IBV_QPS_RTS,
		.timeout = TIMEOUT,
		.retry_cnt = RETRIES,
		.rnr_retry = RETRIES,
	};
	int rts_mask = IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
		       IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC;

	if (ibv_modify_qp(qp, &rtr, rtr_mask) || ibv_modify_qp(qp, &rts, rts_mask))
		err(1, "connect a queue pair");
}

/* @slot: also its id; the slot's queue pair is slot / DEPTH */
static void post_recv(struct run *r, uint64_t slot)
{
	struct ibv_sge sge = {.addr = (uintptr_t)(r->buffer + r->opt.size * (slot + 1)),
		.length = r->opt.size,
		.lkey = r->mr->lkey};
	struct ibv_recv_wr wr = {.wr_id = slot, .sg_list = &sge, .num_sge = 1};
	struct ibv_recv_wr *bad;

	if (ibv_post_recv(r->qp[slot / DEPTH], &wr, &bad))
		errx(1, "post a receive");
}

static void post_send(struct run *r, uint64_t slot)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)r->buffer, .length = r->opt.size, .lkey = r->mr->lkey};
	struct ibv_send_wr wr = {
		.wr_id = slot, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND};
	struct ibv_send_wr *bad;

	if (ibv_post_send(r->qp[slot / DEPTH], &wr, &bad))
		errx(1, "post a send");
}

static int poll_cq(struct run *r, struct ibv_wc *wc, int max)
{
	int n = ibv_poll_cq(r->cq, max, wc);

	for (int i = 0; i < n; i++)
		if (wc[i].status)
			errx(1, "%s", ibv_wc_status_str(wc[i].status));
	return n;
}

static void connect_all(struct run *r)
{
	struct endpoint mine = {.n_qp = r->opt.n_qp}, theirs;
	struct ibv_port_attr port;

	for (uint32_t i = 0; i < r->opt.n_qp; i++) {
		create_qp(r, &r->qp[i]);
		mine.qpn[i] = r->qp[i]->qp_num;
	}
	if (ibv_query_gid(r->ctx, PORT, GID_INDEX, &mine.gid) ||
		ibv_query_port(r->ctx, PORT, &port))
		err(1, "query the device");
	mine.mtu = port.active_mtu;
	tcp_exchange(r->tcp, &mine, &theirs);
	if (theirs.n_qp != r->opt.n_qp)
		errx(1, "the other side has %u queue pairs", theirs.n_qp);
	for (uint32_t i = 0; i < r->opt.n_qp; i++)
		connect_qp(r->qp[i], &theirs, theirs.qpn[i], MIN(mine.mtu, theirs.mtu));
	for (uint32_t slot = 0; slot < n_slots(r); slot++)
		post_recv(r, slot);
	tcp_barrier(r->tcp);
}

/* ---- the runs ---- */

/* Receive until the client ends; with PINGPONG send one back for each. */
static void serve(struct run *r)
{
	struct ibv_wc wc[32];

	for (unsigned int turn = 0;; turn++) {
		int n = poll_cq(r, wc, 32);

		/* Looking at the socket costs a system call: not at every turn. */
		if (!n && turn % 1024 == 0 && tcp_ended(r->tcp))
			return;
		for (int i = 0; i < n; i++) {
			if (wc[i].opcode != IBV_WC_RECV)
				continue;
			post_recv(r, wc[i].wr_id);
			if (r->opt.mode == PINGPONG)
				post_send(r, 0);
		}
	}
}

static uint64_t run_end(const struct run *r)
{
	return now_ns() + (uint64_t)(r->opt.seconds * (double)NSEC_PER_SEC);
}

static void run_throughput(struct run *r)
{
	uint64_t start = now_ns(), end = run_end(r), n_done = 0, in_flight = n_slots(r);
	struct ibv_wc wc[32];

	for (uint32_t slot = 0; slot < n_slots(r); slot++)
		post_send(r, slot);
	while (in_flight) {
		int n = poll_cq(r, wc, 32);
		bool more = n && now_ns() < end;

		n_done += (uint64_t)n;
		if (!more)
			in_flight -= (uint64_t)n;
		for (int i = 0; more && i < n; i++)
			post_send(r, wc[i].wr_id);
	}
	printf("{\"bytes\": %llu, \"seconds\": %.6f}\n",
		(unsigned long long)(n_done * r->opt.size),
		(double)(now_ns() - start) / (double)NSEC_PER_SEC);
}

static void await_answer(struct run *r)
{
	struct ibv_wc wc;

	do {
		while (!poll_cq(r, &wc, 1)) {
		}
	} while (wc.opcode != IBV_WC_RECV);
	post_recv(r, wc.wr_id);
}

static void run_pingpong(struct run *r)
{
	uint64_t start = now_ns(), end = run_end(r), now = start, n_done = 0;

	for (; now < end; n_done++) {
		post_send(r, 0);
		await_answer(r);
		now = now_ns();
	}
	printf("{\"half_round_trip_us\": %.3f}\n",
		(double)(now - start) / (2e3 * (double)n_done));
}

static const struct option long_options[] = {
	{"local", required_argument, NULL, 'l'},
	{"peer", required_argument, NULL, 'p'},
	{"size", required_argument, NULL, 's'},
	{"qps", required_argument, NULL, 'q'},
	{"seconds", required_argument, NULL, 't'},
	{"pingpong", no_argument, NULL, 'P'},
	{NULL, 0, NULL, 0},
};

static void usage(void)
{
	errx(2, "usage: verbs_bw --local ADDR [--peer ADDR] [--size BYTES] [--qps N] "
		"[--seconds S] [--pingpong], the same on both sides");
}

static void parse(int argc, char **argv, struct options *opt)
{
	int c;

	*opt = (struct options){.size = 65536, .n_qp = 1, .seconds = 3};
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		switch (c) {
		case 'l':
			opt->local = optarg;
			break;
		case 'p':
			opt->peer = optarg;
			break;
		case 's':
			opt->size = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'q':
			opt->n_qp = (uint32_t)strtoul(optarg, NULL, 10);
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
	if (!opt->local || optind != argc || opt->n_qp < 1 || opt->n_qp > QPS_MAX ||
		opt->size < 1 || opt->size > 1u << 24)
		usage();
}

int main(int argc, char **argv)
{
	struct run r = {0};

	parse(argc, argv, &r.opt);
	open_device(&r);
	r.tcp = r.opt.peer ? tcp_connect(r.opt.peer) : tcp_accept(r.opt.local);
	connect_all(&r);
	if (!r.opt.peer)
		serve(&r);
	else if (r.opt.mode == PINGPONG)
		run_pingpong(&r);
	else
		run_throughput(&r);
	return 0;
}

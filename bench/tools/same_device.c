/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * same_device - two queue pairs of one device that are connected to each other, against
 * what memory does by itself
 *
 *   ring      two threads, 64 bytes there and back through a ring in shared memory
 *   pingpong  two threads, 64 bytes there and back as SENDs
 *   memcpy    one thread copies 1 MiB
 *   write     one thread WRITEs 1 MiB
 *
 * Threads run on the first and the last CPU that the program may use. What is told is the
 * median of batches, as on a shared machine some meet somebody else's time slice. Prints
 * one line of JSON.
 */
#include "lib/util.h"
#include "rc.h"
#include "rdma/include/vrdma.h"

#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL 64
#define LARGE (1u << 20)
#define SLOTS 64
#define DEPTH 16

/* One direction: what is there is told by head alone, as in any ring. */
struct ring {
	_Alignas(CACHE_LINE) _Atomic uint32_t head;
	_Alignas(CACHE_LINE) _Atomic uint32_t tail;
	_Alignas(CACHE_LINE) uint8_t slot[SLOTS][SMALL];
};

struct end {
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	uint8_t *buffer; /* LARGE */
};

static struct ring rings[2];
static struct end ends[2];
static _Atomic bool stop;

/* The first or the last CPU that the program may use. */
static cpu_set_t cpu_of(int side)
{
	static cpu_set_t allowed; /* before any thread was pinned */
	cpu_set_t set;
	int cpu = -1;

	if (!CPU_COUNT(&allowed))
		sched_getaffinity(0, sizeof(allowed), &allowed);
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, &allowed) && (side || cpu < 0))
			cpu = i;
	}
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return set;
}

/* ---- the bare ring ---- */

static void ring_send(int side)
{
	struct ring *r = &rings[side];
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	while (head - atomic_load_explicit(&r->tail, memory_order_acquire) == SLOTS) {
	}
	memcpy(r->slot[head % SLOTS], ends[side].buffer, SMALL);
	atomic_store_explicit(&r->head, head + 1, memory_order_release);
}

static bool ring_recv(int side)
{
	struct ring *r = &rings[!side];
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	if (tail == atomic_load_explicit(&r->head, memory_order_acquire))
		return false;
	memcpy(ends[side].buffer, r->slot[tail % SLOTS], SMALL);
	atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
	return true;
}

/* ---- verbs ---- */

static void post_recv(struct end *end)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)end->buffer, .length = SMALL, .lkey = end->mr->lkey};
	struct ibv_recv_wr wr = {.sg_list = &sge, .num_sge = 1}, *bad;

	if (ibv_post_recv(end->qp, &wr, &bad))
		errx(1, "post a receive");
}

static void post(struct end *end, struct ibv_send_wr *wr, uint32_t size)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)end->buffer, .length = size, .lkey = end->mr->lkey};
	struct ibv_send_wr *bad;

	wr->sg_list = &sge;
	wr->num_sge = 1;
	if (ibv_post_send(end->qp, wr, &bad))
		errx(1, "post a send");
}

static void verbs_send(int side)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_SEND, .send_flags = IBV_SEND_INLINE};

	post(&ends[side], &wr, SMALL);
}

static bool verbs_recv(int side)
{
	struct ibv_wc wc[2];
	int n = rc_poll(ends[side].cq, wc, 2);
	bool got = false;

	for (int i = 0; i < n; i++)
		got |= wc[i].opcode == IBV_WC_RECV;
	if (got)
		post_recv(&ends[side]);
	return got;
}

static void open_ends(const char *address)
{
	struct ibv_context *ctx =
		vrdma_open_device(&(struct vrdma_attr){.addr = address});
	struct ibv_pd *pd = ctx ? ibv_alloc_pd(ctx) : NULL;
	union ibv_gid gid;
	enum ibv_mtu mtu;

	if (!pd)
		err(1, "open the device on %s", address);
	rc_own_address(ctx, &gid, &mtu);
	for (int i = 0; i < 2; i++) {
		struct end *end = &ends[i];

		end->cq = ibv_create_cq(ctx, 2 * DEPTH, NULL, NULL, 0);
		end->mr = ibv_reg_mr(pd, end->buffer, LARGE,
			IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
		if (!end->cq || !end->mr)
			err(1, "set up the device");
		end->qp = rc_create(pd, end->cq, DEPTH);
	}
	for (int i = 0; i < 2; i++) {
		rc_connect(ends[i].qp, &gid, ends[!i].qp->qp_num, mtu);
		for (int k = 0; k < DEPTH; k++)
			post_recv(&ends[i]);
	}
}

/* ---- the runs ---- */

struct way {
	const char *name;
	bool has_device;
	void (*send)(int side);
	bool (*recv)(int side);
	void (*move)(void); /* instead: LARGE bytes from one end to the other */
};

#define BATCHES_MAX 100000

/* How long each batch took, in ns for each of its rounds. */
struct batches {
	double ns[BATCHES_MAX];
	size_t n;
};

static struct batches batches;

static void run_batches(void (*once)(const struct way *), const struct way *way,
	unsigned int size, double seconds)
{
	uint64_t begin = now_ns(), start = begin, now;

	do {
		for (unsigned int i = 0; i < size; i++)
			once(way);
		now = now_ns();
		batches.ns[batches.n++] = (double)(now - start) / size;
		start = now;
	} while ((double)(now - begin) < seconds * 1e9 && batches.n < BATCHES_MAX);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median_ns(void)
{
	qsort(batches.ns, batches.n, sizeof(batches.ns[0]), compare);
	return batches.ns[batches.n / 2];
}

static void *echo(void *arg)
{
	const struct way *way = arg;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		if (way->recv(1))
			way->send(1);
	}
	return NULL;
}

static void there_and_back(const struct way *way)
{
	way->send(0);
	while (!way->recv(0)) {
	}
}

static void pingpong(const struct way *way, double seconds)
{
	cpu_set_t cpu = cpu_of(1);
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setaffinity_np(&attr, sizeof(cpu), &cpu);
	if (pthread_create(&thread, &attr, echo, (void *)way))
		errx(1, "no thread");
	run_batches(there_and_back, way, 100, seconds);
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	printf("{\"half_round_trip_us\": %.4f}\n", median_ns() / 2e3);
}

static void copy_once(void)
{
	memcpy(ends[1].buffer, ends[0].buffer, LARGE);
	/* it has to be done, though nobody looks at it */
	__asm__ volatile("" ::"r"(ends[1].buffer) : "memory");
}

static void write_once(void)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_RDMA_WRITE,
		.wr.rdma = {(uintptr_t)ends[1].buffer, ends[1].mr->rkey}};
	struct ibv_wc wc;

	post(&ends[0], &wr, LARGE);
	while (!rc_poll(ends[0].cq, &wc, 1)) {
	}
}

static void move_once(const struct way *way)
{
	way->move();
}

static void stream(const struct way *way, double seconds)
{
	run_batches(move_once, way, 10, seconds);
	printf("{\"gbps\": %.3f}\n", LARGE * 8 / median_ns());
}

static const struct way ways[] = {
	{"ring", false, ring_send, ring_recv, NULL},
	{"pingpong", true, verbs_send, verbs_recv, NULL},
	{"memcpy", false, NULL, NULL, copy_once},
	{"write", true, NULL, NULL, write_once},
};

int main(int argc, char **argv)
{
	const struct way *way = ways;
	cpu_set_t own_cpu;

	if (argc != 4)
		errx(2, "usage: same_device ADDRESS ring|pingpong|memcpy|write SECONDS");
	while (way < ways + ARRAY_SIZE(ways) && strcmp(way->name, argv[2]))
		way++;
	if (way == ways + ARRAY_SIZE(ways))
		errx(2, "%s: no such way", argv[2]);
	for (int i = 0; i < 2; i++) {
		ends[i].buffer = aligned_alloc(4096, LARGE);
		if (!ends[i].buffer)
			errx(1, "no memory");
		memset(ends[i].buffer, 'v', LARGE);
	}
	if (way->has_device)
		open_ends(argv[1]);
	own_cpu = cpu_of(0);
	sched_setaffinity(0, sizeof(own_cpu), &own_cpu);
	if (way->move)
		stream(way, strtod(argv[3], NULL));
	else
		pingpong(way, strtod(argv[3], NULL));
	return 0;
}

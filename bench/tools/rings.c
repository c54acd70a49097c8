/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a byte stream through shared memory costs, beside what it is made of and what it
 * replaces. Two processes, each on a core of its own. All of one round is measured within
 * seconds, round after round; ratios are taken within a round, and of the rounds the
 * median is told. One measurement is the median of batches (so many round trips, so many
 * bytes), as on a shared machine some batches meet somebody else's time slice.
 *
 *  half round trip of 64 bytes
 *    bare      a ring of 64-byte slots, polled
 *    ring      shring, polled
 *    ring-ip   the same, written and read in place
 *    asleep    shring, no spinning: each message wakes the other side
 *    eventfd   two eventfds, blocking
 *    unix      a UNIX stream socket, blocking
 *  stream of messages
 *    copy      copied in and out of shared slots of 32 KiB, polled
 *    ring      shring_write() and shring_read()
 *    unix      a UNIX stream socket
 *
 * Usage: rings [-r ROUNDS] [-s RING_SIZE] [-j FILE.json]
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include "ivshmem/shring.h"
#include "ivshmem/shring_wait.h"

#define MSG	    64
#define SLOT	    (32u << 10)
#define N_SLOTS	    32
#define N_FAST	    200 /* round trips of a batch */
#define N_SLOW	    20
#define N_BATCHES   101
#define BATCH	    (16ull << 20) /* bytes of a stream's batch */
#define N_STREAM    13		  /* its batches */
#define BUF_MAX	    (8u << 20)
#define VALUES_MAX  101
#define SPIN_NS	    (NSEC_PER_SEC)
#define SPIN_STREAM (50 * NSEC_PER_USEC)

/* One slot ring each way, as in the completion queues. */
struct slots {
	_Alignas(128) _Atomic uint32_t head;
	_Alignas(128) _Atomic uint32_t tail;
	_Alignas(128) uint8_t data[];
};

struct bench {
	int side;
	uint8_t *area; /* shared */
	struct slots *slots[2];
	struct shring ring;
	struct shring_spin spin;
	int bell[2], sock[2];
	uint8_t *buf;
	size_t len; /* of a message */
};

static uint32_t ring_size = 1u << 20;
static unsigned n_rounds = 7;
static int cpus[2];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

/* -- slots: the bare ring */

static void slot_put(struct slots *s, const uint8_t *buf, size_t len, size_t slot)
{
	uint32_t head = atomic_load_explicit(&s->head, memory_order_relaxed);

	while (head - atomic_load_explicit(&s->tail, memory_order_acquire) == N_SLOTS)
		cpu_relax();
	memcpy(s->data + head % N_SLOTS * slot, buf, len);
	atomic_store_explicit(&s->head, head + 1, memory_order_release);
}

static void slot_get(struct slots *s, uint8_t *buf, size_t len, size_t slot)
{
	uint32_t tail = atomic_load_explicit(&s->tail, memory_order_relaxed);

	while (atomic_load_explicit(&s->head, memory_order_acquire) == tail)
		cpu_relax();
	memcpy(buf, s->data + tail % N_SLOTS * slot, len);
	atomic_store_explicit(&s->tail, tail + 1, memory_order_release);
}

static void bare_put(struct bench *b)
{
	slot_put(b->slots[b->side], b->buf, MSG, MSG);
}

static void bare_get(struct bench *b)
{
	slot_get(b->slots[!b->side], b->buf, MSG, MSG);
}

static void copy_put(struct bench *b)
{
	for (size_t at = 0; at < b->len; at += SLOT)
		slot_put(b->slots[b->side], b->buf + at, SLOT, SLOT);
}

static void copy_get(struct bench *b)
{
	for (size_t at = 0; at < b->len; at += SLOT)
		slot_get(b->slots[!b->side], b->buf + at, SLOT, SLOT);
}

/* -- shring */

static void ring_wait(struct bench *b, enum shring_dir dir)
{
	if (shring_wait(&b->ring, dir, b->bell[b->side], &b->spin, -1))
		die("shring_wait");
}

static void ring_put(struct bench *b)
{
	for (size_t at = 0; at < b->len;) {
		ssize_t n = shring_write(&b->ring, b->buf + at, b->len - at);

		if (n > 0)
			at += (size_t)n;
		else
			ring_wait(b, SHRING_WRITE);
	}
}

static void ring_get(struct bench *b)
{
	for (size_t at = 0; at < b->len;) {
		ssize_t n = shring_read(&b->ring, b->buf + at, b->len - at);

		if (n > 0)
			at += (size_t)n;
		else
			ring_wait(b, SHRING_READ);
	}
}

static void in_place_put(struct bench *b)
{
	struct iovec iov[2];

	while (shring_reserve(&b->ring, iov) < MSG)
		ring_wait(b, SHRING_WRITE);
	/* Messages of 64 bytes never wrap. */
	memcpy(iov[0].iov_base, b->buf, MSG);
	shring_commit(&b->ring, MSG);
}

static void in_place_get(struct bench *b)
{
	struct iovec iov[2];

	while (shring_peek(&b->ring, iov) < MSG)
		ring_wait(b, SHRING_READ);
	memcpy(b->buf, iov[0].iov_base, MSG);
	shring_consume(&b->ring, MSG);
}

/* -- what the kernel has */

static void eventfd_put(struct bench *b)
{
	if (eventfd_write(b->bell[!b->side], 1))
		die("eventfd_write");
}

static void eventfd_get(struct bench *b)
{
	eventfd_t count;

	if (eventfd_read(b->bell[b->side], &count))
		die("eventfd_read");
}

static void unix_put(struct bench *b)
{
	for (size_t at = 0; at < b->len;) {
		ssize_t n = write(b->sock[b->side], b->buf + at, b->len - at);

		if (n <= 0)
			die("write");
		at += (size_t)n;
	}
}

static void unix_get(struct bench *b)
{
	for (size_t at = 0; at < b->len;) {
		ssize_t n = read(b->sock[b->side], b->buf + at, b->len - at);

		if (n <= 0)
			die("read");
		at += (size_t)n;
	}
}

/* -- measuring */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *value, unsigned n)
{
	double sorted[VALUES_MAX];

	memcpy(sorted, value, n * sizeof(*value));
	qsort(sorted, n, sizeof(*sorted), compare);
	return sorted[n / 2];
}

struct way {
	const char *name;
	void (*put)(struct bench *b);
	void (*get)(struct bench *b);
	unsigned n; /* round trips of a batch; 0 for a stream */
	uint64_t spin_ns;
};

static void cpu_use(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static void cpus_pick(void)
{
	cpu_set_t set;
	int n = 0;

	if (sched_getaffinity(0, sizeof(set), &set))
		die("sched_getaffinity");
	for (int i = 0; i < CPU_SETSIZE && n < 2; i++) {
		if (CPU_ISSET(i, &set))
			cpus[n++] = i;
	}
	if (n < 2) {
		fprintf(stderr, "rings: needs two processors\n");
		exit(77);
	}
}

static size_t slots_size(void)
{
	return sizeof(struct slots) + (size_t)N_SLOTS * SLOT;
}

static size_t area_size(void)
{
	return shring_area_size(ring_size, ring_size) + 2 * slots_size() + 4096;
}

static void bench_open(struct bench *b, size_t len)
{
	uint8_t *at;

	memset(b, 0, sizeof(*b));
	b->len = len;
	b->area = mmap(NULL, area_size(), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (b->area == MAP_FAILED)
		die("mmap");
	at = b->area + shring_area_size(ring_size, ring_size);
	for (int i = 0; i < 2; i++) {
		b->slots[i] = (struct slots *)(at + (size_t)i * slots_size());
		b->bell[i] = eventfd(0, 0);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, b->sock))
		die("socketpair");
	b->buf = malloc(BUF_MAX);
	memset(b->buf, 1, BUF_MAX);
}

static void bench_close(struct bench *b)
{
	munmap(b->area, area_size());
	for (int i = 0; i < 2; i++) {
		close(b->bell[i]);
		close(b->sock[i]);
	}
	free(b->buf);
}

/* Both sides; the first begins. */
static void ping_pong(struct bench *b, const struct way *way, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (b->side == 0)
			way->put(b);
		way->get(b);
		if (b->side == 1)
			way->put(b);
	}
}

static void stream(struct bench *b, const struct way *way)
{
	for (uint64_t at = 0; at < BATCH; at += b->len) {
		if (b->side == 0)
			way->put(b);
		else
			way->get(b);
	}
}

static unsigned n_batches(const struct way *way)
{
	return way->n ? N_BATCHES : N_STREAM;
}

static void batch_run(struct bench *b, const struct way *way)
{
	if (way->n)
		ping_pong(b, way, way->n);
	else
		stream(b, way);
}

static void other_side(struct bench *b, const struct way *way)
{
	const struct shring_bell bell = {.fd = {b->bell[0], b->bell[0]}};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	cpu_use(cpus[1]);
	b->side = 1;
	if (shring_attach(&b->ring, b->area, area_size(), &bell))
		die("shring_attach");
	for (unsigned i = 0; i <= n_batches(way); i++)
		batch_run(b, way);
	exit(0);
}

/* Return: ns of a half round trip, or bytes per ns */
static double measure(const struct way *way, size_t len)
{
	struct shring_bell bell;
	struct bench b;
	uint64_t start;
	double ns[N_BATCHES];
	pid_t pid;

	bench_open(&b, len);
	bell = (struct shring_bell){.fd = {b.bell[1], b.bell[1]}};
	b.spin = (struct shring_spin){.max_ns = way->spin_ns, .ns = way->spin_ns};
	if (shring_create(&b.ring, b.area, area_size(), ring_size, ring_size, &bell))
		die("shring_create");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		other_side(&b, way);
	cpu_use(cpus[0]);
	batch_run(&b, way);
	for (unsigned i = 0; i < n_batches(way); i++) {
		start = now_ns();
		batch_run(&b, way);
		ns[i] = (double)(now_ns() - start);
	}
	waitpid(pid, NULL, 0);
	bench_close(&b);
	return way->n ? median(ns, N_BATCHES) / way->n / 2
		      : (double)BATCH / median(ns, N_STREAM);
}

/* -- results */

struct series {
	char name[32];
	const char *unit;
	double value[VALUES_MAX];
};

static const struct way latency[] = {
	{"bare", bare_put, bare_get, N_FAST, 0},
	{"ring", ring_put, ring_get, N_FAST, SPIN_NS},
	{"ring-ip", in_place_put, in_place_get, N_FAST, SPIN_NS},
	{"asleep", ring_put, ring_get, N_SLOW, 0},
	{"eventfd", eventfd_put, eventfd_get, N_SLOW, 0},
	{"unix", unix_put, unix_get, N_SLOW, 0},
};
static const struct way streams[] = {
	{"copy", copy_put, copy_get, 0, 0},
	{"ring", ring_put, ring_get, 0, SPIN_STREAM},
	{"unix", unix_put, unix_get, 0, 0},
};
static const unsigned sizes_kib[] = {64, 256, 1024, 8192};

#define N_LATENCY ARRAY_SIZE(latency)
#define N_STREAMS ARRAY_SIZE(streams)
#define N_SERIES  (N_LATENCY + N_STREAMS * ARRAY_SIZE(sizes_kib))

static struct series series[N_SERIES];

static void round_run(unsigned round)
{
	size_t k = 0;

	for (size_t i = 0; i < N_LATENCY; i++, k++) {
		snprintf(series[k].name, sizeof(series[k].name), "%s", latency[i].name);
		series[k].unit = "ns";
		series[k].value[round] = measure(&latency[i], MSG);
	}
	for (size_t s = 0; s < ARRAY_SIZE(sizes_kib); s++) {
		for (size_t i = 0; i < N_STREAMS; i++, k++) {
			snprintf(series[k].name, sizeof(series[k].name), "%s-%uk",
				streams[i].name, sizes_kib[s]);
			series[k].unit = "GB/s";
			series[k].value[round] =
				measure(&streams[i], (size_t)sizes_kib[s] << 10);
		}
	}
}

static const struct series *find(const char *name)
{
	for (size_t i = 0; i < N_SERIES; i++) {
		if (!strcmp(series[i].name, name))
			return &series[i];
	}
	abort();
}

struct ratio {
	char name[2][32];
	const char *goal;
	double value;
};

static struct ratio ratios[3 + 2 * ARRAY_SIZE(sizes_kib)];
static unsigned n_ratios;

static void ratio_add(const char *a, const char *b, const char *goal)
{
	const struct series *x = find(a), *y = find(b);
	struct ratio *ratio = &ratios[n_ratios++];
	double value[VALUES_MAX];

	for (unsigned i = 0; i < n_rounds; i++)
		value[i] = x->value[i] / y->value[i];
	snprintf(ratio->name[0], sizeof(ratio->name[0]), "%s", a);
	snprintf(ratio->name[1], sizeof(ratio->name[1]), "%s", b);
	ratio->goal = goal;
	ratio->value = median(value, n_rounds);
}

static void ratios_make(void)
{
	char a[32], b[32];

	ratio_add("ring", "bare", "<= 1.5");
	ratio_add("unix", "ring", ">= 5");
	ratio_add("asleep", "eventfd", "<= 1.2");
	for (size_t s = 0; s < ARRAY_SIZE(sizes_kib); s++) {
		snprintf(a, sizeof(a), "ring-%uk", sizes_kib[s]);
		snprintf(b, sizeof(b), "copy-%uk", sizes_kib[s]);
		ratio_add(a, b, ">= 0.8");
		snprintf(b, sizeof(b), "unix-%uk", sizes_kib[s]);
		ratio_add(a, b, "");
	}
}

static void table_print(void)
{
	printf("%-14s %10s  unit\n", "median of", "value");
	for (size_t i = 0; i < N_SERIES; i++)
		printf("%-14s %10.2f  %s\n", series[i].name,
			median(series[i].value, n_rounds), series[i].unit);
	printf("\n%-26s %8s  goal\n", "median ratio", "value");
	for (unsigned i = 0; i < n_ratios; i++)
		printf("%-12s : %-11s %8.2f  %s\n", ratios[i].name[0], ratios[i].name[1],
			ratios[i].value, ratios[i].goal);
}

static void json_write(const char *path)
{
	FILE *f = fopen(path, "w");

	if (!f)
		die(path);
	fprintf(f, "{\"rounds\": %u, \"ring_size\": %u, \"values\": {", n_rounds,
		ring_size);
	for (size_t i = 0; i < N_SERIES; i++) {
		fprintf(f,
			"%s\n  \"%s\": {\"unit\": \"%s\", \"median\": %.4f, \"all\": [",
			i ? "," : "", series[i].name, series[i].unit,
			median(series[i].value, n_rounds));
		for (unsigned r = 0; r < n_rounds; r++)
			fprintf(f, "%s%.4f", r ? ", " : "", series[i].value[r]);
		fprintf(f, "]}");
	}
	fprintf(f, "},\n \"ratios\": {");
	for (unsigned i = 0; i < n_ratios; i++)
		fprintf(f, "%s\n  \"%s:%s\": {\"median\": %.4f, \"goal\": \"%s\"}",
			i ? "," : "", ratios[i].name[0], ratios[i].name[1],
			ratios[i].value, ratios[i].goal);
	fprintf(f, "}}\n");
	if (fclose(f))
		die(path);
}

int main(int argc, char **argv)
{
	const char *json = NULL;
	int opt;

	while ((opt = getopt(argc, argv, "r:s:j:")) != -1) {
		if (opt == 'r')
			n_rounds = (unsigned)atoi(optarg);
		else if (opt == 's')
			ring_size = (uint32_t)atoi(optarg);
		else if (opt == 'j')
			json = optarg;
		else
			return 2;
	}
	if (optind != argc || n_rounds == 0 || n_rounds > VALUES_MAX ||
		shring_area_size(ring_size, ring_size) == 0) {
		fprintf(stderr,
			"usage: rings [-r ROUNDS] [-s RING_SIZE] [-j FILE.json]\n");
		return 2;
	}
	cpus_pick();
	for (unsigned i = 0; i < n_rounds; i++)
		round_run(i);
	ratios_make();
	table_print();
	if (json)
		json_write(json);
	return 0;
}

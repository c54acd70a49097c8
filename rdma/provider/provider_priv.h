/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The libibverbs provider's objects: libibverbs' structs on the outside, the engine's
 * inside. driver.h is rdma-core's private header (scripts/setup.sh fetches it); its
 * layout is fixed by the symbol version IBVERBS_PRIVATE_34.
 *
 * Locking, in this order:
 *   device.rx_lock  one thread at a time receives from the link
 *   cq_lock()       one thread at a time takes completions off a queue
 *   device.lock     the engine, and sending on the link
 *   the engine's own, which are held briefly (engine.h)
 */
#ifndef RDMA_PROVIDER_PROVIDER_PRIV_H
#define RDMA_PROVIDER_PROVIDER_PRIV_H

#include <infiniband/driver.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "rdma/engine/engine.h"
#include "rdma/engine/qp.h"
#include "rdma/io/link_set.h"
#include "lib/util.h"
#include "device_dir.h"
#include "events.h"
#include "gids.h"

#define PROVIDER_NAME "vrdma" /* tells our devices from others' */
#define DEVICE_ABI    1	      /* of the tree that vrdma-run makes */

#define DEVICE_CQ_MAX  (1u << 16)
#define DEVICE_SRQ_MAX (1u << 14)
#define DEVICE_AH_MAX  (1u << 16)
#define DEVICE_PD_MAX  (1u << 16)

/* Kinds of objects that the device counts; those of the engine have limits there. */
enum device_kind { KIND_PD, KIND_MR, KIND_MW, KIND_CQ, KIND_SRQ, KIND_AH, N_KINDS };

/* What tells a process' devices apart: what they are on. */
struct device_identity {
	uint32_t ifindex; /* of a port, or an interface whose addresses it has; or 0 */
	struct {
		uint8_t gid[16];
		uint32_t scope; /* of a link-local address: interface index */
	} addr[DEVICE_GID_MAX];
};

/* One on each address, or set of addresses; device_share.c. */
struct device {
	TAILQ_ENTRY(device) entry;
	uint32_t n_contexts; /* under the list's lock */
	struct device_identity identity;
	pid_t pid;
	char ifname[16]; /* of all addresses */
	uint8_t guid[8];
	struct link_set *links;
	struct gids gids;
	TAILQ_HEAD(, context) contexts; /* under lock */
	_Atomic uint32_t n_objects[N_KINDS];

	struct engine *engine;

	/* What everyone writes who posts or receives begins with one cache line. */
	_Alignas(CACHE_LINE) pthread_mutex_t lock;
	struct link_burst burst; /* being sent; under lock */
	uint32_t next_pd;	 /* under lock */

	/* events.c, under lock: */
	struct event_queue comp_events, async_events; /* that wait to be sent */
	_Atomic uint32_t n_events_waiting;	      /* in both */
	uint64_t events_lost;			      /* for want of memory */

	pthread_mutex_t rx_lock;
	struct link_rx rx[LINK_BURST]; /* under rx_lock */

	/* progress.c: */
	_Atomic uint64_t polled_ns; /* when somebody polled last */
	_Alignas(CACHE_LINE) _Atomic uint64_t
		deadline_ns;		  /* engine_deadline() as of the last unlock */
	_Atomic uint64_t sleeps_until_ns; /* the thread's; 0 while it is awake */
	_Atomic uint32_t n_arms;  /* grows when somebody is to wait for an event */
	_Atomic uint32_t n_armed; /* queues that are to tell */
	_Atomic bool link_holds;  /* packets that its descriptor does not tell of */
	_Atomic bool naps;	  /* the thread, which does not look at packets */
	_Atomic bool stop;
	int wake_fd;

	/* port.c: */
	int port_fd;	       /* tells of changes of interfaces; or -1 */
	bool port_up;	       /* as last seen, by the thread */
	_Atomic bool gids_due; /* gids_refresh() is to be called */
	/* of the GID table, written under lock: */
	_Atomic uint32_t mtu; /* enum ibv_mtu */
	_Atomic uint16_t lid; /* 0: none */

	pthread_t thread;
};

/* What ibv_open_device() gives. */
struct context {
	struct verbs_context vctx;
	TAILQ_ENTRY(context) entry;
	struct device *dev;
	char gid_dir[64]; /* see gid_dir.c */
	bool has_shown;	  /* what the device's folder shows; under lock */
	uint8_t shown[DEVICE_GID_MAX][16];
};

/* Objects that others are built on count them in n_users and can't go before them. */

struct device_pd {
	struct ibv_pd ibv;
	uint32_t id;
	_Atomic int n_users;
};

struct device_ah {
	struct ibv_ah ibv;
	struct ibv_ah_attr attr;
};

struct device_mr {
	struct verbs_mr vmr;
};

struct device_cq {
	struct verbs_cq vcq;
	struct cq *cq;
	_Atomic int n_users;
	bool armed;		/* it counts in device.n_armed; under device.lock */
	uint32_t n_comp_events; /* sent; under device.lock */
	uint32_t n_async_events;
	struct ibv_wc wc; /* cq_ex.c: the current completion; under cq_lock() */
};

struct device_srq {
	struct verbs_srq vsrq;
	struct rq *rq;
	_Atomic int n_users;
	uint32_t n_async_events; /* sent; under device.lock */
};

struct device_qp {
	struct verbs_qp vqp;
	struct qp *qp;
	struct wr_stage *stage;	 /* qp_ex.c; or NULL */
	uint32_t n_async_events; /* sent; under device.lock */
	int gid_index;		 /* that it is connected from, or -1; likewise */
	bool sq_sig_all;
};

static inline struct device *to_device(struct ibv_context *ctx)
{
	return ((struct context *)((char *)ctx - offsetof(struct context, vctx.context)))
		->dev;
}

static inline struct device_pd *to_device_pd(struct ibv_pd *ibpd)
{
	return (struct device_pd *)((char *)ibpd - offsetof(struct device_pd, ibv));
}

/* device_share.c: memory for one more object of a kind, zeroed. NULL: there is none, or
 * there are as many as ibv_query_device() promises
 */
void *device_object_alloc(struct device *dev, enum device_kind kind, size_t size);
void device_object_free(struct device *dev, enum device_kind kind, void *object);

/* For constructors: set errno and give NULL. */
static inline void *device_fail(int rc)
{
	errno = -rc;
	return NULL;
}

/* device.c */
extern const struct verbs_device_ops provider_ops;

/* counters.c */
struct vrdma_counter;
/* As vrdma_query_counters(). */
int counters_read(struct device *dev, struct vrdma_counter *counters, int max);
/* All that are not 0, on level debug. */
void counters_log(struct device *dev);

/* lid.c, under lock */
uint16_t lid_of_gids(const struct gids *gids); /* 0: none */
/* @attr, with a GRH made from its LID if it has none */
struct ibv_ah_attr device_route(const struct device *dev, const struct ibv_ah_attr *attr);

/* port.c */
enum ibv_mtu device_mtu(const struct device *dev); /* the port's path MTU */
/* That of packets from one entry of the GID table. Under lock. */
enum ibv_mtu port_gid_mtu(const struct device *dev, uint8_t index);
/* The GID table or the interface's MTU may have changed. Under lock. */
void port_recompute(struct device *dev);
/* So many of the table's entries changed: tell. Under lock. */
void port_gids_changed(struct device *dev, int n);
uint32_t port_mbps(const struct device *dev);
void port_watch(struct device *dev);
void port_unwatch(struct device *dev);
/* The thread calls it when port_fd is readable. */
void port_changed(struct device *dev);

/* device_share.c: the device at @where; -EINVAL, or as gids_open() */
int device_get(const struct device_where *where, struct device **out);
void device_put(struct device *dev);

/* gid_dir.c */
int gid_dir_create(const struct device *dev, char *path, size_t size);
void gid_dir_remove(const char *path);
/* Let @ctx's folder show the GID table as it is. Under lock. */
void gid_dir_update(struct context *ctx);

/* progress.c: what makes a device go */
int progress_start(struct device *dev);
void progress_stop(struct device *dev);
/* The thread is to look again at what it waits for. */
void progress_wake(struct device *dev);
/* Nobody sends, receives or has the engine, from here to there. */
void device_pause(struct device *dev);
void device_resume(struct device *dev);
/* Take the engine; give it back after sending what it wants sent. */
void engine_lock(struct device *dev);
/* To end a queue pair: a poll may have left the ACK unsent of what it completed. */
void engine_lock_sent(struct device *dev);
void engine_unlock(struct device *dev);
/* With cq_lock(), which is given back meanwhile: receive, expire timers, send, for who
 * polls @cq and finds nothing. Returns at once if another thread is at it, or if the next
 * completion will come without packets.
 */
void progress_for(struct device *dev, struct cq *cq);

/* Under lock: a completion queue of @dev begins, or ceases, to be armed. The thread does
 * the work for who waits for it.
 */
void progress_arm(struct device *dev);
void progress_disarm(struct device *dev);

/* cq_ex.c: what libibverbs puts into the contexts that it opens itself */
struct ibv_cq_ex *device_create_cq_ex(
	struct ibv_context *ctx, struct ibv_cq_init_attr_ex *init);

/* path.c, under lock */
/* The queue pair is connected from entry @index of the GID table, or (-1) not at all. */
void path_set_gid(struct device *dev, struct device_qp *qp, int index);
/* qp_modify() with an address vector. Return: as that; also -EINVAL when there is no such
 * way
 */
int path_modify(
	struct device *dev, struct device_qp *qp, struct ibv_qp_attr attr, int mask);

/* qp_ex.c */
void qp_ex_destroy(struct device_qp *qp);

/* datapath.c: post a list, or none of it if one is wrong. Return: 0 or errno */
int device_post_all(struct device_qp *qp, struct ibv_send_wr *wr);

/* The verbs: port.c, cq_ex.c, qp_ex.c, events.c, mcast.c, memory.c, objects.c, path.c,
 * datapath.c
 */
extern const struct verbs_context_ops port_ops;
extern const struct verbs_context_ops cq_ex_ops;
extern const struct verbs_context_ops qp_ex_ops;
extern const struct verbs_context_ops event_ops;
extern const struct verbs_context_ops mcast_ops;
extern const struct verbs_context_ops memory_ops;
extern const struct verbs_context_ops object_ops;
extern const struct verbs_context_ops path_ops;
extern const struct verbs_context_ops datapath_ops;

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the engine's files share: the queue pair's inside. Each of its parts has one
 * file that writes it.
 */
#ifndef RDMA_ENGINE_ENGINE_PRIV_H
#define RDMA_ENGINE_ENGINE_PRIV_H

#include <stdbool.h>
#include <sys/queue.h>

#include "congestion.h"
#include "dcqcn.h"
#include "engine.h"
#include "idtable.h"
#include "mcast.h"
#include "mw.h"
#include "qp.h"
#include "rtt.h"
#include "sge.h"
#include "timers.h"
#include "rdma/wire/psn.h"

#include "lib/util.h"

/* One queue pair's share of a burst, so that a long message can't starve the others. */
#define ENGINE_QUANTUM_PKTS (LINK_BURST / 2)

/* One work request on a send queue. Retired when its last PSN is acknowledged. */
struct sq_wqe {
	uint64_t wr_id;
	uint64_t remote_addr;
	uint32_t rkey;
	uint32_t imm_be;
	uint32_t length; /* bytes */
	uint32_t first_psn;
	uint32_t n_pkts; /* of a READ its answers'; 0 if it stays here (local_op.c) */
	uint8_t opcode;	 /* enum ibv_wr_opcode */
	uint8_t n_sge;
	bool signaled;
	bool solicited;
	bool fence;	    /* wait until what was fetched before is here */
	bool is_inline;	    /* the data lies here instead of sge */
	bool is_done;	    /* local_op.c */
	uint8_t sgid_index; /* UD: from */
	union {
		struct { /* atomics */
			uint64_t swap_add;
			uint64_t compare;
		};
		struct { /* UD: to whom */
			uint8_t dgid[16];
			uint32_t dest_qpn;
			uint32_t qkey;
		};
		struct mw_binding bind;
	};
	struct ibv_sge sge[];
};

/* READs and atomics that are not answered. */
struct asked {
	uint32_t end[ENGINE_RD_MAX]; /* the PSN behind each's last answer */
	uint32_t head, tail;	     /* free-running */
	struct sge_cursor got_sge;   /* where the next answer to the READ at tail goes */
	uint64_t got_off;
};

/*
 * Requester (requester.c; completer.c moves una_psn). PSNs are assigned when work is
 * posted, so these always hold, as serial numbers:
 *
 *   una_psn <= tx_psn <= snd_max <= next_psn
 *   acked | in flight | to be sent (again, below snd_max) | beyond what is posted
 */
struct requester {
	uint8_t *ring;
	uint32_t stride;
	uint32_t mask;
	uint32_t depth; /* as granted; at most mask + 1 */
	uint16_t max_sge;
	uint16_t max_inline;
	/* work requests, free-running: tail <= cur <= head */
	uint32_t head; /* next to be posted */
	uint32_t cur;  /* being sent */
	uint32_t tail; /* oldest that is not complete */
	/* place inside cur */
	uint32_t cur_pkt;
	struct sge_cursor cur_sge;
	uint64_t cur_off; /* bytes up to cur_sge */

	struct asked *asked; /* NULL until a READ or atomic is posted */
	/* UC and UD: the burst that the last packet went into; what is in it completes
	 * once it is sent, as only then its memory is free again */
	uint64_t last_burst;

	uint32_t next_psn;
	uint32_t una_psn;
	uint32_t snd_max;
	uint32_t unrequested; /* packets since the last AckReq */

	uint64_t timeout_ns; /* of what was configured */
	uint64_t rewound_ns; /* a loss was told, and sending began anew */
	uint32_t repair_psn; /* see in_repair */
	uint8_t n_hasty;     /* times that it was sent again since timeout_ns was set */
	uint8_t retry_left;
	uint8_t rnr_left;
	bool in_repair;	    /* the answer to repair_psn was lost and asked for again */
	bool tell_drained;  /* SQD was asked to raise an event when all is acknowledged */
	bool rnr_wait;	    /* silent until the timer goes off */
	struct timer timer; /* of an ACK, or of rnr_wait */
};

/* One READ or atomic that a peer asked for. */
struct fetch {
	bool is_atomic;
	uint32_t psn; /* of the next answer */
	uint32_t rkey;
	uint64_t va;
	uint64_t value;	 /* result of an atomic */
	uint32_t length; /* bytes left of a READ */
	bool begun;	 /* the first answer is out */
	bool is_repeat;	 /* was asked for again */
};

/* There while READs or atomics are to be answered, and, for repetitions, from the first
 * atomic on. As many of each as max_dest_rd_atomic says.
 */
struct fetches {
	uint32_t depth;
	uint32_t head, tail; /* of todo, free-running */
	uint32_t n_atomics;
	/* first those to be answered, in order, before any ACK; then the last atomics */
	struct fetch ring[];
};

/* Responder (responder.c; responder_fetch.c for fetches). */
struct responder {
	uint32_t epsn;	   /* expected */
	uint32_t data_psn; /* of the last SEND or WRITE packet taken */
	uint32_t msn;
	/* the message that has begun and not ended: its WIRE_IS_ class, or 0 */
	uint32_t in_message;
	bool have_wqe;	  /* wqe holds a buffer taken from rq */
	uint8_t sl;	  /* of a datagram's completion, see unreliable.c */
	bool ack_pending; /* an answer is due: syndrome */
	bool nak_sent;	  /* one NAK until epsn arrives */
	uint8_t syndrome;
	struct rq_wqe *wqe;   /* lies behind the queue pair */
	struct sge_cursor at; /* in wqe's pieces */
	uint64_t received;    /* bytes of the message so far */
	uint64_t write_va;
	uint32_t write_rkey;
	uint32_t write_len;
	struct fetches *fetches; /* or NULL */
};

/* What qp_modify() was given of struct ibv_qp_attr, which has twice its size. */
struct qp_attrs {
	struct ibv_ah_attr ah_attr;
	uint32_t dest_qp_num;
	uint32_t qkey;
	int qp_access_flags;
	uint16_t pkey_index;
	uint8_t path_mtu;
	uint8_t port_num;
	uint8_t max_rd_atomic;
	uint8_t max_dest_rd_atomic;
	uint8_t min_rnr_timer;
	uint8_t timeout;
	uint8_t retry_cnt;
	uint8_t rnr_retry;
};

/* The notification that is to be sent (cnp.c). */
struct cnp {
	bool is_due;
	uint64_t next_ns; /* none before */
	uint32_t qpn;	  /* to */
	uint8_t gid[16];
	uint8_t sgid_index; /* from */
};

/* Congestion as told, from the first packet that is marked or notifies on (cnp.c). */
struct throttle {
	struct qp *qp;
	struct dcqcn dcqcn;
	struct timer gate; /* to be scheduled when its rate allows it to send */
	struct cnp cnp;
};

/* What another core may be at while messages pass by lanes lies a cache line or more
 * apart: what the peer reads as well (up to config), the requester's PSNs, the
 * responder's.
 */
struct qp {
	uint32_t qpn; /* first, as idtable.h wants it */
	uint16_t sport_hash;
	bool is_ready;	/* on engine->ready */
	bool is_direct; /* connected to an address of this engine, see direct.c */
	struct engine *engine;
	TAILQ_ENTRY(qp) ready_entry;
	_Atomic enum ibv_qp_state state; /* also read by qp_state(), from any thread */
	uint32_t mtu;			 /* path MTU, bytes */
	struct rq *rq;			 /* config.srq or own */
	struct lane *_Atomic lane;	 /* or NULL; once it was direct */
	struct qp_attrs attr;
	struct qp_config config;
	struct requester req;
	struct congestion congestion;
	struct rtt rtt;
	struct responder resp;
	struct throttle *throttle; /* or NULL */
	struct mw_list windows;	   /* of type 2, bound through it */
	uint32_t n_groups;	   /* that it is attached to */
};

TAILQ_HEAD(qp_list, qp);

#define MCAST_CHAINS 64u

/* Multicast groups, by GID (mcast.c). */
struct mcast_groups {
	struct mcast_group *chain[MCAST_CHAINS];
	uint32_t n;
};

struct engine {
	struct mr_table *mrs;
	struct idtable qps; /* by QPN */
	bool knows_gids;
	uint8_t gid[ENGINE_GID_MAX][16]; /* by index, zeros: none; see engine_set_gid() */
	uint64_t line_rate;		 /* bytes per second */
	struct mcast_groups groups;
	LIST_HEAD(, lane) lanes; /* that are open */
	/* What every message writes is on as few cache lines as can be, as the next one's
	 * sender may be another core. */
	_Alignas(CACHE_LINE) struct qp_list ready; /* may have something to send */
	struct timers timers;			   /* the requesters' */
	struct timers gates;			   /* of queue pairs that are limited */
	uint64_t n_bursts;
	struct engine_stats stats;
};

/* Does a rate hold, see dcqcn.h? */
static inline bool qp_is_limited(const struct qp *qp)
{
	return qp->throttle && qp->throttle->dcqcn.rate;
}

/* engine.c */
/* A packet for @qp: take it, or drop and count it. */
void engine_input_to(struct qp *qp, const struct wire_packet *pkt,
	const struct link_rx *rx, uint64_t now_ns);
void engine_schedule(struct qp *qp);
/* Let retry_timer() be called at @due_ns, or not at all (0). */
void engine_arm(struct qp *qp, uint64_t due_ns);
bool engine_pace_throttled(struct qp *qp, uint64_t now_ns);
/* Does the rate forbid to send now? Then it is scheduled when it no longer does. */
static inline bool engine_pace(struct qp *qp, uint64_t now_ns)
{
	return qp->throttle && engine_pace_throttled(qp, now_ns);
}
/* The index of an address of this engine, or ENGINE_GID_MAX. */
uint8_t engine_gid_index(const struct engine *e, const uint8_t gid[16]);
/* Add a packet to @burst, from where @qp is connected to @dgid; NULL if it is full. */
struct link_tx *engine_emit(struct qp *qp, struct link_burst *burst,
	const struct wire_packet *pkt, const uint8_t dgid[16]);
enum wire_service engine_service(const struct qp *qp);

static inline struct mw_user qp_mw_user(struct qp *qp)
{
	return (struct mw_user){qp->config.pd, qp->qpn, &qp->windows};
}

/* qp.c: the one place that changes the state by itself; completes all work with errors */
void qp_fail(struct qp *qp);
/* A request can't be sent: of RC that is the end, UC and UD can go on receiving (SQE). */
void qp_fail_send(struct qp *qp);
/* Tell the owner of an IBV_EVENT_QP_... */
void qp_raise(struct qp *qp, enum ibv_event_type event);
/* @flags: enum cq_flags */
void qp_complete_recv(struct qp *qp, const struct ibv_wc *wc, int flags);
void qp_complete_send(struct qp *qp, const struct ibv_wc *wc);

/* sq.c */
/* Is it a READ or an atomic, which is answered with data? */
bool sq_is_fetch(const struct sq_wqe *wqe);
/* Write @wr into the next place of the send queue, which it does not take yet.
 * Return: as qp_post_send()
 */
int sq_fill(struct qp *qp, const struct ibv_send_wr *wr, const struct ibv_ah_attr *ah,
	struct sq_wqe **out);
/* Is it done here, without a packet? */
static inline bool sq_is_local(const struct sq_wqe *wqe)
{
	return wqe->opcode == IBV_WR_BIND_MW || wqe->opcode == IBV_WR_LOCAL_INV;
}

/* requester.c */
int requester_init(struct qp *qp);
void requester_destroy(struct qp *qp);
/* READs and atomics that are not answered. */
static inline uint32_t requester_n_asked(const struct requester *req)
{
	return req->asked ? req->asked->head - req->asked->tail : 0;
}
/* Forget all work; the next packet has @psn. */
void requester_reset(struct qp *qp, uint32_t psn);
struct sq_wqe *requester_wqe(const struct requester *req, uint32_t index);
struct sge_list requester_sges(const struct qp *qp, const struct sq_wqe *wqe);
uint32_t requester_tx_psn(const struct requester *req);
/* Go on sending at packet @pkt of request @index. */
void requester_seek(struct requester *req, uint32_t index, uint32_t pkt);
/* Go back to what is not acknowledged. */
void requester_rewind(struct requester *req);
/* Make room for what a READ or atomic needs. Return: 0 or -ENOMEM */
int requester_prepare_fetch(struct requester *req);
/* Fill @burst as far as the window allows. Return: true if there was not room enough. */
bool requester_output(struct qp *qp, struct link_burst *burst, uint64_t now_ns);
/* All before @psn has arrived, without packets. */
void requester_arrived(struct qp *qp, uint32_t psn);
void requester_count_messages(struct engine_stats *stats, uint8_t opcode, uint64_t n);
/* Complete request @index with @status, all others as flushed; enter the error state. */
void requester_fail(struct qp *qp, uint32_t index, enum ibv_wc_status status);
void requester_flush(struct qp *qp);
/* In SQD, and all that was sent is acknowledged: raise the event that was asked for. */
void requester_check_drained(struct qp *qp);

/* local_op.c */
/* Do what is next to be sent as long as it is not for the peer and its turn has come.
 * Return: whether something for the peer is next
 */
bool local_ops_run(struct qp *qp);

/* mcast.c */
/* A packet to a group: a copy for each queue pair that is attached to it. */
void mcast_input(struct engine *e, const struct wire_packet *pkt,
	const struct link_rx *rx, uint64_t now_ns);

/* retry.c */
/* Set the timer for the ACK of what is in flight, if anything is. */
void retry_await(struct qp *qp, uint64_t now_ns);
/* The timer went off: of an ACK, or of the wait for a receiver that was not ready. */
void retry_timer(struct qp *qp, uint64_t now_ns);
/* The peer tells of a loss: go back and send less, unless that was tried too often. */
void retry_lost(struct qp *qp, uint64_t now_ns);
/* Was what is missing sent again so lately that the peer can't have it yet? A packet that
 * was overtaken makes the peer tell twice: it comes in time to be taken, but what
 * overtook it is gone.
 */
bool retry_is_under_way(const struct qp *qp, uint64_t now_ns);

/* completer.c */
void completer_input(struct qp *qp, const struct wire_packet *pkt, uint64_t now_ns);
void completer_retire(struct qp *qp, enum ibv_wc_status status);
struct ibv_wc completer_wc(
	const struct qp *qp, const struct sq_wqe *wqe, enum ibv_wc_status status);

/* responder.c */
/* Forget the message that has begun; expect @psn. */
void responder_reset(struct qp *qp, uint32_t psn);
void responder_input(struct qp *qp, const struct wire_packet *pkt);
/* Return: false if @burst had no room for the answer that is due */
bool responder_output(struct qp *qp, struct link_burst *burst, uint64_t now_ns);
/* What came is in order; the next PSN is @end. @is_data: SEND or WRITE */
void responder_accepted(struct responder *resp, uint32_t end, bool is_data);
void responder_nak_fatal(struct qp *qp, uint8_t syndrome);

/* message.c */
/* Take the next posted buffer. Return: false if there is none */
bool message_take_wqe(struct qp *qp);
bool message_needs_wqe(const struct responder *resp, uint32_t flags);
/* Does the packet fit the message that is under way, and has it the right length? */
bool message_fits(const struct qp *qp, const struct wire_packet *pkt, uint32_t flags);
void message_begin(struct responder *resp, const struct wire_packet *pkt, uint32_t flags);
/* Copy the payload to where it belongs. Return: WIRE_SYN_ACK, or the NAK that says why it
 * can't be; the buffer is then completed
 */
uint8_t message_store(struct qp *qp, const struct wire_packet *pkt, uint32_t flags);
enum ibv_wc_status message_scatter(struct qp *qp, const void *data, uint32_t len);
void message_end(struct qp *qp, const struct wire_packet *pkt, uint32_t flags);
void message_complete(
	struct qp *qp, const struct wire_packet *pkt, enum ibv_wc_status status);
/* Complete all posted buffers as flushed. */
void message_flush(struct qp *qp);

/* cnp.c */
/* @pkt came with a mark. */
void cnp_marked(struct qp *qp, const struct wire_packet *pkt, const struct link_rx *rx,
	uint64_t now_ns);
/* Of a queue pair that has a throttle. Return: false if @burst had no room for the
 * notification that is due
 */
bool cnp_output(struct qp *qp, struct link_burst *burst);
void cnp_input(struct qp *qp, uint64_t now_ns);
/* Nothing is known of the path. */
void cnp_reset(struct qp *qp);

/* unreliable.c */
void unreliable_input(
	struct qp *qp, const struct wire_packet *pkt, const struct link_rx *rx);

/* responder_fetch.c */
/* A READ or atomic whose PSN is the expected one. Return: PSNs that it takes; 0 if it
 * ended in a NAK.
 */
uint32_t responder_fetch(struct qp *qp, const struct wire_packet *pkt);
/* One that came before: answer it again. */
void responder_fetch_again(struct qp *qp, const struct wire_packet *pkt);
enum fetch_output {
	FETCH_OUTPUT_ALL,   /* nothing is left to be sent */
	FETCH_OUTPUT_FULL,  /* the burst had no room */
	FETCH_OUTPUT_PACED, /* the rest is to wait, see engine_pace() */
};
/* Are there answers to be emitted? */
bool responder_fetch_is_due(const struct qp *qp);
/* Emit answers. */
enum fetch_output responder_fetch_output(
	struct qp *qp, struct link_burst *burst, uint64_t now_ns);
/* Forget all of them. */
void responder_fetch_reset(struct qp *qp);
/* Add, or compare and swap. Return: what was there before */
uint64_t responder_do_atomic(
	uint64_t *p, bool is_add, uint64_t swap_add, uint64_t compare);

/* direct.c */
/* Does the peer belong to this engine? */
bool direct_is_possible(const struct qp *qp);
/* Bring the next message to the peer by a copy. Return: false if it is to go as packets
 */
bool direct_message(struct qp *qp);

/* lane.c */
/* Let there be a lane from @qp, closed. Return: 0 or -ENOMEM */
int lane_create(struct qp *qp);
void lane_destroy(struct qp *qp);
/* A message went by a copy, so others may do so without the engine's lock. */
void lane_open(struct qp *from, struct qp *to);
/* Nobody but who has the engine's lock touches @qp's requester from now on. */
void lane_close(struct qp *qp);
/* Nor its responder. */
void lanes_close(struct qp *qp);
/* Is its responder in use by an open lane? */
bool lane_comes_in(const struct qp *qp);
/* The same for keys. */
void lanes_close_all(struct engine *e);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control thread: finds the peers, keeps one hello connection with each, and tells
 * the driver when a peer's queue pairs are to be made, connected, used and destroyed.
 *
 * Above it is the ethdev (through struct control_ops); below it are hello_fsm.h (one
 * state machine per TCP connection), hello_proto.h and plain sockets. It knows neither
 * DPDK nor verbs.
 *
 * Threads: every callback of struct control_ops runs on the control thread, one at a
 * time, and with control's lock held. So a callback must not call control_*() except
 * control_conn_failed(), and a caller of control_*() must not hold a lock that a callback
 * takes. Callbacks may block for milliseconds (verbs calls), not for longer: nobody's
 * keepalive is answered meanwhile.
 */
#ifndef PMD_CONTROL_H
#define PMD_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmd/hello_auth.h"
#include "pmd/hello_fsm.h"
#include "pmd/hello_proto.h"

#define CONTROL_PEERS_MAX 1024 /* a peer's index is 0..CONTROL_PEERS_MAX - 1 */

#define CONTROL_TICK_MS 10

struct control;

/**
 * struct control_ops - what the driver does for a peer
 *
 * For one peer the order is always
 *
 *     conn_open  [ conn_connect  [ conn_up ] ]  conn_down
 *
 * and then perhaps the same again: exactly one conn_down for every conn_open that
 * returned 0, and never a second conn_open before it. What a peer said (remote) has been
 * checked against the protocol's bounds; its GID is the address that the TCP connection
 * comes from.
 */
struct control_ops {
	/** conn_open() - make the queue pairs of a peer (INIT, receives posted)
	 * @peer:  index; stays this peer's until conn_down
	 * @local: to be filled in; all zero before. local->gid must be the GID of the
	 *         local address of struct control_config
	 * Return: 0 or a negative errno; then the connection is refused and tried again
	 */
	int (*conn_open)(void *arg, unsigned peer, struct hello_endpoint *local);

	/** conn_connect() - move the queue pairs to RTR and RTS
	 * @remote: borrowed for the call. Path MTU, number of queue pairs and
	 *          capabilities: what both sides offer counts, which is for the driver
	 *          to work out
	 * Return: 0 or a negative errno; then conn_down follows
	 *
	 * The peer may send as soon as this returns; the driver may not, before conn_up.
	 */
	int (*conn_connect)(
		void *arg, unsigned peer, const struct hello_endpoint *remote);

	/** conn_up() - the peer's queue pairs are ready: it may be sent to */
	void (*conn_up)(void *arg, unsigned peer);

	/** conn_down() - stop sending to the peer and destroy its queue pairs
	 * @reason: a phrase for people, borrowed for the call
	 *
	 * Once this has returned the index may be given to another peer, and a late
	 * control_conn_failed() would hit that one.
	 */
	void (*conn_down)(void *arg, unsigned peer, const char *reason);

	/** tick() - called after whatever the thread did; NULL is fine
	 * Return: true to be called again in CONTROL_TICK_MS at the latest
	 */
	bool (*tick)(void *arg);
};

/** struct control_peer - a peer to connect to */
struct control_peer {
	const char *address; /* IPv4 or IPv6, numeric; of the local address's family */
	uint16_t port;	     /* host order; 0 is HELLO_PORT_DEFAULT */
};

/** struct control_config - borrowed for control_start(); ops and arg to the end */
struct control_config {
	const char *local_address;   /* numeric, not "any"; listened on, connected from */
	uint16_t port;		     /* TCP port listened on; 0 is HELLO_PORT_DEFAULT */
	const struct hello_key *key; /* from hello_key_load(); NULL: no key */
	const struct control_peer *peers;
	unsigned n_peers;		   /* at most CONTROL_PEERS_MAX */
	const struct hello_timers *timers; /* NULL: hello_timers_default */
	const struct control_ops *ops;
	void *arg; /* handed to every callback */
};

/** control_start() - start the control thread
 * Peers are tried at once, and tried again for as long as it runs. That the local address
 * or the port cannot be had yet is no error: it is logged and tried again.
 * *@controlp is set before the first callback runs.
 * Return: 0 and *@controlp, to be ended by control_stop(); or -EINVAL (an address that
 *         does not parse, is "any" or of another family than the local one), -EEXIST (a
 *         peer twice, or the local address as a peer), -ENOSPC (too many peers), -ENOMEM,
 *         -EMFILE, -EAGAIN (no thread); which argument was wrong is logged
 */
int control_start(const struct control_config *config, struct control **controlp);

/** control_stop() - say BYE to all, call conn_down for all, end the thread and free all
 * @control: consumed; NULL is fine. Not from a callback.
 */
void control_stop(struct control *control);

/** control_conn_failed() - a queue pair of @peer broke: start over with that peer
 * Any thread, never blocks, may be called again and again. conn_down follows soon,
 * then another try. Between conn_open and conn_down of @peer only.
 */
void control_conn_failed(struct control *control, unsigned peer);

/** control_add_peer() - add a peer while running
 * Return: its index, or a negative errno as control_start()'s
 */
int control_add_peer(struct control *control, const struct control_peer *peer);

/** control_remove_peer() - take a peer off; its connection gets a BYE, conn_down follows
 * soon. Until then the address cannot be added again (-EEXIST).
 * @address: as it was added
 * Return: 0, -EINVAL, or -ENOENT when there is no such peer
 */
int control_remove_peer(struct control *control, const char *address);

/** struct control_peer_info - a snapshot of one peer for people and telemetry */
struct control_peer_info {
	char address[64];
	uint16_t port; /* host order; 0 when it is not known (a peer that came) */
	bool dynamic;  /* it came and proved the key; it was not configured */
	bool up;
	const char *state;    /* static: "waiting", "connecting", "handshake", "up" */
	char last_error[128]; /* why the last connection ended or failed; may be empty */
	uint64_t uptime_ns;   /* 0 when not up */
	uint64_t n_up;	      /* times that the peer came up */
	uint64_t n_retries;   /* connections tried since it was up last */
	uint64_t instance;    /* of the peer's driver; 0 when not connected */
	struct hello_endpoint remote; /* valid when up */
};

/** control_peer_get() - read one peer; any thread
 * Return: 0, or -ENOENT when there is no peer of that index (others may follow; go
 *         through 0..CONTROL_PEERS_MAX - 1)
 */
int control_peer_get(
	struct control *control, unsigned peer, struct control_peer_info *info);

/** struct control_counter - one named counter; docs/hello-protocol.md section 8 */
struct control_counter {
	const char *name; /* static; [a-z0-9_], begins with "hello_" */
	uint64_t value;
};

/** control_counters_get() - read all counters; any thread
 * @counters: room for @max entries; may be NULL when @max is 0
 * Return: how many there are, which may be more than @max; never changes
 */
unsigned control_counters_get(
	struct control *control, struct control_counter *counters, unsigned max);

#endif

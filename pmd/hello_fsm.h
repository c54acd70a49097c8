/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One hello connection as a state machine: bytes and now_ns in, bytes and actions out. No
 * sockets, no clock, no randomness. Reference: docs/hello-protocol.md section 4.
 *
 * The owner (control.c) feeds what TCP brought with hello_fsm_rx(), sends what lies in
 * the transmit buffer, calls hello_fsm_tick() when hello_fsm_deadline() has passed, and
 * after each of these does what hello_fsm_next() asks for until that is HELLO_DO_NOTHING.
 */
#ifndef PMD_HELLO_FSM_H
#define PMD_HELLO_FSM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmd/hello_auth.h"
#include "pmd/hello_proto.h"

/** struct hello_timers - all times of the protocol; tests bring their own */
struct hello_timers {
	uint64_t connect_ns;	   /* until a TCP connection stands */
	uint64_t handshake_ns;	   /* from there until UP */
	uint64_t keepalive_ns;	   /* between two KEEPALIVEs when UP */
	uint64_t dead_ns;	   /* without a message from the peer when UP */
	uint64_t linger_ns;	   /* for the peer to read a BYE before the socket closes */
	uint64_t backoff_min_ns;   /* between two tries: doubles from min to max, +-25 % */
	uint64_t backoff_max_ns;
	uint64_t stable_ns;	   /* UP for that long starts the backoff over */
	uint64_t listen_retry_ns;  /* between two tries to listen, and after EMFILE */
};
extern const struct hello_timers hello_timers_default;

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The one logging facade. A message goes to a sink that the embedding program
 * sets (DPDK's log in the driver, stderr elsewhere). Whatever a peer or guest
 * can trigger is logged through log_limited(), which lets a burst through and
 * then counts.
 */
#ifndef LIB_LOG_H
#define LIB_LOG_H

#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/** log_sink - receives one message, without a newline at its end */
typedef void log_sink(enum log_level level, const char *module, const char *msg);

/** log_set_sink() - send messages to @sink; NULL restores stderr.
 * Call it before other threads log.
 */
void log_set_sink(log_sink *sink);

/** log_set_level() - drop messages that are less severe than @level.
 * The default is LOG_LEVEL_INFO, or what VRDMA_LOG (err, warn, info, debug) says.
 */
void log_set_level(enum log_level level);

void log_write(enum log_level level, const char *module, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** struct log_limit - one source of messages: at most 5 in any 10 s */
struct log_limit {
	uint64_t window_start_ns;
	uint32_t n_in_window;
	uint32_t n_suppressed;
};

/** log_limited() - like log_write(), and silent when @limit is used up.
 * The next message that passes tells how many were suppressed. Not exact when
 * two threads share @limit; never wrong by more than a message.
 */
void log_limited(struct log_limit *limit, enum log_level level, const char *module,
	const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif

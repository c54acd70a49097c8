/* SPDX-License-Identifier: BSD-3-Clause */
#include "log.h"
#include "util.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_WINDOW_NS (10 * NSEC_PER_SEC)
#define LIMIT_MESSAGES	5

static const char *const level_names[] = {"err", "warn", "info", "debug"};

static void stderr_sink(enum log_level level, const char *module, const char *msg)
{
	fprintf(stderr, "vrdma: %s: %s: %s\n", level_names[level], module, msg);
}

/* Atomic: a DPDK port may be added while the threads of others log. */
static log_sink *_Atomic current_sink = stderr_sink;
static _Atomic int current_level = -1; /* not known yet */

void log_set_sink(log_sink *sink)
{
	current_sink = sink ? sink : stderr_sink;
}

void log_set_level(enum log_level level)
{
	current_level = (int)level;
}

static enum log_level level_get(void)
{
	const char *env;
	int level = current_level;

	if (level >= 0)
		return (enum log_level)level;

	/* Two threads may both get here; they find the same. */
	level = LOG_LEVEL_INFO;
	env = getenv("VRDMA_LOG");
	for (size_t i = 0; env && i < ARRAY_SIZE(level_names); i++) {
		if (!strcmp(env, level_names[i]))
			level = (int)i;
	}
	current_level = level;
	return (enum log_level)level;
}

static void write_va(enum log_level level, const char *module, uint32_t n_suppressed,
	const char *fmt, va_list ap)
{
	char msg[512];
	int n = vsnprintf(msg, sizeof(msg), fmt, ap);

	if (n_suppressed && n >= 0 && (size_t)n < sizeof(msg))
		snprintf(msg + n, sizeof(msg) - (size_t)n, " (%u like this suppressed)",
			n_suppressed);
	current_sink(level, module, msg);
}

void log_write(enum log_level level, const char *module, const char *fmt, ...)
{
	va_list ap;

	if (level > level_get())
		return;
	va_start(ap, fmt);
	write_va(level, module, 0, fmt, ap);
	va_end(ap);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *module,
	const char *fmt, ...)
{
	uint64_t now = now_ns();
	va_list ap;

	if (level > level_get())
		return;
	if (now - limit->window_start_ns > LIMIT_WINDOW_NS) {
		limit->window_start_ns = now;
		limit->n_in_window = 0;
	}
	if (limit->n_in_window++ >= LIMIT_MESSAGES) {
		limit->n_suppressed++;
		return;
	}
	va_start(ap, fmt);
	write_va(level, module, limit->n_suppressed, fmt, ap);
	va_end(ap);
	limit->n_suppressed = 0;
}

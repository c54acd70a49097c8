/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device's counters: the links', the device's own, the engine's.
 */
#include "provider_priv.h"
#include "rdma/include/vrdma.h"

#include "lib/log.h"
#include "lib/util.h"

#include <inttypes.h>

#define COUNTERS_MAX 256 /* more than there are */

struct counter_list {
	struct vrdma_counter *counters;
	int n, max;
};

static void counter_add(struct counter_list *list, const char *name, uint64_t value)
{
	if (list->n < list->max)
		list->counters[list->n] = (struct vrdma_counter){name, value};
	list->n++;
}

/* Nobody may send or receive meanwhile. */
static void list_fill(const struct device *dev, struct counter_list *list)
{
	const struct engine_stats *engine = engine_stats(dev->engine);
	struct link_stats link = link_set_stats(dev->links);

#define X(counter) counter_add(list, "link_" #counter, link.counter);
	LINK_COUNTERS(X)
#undef X
	counter_add(list, "events_lost", dev->events_lost);
	counter_add(list, "gid_changes", dev->gids.n_changes);
	counter_add(list, "gids_left_out", dev->gids.n_omissions);
#define X(counter) counter_add(list, #counter, engine->counter);
	ENGINE_COUNTERS(X)
#undef X
}

int counters_read(struct device *dev, struct vrdma_counter *counters, int max)
{
	struct counter_list list = {.counters = counters, .max = max};

	pthread_mutex_lock(&dev->rx_lock);
	engine_lock(dev);
	list_fill(dev, &list);
	engine_unlock(dev);
	pthread_mutex_unlock(&dev->rx_lock);
	return list.n;
}

void counters_log(struct device *dev)
{
	struct vrdma_counter counters[COUNTERS_MAX];
	int n = counters_read(dev, counters, COUNTERS_MAX);

	for (int i = 0; i < MIN(n, COUNTERS_MAX); i++) {
		if (counters[i].value)
			log_write(LOG_LEVEL_DEBUG, "counter", "%s %" PRIu64,
				counters[i].name, counters[i].value);
	}
}

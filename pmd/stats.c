/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Statistics: basic and extended. The extended ones are, in this order, the driver's own
 * (counters.h), what it knows of its state, the learning table's, the userspace device's
 * (prefix dev_) and the hello protocol's (prefix hello_; only while the port is started).
 * A reset concerns the driver's own; the rest counts on.
 */
#include "pmd/port.h"

#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "pmd/conn.h"
#include "rdma/include/vrdma.h"

#define OTHERS_MAX 256 /* device's and hello protocol's counters */

struct named {
	const char *prefix;
	const char *name;
	uint64_t value;
};

struct list {
	struct named *entry;
	unsigned n;
	unsigned max;
};

static void add(struct list *list, const char *prefix, const char *name, uint64_t value)
{
	if (list->n < list->max)
		list->entry[list->n] = (struct named){prefix, name, value};
	list->n++;
}

/* read_counters() - since the port was made */
static void read_counters(
	struct port *port, struct tx_counters *tx, struct rx_counters *rx)
{
	uint64_t lost = atomic_load(&port->lost_frames);

	*tx = port->txq.counters;
	*rx = port->rxq.counters;
	tx->tx_frames -= lost;
	tx->tx_bytes -= atomic_load(&port->lost_bytes);
	tx->tx_drop_peer_lost += lost;
}

void port_counters(struct port *port, struct tx_counters *tx, struct rx_counters *rx)
{
	read_counters(port, tx, rx);
#define X(name) tx->name -= port->tx_base.name;
	TX_COUNTERS(X)
#undef X
#define X(name) rx->name -= port->rx_base.name;
	RX_COUNTERS(X)
#undef X
}

int stats_get(struct rte_eth_dev *eth, struct rte_eth_stats *stats)
{
	struct tx_counters tx;
	struct rx_counters rx;

	port_counters(eth->data->dev_private, &tx, &rx);
	stats->opackets = tx.tx_frames;
	stats->obytes = tx.tx_bytes;
	stats->oerrors = tx.tx_frames_in + tx.tx_replicas - tx.tx_frames;
	stats->ipackets = rx.rx_frames;
	stats->ibytes = rx.rx_bytes;
	stats->imissed = rx.rx_drop_stopped;
	stats->ierrors = rx.rx_drop_record + rx.rx_drop_offload + rx.rx_drop_oversize;
	stats->rx_nombuf = rx.rx_drop_no_mbuf;
	stats->q_opackets[0] = stats->opackets;
	stats->q_obytes[0] = stats->obytes;
	stats->q_ipackets[0] = stats->ipackets;
	stats->q_ibytes[0] = stats->ibytes;
	return 0;
}

int stats_reset(struct rte_eth_dev *eth)
{
	struct port *port = eth->data->dev_private;

	read_counters(port, &port->tx_base, &port->rx_base);
	return 0;
}

static void list_own(struct port *port, struct list *list)
{
	struct tx_counters tx;
	struct rx_counters rx;

	port_counters(port, &tx, &rx);
#define X(name) add(list, "", #name, tx.name);
	TX_COUNTERS(X)
#undef X
#define X(name) add(list, "", #name, rx.name);
	RX_COUNTERS(X)
#undef X
	add(list, "", "peers_up", atomic_load(&port->n_up));
	add(list, "", "rx_buffers_posted", port->rxq.pool->n_posted);
	add(list, "", "heap_unregistered", port->heap.n_failed);
	add(list, "", "mac_learned", port->macs.stats.learned);
	add(list, "", "mac_moved", port->macs.stats.moved);
	add(list, "", "mac_evicted", port->macs.stats.evicted);
	add(list, "", "mac_refused", port->macs.stats.refused);
}

static void list_device(struct port *port, struct list *list)
{
	struct vrdma_counter counters[OTHERS_MAX];
	int n = port->dev.userspace
			? vrdma_query_counters(port->dev.ctx, counters, OTHERS_MAX)
			: 0;

	for (int i = 0; i < MIN(n, OTHERS_MAX); i++)
		add(list, "dev_", counters[i].name, counters[i].value);
}

static void list_hello(struct port *port, struct list *list)
{
	struct control_counter counters[OTHERS_MAX];
	unsigned n = 0;

	pthread_mutex_lock(&port->admin_lock);
	if (port->control)
		n = control_counters_get(port->control, counters, OTHERS_MAX);
	pthread_mutex_unlock(&port->admin_lock);
	for (unsigned i = 0; i < MIN(n, OTHERS_MAX); i++)
		add(list, "", counters[i].name, counters[i].value);
}

static struct list list_all(struct port *port, struct named *entries, unsigned max)
{
	struct list list = {entries, 0, max};

	list_own(port, &list);
	list_device(port, &list);
	list_hello(port, &list);
	return list;
}

int xstats_get(struct rte_eth_dev *eth, struct rte_eth_xstat *xstats, unsigned n)
{
	struct named *entries = calloc(n + 1, sizeof(*entries));
	struct list list;

	if (!entries)
		return -ENOMEM;
	list = list_all(eth->data->dev_private, entries, n);
	for (unsigned i = 0; i < n && list.n <= n && i < list.n; i++)
		xstats[i] = (struct rte_eth_xstat){i, entries[i].value};
	free(entries);
	return (int)list.n;
}

int xstats_get_names(
	struct rte_eth_dev *eth, struct rte_eth_xstat_name *names, unsigned n)
{
	struct named *entries;
	struct list list;

	if (!names)
		n = 0;
	entries = calloc(n + 1, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	list = list_all(eth->data->dev_private, entries, n);
	for (unsigned i = 0; i < n && list.n <= n && i < list.n; i++)
		snprintf(names[i].name, sizeof(names[i].name), "%s%s", entries[i].prefix,
			entries[i].name);
	free(entries);
	return (int)list.n;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DPDK telemetry: /vrdma/device, /vrdma/peers, /vrdma/qps and /vrdma/macs. All take
 * PORT[,FIRST]. The lists are objects of objects, { "0": { ... }, "1": ... }, as
 * DPDK 22.11 has no arrays of objects; they come in pages, as an answer has 16 KiB of
 * room: when there is more, "next" is the FIRST to ask for then.
 *
 * DPDK calls back on threads of its own, which may meet a port that is being closed:
 * ports_lock is held by every answer and while a port comes or goes. It comes before the
 * locks of the port.
 */
#include "pmd/port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_telemetry.h>

#include "lib/util.h"
#include "pmd/conn.h"
#include "rdma/include/vrdma.h"

#define PEERS_PAGE	24
#define QPS_PAGE	64
#define MACS_PAGE	128
#define DEVICE_COUNTERS 256

static pthread_mutex_t ports_lock = PTHREAD_MUTEX_INITIALIZER;
static struct port *ports[RTE_MAX_ETHPORTS];

static void add_string(struct rte_tel_data *dict, const char *name, const char *value)
{
	rte_tel_data_add_dict_string(dict, name, value);
}

static void add_number(struct rte_tel_data *dict, const char *name, uint64_t value)
{
	rte_tel_data_add_dict_u64(dict, name, value);
}

static void add_mac(struct rte_tel_data *dict, const char *name, const uint8_t mac[6])
{
	char text[18];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
		mac[2], mac[3], mac[4], mac[5]);
	add_string(dict, name, text);
}

static void add_gid(struct rte_tel_data *dict, const char *name, const uint8_t gid[16])
{
	char text[INET6_ADDRSTRLEN];

	add_string(dict, name, inet_ntop(AF_INET6, gid, text, sizeof(text)));
}

/* A list, being answered from its entry @first on. */
struct page {
	struct port *port;
	struct rte_tel_data *data;
	uint32_t first;
	uint32_t max;
	uint32_t at; /* entries seen */
};

/* page_entry() - the object to fill for the next entry, or NULL if it is not on this page
 */
static struct rte_tel_data *page_entry(struct page *page)
{
	uint32_t at = page->at++;
	struct rte_tel_data *dict;
	char key[16];

	if (at < page->first || at >= page->first + page->max)
		return NULL;
	dict = rte_tel_data_alloc();
	if (!dict)
		return NULL;
	rte_tel_data_start_dict(dict);
	snprintf(key, sizeof(key), "%u", at);
	if (rte_tel_data_add_dict_container(page->data, key, dict, 0) == 0)
		return dict;
	rte_tel_data_free(dict);
	return NULL;
}

/* port_asked() - @params: PORT[,FIRST]. With ports_lock held. */
static struct port *port_asked(const char *params, uint32_t *first)
{
	unsigned long id;
	char *end;

	*first = 0;
	if (!params || !*params)
		return NULL;
	id = strtoul(params, &end, 10);
	if (end == params || id >= RTE_MAX_ETHPORTS)
		return NULL;
	if (*end == ',')
		*first = (uint32_t)MIN(strtoul(end + 1, &end, 10), UINT16_MAX);
	return *end ? NULL : ports[id];
}

static int answer_list(const char *params, struct rte_tel_data *data, uint32_t max,
	void (*fill)(struct page *page))
{
	struct page page = {.data = data, .max = max};

	rte_tel_data_start_dict(data);
	pthread_mutex_lock(&ports_lock);
	page.port = port_asked(params, &page.first);
	if (page.port)
		fill(&page);
	pthread_mutex_unlock(&ports_lock);
	if (!page.port)
		return -EINVAL;
	if (page.at > page.first + max)
		add_number(data, "next", page.first + max);
	return 0;
}

/* /vrdma/device */

static void add_device_counters(const struct port *port, struct rte_tel_data *data)
{
	struct vrdma_counter counters[DEVICE_COUNTERS];
	struct rte_tel_data *dict = rte_tel_data_alloc();
	int n;

	if (!dict)
		return;
	n = vrdma_query_counters(port->dev.ctx, counters, DEVICE_COUNTERS);
	rte_tel_data_start_dict(dict);
	for (int i = 0; i < MIN(n, DEVICE_COUNTERS); i++)
		add_number(dict, counters[i].name, counters[i].value);
	rte_tel_data_add_dict_container(data, "counters", dict, 0);
}

static void fill_device(struct port *port, struct rte_tel_data *data)
{
	const struct device *dev = &port->dev;
	uint32_t mbps;
	bool link = device_link(dev, &mbps);

	add_string(data, "name", ibv_get_device_name(dev->ctx->device));
	add_string(data, "kind", dev->userspace ? "userspace" : "hardware");
	add_string(data, "node", port->args.node);
	add_string(data, "local", port->args.local);
	add_gid(data, "gid", dev->gid);
	add_number(data, "gid_index", dev->gid_index);
	add_number(data, "port", dev->port_num);
	add_string(data, "link", link ? "active" : "down");
	add_number(data, "mbps", mbps);
	add_number(data, "path_mtu", 128u << dev->mtu);
	add_number(data, "mtu", atomic_load(&port->mtu));
	add_number(data, "rx_buffers", port->rxq.pool->n);
	add_number(data, "rx_buffers_posted", port->rxq.pool->n_posted);
	add_number(data, "peers_up", atomic_load(&port->n_up));
	add_string(data, "tso", port->finish ? "finished by the driver" : "passed on");
	if (dev->userspace)
		add_device_counters(port, data);
}

static int on_device(const char *command, const char *params, struct rte_tel_data *data)
{
	struct port *port;
	uint32_t first;

	rte_tel_data_start_dict(data);
	pthread_mutex_lock(&ports_lock);
	port = port_asked(params, &first);
	if (port)
		fill_device(port, data);
	pthread_mutex_unlock(&ports_lock);
	return port ? 0 : -EINVAL;
}

/* /vrdma/peers */

static void add_traffic(struct port *port, unsigned peer, struct rte_tel_data *dict)
{
	struct conn *conn;

	pthread_mutex_lock(&port->lock);
	conn = port->conn[peer];
	if (conn) {
		add_number(dict, "tx_frames", conn->tx_frames);
		add_number(dict, "tx_bytes", conn->tx_bytes);
		add_number(dict, "rx_frames", conn->rx_frames);
		add_number(dict, "rx_bytes", conn->rx_bytes);
	}
	pthread_mutex_unlock(&port->lock);
}

static void add_peer(struct port *port, unsigned peer,
	const struct control_peer_info *info, struct rte_tel_data *dict)
{
	add_number(dict, "peer", peer);
	add_string(dict, "address", info->address);
	add_number(dict, "port", info->port);
	add_string(dict, "configured", info->dynamic ? "no" : "yes");
	add_string(dict, "state", info->state);
	add_string(dict, "last_error", info->last_error);
	add_number(dict, "times_up", info->n_up);
	add_number(dict, "retries", info->n_retries);
	if (!info->up)
		return;
	add_number(dict, "uptime_s", info->uptime_ns / NSEC_PER_SEC);
	add_string(dict, "node", info->remote.name);
	add_mac(dict, "mac", info->remote.mac);
	add_traffic(port, peer, dict);
}

static void fill_peers(struct page *page)
{
	struct port *port = page->port;

	pthread_mutex_lock(&port->admin_lock);
	for (unsigned peer = 0; port->control && peer < CONTROL_PEERS_MAX; peer++) {
		struct control_peer_info info;
		struct rte_tel_data *dict;

		if (control_peer_get(port->control, peer, &info))
			continue;
		dict = page_entry(page);
		if (dict)
			add_peer(port, peer, &info, dict);
	}
	pthread_mutex_unlock(&port->admin_lock);
}

static int on_peers(const char *command, const char *params, struct rte_tel_data *data)
{
	return answer_list(params, data, PEERS_PAGE, fill_peers);
}

/* /vrdma/qps */

static const char *state_name(enum ibv_qp_state state)
{
	static const char *const names[] = {
		[IBV_QPS_RESET] = "RESET",
		[IBV_QPS_INIT] = "INIT",
		[IBV_QPS_RTR] = "RTR",
		[IBV_QPS_RTS] = "RTS",
		[IBV_QPS_SQD] = "SQD",
		[IBV_QPS_SQE] = "SQE",
		[IBV_QPS_ERR] = "ERR",
	};

	return (unsigned)state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

static void add_qp(const struct conn *conn, struct rte_tel_data *dict)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr = {0};

	add_number(dict, "peer", conn->peer);
	add_number(dict, "qpn", conn->qpn);
	add_number(dict, "in_flight", conn->head - conn->tail);
	add_number(dict, "ring_size", conn->n_slots);
	if (ibv_query_qp(conn->qp, &attr,
		    IBV_QP_STATE | IBV_QP_DEST_QPN | IBV_QP_PATH_MTU, &init))
		return;
	add_string(dict, "state", state_name(attr.qp_state));
	add_number(dict, "remote_qpn", attr.dest_qp_num);
	add_number(dict, "path_mtu", 128u << attr.path_mtu);
}

static void fill_qps(struct page *page)
{
	struct port *port = page->port;

	pthread_mutex_lock(&port->lock);
	for (unsigned peer = 0; peer < CONTROL_PEERS_MAX; peer++) {
		struct rte_tel_data *dict;

		if (!port->conn[peer])
			continue;
		dict = page_entry(page);
		if (dict)
			add_qp(port->conn[peer], dict);
	}
	pthread_mutex_unlock(&port->lock);
}

static int on_qps(const char *command, const char *params, struct rte_tel_data *data)
{
	return answer_list(params, data, QPS_PAGE, fill_qps);
}

/* /vrdma/macs */

static void visit_mac(void *arg, const uint8_t mac[6], uint32_t peer, uint32_t age)
{
	struct page *page = arg;
	struct rte_tel_data *dict = page_entry(page);

	if (!dict)
		return;
	add_mac(dict, "mac", mac);
	add_number(dict, "peer", peer);
	add_number(dict, "age_s",
		((uint64_t)age << page->port->tick_shift) / rte_get_tsc_hz());
}

static void fill_macs(struct page *page)
{
	mactable_walk(&page->port->macs, port_tick(page->port), visit_mac, page);
}

static int on_macs(const char *command, const char *params, struct rte_tel_data *data)
{
	return answer_list(params, data, MACS_PAGE, fill_macs);
}

/* Ports come and go */

void telemetry_add(struct port *port)
{
	pthread_mutex_lock(&ports_lock);
	ports[port->data->port_id] = port;
	pthread_mutex_unlock(&ports_lock);
}

void telemetry_remove(struct port *port)
{
	pthread_mutex_lock(&ports_lock);
	ports[port->data->port_id] = NULL;
	pthread_mutex_unlock(&ports_lock);
}

RTE_INIT(telemetry_register)
{
	rte_telemetry_register_cmd("/vrdma/device", on_device,
		"The RDMA device of a net_vrdma port. Parameters: int port_id");
	rte_telemetry_register_cmd("/vrdma/peers", on_peers,
		"The peers of a net_vrdma port. Parameters: int port_id, int first");
	rte_telemetry_register_cmd("/vrdma/qps", on_qps,
		"The queue pairs of a net_vrdma port. Parameters: int port_id, int "
		"first");
	rte_telemetry_register_cmd("/vrdma/macs", on_macs,
		"Learned addresses of a net_vrdma port. Parameters: int port_id, int "
		"first");
}

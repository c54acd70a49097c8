/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_vrdma: the DPDK ethdev. To the application it is one NIC, with one queue each way,
 * on a virtual Ethernet segment that spans all nodes; behind it are queue pairs to the
 * other nodes.
 *
 * What it holds while it exists: the device, the receive buffers, the registered heap.
 * What it holds while it is started: the control thread and, through it, the connections.
 *
 * The link is up while the port is started and the RDMA device's port is active, however
 * many peers are up: it is the cable to the segment, not to a station. Count peers by the
 * extended statistic peers_up.
 */
#include "pmd/port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bus_vdev_driver.h>
#include <ethdev_vdev.h>
#include <rte_errno.h>
#include <rte_malloc.h>

#include "lib/log.h"
#include "lib/util.h"
#include "pmd/conn.h"

#define MODULE	  "port"
#define ERR_SIZE  256
#define MAC_AGE_S 300
#define TX_OFFLOADS                                                            \
	(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM |        \
		RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_SCTP_CKSUM | \
		RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_MULTI_SEGS)
#define RX_OFFLOADS                                                     \
	(RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM | \
		RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_SCTP_CKSUM)

RTE_LOG_REGISTER_DEFAULT(vrdma_logtype, INFO);

static void log_to_dpdk(enum log_level level, const char *module, const char *msg)
{
	static const uint32_t levels[] = {
		[LOG_LEVEL_ERR] = RTE_LOG_ERR,
		[LOG_LEVEL_WARN] = RTE_LOG_WARNING,
		[LOG_LEVEL_INFO] = RTE_LOG_INFO,
		[LOG_LEVEL_DEBUG] = RTE_LOG_DEBUG,
	};

	rte_log(levels[level], (uint32_t)vrdma_logtype, "vrdma %s: %s\n", module, msg);
}

RTE_INIT(vrdma_log_init)
{
	log_set_sink(log_to_dpdk);
}

static struct port *port_of(const struct rte_eth_dev *eth)
{
	return eth->data->dev_private;
}

/* Configuration */

static int dev_info(struct rte_eth_dev *eth, struct rte_eth_dev_info *info)
{
	info->max_mac_addrs = 1;
	info->max_rx_queues = 1;
	info->max_tx_queues = 1;
	info->min_mtu = FRAME_MTU_MIN;
	info->max_mtu = FRAME_MTU_MAX;
	info->max_rx_pktlen = FRAME_LEN_MAX;
	info->rx_offload_capa = RX_OFFLOADS;
	info->tx_offload_capa = TX_OFFLOADS;
	return 0;
}

static int dev_configure(struct rte_eth_dev *eth)
{
	struct port *port = port_of(eth);

	/* DPDK has put 1500 there if the application said nothing. */
	if (eth->data->dev_conf.rxmode.mtu == RTE_ETHER_MTU)
		eth->data->mtu = port->args.mtu;
	atomic_store(&port->mtu, eth->data->mtu);
	port->finish =
		!(eth->data->dev_conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_TCP_TSO);
	return 0;
}

/* mtu_fits() - does a frame of that MTU fit into one of the application's mbufs? */
static bool mtu_fits(struct rte_mempool *mempool, uint32_t mtu)
{
	return mtu + FRAME_OVERHEAD + RTE_PKTMBUF_HEADROOM <=
	       rte_pktmbuf_data_room_size(mempool);
}

static int mtu_set(struct rte_eth_dev *eth, uint16_t mtu)
{
	struct port *port = port_of(eth);

	/* A stopped port may get other buffers before it starts; dev_start() looks. */
	if (eth->data->dev_started && !mtu_fits(port->rxq.mempool, mtu))
		return -EINVAL;
	atomic_store(&port->mtu, mtu);
	return 0;
}

static int rx_queue_setup(struct rte_eth_dev *eth, uint16_t queue, uint16_t n_desc,
	unsigned socket, const struct rte_eth_rxconf *conf, struct rte_mempool *mempool)
{
	struct port *port = port_of(eth);

	port->rxq.mempool = mempool;
	port->rxq.port_id = eth->data->port_id;
	eth->data->rx_queues[queue] = &port->rxq;
	return 0;
}

static int tx_queue_setup(struct rte_eth_dev *eth, uint16_t queue, uint16_t n_desc,
	unsigned socket, const struct rte_eth_txconf *conf)
{
	eth->data->tx_queues[queue] = &port_of(eth)->txq;
	return 0;
}

static int nothing_to_do(struct rte_eth_dev *eth)
{
	return 0; /* promiscuous, all multicast: the port sees its whole segment anyway */
}

static int mac_addr_set(struct rte_eth_dev *eth, struct rte_ether_addr *addr)
{
	return 0; /* ethdev has it; the hello protocol tells it when the port starts */
}

static int link_update(struct rte_eth_dev *eth, int wait)
{
	struct rte_eth_link link = {
		.link_duplex = RTE_ETH_LINK_FULL_DUPLEX,
		.link_autoneg = RTE_ETH_LINK_AUTONEG,
	};
	uint32_t mbps;

	if (device_link(&port_of(eth)->dev, &mbps) && eth->data->dev_started)
		link.link_status = RTE_ETH_LINK_UP;
	link.link_speed = mbps ? mbps : RTE_ETH_SPEED_NUM_UNKNOWN;
	return rte_eth_linkstatus_set(eth, &link);
}

/* Start and stop */

static int start_control(struct port *port)
{
	struct args *args = &port->args;
	struct control_peer *peers = calloc(args->n_peers + 1, sizeof(*peers));
	struct control_config config = {
		.local_address = args->local,
		.port = args->hello_port,
		.key = port->has_key ? &port->key : NULL,
		.peers = peers,
		.n_peers = args->n_peers,
		.ops = &conn_ops,
		.arg = port,
	};
	int ret;

	if (!peers)
		return -ENOMEM;
	for (uint32_t i = 0; i < args->n_peers; i++) {
		peers[i].address = args->peers[i].address;
		peers[i].port =
			args->peers[i].port ? args->peers[i].port : args->hello_port;
	}
	ret = control_start(&config, &port->control);
	free(peers);
	return ret;
}

static void set_queue_states(struct rte_eth_dev *eth, uint8_t state)
{
	for (uint16_t i = 0; i < eth->data->nb_rx_queues; i++)
		eth->data->rx_queue_state[i] = state;
	for (uint16_t i = 0; i < eth->data->nb_tx_queues; i++)
		eth->data->tx_queue_state[i] = state;
}

static int dev_start(struct rte_eth_dev *eth)
{
	struct port *port = port_of(eth);
	int ret;

	if (!mtu_fits(port->rxq.mempool, eth->data->mtu)) {
		log_write(LOG_LEVEL_ERR, MODULE,
			"%s: mbufs of %u bytes are too small for MTU %u",
			eth->device->name, rte_pktmbuf_data_room_size(port->rxq.mempool),
			eth->data->mtu);
		return -EINVAL;
	}
	pthread_mutex_lock(&port->admin_lock);
	ret = start_control(port);
	pthread_mutex_unlock(&port->admin_lock);
	if (ret) {
		log_write(LOG_LEVEL_ERR, MODULE,
			"%s: the hello protocol does not start: %s", eth->device->name,
			strerror(-ret));
		return ret;
	}
	set_queue_states(eth, RTE_ETH_QUEUE_STATE_STARTED);
	return 0;
}

static int dev_stop(struct rte_eth_dev *eth)
{
	struct port *port = port_of(eth);

	pthread_mutex_lock(&port->admin_lock);
	control_stop(port->control);
	port->control = NULL;
	pthread_mutex_unlock(&port->admin_lock);
	rx_stop(&port->rxq);
	conns_bury(port);
	set_queue_states(eth, RTE_ETH_QUEUE_STATE_STOPPED);
	return 0;
}

/* Making and ending a port */

static void init_bounce(
	struct rte_mempool *mempool, void *opaque, void *obj, unsigned index)
{
	struct port *port = opaque;

	*port_bounce_lkey(obj) = poolmr_lkey(&port->bounce_mrs, obj);
}

/* n_bounces() - a burst to all peers takes one each, whatever else is in flight */
static uint32_t n_bounces(const struct args *args)
{
	uint32_t n = args->txq_size + args->n_peers;

	return MIN(MAX(n, PORT_BOUNCE_MIN), PORT_BOUNCE_MAX);
}

static int make_bounce(struct port *port, int socket)
{
	char name[RTE_MEMPOOL_NAMESIZE];
	int ret;

	snprintf(name, sizeof(name), "vrdma_tx_%u", port->data->port_id);
	port->bounce = rte_pktmbuf_pool_create(name, n_bounces(&port->args), 0,
		RTE_ALIGN_CEIL(sizeof(uint32_t), RTE_MBUF_PRIV_ALIGN), PORT_BOUNCE_SIZE,
		socket);
	if (!port->bounce)
		return -rte_errno;
	ret = poolmr_init(&port->bounce_mrs, port->bounce, port->dev.pd, 0);
	if (!ret)
		rte_mempool_obj_iter(port->bounce, init_bounce, port);
	return ret;
}

static int make_rx(struct port *port, int socket)
{
	struct rxq *rxq = &port->rxq;
	char name[RTE_MEMPOOL_NAMESIZE];

	rxq->port = port;
	rxq->cq = ibv_create_cq(port->dev.ctx, (int)port->args.rxbufs, NULL, NULL, 0);
	if (!rxq->cq)
		return -errno;
	snprintf(name, sizeof(name), "vrdma_rx_%u", port->data->port_id);
	return rxpool_create(name, port->args.rxbufs, socket, &port->dev, &rxq->pool);
}

static int make_qsbr(struct port *port, int socket)
{
	size_t size = rte_rcu_qsbr_get_memsize(PORT_QSBR_THREADS);

	port->qsbr = rte_zmalloc_socket("vrdma_qsbr", size, RTE_CACHE_LINE_SIZE, socket);
	if (!port->qsbr)
		return -ENOMEM;
	rte_rcu_qsbr_init(port->qsbr, PORT_QSBR_THREADS);
	for (unsigned i = 0; i < PORT_QSBR_THREADS; i++)
		rte_rcu_qsbr_thread_register(port->qsbr, i);
	return 0;
}

/* Frees what there is, so it serves a port that was only half made as well. */
static void port_free(struct port *port)
{
	rxpool_destroy(port->rxq.pool);
	if (port->rxq.cq)
		ibv_destroy_cq(port->rxq.cq);
	poolmr_destroy(&port->bounce_mrs);
	rte_mempool_free(port->bounce);
	heap_destroy(&port->heap);
	rte_free(port->qsbr);
	if (port->dev.ctx)
		device_close(&port->dev);
	hello_key_wipe(&port->key);
	args_free(&port->args);
	pthread_mutex_destroy(&port->admin_lock);
	pthread_mutex_destroy(&port->lock);
}

static void init_ticks(struct port *port)
{
	uint64_t hz = rte_get_tsc_hz();

	while ((uint64_t)2 << port->tick_shift <= hz)
		port->tick_shift++;
	port->macs.max_age = (uint32_t)((MAC_AGE_S * hz) >> port->tick_shift);
	random_bytes(&port->macs.seed, sizeof(port->macs.seed));
}

/* port_make() - consumes @args and @dev; port_free() is due in any case */
static int port_make(struct port *port, struct rte_eth_dev_data *data, struct args *args,
	const struct device *dev, char *err)
{
	int socket = data->numa_node, ret;

	port->data = data;
	port->args = *args;
	port->dev = *dev;
	port->txq.port = port;
	pthread_mutex_init(&port->lock, NULL);
	pthread_mutex_init(&port->admin_lock, NULL);
	init_ticks(port);
	atomic_store(&port->mtu, args->mtu);
	port->max_sge = MIN((uint32_t)dev->attr.max_sge, CONN_SGE_MAX);
	if (args->key[0]) {
		port->has_key = true;
		ret = hello_key_load(args->key, &port->key, err, ERR_SIZE);
		if (ret)
			return ret;
	}
	ret = make_qsbr(port, socket);
	if (!ret)
		ret = heap_init(&port->heap, dev->pd, port->qsbr);
	if (!ret)
		ret = make_rx(port, socket);
	if (!ret)
		ret = make_bounce(port, socket);
	if (ret)
		snprintf(err, ERR_SIZE, "buffers (rxbufs=%u) cannot be made: %s",
			args->rxbufs, strerror(-ret));
	return ret;
}

static int dev_close(struct rte_eth_dev *eth)
{
	struct port *port = port_of(eth);

	if (rte_eal_process_type() != RTE_PROC_PRIMARY)
		return 0;
	if (port->control)
		dev_stop(eth);
	telemetry_remove(port);
	port_free(port);
	return 0;
}

static const struct eth_dev_ops dev_ops = {
	.dev_configure = dev_configure,
	.dev_start = dev_start,
	.dev_stop = dev_stop,
	.dev_close = dev_close,
	.dev_infos_get = dev_info,
	.rx_queue_setup = rx_queue_setup,
	.tx_queue_setup = tx_queue_setup,
	.mtu_set = mtu_set,
	.promiscuous_enable = nothing_to_do,
	.promiscuous_disable = nothing_to_do,
	.allmulticast_enable = nothing_to_do,
	.allmulticast_disable = nothing_to_do,
	.mac_addr_set = mac_addr_set,
	.link_update = link_update,
	.stats_get = stats_get,
	.stats_reset = stats_reset,
	.xstats_get = xstats_get,
	.xstats_get_names = xstats_get_names,
	.xstats_reset = stats_reset,
};

/* numa_node() - where the port's memory is to lie: near the device, if DPDK has memory
 * there
 */
static int numa_node(const struct device *dev)
{
	struct rte_malloc_socket_stats stats;
	int node = device_numa_node(dev);

	if (node < 0 || rte_malloc_get_socket_stats(node, &stats) ||
		!stats.heap_totalsz_bytes)
		return (int)rte_socket_id();
	return node;
}

static int add_ethdev(
	struct rte_eth_dev *eth, struct args *args, const struct device *dev, char *err)
{
	struct port *port = port_of(eth);
	int ret = port_make(port, eth->data, args, dev, err);

	if (!ret) {
		eth->data->mac_addrs =
			rte_zmalloc("vrdma_mac", sizeof(struct rte_ether_addr), 0);
		if (!eth->data->mac_addrs)
			ret = -ENOMEM;
	}
	if (ret) {
		port_free(port);
		return ret;
	}
	memcpy(eth->data->mac_addrs, port->args.mac, sizeof(port->args.mac));
	eth->data->mtu = port->args.mtu;
	eth->data->dev_flags |= RTE_ETH_DEV_AUTOFILL_QUEUE_XSTATS;
	eth->dev_ops = &dev_ops;
	eth->rx_pkt_burst = rx_burst;
	eth->tx_pkt_burst = tx_burst;
	telemetry_add(port);
	rte_eth_dev_probing_finish(eth);
	return 0;
}

/* make_ethdev() - consumes @args */
static int make_ethdev(struct rte_vdev_device *vdev, struct args *args, char *err)
{
	struct rte_eth_dev *eth;
	struct device dev;
	int ret = device_open(args->device, args->local, &dev, err, ERR_SIZE);

	if (ret) {
		args_free(args);
		return ret;
	}
	if (vdev->device.numa_node == SOCKET_ID_ANY)
		vdev->device.numa_node = numa_node(&dev);
	eth = rte_eth_vdev_allocate(vdev, sizeof(struct port));
	if (!eth) {
		device_close(&dev);
		args_free(args);
		snprintf(err, ERR_SIZE, "out of ports or memory");
		return -ENOMEM;
	}
	ret = add_ethdev(eth, args, &dev, err);
	if (ret)
		rte_eth_dev_release_port(eth);
	return ret;
}

static int probe(struct rte_vdev_device *vdev)
{
	const char *name = rte_vdev_device_name(vdev);
	char err[ERR_SIZE] = "";
	struct args args;
	int ret;

	if (rte_eal_process_type() != RTE_PROC_PRIMARY) {
		log_write(LOG_LEVEL_ERR, MODULE, "%s: not in a secondary process", name);
		return -ENOTSUP;
	}
	ret = args_parse(rte_vdev_device_args(vdev), &args, err, sizeof(err));
	if (!ret)
		ret = make_ethdev(vdev, &args, err);
	if (ret)
		log_write(LOG_LEVEL_ERR, MODULE, "%s: %s", name,
			err[0] ? err : strerror(-ret));
	return ret;
}

static int remove_device(struct rte_vdev_device *vdev)
{
	struct rte_eth_dev *eth = rte_eth_dev_allocated(rte_vdev_device_name(vdev));

	if (!eth)
		return 0; /* closed before */
	dev_close(eth);
	return rte_eth_dev_release_port(eth);
}

static struct rte_vdev_driver driver = {
	.probe = probe,
	.remove = remove_device,
};

RTE_PMD_REGISTER_VDEV(net_vrdma, driver);
RTE_PMD_REGISTER_PARAM_STRING(net_vrdma,
	"local=<address> device=<udp|auto|name> peer=<address>[:<port>] key=<file> "
	"hello_port=<port> node=<name> mac=<address> mtu=<bytes> rxbufs=<n> "
	"txq_size=<n>");

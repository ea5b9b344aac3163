/* SPDX-License-Identifier: BSD-3-Clause */
/* Ports over DPDK's ethdev: queue pairs, each with a pool of mbufs each way. See ../sys/port.h. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_config.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_version.h>

#include "memif.h"
#include "port.h"

/* The names changed with DPDK 21.11. */
#if RTE_VERSION < RTE_VERSION_NUM(21, 11, 0, 0)
#define RTE_ETH_RX_OFFLOAD_IPV4_CKSUM DEV_RX_OFFLOAD_IPV4_CKSUM
#define RTE_ETH_RX_OFFLOAD_TCP_CKSUM DEV_RX_OFFLOAD_TCP_CKSUM
#define RTE_ETH_TX_OFFLOAD_IPV4_CKSUM DEV_TX_OFFLOAD_IPV4_CKSUM
#define RTE_ETH_TX_OFFLOAD_TCP_CKSUM DEV_TX_OFFLOAD_TCP_CKSUM
#define RTE_ETH_LINK_UP ETH_LINK_UP
#define RTE_ETH_MQ_RX_RSS ETH_MQ_RX_RSS
#define RTE_ETH_RETA_GROUP_SIZE RTE_RETA_GROUP_SIZE
#define RTE_ETH_RSS_NONFRAG_IPV4_TCP ETH_RSS_NONFRAG_IPV4_TCP
#define RTE_ETH_RSS_NONFRAG_IPV6_TCP ETH_RSS_NONFRAG_IPV6_TCP
#define RTE_MBUF_F_RX_IP_CKSUM_MASK PKT_RX_IP_CKSUM_MASK
#define RTE_MBUF_F_RX_IP_CKSUM_GOOD PKT_RX_IP_CKSUM_GOOD
#define RTE_MBUF_F_RX_L4_CKSUM_MASK PKT_RX_L4_CKSUM_MASK
#define RTE_MBUF_F_RX_L4_CKSUM_GOOD PKT_RX_L4_CKSUM_GOOD
#define RTE_MBUF_F_RX_VLAN_STRIPPED PKT_RX_VLAN_STRIPPED
#define RTE_MBUF_F_TX_IPV4 PKT_TX_IPV4
#define RTE_MBUF_F_TX_IPV6 PKT_TX_IPV6
#define RTE_MBUF_F_TX_IP_CKSUM PKT_TX_IP_CKSUM
#define RTE_MBUF_F_TX_TCP_CKSUM PKT_TX_TCP_CKSUM
#endif

/* Descriptors of a queue. NICs take multiples of 32 up to some thousand; the port may round it. */
#define DESCRIPTORS 1024

/*
 * Buffers for received frames: those in the port's queue, and those that wait to be read. The stack
 * copies frames out when fewer than RESERVE are free, so that the port never runs dry.
 */
#define RECEIVE_BUFFERS 8191
#define RESERVE 2048

/* Buffers for sent frames: those in the port's queue, and a few bursts. */
#define SEND_BUFFERS 2047

/*
 * The received mbufs that a core keeps for itself, up to 1.5 times as many. Sent mbufs are taken one
 * core at a time, and a core that kept some would take them from the others.
 */
#define CORE_CACHE 256

/* The Ethernet header with a VLAN tag, in bytes. */
#define LINK_HEADER 18

/* The driver of memifs, with whose name the names of its devices begin; and that of kernel interfaces. */
#define MEMIF_DRIVER "net_memif"
#define PACKET_DRIVER "net_af_packet"

/* The longest key of receive-side scaling and the longest table of queues that are set, in bytes and entries. */
#define RSS_KEY_MAX 64
#define RSS_TABLE_MAX 2048

struct dst_port_queue {
	struct rte_mempool *received;
	struct rte_mempool *sent;
	uint64_t dropped;
} __rte_cache_aligned;

struct dst_port {
	uint16_t id;
	/* Whether the port is a memif, whose bursts are kept apart from DPDK's interrupt thread. */
	bool is_memif;
	uint16_t queues;
	struct dst_port_queue queue[DST_PORT_QUEUES];
};

/* The ports that are open. DPDK may have plugged in others at its start, which are there to be opened. */
static bool g_open[RTE_MAX_ETHPORTS];

/* Counts the ports of the process: the names of pools must be unique. Only the app thread opens ports. */
static unsigned int g_opened;

static int
refuse(int rc, const char *what, char *error, size_t size)
{
	snprintf(error, size, "%s: %s", what, strerror(-rc));
	return rc;
}

/* Locks a memif's state if `is_memif`: see memif.h. */
static void
lock(bool is_memif)
{
	if (is_memif) {
		dst_memif_lock();
	}
}

static void
unlock(bool is_memif)
{
	if (is_memif) {
		dst_memif_unlock();
	}
}

/* Plugs the device in, unless it is there, and returns its port number. */
static int
plug_in(const char *device, uint16_t *id, bool is_memif, char *error, size_t size)
{
	char name[RTE_DEV_NAME_MAX_LEN];
	size_t len = strcspn(device, ",");
	int rc;

	if (len == 0 || len >= sizeof(name)) {
		snprintf(error, size, "\"%s\" does not begin with the name of a device, of at most %zu characters", device,
			 sizeof(name) - 1);
		return -EINVAL;
	}
	memcpy(name, device, len);
	name[len] = '\0';
	if (rte_eth_dev_get_port_by_name(name, id) == 0) {
		if (g_open[*id]) {
			snprintf(error, size, "%s is in use already", name);
			return -EBUSY;
		}
		g_open[*id] = true;
		return 0;
	}
	lock(is_memif);
	rc = rte_dev_probe(device);
	unlock(is_memif);
	if (rc != 0) {
		snprintf(error, size,
			 "DPDK cannot plug in %s (%s): is its driver linked, and are its arguments right? See the log above",
			 name, strerror(-rc));
		return rc < 0 ? rc : -ENODEV;
	}
	if (rte_eth_dev_get_port_by_name(name, id) != 0) {
		snprintf(error, size, "%s is not a network port", name);
		return -ENODEV;
	}
	g_open[*id] = true;
	return 0;
}

/* Closes a port and unplugs its device. Closing may already end the port, but not the device. */
static void
unplug(uint16_t id, bool is_memif)
{
	struct rte_eth_dev_info info;
	struct rte_device *device = rte_eth_dev_info_get(id, &info) == 0 ? info.device : NULL;

	g_open[id] = false;
	if (is_memif) {
		dst_memif_begin_close();
	}
	rte_eth_dev_stop(id);
	rte_eth_dev_close(id);
	if (device != NULL) {
		rte_dev_remove(device);
	}
	if (is_memif) {
		dst_memif_end_close();
	}
}

static struct rte_mempool *
pool(const char *direction, uint16_t queue, unsigned int count, unsigned int cache, uint16_t mtu)
{
	unsigned int room = RTE_PKTMBUF_HEADROOM + LINK_HEADER + mtu;
	char name[RTE_MEMPOOL_NAMESIZE];

	/* Some drivers need the usual size at least. */
	room = RTE_MAX(room, (unsigned int)RTE_MBUF_DEFAULT_BUF_SIZE);
	snprintf(name, sizeof(name), "dst_%s_%u_%u", direction, g_opened, queue);
	return rte_pktmbuf_pool_create(name, count, cache, 0, (uint16_t)RTE_MIN(room, (unsigned int)UINT16_MAX),
				       SOCKET_ID_ANY);
}

/* Creates the pools of the queue pairs. */
static int
create_pools(struct dst_port *port, uint16_t mtu, char *error, size_t size)
{
	unsigned int received = RECEIVE_BUFFERS + rte_lcore_count() * CORE_CACHE * 3 / 2;

	for (uint16_t i = 0; i < port->queues; i++) {
		struct dst_port_queue *queue = &port->queue[i];

		queue->received = pool("rx", i, received, CORE_CACHE, mtu);
		queue->sent = pool("tx", i, SEND_BUFFERS, 0, mtu);
		if (queue->received == NULL || queue->sent == NULL) {
			snprintf(error, size,
				 "no memory for %u buffers of %u bytes for each of the port's %u queues: give the application more (-s, hugepages), or use a smaller MTU or fewer queues",
				 RECEIVE_BUFFERS + SEND_BUFFERS, mtu, port->queues);
			return -ENOMEM;
		}
	}
	return 0;
}

/* Returns the number of queue pairs that the port gets. */
static uint16_t
count_queues(const struct dst_port *port, const struct rte_eth_dev_info *device, uint16_t wanted)
{
	uint16_t most = RTE_MIN(RTE_MIN(device->max_rx_queues, device->max_tx_queues), DST_PORT_QUEUES);

	/* DPDK does not tell how many of a memif's queues its peer has, and uses the others all the same. */
	if (port->is_memif || most == 0) {
		return 1;
	}
	/* The kernel spreads frames over all that there are. */
	if (strcmp(device->driver_name, PACKET_DRIVER) == 0) {
		return most;
	}
	return RTE_MAX(RTE_MIN(wanted, most), 1);
}

/* Has TCP segments spread over the queues, the same in both directions, if the port can. */
static void
set_rss(const struct rte_eth_dev_info *device, struct rte_eth_conf *conf, uint8_t *key)
{
	uint64_t types = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP;

	if ((device->flow_type_rss_offloads & types) == 0) {
		return;
	}
	conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	conf->rx_adv_conf.rss_conf.rss_hf = device->flow_type_rss_offloads & types;
	if (device->hash_key_size > 0 && device->hash_key_size <= RSS_KEY_MAX) {
		for (int i = 0; i < device->hash_key_size; i++) {
			key[i] = (uint8_t)(i % 2 == 0 ? DST_PORT_RSS_KEY >> 8 : DST_PORT_RSS_KEY);
		}
		conf->rx_adv_conf.rss_conf.rss_key = key;
		conf->rx_adv_conf.rss_conf.rss_key_len = device->hash_key_size;
	}
}

/* Fills the started port's table from hashes to queues. Returns its length, or 0 if it has none to fill. */
static uint16_t
set_rss_table(const struct dst_port *port, uint16_t entries)
{
	struct rte_eth_rss_reta_entry64 table[RSS_TABLE_MAX / RTE_ETH_RETA_GROUP_SIZE] = {};

	if (entries < RTE_ETH_RETA_GROUP_SIZE || entries > RSS_TABLE_MAX || !rte_is_power_of_2(entries)) {
		return 0;
	}
	for (uint16_t i = 0; i < entries; i++) {
		struct rte_eth_rss_reta_entry64 *group = &table[i / RTE_ETH_RETA_GROUP_SIZE];

		group->mask = UINT64_MAX;
		group->reta[i % RTE_ETH_RETA_GROUP_SIZE] = i % port->queues;
	}
	return rte_eth_dev_rss_reta_update(port->id, table, entries) == 0 ? entries : 0;
}

/* Sets the queue pairs up. */
static int
set_up_queues(struct dst_port *port, struct rte_eth_dev_info *device, char *error, size_t size)
{
	uint16_t receive_descriptors = DESCRIPTORS, send_descriptors = DESCRIPTORS;
	int rc;

	rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &receive_descriptors, &send_descriptors);
	for (uint16_t i = 0; i < port->queues; i++) {
		rc = rte_eth_rx_queue_setup(port->id, i, receive_descriptors, SOCKET_ID_ANY, NULL,
					    port->queue[i].received);
		if (rc != 0) {
			return refuse(rc, "the port's queue of received frames cannot be set up", error, size);
		}
		rc = rte_eth_tx_queue_setup(port->id, i, send_descriptors, SOCKET_ID_ANY, &device->default_txconf);
		if (rc != 0) {
			return refuse(rc, "the port's queue of sent frames cannot be set up", error, size);
		}
	}
	return 0;
}

static int
start(struct dst_port *port, uint16_t mtu, uint16_t queues, struct dst_port_info *info, char *error, size_t size)
{
	struct rte_eth_dev_info device;
	struct rte_eth_conf conf = {};
	uint16_t present;
	int rc;
#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
	struct rte_ether_addr mac = {};
#else
	struct rte_ether_addr mac;
#endif
	uint64_t offloads;
	uint8_t key[RSS_KEY_MAX];

	rc = rte_eth_dev_info_get(port->id, &device);
	if (rc != 0) {
		return refuse(rc, "the port does not describe itself", error, size);
	}
	port->queues = count_queues(port, &device, queues);
	rc = create_pools(port, mtu, error, size);
	if (rc != 0) {
		return rc;
	}
	if (port->queues > 1) {
		set_rss(&device, &conf, key);
	}
	conf.rxmode.offloads =
		device.rx_offload_capa & (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM);
	/* Both checksums or none: no port is known to compute only one of them. */
	offloads = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
	if ((device.tx_offload_capa & offloads) != offloads) {
		offloads = 0;
	}
	conf.txmode.offloads = offloads;
	rc = rte_eth_dev_configure(port->id, port->queues, port->queues, &conf);
	if (rc != 0) {
		return refuse(rc, "the port cannot be configured", error, size);
	}
	rc = rte_eth_dev_get_mtu(port->id, &present);
	if (rc == 0 && present != mtu) {
		rc = rte_eth_dev_set_mtu(port->id, mtu);
		/*
		 * memif and af_packet report the largest frame of plain Ethernet, or have no MTU to set, and pass
		 * longer frames all the same.
		 */
		if (rc != 0 && rc != -ENOTSUP && !port->is_memif &&
		    strcmp(device.driver_name, PACKET_DRIVER) != 0) {
			snprintf(error, size, "the port refuses an MTU of %u (%s): its longest frame is %u bytes", mtu,
				 strerror(-rc), device.max_rx_pktlen);
			return rc;
		}
	}
	device.default_txconf.offloads = offloads;
	rc = set_up_queues(port, &device, error, size);
	if (rc != 0) {
		return rc;
	}
	rc = rte_eth_macaddr_get(port->id, &mac);
	if (rc != 0) {
		return refuse(rc, "the port has no link-layer address", error, size);
	}
	lock(port->is_memif);
	rc = rte_eth_dev_start(port->id);
	unlock(port->is_memif);
	if (rc != 0) {
		return refuse(rc, "the port does not start", error, size);
	}
	/* IPv6 finds neighbours by multicast. Not every port filters, and those that do not refuse this. */
	if (rte_eth_allmulticast_enable(port->id) != 0) {
		rte_eth_promiscuous_enable(port->id);
	}
	memcpy(info->mac, &mac, sizeof(info->mac));
	info->sends_checksums = offloads != 0;
	info->queues = port->queues;
	info->entries = conf.rxmode.mq_mode == RTE_ETH_MQ_RX_RSS ? set_rss_table(port, device.reta_size) : 0;
	return 0;
}

/* Frees a pool, unless buffers of it are missing. Returns their number. */
static uint32_t
free_pool(struct rte_mempool *of)
{
	uint32_t used;

	if (of == NULL) {
		return 0;
	}
	used = rte_mempool_in_use_count(of);
	if (used == 0) {
		rte_mempool_free(of);
	}
	return used;
}

/* Stops and unplugs the port. Returns the number of buffers that are missing. */
static uint32_t
shut(struct dst_port *port)
{
	uint32_t count = 0;

	unplug(port->id, port->is_memif);
	for (uint16_t i = 0; i < port->queues; i++) {
		count += free_pool(port->queue[i].received) + free_pool(port->queue[i].sent);
	}
	free(port);
	return count;
}

static int
port_open(const char *device, uint16_t mtu, uint16_t queues, struct dst_port_info *info, struct dst_port **out,
	  char *error, size_t size)
{
	bool is_memif = strncmp(device, MEMIF_DRIVER, strlen(MEMIF_DRIVER)) == 0;
	struct dst_port *port;
	uint16_t id;
	int rc;

	rc = plug_in(device, &id, is_memif, error, size);
	if (rc != 0) {
		return rc;
	}
	port = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*port));
	if (port == NULL) {
		unplug(id, is_memif);
		return refuse(-ENOMEM, "no memory for a port", error, size);
	}
	memset(port, 0, sizeof(*port));
	port->id = id;
	port->is_memif = is_memif;
	g_opened++;
	rc = start(port, mtu, queues, info, error, size);
	if (rc != 0) {
		shut(port);
		return rc;
	}
	*out = port;
	return 0;
}

static uint16_t
port_receive(struct dst_port *port, uint16_t queue, struct dst_port_frame *frames, uint16_t count)
{
	struct rte_mbuf *mbufs[DST_PORT_BURST];
	uint16_t received, kept = 0;

	if (unlikely(port->is_memif) && !dst_memif_begin_burst(port->id)) {
		return 0;
	}
	received = rte_eth_rx_burst(port->id, queue, mbufs, RTE_MIN(count, DST_PORT_BURST));
	if (unlikely(port->is_memif)) {
		dst_memif_end_burst(port->id);
	}
	for (uint16_t i = 0; i < received; i++) {
		struct rte_mbuf *mbuf = mbufs[i];
		struct dst_port_frame *frame = &frames[kept];
		uint64_t flags = mbuf->ol_flags;

		/* Buffers hold the longest frame of the MTU, so a chain is a longer frame than this. */
		if (mbuf->nb_segs != 1) {
			port->queue[queue].dropped++;
			rte_pktmbuf_free(mbuf);
			continue;
		}
		/* DPDK 20.05's af_packet does not put the tag back into the frame, where the stack reads it. */
		if ((flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0 && rte_vlan_insert(&mbuf) != 0) {
			port->queue[queue].dropped++;
			rte_pktmbuf_free(mbuf);
			continue;
		}
		frame->buffer = mbuf;
		frame->data = rte_pktmbuf_mtod(mbuf, uint8_t *);
		frame->len = mbuf->data_len;
		frame->verified = 0;
		if ((flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_GOOD) {
			frame->verified |= DST_PORT_IPV4_VERIFIED;
		}
		if ((flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD) {
			frame->verified |= DST_PORT_TCP_VERIFIED;
		}
		kept++;
	}
	return kept;
}

static void
port_release(void *buffer)
{
	rte_pktmbuf_free(buffer);
}

static bool
port_is_low(struct dst_port *port, uint16_t queue)
{
	/* Without those that cores keep for themselves. */
	return rte_mempool_ops_get_count(port->queue[queue].received) < RESERVE;
}

static bool
port_allocate(struct dst_port *port, uint16_t queue, struct dst_port_frame *frames, uint16_t count)
{
	struct rte_mbuf *mbufs[DST_PORT_BURST];

	if (count > DST_PORT_BURST || rte_pktmbuf_alloc_bulk(port->queue[queue].sent, mbufs, count) != 0) {
		return false;
	}
	for (uint16_t i = 0; i < count; i++) {
		frames[i].buffer = mbufs[i];
		frames[i].data = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
		frames[i].len = rte_pktmbuf_tailroom(mbufs[i]);
	}
	return true;
}

static uint16_t
port_send(struct dst_port *port, uint16_t queue, struct dst_port_frame *frames, uint16_t count)
{
	struct rte_mbuf *mbufs[DST_PORT_BURST];

	count = RTE_MIN(count, DST_PORT_BURST);
	for (uint16_t i = 0; i < count; i++) {
		struct dst_port_frame *frame = &frames[i];
		struct rte_mbuf *mbuf = frame->buffer;

		mbuf->data_len = (uint16_t)frame->len;
		mbuf->pkt_len = frame->len;
		mbuf->ol_flags = 0;
		if (frame->transport_len != 0) {
			mbuf->l2_len = frame->link_len;
			mbuf->l3_len = frame->network_len;
			mbuf->l4_len = frame->transport_len;
			mbuf->ol_flags = RTE_MBUF_F_TX_TCP_CKSUM |
					 (frame->is_ipv4 ? RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM : RTE_MBUF_F_TX_IPV6);
		}
		mbufs[i] = mbuf;
	}
	if (unlikely(port->is_memif) && !dst_memif_begin_burst(port->id)) {
		return 0;
	}
	count = rte_eth_tx_burst(port->id, queue, mbufs, count);
	if (unlikely(port->is_memif)) {
		dst_memif_end_burst(port->id);
	}
	return count;
}

static void
port_counters(struct dst_port *port, uint16_t queue, struct dst_port_counters *counters)
{
	struct rte_eth_stats stats = {};
	struct rte_eth_link link;

	if (queue == 0) {
		(void)rte_eth_stats_get(port->id, &stats);
	}
	counters->is_up = rte_eth_link_get_nowait(port->id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
	counters->missed = stats.imissed + stats.rx_nombuf + port->queue[queue].dropped;
	counters->errors = stats.ierrors + stats.oerrors;
	counters->received_buffers = rte_mempool_in_use_count(port->queue[queue].received);
	counters->sent_buffers = rte_mempool_in_use_count(port->queue[queue].sent);
}

static const struct dst_port_ops g_ops = {
	.open = port_open,
	.close = shut,
	.receive = port_receive,
	.release = port_release,
	.is_low = port_is_low,
	.allocate = port_allocate,
	.send = port_send,
	.counters = port_counters,
};

__attribute__((constructor)) static void
register_ports(void)
{
	dst_port_register(&g_ops);
}

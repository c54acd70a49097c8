/* SPDX-License-Identifier: BSD-3-Clause */
#include "eth.h"

#include <errno.h>
#include <string.h>

#include "gid.h"
#include "rdma/wire/be.h"
#include "rdma/wire/packet.h"

#define IPV4_VERSION_IHL 0x45
#define IPV4_DF		 0x4000
#define HOP_LIMIT	 64
#define UDP_CHECKSUM	 6

uint32_t eth_sum(uint32_t sum, const void *buf, size_t size)
{
	const uint8_t *p = buf;

	/* at most 64 KiB: 32768 words of 16 bits fit into 32 */
	for (; size > 1; size -= 2, p += 2)
		sum += be_get16(p);
	return size ? sum + (uint32_t)(p[0] << 8) : sum;
}

static uint16_t sum_fold(uint32_t sum)
{
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)((sum >> 16) + sum);
}

uint16_t eth_sum_end(uint32_t sum)
{
	return (uint16_t)~sum_fold(sum);
}

uint32_t eth_ipv6_sum(
	const uint8_t src[16], const uint8_t dst[16], uint8_t next_header, size_t size)
{
	return eth_sum(eth_sum((uint32_t)size + next_header, src, 16), dst, 16);
}

bool eth_mac_is_host(const uint8_t mac[ETH_MAC_SIZE])
{
	static const uint8_t zero[ETH_MAC_SIZE];

	return !(mac[0] & 1) && memcmp(mac, zero, sizeof(zero)) != 0;
}

void eth_group_mac(const uint8_t gid[16], uint8_t mac[ETH_MAC_SIZE])
{
	if (gid_is_ipv4(gid)) {
		memcpy(mac, (uint8_t[]){0x01, 0x00, 0x5e}, 3);
		memcpy(mac + 3, gid + 13, 3);
		mac[3] &= 0x7f;
	} else {
		memset(mac, 0x33, 2);
		memcpy(mac + 2, gid + 12, 4);
	}
}

static uint8_t *ethernet_put(const struct eth_packet *pkt, uint16_t type, uint8_t *p)
{
	memcpy(p, pkt->dmac, ETH_MAC_SIZE);
	memcpy(p + 6, pkt->smac, ETH_MAC_SIZE);
	be_put16(p + 12, type);
	return p + ETH_SIZE;
}

size_t eth_ipv6_put(const struct eth_packet *pkt, uint8_t next_header, uint8_t hop_limit,
	size_t size, uint8_t *buf)
{
	uint8_t *p = ethernet_put(pkt, ETH_TYPE_IPV6, buf);

	be_put32(p, 0x60000000u | (uint32_t)pkt->tclass << 20);
	be_put16(p + 4, (uint16_t)size);
	p[6] = next_header;
	p[7] = hop_limit;
	memcpy(p + 8, pkt->flow.src, 16);
	memcpy(p + 24, pkt->flow.dst, 16);
	return ETH_SIZE + ETH_IPV6_SIZE;
}

static size_t ipv4_put(const struct eth_packet *pkt, uint8_t *buf)
{
	uint8_t *p = ethernet_put(pkt, ETH_TYPE_IPV4, buf);

	p[0] = IPV4_VERSION_IHL;
	p[1] = pkt->tclass;
	be_put16(p + 2, (uint16_t)(ETH_IPV4_SIZE + ETH_UDP_SIZE + pkt->size));
	be_put16(p + 4, pkt->ip_id);
	be_put16(p + 6, IPV4_DF);
	p[8] = HOP_LIMIT;
	p[9] = ETH_PROTO_UDP;
	be_put16(p + 10, 0);
	memcpy(p + 12, pkt->flow.src + 12, 4);
	memcpy(p + 16, pkt->flow.dst + 12, 4);
	be_put16(p + 10, eth_sum_end(eth_sum(0, p, ETH_IPV4_SIZE)));
	return ETH_SIZE + ETH_IPV4_SIZE;
}

size_t eth_headers_put(const struct eth_packet *pkt, uint8_t *buf)
{
	size_t udp_size = ETH_UDP_SIZE + pkt->size, n;
	uint32_t sum;
	uint8_t *p;

	if (gid_is_ipv4(pkt->flow.dst)) {
		n = ipv4_put(pkt, buf);
		sum = eth_sum((uint32_t)udp_size + ETH_PROTO_UDP, buf + n - 8, 8);
	} else {
		n = eth_ipv6_put(pkt, ETH_PROTO_UDP, HOP_LIMIT, udp_size, buf);
		sum = eth_ipv6_sum(pkt->flow.src, pkt->flow.dst, ETH_PROTO_UDP, udp_size);
	}
	p = buf + n;
	be_put16(p, pkt->flow.sport);
	be_put16(p + 2, pkt->flow.dport);
	be_put16(p + 4, (uint16_t)udp_size);
	be_put16(p + UDP_CHECKSUM, sum_fold(sum));
	return n + ETH_UDP_SIZE;
}

static enum eth_kind ipv6_kind(const uint8_t *ip, size_t size)
{
	if (size <= ETH_IPV6_SIZE)
		return ETH_KIND_OTHER;
	switch (ip[6]) {
	case ETH_PROTO_UDP:
		return ETH_KIND_UDP;
	case 0: /* hop-by-hop options, which MLD has */
		return ETH_KIND_GROUP;
	case ETH_PROTO_ICMPV6:
		return ETH_KIND_NEIGHBOUR;
	default:
		return ETH_KIND_OTHER;
	}
}

enum eth_kind eth_kind(const uint8_t *frame, size_t size)
{
	const uint8_t *ip = frame + ETH_SIZE;

	if (size <= ETH_SIZE)
		return ETH_KIND_OTHER;
	size -= ETH_SIZE;
	switch (be_get16(ip - 2)) {
	case ETH_TYPE_ARP:
		return ETH_KIND_NEIGHBOUR;
	case ETH_TYPE_IPV4:
		if (size < ETH_IPV4_SIZE)
			return ETH_KIND_OTHER;
		return ip[9] == ETH_PROTO_UDP	 ? ETH_KIND_UDP
		       : ip[9] == ETH_PROTO_IGMP ? ETH_KIND_GROUP
						 : ETH_KIND_OTHER;
	case ETH_TYPE_IPV6:
		return ipv6_kind(ip, size);
	default:
		return ETH_KIND_OTHER;
	}
}

/* The IP headers: Return: the IP payload's offset in @ip, 0 if there is an error; @size
 * becomes the IP packet's.
 */
static size_t ipv4_parse(const uint8_t *ip, size_t *size, struct eth_packet *out)
{
	size_t total;

	if (*size < ETH_IPV4_SIZE + ETH_UDP_SIZE || ip[0] != IPV4_VERSION_IHL ||
		be_get16(ip + 6) != IPV4_DF ||
		eth_sum_end(eth_sum(0, ip, ETH_IPV4_SIZE)) != 0)
		return 0;
	total = be_get16(ip + 2);
	if (total < ETH_IPV4_SIZE + ETH_UDP_SIZE || total > *size)
		return 0;
	*size = total;
	out->tclass = ip[1];
	out->ip_id = be_get16(ip + 4);
	gid_from_ipv4(ip + 12, out->flow.src);
	gid_from_ipv4(ip + 16, out->flow.dst);
	return ETH_IPV4_SIZE;
}

static size_t ipv6_parse(const uint8_t *ip, size_t *size, struct eth_packet *out)
{
	size_t total;

	if (*size < ETH_IPV6_SIZE + ETH_UDP_SIZE || ip[0] >> 4 != 6)
		return 0;
	total = ETH_IPV6_SIZE + (size_t)be_get16(ip + 4);
	if (total < ETH_IPV6_SIZE + ETH_UDP_SIZE || total > *size)
		return 0;
	*size = total;
	out->tclass = (uint8_t)(be_get16(ip) >> 4);
	memcpy(out->flow.src, ip + 8, 16);
	memcpy(out->flow.dst, ip + 24, 16);
	/* no GID of an IPv4 address: those come in IPv4 packets */
	return gid_is_ipv4(out->flow.src) || gid_is_ipv4(out->flow.dst) ? 0
									: ETH_IPV6_SIZE;
}

bool eth_gid_is_host(const uint8_t gid[16])
{
	static const uint8_t zero[16];

	if (gid_is_ipv4(gid))
		return be_get32(gid + 12) != 0 && gid[12] < 224;
	return memcmp(gid, zero, sizeof(zero)) != 0 && gid[0] != 0xff;
}

int eth_parse(const uint8_t *frame, size_t size, struct eth_packet *out)
{
	const uint8_t *ip = frame + ETH_SIZE, *udp;
	size_t offset;

	if (size < ETH_SIZE)
		return -EPROTO;
	*out = (struct eth_packet){0};
	memcpy(out->dmac, frame, ETH_MAC_SIZE);
	memcpy(out->smac, frame + 6, ETH_MAC_SIZE);
	size -= ETH_SIZE;
	offset = be_get16(frame + 12) == ETH_TYPE_IPV4 ? ipv4_parse(ip, &size, out)
						       : ipv6_parse(ip, &size, out);
	if (!offset || !eth_gid_is_host(out->flow.src))
		return -EPROTO;
	udp = ip + offset;
	out->flow.sport = be_get16(udp);
	out->flow.dport = be_get16(udp + 2);
	if (out->flow.dport != WIRE_UDP_PORT || be_get16(udp + 4) != size - offset)
		return -EPROTO;
	out->data = udp + ETH_UDP_SIZE;
	out->size = size - offset - ETH_UDP_SIZE;
	return 0;
}

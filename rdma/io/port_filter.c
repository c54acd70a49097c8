/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A packet socket sees all that passes the interface. This program, run by the kernel,
 * lets in what may concern the link: frames to its MAC or a group's that are RoCEv2, ask
 * or tell of neighbours, or ask for groups. It only keeps the rest from waking us up;
 * what is let in is checked again, and counted, by the receiver.
 *
 * An instruction's label is its index; jumps are relative to the next one.
 */
#include <errno.h>
#include <linux/filter.h>

#include "lib/util.h"
#include "port_priv.h"
#include "rdma/wire/be.h"
#include "rdma/wire/packet.h"

#define DO(label, code, k) [label] = BPF_STMT(code, k)
#define IF(label, test, k, yes, no) \
	[label] = BPF_JUMP(         \
		BPF_JMP | (test) | BPF_K, k, (yes) - (label)-1, (no) - (label)-1)
#define BYTE  (BPF_LD | BPF_B | BPF_ABS)
#define HALF  (BPF_LD | BPF_H | BPF_ABS)
#define WORD  (BPF_LD | BPF_W | BPF_ABS)
#define WHOLE 0x40000

#define VLAN_ID_MASK 0xfff

/* Offsets in a frame. */
enum {
	AT_TYPE = 12,
	AT_IPV4_FRAGMENT = ETH_SIZE + 6,
	AT_IPV4_PROTO = ETH_SIZE + 9,
	AT_ARP_SENDER = ETH_SIZE + 14,
	AT_ARP_TARGET = ETH_SIZE + 24,
	AT_IPV6_NEXT = ETH_SIZE + 6,
	AT_IPV6_DATA = ETH_SIZE + ETH_IPV6_SIZE,
	AT_MLD_TYPE = AT_IPV6_DATA + 8, /* behind hop-by-hop options */
};
enum { MLD_QUERY = 130, ND_QUERY = 135, ND_ANSWER = 136 };

/* What both versions begin with: no VLAN's (they have interfaces of their own), to our
 * MAC or a group's.
 */
enum {
	L_VLAN,
	L_VLAN_ID,
	L_VLAN_NONE,
	L_MAC,
	L_MAC_IS,
	L_MAC_END,
	L_MAC_END_IS,
	L_GROUP,
	L_GROUP_IS,
	L_TYPE,
};
#define BEGINNING(mac, drop)                                                     \
	DO(L_VLAN, WORD, (uint32_t)(SKF_AD_OFF + SKF_AD_VLAN_TAG)),              \
		DO(L_VLAN_ID, BPF_ALU | BPF_AND | BPF_K, VLAN_ID_MASK),          \
		IF(L_VLAN_NONE, BPF_JEQ, 0, L_MAC, drop), DO(L_MAC, WORD, 0),    \
		IF(L_MAC_IS, BPF_JEQ, be_get32(mac), L_MAC_END, L_GROUP),        \
		DO(L_MAC_END, HALF, 4),                                          \
		IF(L_MAC_END_IS, BPF_JEQ, be_get16((mac) + 4), L_TYPE, L_GROUP), \
		DO(L_GROUP, BYTE, 0), IF(L_GROUP_IS, BPF_JSET, 1, L_TYPE, drop)

static int attach(int fd, struct sock_filter *code, size_t n)
{
	struct sock_fprog prog = {.len = (unsigned short)n, .filter = code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) ? -errno
										 : 0;
}

static int ipv4_set(const struct link_port *port, int fd)
{
	enum {
		IS_IPV4 = L_TYPE + 1,
		IS_ARP,
		ARP_TARGET,
		ARP_OURS,
		ARP_KEEP,
		ARP_SENDER,
		ARP_CLAIMS,
		ARP_ANNOUNCES,
		PROTO,
		IS_IGMP,
		IS_UDP,
		FRAGMENT,
		IS_LATER,
		HEADER,
		DPORT,
		IS_ROCE,
		ACCEPT,
		DROP,
		END,
	};
	struct sock_filter code[END] = {
		BEGINNING(port->self.mac, DROP),
		DO(L_TYPE, HALF, AT_TYPE),
		IF(IS_IPV4, BPF_JEQ, ETH_TYPE_IPV4, PROTO, IS_ARP),
		IF(IS_ARP, BPF_JEQ, ETH_TYPE_ARP, ARP_TARGET, DROP),
		/* about us, by us (so it claims), or an announcement: its target is its
		 * sender */
		DO(ARP_TARGET, WORD, AT_ARP_TARGET),
		IF(ARP_OURS, BPF_JEQ, be_get32(port->self.gid + 12), ACCEPT, ARP_KEEP),
		DO(ARP_KEEP, BPF_MISC | BPF_TAX, 0),
		DO(ARP_SENDER, WORD, AT_ARP_SENDER),
		IF(ARP_CLAIMS, BPF_JEQ, be_get32(port->self.gid + 12), ACCEPT,
			ARP_ANNOUNCES),
		[ARP_ANNOUNCES] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_X, 0,
			ACCEPT - ARP_ANNOUNCES - 1, DROP - ARP_ANNOUNCES - 1),
		DO(PROTO, BYTE, AT_IPV4_PROTO),
		IF(IS_IGMP, BPF_JEQ, ETH_PROTO_IGMP, ACCEPT, IS_UDP),
		IF(IS_UDP, BPF_JEQ, ETH_PROTO_UDP, FRAGMENT, DROP),
		DO(FRAGMENT, HALF, AT_IPV4_FRAGMENT),
		IF(IS_LATER, BPF_JSET, 0x1fff, DROP, HEADER),
		DO(HEADER, BPF_LDX | BPF_B | BPF_MSH, ETH_SIZE),
		DO(DPORT, BPF_LD | BPF_H | BPF_IND, ETH_SIZE + 2),
		IF(IS_ROCE, BPF_JEQ, WIRE_UDP_PORT, ACCEPT, DROP),
		DO(ACCEPT, BPF_RET | BPF_K, WHOLE),
		DO(DROP, BPF_RET | BPF_K, 0),
	};

	return attach(fd, code, ARRAY_SIZE(code));
}

static int ipv6_set(const struct link_port *port, int fd)
{
	enum {
		IS_IPV6 = L_TYPE + 1,
		NEXT,
		IS_UDP,
		IS_ICMP,
		IS_OPTIONS,
		DPORT,
		IS_ROCE,
		ICMP,
		IS_QUERY,
		IS_ANSWER,
		MLD,
		IS_MLD_QUERY,
		ACCEPT,
		DROP,
		END,
	};
	struct sock_filter code[END] = {
		BEGINNING(port->self.mac, DROP),
		DO(L_TYPE, HALF, AT_TYPE),
		IF(IS_IPV6, BPF_JEQ, ETH_TYPE_IPV6, NEXT, DROP),
		DO(NEXT, BYTE, AT_IPV6_NEXT),
		IF(IS_UDP, BPF_JEQ, ETH_PROTO_UDP, DPORT, IS_ICMP),
		IF(IS_ICMP, BPF_JEQ, ETH_PROTO_ICMPV6, ICMP, IS_OPTIONS),
		IF(IS_OPTIONS, BPF_JEQ, 0, MLD, DROP),
		DO(DPORT, HALF, AT_IPV6_DATA + 2),
		IF(IS_ROCE, BPF_JEQ, WIRE_UDP_PORT, ACCEPT, DROP),
		DO(ICMP, BYTE, AT_IPV6_DATA),
		IF(IS_QUERY, BPF_JEQ, ND_QUERY, ACCEPT, IS_ANSWER),
		IF(IS_ANSWER, BPF_JEQ, ND_ANSWER, ACCEPT, DROP),
		DO(MLD, BYTE, AT_MLD_TYPE),
		IF(IS_MLD_QUERY, BPF_JEQ, MLD_QUERY, ACCEPT, DROP),
		DO(ACCEPT, BPF_RET | BPF_K, WHOLE),
		DO(DROP, BPF_RET | BPF_K, 0),
	};

	return attach(fd, code, ARRAY_SIZE(code));
}

int port_filter_set(const struct link_port *port, int fd)
{
	return port->is_ipv4 ? ipv4_set(port, fd) : ipv6_set(port, fd);
}

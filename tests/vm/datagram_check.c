/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What UC and UD give the receiver, between two devices: data, immediates, the GRH, and
 * datagrams to a multicast group. Not for a network with losses.
 *
 * Usage: datagram_check -g GID_INDEX -t uc|ud|group [SERVER]
 */
#include "check_end.h"

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

#define GRH	  40
#define GROUP	  "239.1.2.3"
#define MESSAGES  30
#define GROUP_QPN 0xffffff

static struct ibv_ah *ah;
static uint32_t to_qpn;

static uint32_t size_of(uint32_t i, bool is_ud)
{
	return is_ud ? i * 1024 / (MESSAGES - 1) : i * 311;
}

static uint32_t place(uint32_t i)
{
	return i * (MESSAGES * 311 + GRH);
}

static void send_one(uint32_t i, bool is_ud)
{
	struct ibv_sge sge = {(uintptr_t)buf, size_of(i, is_ud), mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge,
				   .num_sge = 1,
				   .opcode = i & 1 ? IBV_WR_SEND_WITH_IMM : IBV_WR_SEND,
				   .imm_data = htonl(i)},
			   *bad;

	if (is_ud) {
		wr.wr.ud.ah = ah;
		wr.wr.ud.remote_qpn = to_qpn;
		wr.wr.ud.remote_qkey = CHECK_QKEY;
	}
	fill(buf, sge.length, i);
	CHECK(!ibv_post_send(qp, &wr, &bad));
	CHECK(expect(IBV_WC_SUCCESS).opcode == IBV_WC_SEND);
}

/* IPv4's: 20 bytes of nothing, then the header. */
static void check_grh(const uint8_t *grh, const union ibv_gid *to)
{
	CHECK(grh[20] == 0x45);
	CHECK(!memcmp(grh + 32, peer.gid.raw + 12, 4));
	CHECK(!memcmp(grh + 36, to->raw + 12, 4));
}

static void receive_one(uint32_t i, bool is_ud, const union ibv_gid *to)
{
	uint32_t grh = is_ud ? GRH : 0;
	struct ibv_wc wc = expect(IBV_WC_SUCCESS);

	CHECK(wc.opcode == IBV_WC_RECV && wc.wr_id == place(i));
	CHECK(wc.byte_len == size_of(i, is_ud) + grh);
	CHECK(!(wc.wc_flags & IBV_WC_WITH_IMM) == !(i & 1));
	if (i & 1)
		CHECK(ntohl(wc.imm_data) == i);
	if (is_ud) {
		CHECK(wc.wc_flags & IBV_WC_GRH);
		CHECK(wc.src_qp == peer.qpn);
		check_grh(buf + place(i), to);
	}
	check_filled(buf + place(i) + grh, size_of(i, is_ud), i);
}

/* rdma_rxe leaves it to who attaches to join the IP group, as librdmacm does. Ours joins
 * by itself.
 */
static void join_ip_group(const char *group)
{
	struct ip_mreqn req = {0};
	struct in_addr via;

	CHECK(inet_pton(AF_INET, group, &req.imr_multiaddr) == 1);
	memcpy(&via, own.gid.raw + 12, sizeof(via));
	req.imr_address = via;
	/* which ends with the program */
	CHECK(!setsockopt(socket(AF_INET, SOCK_DGRAM, 0), IPPROTO_IP, IP_ADD_MEMBERSHIP,
		&req, sizeof(req)));
}

/* The server is its one member. */
static union ibv_gid group(void)
{
	union ibv_gid gid = {.raw = {[10] = 0xff, [11] = 0xff}};

	CHECK(inet_pton(AF_INET, GROUP, gid.raw + 12) == 1);
	if (own.is_server) {
		if (own.is_rxe)
			join_ip_group(GROUP);
		CHECK(!ibv_attach_mcast(qp, &gid, 0));
	}
	return gid;
}

int main(int argc, char **argv)
{
	bool is_ud = false, to_group = false;
	union ibv_gid to;
	int opt, gid_index = 0;

	while ((opt = getopt(argc, argv, "g:t:")) > 0) {
		if (opt == 'g')
			gid_index = atoi(optarg);
		else if (opt == 't')
			is_ud = optarg[1] != 'c', to_group = optarg[0] == 'g';
		else
			return 2;
	}
	open_all(is_ud ? IBV_QPT_UD : IBV_QPT_UC, gid_index, !argv[optind]);
	meet(argv[optind]);
	swap_ends();
	connect_end(gid_index);
	to = own.is_server ? own.gid : peer.gid;
	to_qpn = peer.qpn;
	if (to_group) {
		to = group();
		to_qpn = GROUP_QPN;
	}
	if (is_ud && !own.is_server) {
		struct ibv_ah_attr route = route_to(to, gid_index);

		ah = ibv_create_ah(pd, &route);
		CHECK(ah);
	}
	for (uint32_t i = 0; own.is_server && i < MESSAGES; i++)
		post_recv(place(i), MESSAGES * 311 + GRH);
	barrier('c');
	/* One at a time, as a slow guest drops what overruns it. */
	for (uint32_t i = 0; i < MESSAGES; i++) {
		own.is_server ? receive_one(i, is_ud, &to) : send_one(i, is_ud);
		barrier('m');
	}
	if (ah)
		CHECK(!ibv_destroy_ah(ah));
	if (to_group && own.is_server) {
		CHECK(!ibv_detach_mcast(qp, &to, 0));
	}
	close_all();
	return 0;
}

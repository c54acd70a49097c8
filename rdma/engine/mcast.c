/* SPDX-License-Identifier: BSD-3-Clause */
#include "mcast.h"
#include "engine_priv.h"

#include "lib/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One that any queue pair is attached to. */
struct mcast_group {
	struct mcast_group *next;
	uint8_t gid[16];
	uint32_t n_qps;
	struct qp *qps[]; /* grows by one at a time: attaching is rare */
};

/* The last byte is what most groups differ in. */
static uint32_t chain_of(const uint8_t gid[16])
{
	return (gid[15] ^ gid[14]) % MCAST_CHAINS;
}

static struct mcast_group **find(struct engine *e, const uint8_t gid[16])
{
	struct mcast_group **at = &e->groups.chain[chain_of(gid)];

	while (*at && memcmp((*at)->gid, gid, sizeof((*at)->gid)) != 0)
		at = &(*at)->next;
	return at;
}

bool mcast_has_group(const struct engine *e, const uint8_t gid[16])
{
	return *find((struct engine *)e, gid) != NULL;
}

/* Return: its place in @group, or n_qps */
static uint32_t place_of(const struct mcast_group *group, const struct qp *qp)
{
	uint32_t i = 0;

	while (i < group->n_qps && group->qps[i] != qp)
		i++;
	return i;
}

static size_t group_size(uint32_t n_qps)
{
	return sizeof(struct mcast_group) + n_qps * sizeof(struct qp *);
}

static int add_group(
	struct engine *e, struct mcast_group **at, struct qp *qp, const uint8_t gid[16])
{
	struct mcast_group *group;

	if (e->groups.n == MCAST_GROUP_MAX)
		return -ENOMEM;
	group = calloc(1, group_size(1));
	if (!group)
		return -ENOMEM;
	memcpy(group->gid, gid, sizeof(group->gid));
	group->n_qps = 1;
	group->qps[0] = qp;
	*at = group;
	e->groups.n++;
	return 0;
}

static int add_qp(struct mcast_group **at, struct qp *qp)
{
	struct mcast_group *group = *at;

	if (group->n_qps == MCAST_QP_MAX)
		return -ENOMEM;
	group = realloc(group, group_size(group->n_qps + 1));
	if (!group)
		return -ENOMEM;
	group->qps[group->n_qps++] = qp;
	*at = group;
	return 0;
}

int mcast_attach(struct engine *e, struct qp *qp, const uint8_t gid[16])
{
	struct mcast_group **at = find(e, gid);
	int rc;

	if (qp->config.type != IBV_QPT_UD)
		return -EINVAL;
	if (*at && place_of(*at, qp) < (*at)->n_qps)
		return 0;
	rc = *at ? add_qp(at, qp) : add_group(e, at, qp, gid);
	if (!rc)
		qp->n_groups++;
	return rc;
}

int mcast_detach(struct engine *e, struct qp *qp, const uint8_t gid[16])
{
	struct mcast_group **at = find(e, gid), *group = *at;
	uint32_t i = group ? place_of(group, qp) : 0;

	if (!group || i == group->n_qps)
		return -EINVAL;
	group->qps[i] = group->qps[--group->n_qps];
	qp->n_groups--;
	if (!group->n_qps) {
		*at = group->next;
		free(group);
		e->groups.n--;
	}
	return 0;
}

void mcast_input(struct engine *e, const struct wire_packet *pkt,
	const struct link_rx *rx, uint64_t now_ns)
{
	const struct mcast_group *group = *find(e, rx->dgid);

	if (!group) {
		e->stats.rx_drop_no_group++;
		return;
	}
	/* One queue pair number is for groups, and nothing but datagrams (9.6.1.2). */
	if (pkt->dest_qpn != WIRE_QPN_MULTICAST) {
		e->stats.rx_drop_no_qp++;
		return;
	}
	if (pkt->opcode >> 5 != WIRE_UD) {
		e->stats.rx_drop_unsupported++;
		return;
	}
	e->stats.rx_group_packets++;
	for (uint32_t i = 0; i < group->n_qps; i++)
		engine_input_to(group->qps[i], pkt, rx, now_ns);
}

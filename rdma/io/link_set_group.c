/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Multicast groups of a set of links. One of its links is in each group, since what is
 * sent to the group must come in once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "link_set_priv.h"
#include "rdma/wire/gid.h"

/* Join @group by the first link that can. Return: 0, or why none could */
static int join(struct link_set *set, struct link_set_group *group)
{
	int rc = -EINVAL;

	for (int i = 0; i < LINK_SET_MAX && !group->by; i++) {
		struct link *link = set->link[i];

		if (!link || gid_is_ipv4(link->gid) != gid_is_ipv4(group->gid))
			continue;
		rc = link->ops->join(link, group->gid);
		if (!rc)
			group->by = link;
	}
	return group->by ? 0 : rc;
}

int link_set_join(struct link_set *set, const uint8_t gid[16])
{
	struct link_set_group *group = calloc(1, sizeof(*group));
	int rc;

	if (!group)
		return -ENOMEM;
	memcpy(group->gid, gid, sizeof(group->gid));
	rc = join(set, group);
	if (rc) {
		free(group);
		return rc;
	}
	group->next = set->groups;
	set->groups = group;
	rc = link_set_watch(set);
	if (rc)
		link_set_leave(set, gid);
	return rc;
}

void link_set_leave(struct link_set *set, const uint8_t gid[16])
{
	struct link_set_group **at = &set->groups, *group;

	while (*at && memcmp((*at)->gid, gid, sizeof((*at)->gid)) != 0)
		at = &(*at)->next;
	group = *at;
	if (!group)
		return;
	*at = group->next;
	if (group->by)
		group->by->ops->leave(group->by, gid);
	free(group);
}

void link_set_rejoin(struct link_set *set)
{
	for (struct link_set_group *g = set->groups; g; g = g->next)
		join(set, g);
	link_set_watch(set);
}

void link_set_groups_lose(struct link_set *set, const struct link *link)
{
	for (struct link_set_group *g = set->groups; g; g = g->next) {
		if (g->by == link)
			g->by = NULL;
	}
	link_set_rejoin(set);
}

void link_set_groups_free(struct link_set *set)
{
	struct link_set_group *g;

	while ((g = set->groups)) {
		set->groups = g->next;
		free(g);
	}
}

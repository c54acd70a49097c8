/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table itself, and its changes as addresses come and go. gids_open.c opens links.
 */
#include "provider_priv.h"

#include "lib/log.h"
#include "lib/util.h"
#include "gids_priv.h"
#include "rdma/io/gid.h"
#include "rdma/io/gid_list.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define MODULE "gids"

static_assert(DEVICE_GID_MAX == LINK_SET_MAX, "an entry has a link");
static_assert(DEVICE_GID_MAX == ENGINE_GID_MAX, "the engine knows all");

/* Return: its index, or -1 */
static int find(const struct gids *gids, const uint8_t gid[16])
{
	for (int i = 0; i < gids->size; i++) {
		if (gids->entry[i].is_taken && !memcmp(gids->entry[i].gid, gid, 16))
			return i;
	}
	return -1;
}

static int find_free(const struct gids *gids)
{
	int i = 0;

	while (i < gids->size && gids->entry[i].is_taken)
		i++;
	return i < gids->size ? i : -1;
}

int gids_add(struct device *dev, struct link *link)
{
	struct gids *gids = &dev->gids;
	int i = find_free(gids), rc;

	if (i < 0)
		return -ENOSPC;
	device_pause(dev);
	rc = link_set_add(dev->links, (uint8_t)i, link);
	if (!rc) {
		gids->entry[i] =
			(struct gid_entry){.is_taken = true, .is_present = link->has_gid};
		memcpy(gids->entry[i].gid, link->gid, 16);
		engine_set_gid(dev->engine, (uint8_t)i, link->gid);
	}
	device_resume(dev);
	return rc;
}

/* Paused. */
static void remove_entry(struct device *dev, int i)
{
	link_set_remove(dev->links, (uint8_t)i);
	engine_set_gid(dev->engine, (uint8_t)i, NULL);
	dev->gids.entry[i] = (struct gid_entry){0};
}

/* Bring an entry in line with its link. Return: whether the table changed */
static bool entry_refresh(struct device *dev, int i)
{
	struct gid_entry *e = &dev->gids.entry[i];
	struct link *link = link_set_link(dev->links, (uint8_t)i);
	bool changed;

	if (link->ops->refresh)
		link->ops->refresh(link);
	device_pause(dev);
	changed = e->is_present != link->has_gid;
	e->is_present = link->has_gid;
	if (dev->gids.follows && !e->is_present && !e->n_users)
		remove_entry(dev, i);
	device_resume(dev);
	return changed;
}

/* Does another have it, which was told already? */
static bool was_left_out(const struct gids *gids, const uint8_t gid[16])
{
	for (int i = 0; i < gids->n_left_out; i++) {
		if (!memcmp(gids->left_out[i], gid, 16))
			return true;
	}
	return false;
}

static void tell_left_out(struct device *dev, const uint8_t gid[16], int rc)
{
	char addr[DEVICE_ADDR_SIZE];

	engine_lock(dev);
	dev->gids.n_omissions++;
	engine_unlock(dev);
	gid_print(gid, addr);
	log_write(LOG_LEVEL_WARN, MODULE, "%s: %s is no GID of this device: %s",
		dev->ifname, addr,
		rc == -EADDRINUSE ? "another process has UDP port 4791 there"
		: rc == -ENOSPC	  ? "the table is full"
				  : strerror(-rc));
}

/* Take up those addresses of the interface that are not in the table. One that IPv6 still
 * examines can't be had yet (EADDRNOTAVAIL); there is a message when it can.
 * Return: how many were taken; @error: why the last one was not, if any was not
 */
static int take_addresses(struct device *dev, int *error)
{
	struct gids *gids = &dev->gids;
	uint8_t list[2 * DEVICE_GID_MAX][16], left_out[DEVICE_GID_MAX][16];
	int n = gid_list(dev->ifname, list, ARRAY_SIZE(list)), n_left_out = 0,
	    n_taken = 0;

	*error = n < 0 ? n : -EADDRNOTAVAIL;
	n = MIN(n, (int)ARRAY_SIZE(list));
	for (int i = 0; i < n; i++) {
		int rc = find(gids, list[i]) >= 0 ? -EEXIST : gids_open_one(dev, list[i]);

		n_taken += !rc;
		if (!rc || rc == -EEXIST || rc == -EADDRNOTAVAIL)
			continue;
		*error = rc;
		if (!was_left_out(gids, list[i]))
			tell_left_out(dev, list[i], rc);
		if (n_left_out < DEVICE_GID_MAX)
			memcpy(left_out[n_left_out++], list[i], 16);
	}
	memcpy(gids->left_out, left_out, (size_t)n_left_out * sizeof(*left_out));
	gids->n_left_out = n_left_out;
	return n_taken;
}

int gids_take_all(struct device *dev)
{
	int error;

	return take_addresses(dev, &error) ? 0 : error;
}

void gids_refresh(struct device *dev)
{
	struct gids *gids = &dev->gids;
	int n_changes = 0, error;

	for (int i = 0; i < gids->size; i++) {
		if (gids->entry[i].is_taken)
			n_changes += entry_refresh(dev, i);
	}
	if (gids->follows)
		n_changes += take_addresses(dev, &error);
	engine_lock(dev);
	port_recompute(dev);
	gids->n_changes += (uint64_t)n_changes;
	if (n_changes)
		port_gids_changed(dev, n_changes);
	engine_unlock(dev);
}

void gids_read(const struct device *dev, uint8_t gids[][16])
{
	memset(gids, 0, DEVICE_GID_MAX * sizeof(*gids));
	for (int i = 0; i < dev->gids.size; i++) {
		if (dev->gids.entry[i].is_present)
			memcpy(gids[i], dev->gids.entry[i].gid, 16);
	}
}

int gids_check(const struct device *dev, const struct ibv_ah_attr *route)
{
	const struct ibv_global_route *grh = &route->grh;
	const struct gid_entry *e = &dev->gids.entry[grh->sgid_index % DEVICE_GID_MAX];

	if (!route->is_global || grh->sgid_index >= dev->gids.size || !e->is_present ||
		gid_is_ipv4(e->gid) != gid_is_ipv4(grh->dgid.raw))
		return -EINVAL;
	return 0;
}

void gids_look_again(struct device *dev)
{
	atomic_store(&dev->gids_due, true);
	progress_wake(dev);
}

void gids_use(struct device *dev, uint8_t index)
{
	dev->gids.entry[index].n_users++;
}

void gids_unuse(struct device *dev, uint8_t index)
{
	struct gid_entry *e = &dev->gids.entry[index];

	if (--e->n_users || e->is_present || !dev->gids.follows)
		return;
	/* Nobody waits for the address any more: let the thread free its entry. */
	gids_look_again(dev);
}

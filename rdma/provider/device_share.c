/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices of this process, by what they are on: opened with the first context, closed
 * with the last. Some programs open a device several times (Open MPI's transports each
 * do), and an address has one UDP port only. Keys and numbers of all contexts are those
 * of one engine; protection domains keep them apart.
 */
#include "provider_priv.h"

#include "rdma/io/gid.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static TAILQ_HEAD(, device) devices = TAILQ_HEAD_INITIALIZER(devices);

static const uint32_t device_limits[N_KINDS] = {
	[KIND_PD] = DEVICE_PD_MAX,
	[KIND_MR] = MR_MAX,
	[KIND_MW] = MW_MAX,
	[KIND_CQ] = DEVICE_CQ_MAX,
	[KIND_SRQ] = DEVICE_SRQ_MAX,
	[KIND_AH] = DEVICE_AH_MAX,
};

void *device_object_alloc(struct device *dev, enum device_kind kind, size_t size)
{
	void *object = NULL;

	if (atomic_fetch_add(&dev->n_objects[kind], 1) < device_limits[kind])
		object = calloc(1, size);
	if (!object)
		atomic_fetch_sub(&dev->n_objects[kind], 1);
	return object;
}

void device_object_free(struct device *dev, enum device_kind kind, void *object)
{
	atomic_fetch_sub(&dev->n_objects[kind], 1);
	free(object);
}

static void init_lock(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;

	/* Held for some microseconds at most, so it pays to spin a little before
	 * sleeping. */
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
}

static struct device *device_find(const struct device_identity *identity)
{
	struct device *dev;

	TAILQ_FOREACH(dev, &devices, entry)
	{
		/* A parent's device does not work in a child: its thread is not there. */
		if (!memcmp(&dev->identity, identity, sizeof(*identity)) &&
			dev->pid == getpid())
			return dev;
	}
	return NULL;
}

/* One address; of a port without its prefix length. Return: 0 or -EINVAL */
static int identify_one(char *addr, uint8_t gid[16], uint32_t *scope)
{
	addr[strcspn(addr, "/")] = '\0';
	return gid_parse(addr, gid, scope);
}

/* Return: 0, -EINVAL (also: too many addresses) or -ENODEV */
static int identify(const struct device_where *where, struct device_identity *id)
{
	const char *ifname = where->port[0] ? where->port : where->interface;
	char addr[DEVICE_ADDR_SIZE];
	int i, rc = 0;

	memset(id, 0, sizeof(*id));
	for (i = 0; device_where_item(where->addr, i, addr) && !rc; i++) {
		if (i == DEVICE_GID_MAX)
			return -EINVAL;
		rc = identify_one(addr, id->addr[i].gid, &id->addr[i].scope);
	}
	if (rc || !ifname[0])
		return rc;
	id->ifindex = if_nametoindex(ifname);
	return id->ifindex ? 0 : -ENODEV;
}

static int device_create(const struct device_where *where,
	const struct device_identity *identity, struct device **out)
{
	struct device *dev = aligned_alloc(CACHE_LINE, sizeof(*dev));
	int rc;

	if (!dev)
		return -ENOMEM;
	memset(dev, 0, sizeof(*dev));
	dev->identity = *identity;
	dev->pid = getpid();
	TAILQ_INIT(&dev->contexts);
	STAILQ_INIT(&dev->comp_events);
	STAILQ_INIT(&dev->async_events);
	init_lock(&dev->lock);
	init_lock(&dev->rx_lock);
	dev->wake_fd = -1;
	rc = engine_create(&dev->engine);
	if (rc)
		goto err_free;
	rc = gids_open(dev, where);
	if (rc)
		goto err_engine;
	memcpy(dev->guid, dev->gids.entry[0].gid + 8, sizeof(dev->guid));
	engine_set_line_rate(dev->engine, port_mbps(dev) * 1000000ull / 8);
	port_recompute(dev);
	port_watch(dev);
	rc = progress_start(dev);
	if (rc)
		goto err_port;
	/* Addresses may have changed before port_watch() did. */
	if (dev->gids.follows)
		gids_look_again(dev);
	*out = dev;
	return 0;

err_port:
	port_unwatch(dev);
	gids_close(dev);
err_engine:
	engine_destroy(dev->engine);
err_free:
	free(dev);
	return rc;
}

static void device_destroy(struct device *dev)
{
	progress_stop(dev);
	counters_log(dev);
	port_unwatch(dev);
	engine_destroy(dev->engine);
	gids_close(dev);
	pthread_mutex_destroy(&dev->rx_lock);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}

int device_get(const struct device_where *where, struct device **out)
{
	struct device *dev;
	struct device_identity identity;
	int rc = identify(where, &identity);

	if (rc)
		return rc;
	pthread_mutex_lock(&list_lock);
	dev = device_find(&identity);
	if (!dev) {
		rc = device_create(where, &identity, &dev);
		if (!rc)
			TAILQ_INSERT_TAIL(&devices, dev, entry);
	}
	if (!rc)
		dev->n_contexts++;
	pthread_mutex_unlock(&list_lock);
	if (!rc)
		*out = dev;
	return rc;
}

void device_put(struct device *dev)
{
	pthread_mutex_lock(&list_lock);
	if (--dev->n_contexts == 0) {
		TAILQ_REMOVE(&devices, dev, entry);
		/* Under the lock, as the next device_get() wants the port. */
		device_destroy(dev);
	}
	pthread_mutex_unlock(&list_lock);
}

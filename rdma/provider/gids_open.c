/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a device is on, as text, to links.
 */
#include "provider_priv.h"

#include "gids_priv.h"
#include "rdma/io/gid.h"
#include "rdma/io/port.h"
#include "rdma/io/udp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Consumes @link in any case. */
static int add(struct device *dev, struct link *link)
{
	int rc = gids_add(dev, link);

	if (rc)
		link_close(link);
	return rc;
}

int gids_open_one(struct device *dev, const uint8_t gid[16])
{
	char addr[DEVICE_ADDR_SIZE];
	struct link *link;
	int rc;

	gid_print(gid, addr);
	if (gid_is_link_local(gid)) {
		strcat(addr, "%");
		strcat(addr, dev->ifname);
	}
	rc = link_udp_open(addr, &link);
	return rc ? rc : add(dev, link);
}

static const char *text_or_null(const char *text)
{
	return text[0] ? text : NULL;
}

/* Of several gateways the one in the address' own network, if any. */
static int open_port(
	const struct device_where *where, const char *addr, struct link **out)
{
	struct link_port_attr attr = {
		.ifname = where->port,
		.addr = addr,
		.mac = text_or_null(where->mac),
	};
	char gateway[DEVICE_ADDR_SIZE];
	uint8_t gid[16];
	bool is_list = strchr(where->gateway, ',') || strchr(where->addr, ',');

	for (int i = 0; device_where_item(where->gateway, i, gateway); i++) {
		attr.gateway = gateway;
		if (!is_list || !link_port_check(&attr, gid))
			return link_port_open(&attr, out);
	}
	attr.gateway = NULL;
	return link_port_open(&attr, out);
}

static int open_named(
	struct device *dev, const struct device_where *where, const char *addr)
{
	struct link *link;
	int rc = where->port[0] ? open_port(where, addr, &link)
				: link_udp_open(addr, &link);

	if (rc)
		return rc;
	if (!dev->ifname[0])
		memcpy(dev->ifname, link->ifname, sizeof(dev->ifname));
	if (strcmp(dev->ifname, link->ifname) != 0) {
		link_close(link);
		return -EINVAL;
	}
	return add(dev, link);
}

static int open_all_named(struct device *dev, const struct device_where *where)
{
	char addr[DEVICE_ADDR_SIZE];
	int n = 0, rc = 0;

	while (device_where_item(where->addr, n, addr))
		n++;
	if (!n || n > DEVICE_GID_MAX)
		return -EINVAL;
	dev->gids.size = (uint8_t)n;
	for (int i = 0; i < n && !rc; i++) {
		device_where_item(where->addr, i, addr);
		rc = open_named(dev, where, addr);
	}
	return rc;
}

int gids_open(struct device *dev, const struct device_where *where)
{
	int rc = link_set_create(&dev->links);

	if (rc)
		return rc;
	if (where->interface[0]) {
		dev->gids.follows = true;
		dev->gids.size = DEVICE_GID_MAX;
		memcpy(dev->ifname, where->interface, sizeof(dev->ifname));
		rc = gids_take_all(dev);
	} else {
		rc = open_all_named(dev, where);
	}
	if (rc)
		gids_close(dev);
	return rc;
}

void gids_close(struct device *dev)
{
	link_set_destroy(dev->links);
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "run.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "rdma/io/gid.h"
#include "rdma/io/port.h"
#include "rdma/provider/device_dir.h"

/* What libibverbs calls the kernel's interface (IB_USER_VERBS_MAX_ABI_VERSION), and the
 * version of a device's driver, which is ours. */
#define VERBS_ABI_TEXT	"6"
#define DEVICE_ABI_TEXT "1"

static bool name_is_taken(const struct device_list *list, int but, const char *name)
{
	for (int i = 0; i < list->n; i++) {
		if (i != but && !strcmp(list->entry[i].name, name))
			return true;
	}
	return false;
}

/* vrdma_eth0; the interface's second device is vrdma_eth0_1. */
static void choose_name(struct device_list *list, int index, const char *ifname)
{
	struct device_entry *e = &list->entry[index];

	snprintf(e->name, sizeof(e->name), "vrdma_%s", ifname);
	for (int i = 1; name_is_taken(list, index, e->name); i++)
		snprintf(e->name, sizeof(e->name), "vrdma_%s_%d", ifname, i);
}

static struct device_entry *add(
	struct device_list *list, const uint8_t gid[16], const char *ifname)
{
	struct device_entry *e;

	if (list->n == DEVICES_MAX)
		die("more than %d devices", DEVICES_MAX);
	e = &list->entry[list->n++];
	memcpy(e->gid, gid, sizeof(e->gid));
	snprintf(e->ifname, sizeof(e->ifname), "%s", ifname);
	choose_name(list, list->n - 1, ifname);
	return e;
}

static struct ifaddrs *interfaces(void)
{
	struct ifaddrs *all;

	if (getifaddrs(&all))
		die("no list of interfaces: %s", strerror(errno));
	return all;
}

void devices_add(struct device_list *list, const char *addr)
{
	struct ifaddrs *all = interfaces(), *ifa;
	uint8_t gid[16], gid2[16];
	uint32_t scope;

	if (strlen(addr) >= sizeof(list->entry->where.addr) ||
		gid_parse(addr, gid, &scope))
		die("%s: not an IPv4 or IPv6 address", addr);
	for (ifa = all; ifa; ifa = ifa->ifa_next) {
		if (!ifa->ifa_addr || gid_from_sockaddr(ifa->ifa_addr, gid2) ||
			memcmp(gid, gid2, sizeof(gid)) ||
			(scope && scope != if_nametoindex(ifa->ifa_name)))
			continue;
		strcpy(add(list, gid, ifa->ifa_name)->where.addr, addr);
		freeifaddrs(all);
		return;
	}
	die("%s: not an address of this host", addr);
}

static void set_text(char *to, size_t size, const char *text)
{
	if (strlen(text) >= size)
		die("%s: too long", text);
	strcpy(to, text);
}

void devices_add_port(struct device_list *list, const char *port, const char *addr)
{
	struct link_port_attr attr = {.ifname = port, .addr = addr};
	struct device_where *where;
	uint8_t gid[16];

	switch (link_port_check(&attr, gid)) {
	case 0:
		break;
	case -ENODEV:
		die("%s: no such interface", port);
	case -EPROTONOSUPPORT:
		die("%s: not an Ethernet interface", port);
	default:
		die("%s: not an address with prefix length, as 10.0.0.5/24", addr);
	}
	where = &add(list, gid, port)->where;
	set_text(where->addr, sizeof(where->addr), addr);
	set_text(where->port, sizeof(where->port), port);
}

static struct device_where *last_port(struct device_list *list, const char *option)
{
	if (!list->n || !list->entry[list->n - 1].where.port[0])
		die("%s goes behind --port and --addr", option);
	return &list->entry[list->n - 1].where;
}

/* With what the last device has so far, @attr having one thing more. */
static void check_last(
	const struct device_where *where, struct link_port_attr attr, const char *what)
{
	uint8_t gid[16];

	attr.ifname = where->port;
	attr.addr = where->addr;
	if (link_port_check(&attr, gid))
		die("%s", what);
}

void devices_set_mac(struct device_list *list, const char *mac)
{
	struct device_where *where = last_port(list, "--mac");

	check_last(where, (struct link_port_attr){.mac = mac},
		"--mac wants a host's MAC address, as 02:00:00:00:00:05");
	set_text(where->mac, sizeof(where->mac), mac);
}

void devices_set_gateway(struct device_list *list, const char *gateway)
{
	struct device_where *where = last_port(list, "--gateway");

	check_last(where, (struct link_port_attr){.gateway = gateway},
		"--gateway wants another address of the same network");
	set_text(where->gateway, sizeof(where->gateway), gateway);
}

bool devices_have_port(const struct device_list *list)
{
	for (int i = 0; i < list->n; i++) {
		if (list->entry[i].where.port[0])
			return true;
	}
	return false;
}

void devices_name_last(struct device_list *list, const char *name)
{
	if (!list->n)
		die("--name goes behind the --addr that it names");
	if (!*name || strlen(name) >= DEVICE_NAME_SIZE)
		die("%s: a name has 1 to %d characters", name, DEVICE_NAME_SIZE - 1);
	for (const char *c = name; *c; c++) {
		if (!isalnum((unsigned char)*c) && !strchr("_-.", *c))
			die("%s: a name has letters, digits, '_', '-' and '.'", name);
	}
	if (*name == '.')
		die("%s: a name does not begin with '.'", name);
	if (name_is_taken(list, list->n - 1, name))
		die("%s: two devices have this name", name);
	strcpy(list->entry[list->n - 1].name, name);
}

/* An address that other hosts may reach. */
static bool is_global(const struct sockaddr *sa)
{
	struct sockaddr_in6 in6;

	if (sa->sa_family == AF_INET)
		return true;
	if (sa->sa_family != AF_INET6)
		return false;
	memcpy(&in6, sa, sizeof(in6));
	return !IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr);
}

/* An interface that gets a device for an address of @family. */
static bool is_usable(const struct ifaddrs *ifa, int family)
{
	return ifa->ifa_addr && ifa->ifa_addr->sa_family == family &&
	       (ifa->ifa_flags & IFF_UP) && !(ifa->ifa_flags & IFF_LOOPBACK) &&
	       is_global(ifa->ifa_addr);
}

static void add_first(struct device_list *list, const struct ifaddrs *ifa, int family)
{
	char addr[INET6_ADDRSTRLEN];
	uint8_t gid[16];

	if (!is_usable(ifa, family))
		return;
	for (int i = 0; i < list->n; i++) {
		if (!strcmp(list->entry[i].ifname, ifa->ifa_name))
			return;
	}
	gid_from_sockaddr(ifa->ifa_addr, gid);
	inet_ntop(family, family == AF_INET ? gid + 12 : gid, addr, sizeof(addr));
	strcpy(add(list, gid, ifa->ifa_name)->where.addr, addr);
}

bool devices_are_possible(void)
{
	struct ifaddrs *all = interfaces();
	bool found = false;

	for (const struct ifaddrs *ifa = all; ifa; ifa = ifa->ifa_next)
		found |= is_usable(ifa, AF_INET) || is_usable(ifa, AF_INET6);
	freeifaddrs(all);
	return found;
}

void devices_add_all(struct device_list *list)
{
	static const int families[] = {AF_INET, AF_INET6};
	struct ifaddrs *all = interfaces();

	/* One address each, as that is what a device has; IPv4 where there is one. */
	for (int i = 0; i < 2; i++) {
		for (const struct ifaddrs *ifa = all; ifa; ifa = ifa->ifa_next)
			add_first(list, ifa, families[i]);
	}
	freeifaddrs(all);
	if (!list->n)
		die("no interface is up and has an address; --addr 127.0.0.1 makes a "
		    "device on the loopback interface");
}

void devices_print(const struct device_list *list)
{
	for (int i = 0; i < list->n; i++)
		printf("%s\t%s\n", list->entry[i].name, list->entry[i].where.addr);
}

/* The tree. */

static void make_dir(const char *path)
{
	if (mkdir(path, 0755))
		die("%s: %s", path, strerror(errno));
}

static void put(const char *dir, const char *name, const char *text)
{
	int rc = device_dir_put(dir, name, text);

	if (rc)
		die("%s/%s: %s", dir, name, strerror(-rc));
}

static void make_device(const struct device_entry *e, int index)
{
	char dir[PATH_MAX], node[PATH_MAX];
	int rc;

	snprintf(dir, sizeof(dir), TREE_DIR "/class/infiniband/%s", e->name);
	make_dir(dir);
	rc = device_dir_write(dir, e->gid, e->ifname);
	if (rc)
		die("%s: %s", dir, strerror(-rc));
	rc = device_dir_where_put(dir, &e->where);
	if (rc)
		die("%s: %s", dir, strerror(-rc));

	snprintf(dir, sizeof(dir), TREE_DIR "/class/infiniband_verbs/uverbs%d", index);
	make_dir(dir);
	put(dir, "ibdev", e->name);
	put(dir, "abi_version", DEVICE_ABI_TEXT);
	/* The number of /dev/null: libibverbs checks that its node has the number that it
	 * finds here, and opens it; nothing is ever said to it. */
	put(dir, "dev", "1:3");
	snprintf(node, sizeof(node), NODE_DIR "/uverbs%d", index);
	if (symlink("/dev/null", node))
		die("%s: %s", node, strerror(errno));
}

void devices_make_tree(const struct device_list *list)
{
	make_dir(TREE_DIR);
	make_dir(TREE_DIR "/class");
	make_dir(TREE_DIR "/class/infiniband");
	make_dir(TREE_DIR "/class/infiniband_verbs");
	put(TREE_DIR "/class/infiniband_verbs", "abi_version", VERBS_ABI_TEXT);
	for (int i = 0; i < list->n; i++)
		make_device(&list->entry[i], i);
}

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

#include "lib/util.h"
#include "rdma/io/gid.h"
#include "rdma/io/gid_list.h"
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

static struct device_entry *add(struct device_list *list, const char *ifname)
{
	struct device_entry *e;

	if (list->n == DEVICES_MAX)
		die("more than %d devices", DEVICES_MAX);
	e = &list->entry[list->n++];
	snprintf(e->ifname, sizeof(e->ifname), "%s", ifname);
	choose_name(list, list->n - 1, ifname);
	return e;
}

static void set_text(char *to, size_t size, const char *text)
{
	if (strlen(text) >= size)
		die("%s: too long", text);
	strcpy(to, text);
}

/* The next item of a list of addresses. Return: whether there is one */
static bool next_addr(const char *addrs, int i, char addr[DEVICE_ADDR_SIZE])
{
	if (!device_where_item(addrs, i, addr))
		return false;
	if (i == DEVICE_GID_MAX)
		die("%s: more than %d addresses", addrs, DEVICE_GID_MAX);
	return true;
}

static struct ifaddrs *interfaces(void)
{
	struct ifaddrs *all;

	if (getifaddrs(&all))
		die("no list of interfaces: %s", strerror(errno));
	return all;
}

/* The interface that has an address. */
static void find_interface(const char *addr, uint8_t gid[16], char ifname[IF_NAMESIZE])
{
	struct ifaddrs *all = interfaces(), *ifa;
	uint8_t gid2[16];
	uint32_t scope;

	if (gid_parse(addr, gid, &scope))
		die("%s: not an IPv4 or IPv6 address", addr);
	for (ifa = all; ifa; ifa = ifa->ifa_next) {
		if (ifa->ifa_addr && !gid_from_sockaddr(ifa->ifa_addr, gid2) &&
			!memcmp(gid, gid2, 16) &&
			(!scope || scope == if_nametoindex(ifa->ifa_name)))
			break;
	}
	if (!ifa)
		die("%s: not an address of this host", addr);
	snprintf(ifname, IF_NAMESIZE, "%s", ifa->ifa_name);
	ifname[strcspn(ifname, ":")] = '\0'; /* an address' label: "eth0:1" */
	freeifaddrs(all);
}

void devices_add(struct device_list *list, const char *addrs)
{
	char addr[DEVICE_ADDR_SIZE], ifname[IF_NAMESIZE];
	struct device_entry *e = NULL;
	uint8_t gid[16];

	for (int i = 0; next_addr(addrs, i, addr); i++) {
		find_interface(addr, gid, ifname);
		if (!e)
			e = add(list, ifname);
		if (strcmp(ifname, e->ifname) != 0)
			die("%s: a device has addresses of one interface", addrs);
		memcpy(e->gid[e->n_gids++], gid, 16);
	}
	if (!e)
		die("%s: not an IPv4 or IPv6 address", addrs);
	set_text(e->where.addr, sizeof(e->where.addr), addrs);
}

void devices_add_interface(struct device_list *list, const char *ifname)
{
	struct device_entry *e;

	if (!if_nametoindex(ifname))
		die("%s: no such interface", ifname);
	e = add(list, ifname);
	set_text(e->where.interface, sizeof(e->where.interface), ifname);
	e->n_gids = MIN(gid_list(ifname, e->gid, DEVICE_GID_MAX), DEVICE_GID_MAX);
	if (e->n_gids <= 0)
		die("%s has no address", ifname);
}

static void check_port(const char *port, const char *addr, uint8_t gid[16])
{
	struct link_port_attr attr = {.ifname = port, .addr = addr};

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
}

void devices_add_port(struct device_list *list, const char *port, const char *addrs)
{
	char addr[DEVICE_ADDR_SIZE];
	struct device_entry *e;
	uint8_t gid[16];
	int n = 0;

	/* also when the list is empty */
	do {
		next_addr(addrs, n, addr);
		check_port(port, addr, gid);
		if (!n)
			e = add(list, port);
		memcpy(e->gid[n++], gid, 16);
	} while (next_addr(addrs, n, addr));
	e->n_gids = n;
	set_text(e->where.addr, sizeof(e->where.addr), addrs);
	set_text(e->where.port, sizeof(e->where.port), port);
}

static struct device_where *last_port(struct device_list *list, const char *option)
{
	if (!list->n || !list->entry[list->n - 1].where.port[0])
		die("%s goes behind --port and --addr", option);
	return &list->entry[list->n - 1].where;
}

/* Is what @attr has, together with one of the last device's addresses, right? */
static bool fits_any(const struct device_where *where, struct link_port_attr attr)
{
	char addr[DEVICE_ADDR_SIZE];
	uint8_t gid[16];

	attr.ifname = where->port;
	attr.addr = addr;
	for (int i = 0; device_where_item(where->addr, i, addr); i++) {
		if (!link_port_check(&attr, gid))
			return true;
	}
	return false;
}

void devices_set_mac(struct device_list *list, const char *mac)
{
	struct device_where *where = last_port(list, "--mac");

	if (!fits_any(where, (struct link_port_attr){.mac = mac}))
		die("--mac wants a host's MAC address, as 02:00:00:00:00:05");
	set_text(where->mac, sizeof(where->mac), mac);
}

void devices_set_gateway(struct device_list *list, const char *gateways)
{
	struct device_where *where = last_port(list, "--gateway");
	char gateway[DEVICE_ADDR_SIZE];
	int i = 0;

	do {
		device_where_item(gateways, i++, gateway);
		if (!fits_any(where, (struct link_port_attr){.gateway = gateway}))
			die("--gateway wants another address of the same network");
	} while (device_where_item(gateways, i, gateway));
	set_text(where->gateway, sizeof(where->gateway), gateways);
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
		die("--name goes behind the --addr or --interface that it names");
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

/* An interface that gets a device for this address: link-local ones are everywhere. */
static bool is_usable(const struct ifaddrs *ifa)
{
	uint8_t gid[16];

	return ifa->ifa_addr && !gid_from_sockaddr(ifa->ifa_addr, gid) &&
	       !gid_is_link_local(gid) && (ifa->ifa_flags & IFF_UP) &&
	       !(ifa->ifa_flags & IFF_LOOPBACK);
}

static void add_once(struct device_list *list, const char *ifname)
{
	for (int i = 0; i < list->n; i++) {
		if (!strcmp(list->entry[i].ifname, ifname))
			return;
	}
	devices_add_interface(list, ifname);
}

bool devices_are_possible(void)
{
	struct ifaddrs *all = interfaces();
	bool found = false;

	for (const struct ifaddrs *ifa = all; ifa; ifa = ifa->ifa_next)
		found |= is_usable(ifa);
	freeifaddrs(all);
	return found;
}

void devices_add_all(struct device_list *list)
{
	struct ifaddrs *all = interfaces();
	char ifname[IF_NAMESIZE];

	for (const struct ifaddrs *ifa = all; ifa; ifa = ifa->ifa_next) {
		if (!is_usable(ifa))
			continue;
		snprintf(ifname, sizeof(ifname), "%s", ifa->ifa_name);
		ifname[strcspn(ifname, ":")] = '\0';
		add_once(list, ifname);
	}
	freeifaddrs(all);
	if (!list->n)
		die("no interface is up and has an address; --addr 127.0.0.1 makes a "
		    "device on the loopback interface");
}

void devices_print(const struct device_list *list)
{
	for (int i = 0; i < list->n; i++) {
		const struct device_entry *e = &list->entry[i];

		printf("%s\t", e->name);
		if (e->where.addr[0])
			printf("%s", e->where.addr);
		for (int g = 0; !e->where.addr[0] && g < e->n_gids; g++) {
			char addr[INET6_ADDRSTRLEN];

			gid_print(e->gid[g], addr);
			printf("%s%s", g ? "," : "", addr);
		}
		putchar('\n');
	}
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

static void make_device(struct device_entry *e, int index)
{
	char dir[PATH_MAX], node[PATH_MAX];
	int rc;

	snprintf(dir, sizeof(dir), TREE_DIR "/class/infiniband/%s", e->name);
	make_dir(dir);
	rc = device_dir_write(dir, e->gid[0] + 8, e->gid,
		e->where.interface[0] ? DEVICE_GID_MAX : e->n_gids, e->ifname);
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

void devices_make_tree(struct device_list *list)
{
	make_dir(TREE_DIR);
	make_dir(TREE_DIR "/class");
	make_dir(TREE_DIR "/class/infiniband");
	make_dir(TREE_DIR "/class/infiniband_verbs");
	put(TREE_DIR "/class/infiniband_verbs", "abi_version", VERBS_ABI_TEXT);
	for (int i = 0; i < list->n; i++)
		make_device(&list->entry[i], i);
}

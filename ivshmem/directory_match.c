/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who listens where, and which offer belongs to an accepted connection: by what the
 * kernel says about the sockets that clients passed.
 */
#include "ivshmem/directory_priv.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>

#include "ivshmem/sockaddr.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static int get_int(int sock, int level, int name, int *value)
{
	socklen_t len = sizeof(*value);

	return getsockopt(sock, level, name, value, &len) ? -errno : 0;
}

static int local_addr(struct dir_addr *out, int sock)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	if (getsockname(sock, (struct sockaddr *)&sa, &len))
		return -errno;
	return dir_addr_from(out, (struct sockaddr *)&sa, len) ? 0 : -EINVAL;
}

int peer_addr(struct dir_addr *out, int sock)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	if (getpeername(sock, (struct sockaddr *)&sa, &len))
		return -errno;
	return dir_addr_from(out, (struct sockaddr *)&sa, len) ? 0 : -EINVAL;
}

int proof_get(struct proof *out, int sock)
{
	socklen_t len = sizeof(out->netns);

	/* Kernels before 5.14 can't tell; namespaces are one then, and the token decides.
	 */
	if (getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, &out->netns, &len)) {
		if (errno != ENOPROTOOPT)
			return -errno;
		out->netns = 0;
	}
	return local_addr(&out->local, sock);
}

/* -- publishing */

static bool has_ip(const struct published *p, const struct dir_addr *addr)
{
	for (uint32_t i = 0; i < p->n_ips; i++) {
		if (dir_addr_same_ip(&p->ips[i], addr))
			return true;
	}
	return dir_addr_same_ip(&p->at.local, addr);
}

/* Is the address a guest's, or has another namespace published it before? */
static bool is_foreign(const struct directory *d, const struct proof *proof)
{
	if (d->elsewhere && d->elsewhere->owns(d->elsewhere->arg, &proof->local))
		return true;
	for (const struct dir_client *c = d->clients; c; c = c->next) {
		for (const struct published *p = c->published; p; p = p->next) {
			if (p->at.netns != proof->netns && has_ip(p, &proof->local))
				return true;
		}
	}
	return false;
}

static bool may_publish(struct directory *d, const struct proof *proof)
{
	if (dir_addr_is_any(&proof->local) || dir_addr_is_loopback(&proof->local) ||
		!is_foreign(d, proof))
		return true;
	d->stats.addr_foreign++;
	return false;
}

static void add_ips(struct published *p, struct directory *d, const int *fds, int n)
{
	struct proof proof;

	for (int i = 0; i < n; i++) {
		if (proof_get(&proof, fds[i]) || proof.netns != p->at.netns ||
			dir_addr_is_any(&proof.local) || !may_publish(d, &proof))
			continue;
		p->ips[p->n_ips++] = proof.local;
	}
}

int published_new(struct published **out, struct directory *d, const int *fds, int n)
{
	int listens = 0, v6only = 1, protocol = 0;
	struct published *p;
	int rc;

	if (n < 1 || get_int(fds[0], SOL_SOCKET, SO_ACCEPTCONN, &listens) ||
		get_int(fds[0], SOL_SOCKET, SO_PROTOCOL, &protocol) || !listens ||
		protocol != IPPROTO_TCP)
		return -EINVAL;
	p = calloc(1, sizeof(*p) + (size_t)n * sizeof(p->ips[0]));
	if (!p)
		return -ENOMEM;
	rc = proof_get(&p->at, fds[0]);
	if (!rc && !may_publish(d, &p->at))
		rc = -EACCES;
	if (rc) {
		free(p);
		return rc;
	}
	get_int(fds[0], IPPROTO_IPV6, IPV6_V6ONLY, &v6only);
	p->v6only = v6only;
	if (dir_addr_is_any(&p->at.local))
		add_ips(p, d, fds + 1, n - 1);
	*out = p;
	return 0;
}

/* -- looking up */

static bool stands_for(
	const struct published *p, const struct dir_addr *dst, uint64_t netns)
{
	if (p->at.local.port != dst->port)
		return false;
	if (dir_addr_is_loopback(dst) && p->at.netns != netns)
		return false;
	if (!dir_addr_is_any(&p->at.local))
		return dir_addr_same_ip(&p->at.local, dst);
	if (dir_addr_is_v4(dst) != dir_addr_is_v4(&p->at.local) &&
		(p->v6only || dir_addr_is_v4(&p->at.local)))
		return false;
	return dir_addr_is_loopback(dst) || has_ip(p, dst);
}

const struct published *directory_find(
	const struct directory *d, const struct dir_addr *dst, uint64_t netns)
{
	for (const struct dir_client *c = d->clients; c; c = c->next) {
		for (const struct published *p = c->published; p; p = p->next) {
			if (stands_for(p, dst, netns))
				return p;
		}
	}
	return NULL;
}

uint64_t rings_agree(
	const struct dir_request *r, const struct published *to, uint32_t ring[2])
{
	uint64_t size = r->size;

	for (int i = 0; i < 2; i++) {
		ring[i] = r->ring[i];
		if (to->ring[i] && (!(r->said & 1u << i) || to->ring[i] > ring[i]))
			ring[i] = to->ring[i];
		size += (uint64_t)ring[i] - r->ring[i];
	}
	return size;
}

bool offer_is_connected(const struct offer *o)
{
	struct dir_addr local, remote;

	return !local_addr(&local, o->sock) && !peer_addr(&remote, o->sock) &&
	       dir_addr_same(&local, &o->src) && dir_addr_same(&remote, &o->dst);
}

struct offer **offer_find(struct directory *d, int accepted, struct dir_client **owner)
{
	struct dir_addr remote;
	struct proof proof;

	if (proof_get(&proof, accepted) || peer_addr(&remote, accepted))
		return NULL;
	for (struct dir_client *c = d->clients; c; c = c->next) {
		for (struct offer **o = &c->offers; *o; o = &(*o)->next) {
			if ((*o)->elsewhere || !dir_addr_same(&(*o)->src, &remote) ||
				!dir_addr_same(&(*o)->dst, &proof.local) ||
				(*o)->dst_netns != proof.netns || !offer_is_connected(*o))
				continue;
			*owner = c;
			return o;
		}
	}
	return NULL;
}

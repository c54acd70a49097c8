/* SPDX-License-Identifier: BSD-3-Clause */
#include "ivshmem/access.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int access_add_uid(struct access_list *list, uid_t uid)
{
	if (list->n_uids == ACCESS_IDS_MAX)
		return -ENOSPC;
	list->uids[list->n_uids++] = uid;
	return 0;
}

int access_add_gid(struct access_list *list, gid_t gid)
{
	if (list->n_gids == ACCESS_IDS_MAX)
		return -ENOSPC;
	list->gids[list->n_gids++] = gid;
	return 0;
}

/* (uid_t)-1 means "none" to the kernel, and so may not be a user. */
static bool is_id(const char *text, uint32_t *id)
{
	unsigned long long v;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	v = strtoull(text, &end, 10);
	*id = (uint32_t)v;
	return !errno && !*end && v < UINT32_MAX;
}

int access_add_user(struct access_list *list, const char *text)
{
	const struct passwd *user;
	uint32_t id;

	if (is_id(text, &id))
		return access_add_uid(list, id);
	user = getpwnam(text);
	return user ? access_add_uid(list, user->pw_uid) : -EINVAL;
}

int access_add_group(struct access_list *list, const char *text)
{
	const struct group *group;
	uint32_t id;

	if (is_id(text, &id))
		return access_add_gid(list, id);
	group = getgrnam(text);
	return group ? access_add_gid(list, group->gr_gid) : -EINVAL;
}

/* Source: Linux net/core/sock.c, SO_PEERGROUPS: too short a buffer gives ERANGE and the
 * length that is needed.
 */
static int groups_get(int sock, struct access_peer *peer)
{
	socklen_t size = 0;

	if (!getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, NULL, &size))
		return 0; /* it has none */
	/* Kernels before 4.13 cannot tell; the primary group must do. */
	if (errno != ERANGE)
		return errno == ENOPROTOOPT || errno == ENODATA ? 0 : -errno;
	peer->groups = malloc(size);
	if (!peer->groups)
		return -ENOMEM;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, peer->groups, &size)) {
		free(peer->groups);
		return -errno;
	}
	peer->n_groups = (uint32_t)(size / sizeof(gid_t));
	return 0;
}

int access_peer_get(int sock, struct access_peer *peer)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	memset(peer, 0, sizeof(*peer));
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &size))
		return -errno;
	peer->pid = cred.pid;
	peer->uid = cred.uid;
	peer->gid = cred.gid;
	return groups_get(sock, peer);
}

static bool has_group(const struct access_peer *peer, gid_t gid)
{
	if (peer->gid == gid)
		return true;
	for (uint32_t i = 0; i < peer->n_groups; i++) {
		if (peer->groups[i] == gid)
			return true;
	}
	return false;
}

bool access_allows(const struct access_list *list, const struct access_peer *peer)
{
	if (!list->n_uids && !list->n_gids)
		return peer->uid == geteuid();
	for (uint32_t i = 0; i < list->n_uids; i++) {
		if (peer->uid == list->uids[i])
			return true;
	}
	for (uint32_t i = 0; i < list->n_gids; i++) {
		if (has_group(peer, list->gids[i]))
			return true;
	}
	return false;
}

bool access_is_private(const struct access_list *list)
{
	for (uint32_t i = 0; i < list->n_uids; i++) {
		if (list->uids[i] != geteuid())
			return false;
	}
	return !list->n_gids;
}

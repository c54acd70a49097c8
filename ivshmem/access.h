/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who may join a region: a list of user and group IDs, compared with what the kernel says
 * about the process that made the connection (SO_PEERCRED, SO_PEERGROUPS).
 */
#ifndef IVSHMEM_ACCESS_H
#define IVSHMEM_ACCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define ACCESS_IDS_MAX 64

/** struct access_list - an empty one admits the server's own user alone */
struct access_list {
	uint32_t n_uids;
	uint32_t n_gids;
	uid_t uids[ACCESS_IDS_MAX];
	gid_t gids[ACCESS_IDS_MAX];
};

/** struct access_peer - the process at the other end of a connection */
struct access_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	uint32_t n_groups; /* supplementary ones */
	gid_t *groups;	   /* of access_peer_get(); free() it */
};

int access_add_uid(struct access_list *list, uid_t uid); /* 0 or -ENOSPC */
int access_add_gid(struct access_list *list, gid_t gid);

/** access_add_user(), access_add_group() - by name or number
 * Return: 0, -ENOSPC, -EINVAL if there is none
 */
int access_add_user(struct access_list *list, const char *text);
int access_add_group(struct access_list *list, const char *text);

/** access_peer_get() - ask the kernel about the other end of @sock
 * Return: 0 or a negative errno; then there is nothing to free
 */
int access_peer_get(int sock, struct access_peer *peer);

/** access_allows() - is the peer's user, group or one of its groups listed? */
bool access_allows(const struct access_list *list, const struct access_peer *peer);

/** access_is_private() - does @list admit the server's own user and nobody else? */
bool access_is_private(const struct access_list *list);

#endif

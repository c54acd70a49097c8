/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A mount namespace in which NODE_DIR is an empty tmpfs.
 *
 * NODE_DIR seldom exists, and to make it in /dev would take root and be seen by all. So
 * /dev becomes a tmpfs in which everything that was there is mounted again, and NODE_DIR
 * is a folder in that. It is put together on another folder first, as /dev has to stay in
 * sight meanwhile.
 */
#include "run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define STAGE "/tmp" /* covered for a moment; any folder would do */

static void write_proc(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t len = (ssize_t)strlen(text);

	if (fd < 0 || write(fd, text, (size_t)len) != len)
		die("%s: %s", path, strerror(errno));
	close(fd);
}

/* The user stays who they are. */
static void map_user(uid_t uid, gid_t gid)
{
	char text[64];

	snprintf(text, sizeof(text), "%u %u 1", uid, uid);
	write_proc("/proc/self/uid_map", text);
	write_proc("/proc/self/setgroups", "deny");
	snprintf(text, sizeof(text), "%u %u 1", gid, gid);
	write_proc("/proc/self/gid_map", text);
}

static void enter_namespaces(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (!unshare(CLONE_NEWNS))
		return;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		die("no mount namespace: %s\n"
		    "Without root, user namespaces must be allowed here. See that\n"
		    "  sysctl user.max_user_namespaces is not 0,\n"
		    "  kernel.unprivileged_userns_clone is 1 (if it exists), and\n"
		    "  kernel.apparmor_restrict_unprivileged_userns is 0 (if it "
		    "exists);\n"
		    "in a container, that its seccomp profile allows unshare(2).",
			strerror(errno));
	map_user(uid, gid);
}

static void mount_again(const char *from, const char *to, const char *name)
{
	/* Not all may be bound: a mount that a container made secret, a stale one. What
	 * can't be is left out, as the command seldom needs it. */
	if (mount(from, to, NULL, MS_BIND | MS_REC, NULL))
		fprintf(stderr, "vrdma-run: /dev/%s is left out: %s\n", name,
			strerror(errno));
}

static void copy_entry(const struct dirent *e)
{
	char from[PATH_MAX], to[PATH_MAX], target[PATH_MAX];
	struct stat st;
	ssize_t n;
	int fd;

	snprintf(from, sizeof(from), "/dev/%s", e->d_name);
	snprintf(to, sizeof(to), STAGE "/%s", e->d_name);
	if (lstat(from, &st))
		return;
	if (S_ISLNK(st.st_mode)) {
		n = readlink(from, target, sizeof(target) - 1);
		if (n > 0) {
			target[n] = '\0';
			if (symlink(target, to))
				die("%s: %s", to, strerror(errno));
		}
		return;
	}
	if (S_ISDIR(st.st_mode)) {
		if (mkdir(to, 0755))
			die("%s: %s", to, strerror(errno));
	} else {
		fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0)
			die("%s: %s", to, strerror(errno));
		close(fd);
	}
	mount_again(from, to, e->d_name);
}

void mounts_make(void)
{
	struct dirent *e;
	DIR *d;

	enter_namespaces();
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		die("can't keep mounts private: %s", strerror(errno));
	if (mount("vrdma-dev", STAGE, "tmpfs", MS_NOSUID, "mode=0755"))
		die("can't mount a tmpfs: %s", strerror(errno));
	d = opendir("/dev");
	if (!d)
		die("/dev: %s", strerror(errno));
	while ((e = readdir(d))) {
		/* The kernel's devices are hidden: libibverbs sees one tree. */
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") &&
			strcmp(e->d_name, strrchr(NODE_DIR, '/') + 1))
			copy_entry(e);
	}
	closedir(d);
	if (mkdir(STAGE "/infiniband", 0755))
		die(NODE_DIR ": %s", strerror(errno));
	if (mount(STAGE, "/dev", NULL, MS_MOVE, NULL))
		die("/dev: %s", strerror(errno));
}

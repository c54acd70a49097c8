/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The requests of the directory's clients: what they change, and the answers.
 * Neighbours: directory.c (clients), directory_match.c (who is meant).
 */
#include "ivshmem/directory_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ivshmem/memory.h"
#include "ivshmem/sockaddr.h"
#include "lib/util.h"

static_assert(DIR_FDS_MAX <= FDMSG_MAX, "a request's descriptors");

/* -- entries */

static void offer_free(struct dir_client *c, struct offer **link)
{
	struct offer *o = *link;

	*link = o->next;
	c->n_offers--;
	if (o->made)
		c->directory->stats.n_offers--;
	close(o->sock);
	if (o->memory_fd >= 0)
		close(o->memory_fd);
	free(o);
}

static struct offer **offer_of(struct dir_client *c, uint64_t id)
{
	for (struct offer **o = &c->offers; *o; o = &(*o)->next) {
		if ((*o)->id == id)
			return o;
	}
	return NULL;
}

/* The client has been told of its memory. */
static void offer_made(struct directory *d, struct offer *o)
{
	o->made = true;
	d->stats.n_offers++;
	d->stats.offered++;
}

static void published_free(struct dir_client *c, struct published **link)
{
	struct directory *d = c->directory;
	struct published *p = *link;

	*link = p->next;
	c->n_published--;
	d->stats.n_listeners--;
	if (d->elsewhere)
		d->elsewhere->unpublished(d->elsewhere->arg, p->id);
	free(p);
}

void requests_forget(struct dir_client *c)
{
	struct directory *d = c->directory;

	c->asked = 0;
	while (c->published)
		published_free(c, &c->published);
	while (c->offers) {
		if (c->offers->elsewhere && d->elsewhere)
			d->elsewhere->cancel(d->elsewhere->arg, c->offers->id);
		if (c->offers->made)
			d->stats.cancelled++;
		offer_free(c, &c->offers);
	}
}

/* -- answers */

/* A client has one question open at most, so there is room, or it is hostile. */
static int answer(
	struct dir_client *c, const struct dir_reply *reply, const int *fds, int n)
{
	union fdmsg control;
	struct iovec iov = {(void *)reply, sizeof(*reply)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	fdmsg_put(&msg, &control, fds, n);
	if (sendmsg(c->sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(*reply))
		return 0;
	/* The loop will notice. */
	shutdown(c->sock, SHUT_RDWR);
	return -EPIPE;
}

static void answer_rc(struct dir_client *c, int rc, uint64_t id)
{
	struct dir_reply reply = {.error = rc, .id = id};

	answer(c, &reply, NULL, 0);
}

static void later(struct dir_client *c, uint32_t op, uint64_t id)
{
	c->asked = op;
	c->asked_id = id;
}

/* What an answer from elsewhere changes. */
static void settle(struct dir_client *c, uint32_t op, uint64_t id, int error)
{
	struct directory *d = c->directory;
	struct offer **o = offer_of(c, id);

	if (op == DIR_OFFER && o && !error) {
		offer_made(d, *o);
	} else if (op == DIR_OFFER && o) {
		d->stats.no_listener += error == -ENOENT;
		offer_free(c, o);
	} else if (op == DIR_CANCEL && o && !error) {
		d->stats.cancelled++;
		offer_free(c, o);
	} else if (op == DIR_ACCEPT && error) {
		d->stats.accept_no_offer++;
	}
}

int directory_answer(struct directory *d, uint64_t id, struct dir_reply *reply,
	const struct channel *ch)
{
	struct dir_client *c = d->clients;
	uint32_t op;
	int fds[DIR_REPLY_FDS_MAX], n = 0;

	while (c && !(c->asked && c->asked_id == id))
		c = c->next;
	if (!c)
		return -ENOENT;
	op = c->asked;
	c->asked = 0;
	reply->id = id;
	if (ch) {
		reply->memory = ch->memory;
		fds[n++] = ch->fd;
		if (ch->lifetime_fd >= 0)
			fds[n++] = ch->lifetime_fd;
	}
	settle(c, op, id, reply->error);
	return answer(c, reply, fds, n);
}

/* -- requests */

static int publish(struct dir_client *c, const struct message *m, uint64_t *id)
{
	struct directory *d = c->directory;
	struct published *p;
	int rc;

	if (c->n_published == DIRECTORY_LISTENERS_MAX)
		return -ENOSPC;
	rc = published_new(&p, d, m->fds, m->n_fds);
	if (rc)
		return rc;
	memcpy(p->ring, m->request.ring, sizeof(p->ring));
	*id = p->id = ++d->next_id;
	p->next = c->published;
	c->published = p;
	c->n_published++;
	d->stats.n_listeners++;
	d->stats.published++;
	if (d->elsewhere)
		d->elsewhere->published(d->elsewhere->arg, p);
	return 0;
}

static int unpublish(struct dir_client *c, uint64_t id)
{
	for (struct published **p = &c->published; *p; p = &(*p)->next) {
		if ((*p)->id == id) {
			published_free(c, p);
			return 0;
		}
	}
	return -ENOENT;
}

/* The port is the kernel's word; of the address the socket may know nothing yet. */
static int offer_check(const struct dir_request *r, const struct proof *proof)
{
	if (proof->local.port != r->src.port || !r->src.port)
		return -EINVAL;
	if (!r->size || r->size > DIR_MEMORY_MAX)
		return -EINVAL;
	if (!dir_addr_is_any(&proof->local) && !dir_addr_same(&proof->local, &r->src))
		return -EINVAL;
	return 0;
}

/* Return: an offer, as yet without memory, or NULL. Takes the socket. */
static struct offer *offer_new(struct dir_client *c, struct message *m)
{
	struct offer *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->id = ++c->directory->next_id;
	o->src = m->request.src;
	o->dst = m->request.dst;
	o->sock = m->fds[--m->n_fds];
	o->memory_fd = -1;
	o->next = c->offers;
	c->offers = o;
	c->n_offers++;
	return o;
}

/* To a process of this directory: the memory is theirs alone. */
static int offer_here(struct dir_client *c, struct offer *o,
	const struct dir_request *request, const struct published *to)
{
	struct dir_reply reply = {.id = o->id};
	uint64_t size = rings_agree(request, to, reply.ring);
	int rc;

	if (!size || size > DIR_MEMORY_MAX)
		return -EINVAL;
	rc = memory_create_channel(&o->memory_fd, size);
	if (rc)
		return rc;
	o->memory.size = o->memory.map_size = size;
	reply.memory = o->memory;
	offer_made(c->directory, o);
	answer(c, &reply, &o->memory_fd, 1);
	return 0;
}

static int offer_elsewhere(struct dir_client *c, struct offer *o, uint64_t size)
{
	const struct directory_elsewhere *e = c->directory->elsewhere;
	int rc;

	o->elsewhere = true;
	later(c, DIR_OFFER, o->id);
	rc = e ? e->offer(e->arg, o, size) : -ENOENT;
	if (!rc)
		return 0;
	c->asked = 0;
	c->directory->stats.no_listener += rc == -ENOENT;
	return rc;
}

static int offer(struct dir_client *c, struct message *m)
{
	const struct published *to;
	struct proof proof;
	struct offer *o;
	int rc;

	if (m->n_fds != 1)
		return -EINVAL;
	rc = proof_get(&proof, m->fds[0]);
	if (!rc)
		rc = offer_check(&m->request, &proof);
	if (rc)
		return rc;
	if (c->n_offers == DIRECTORY_OFFERS_MAX)
		return -ENOSPC;
	to = directory_find(c->directory, &m->request.dst, proof.netns);
	o = offer_new(c, m);
	if (!o)
		return -ENOMEM;
	if (to) {
		o->dst_netns = to->at.netns;
		rc = offer_here(c, o, &m->request, to);
	} else {
		rc = offer_elsewhere(c, o, m->request.size);
	}
	if (rc)
		offer_free(c, &c->offers);
	return rc;
}

/* Return: as of directory_elsewhere's; @done: is it to be answered here? */
static int cancel(struct dir_client *c, uint64_t id, bool *done)
{
	const struct directory_elsewhere *e = c->directory->elsewhere;
	struct offer **o = offer_of(c, id);

	if (!o)
		return -EBUSY;
	if ((*o)->elsewhere && e) {
		later(c, DIR_CANCEL, id);
		*done = false;
		return e->cancel(e->arg, id);
	}
	offer_free(c, o);
	c->directory->stats.cancelled++;
	return 0;
}

static bool token_send(const struct offer *o, const uint8_t *token)
{
	/* Nothing was sent on it yet, so there is room for these few. */
	return send(o->sock, token, DIR_TOKEN_SIZE, MSG_DONTWAIT | MSG_NOSIGNAL) ==
	       DIR_TOKEN_SIZE;
}

static void accept_here(struct dir_client *c, struct dir_client *owner, struct offer **o)
{
	struct directory *d = c->directory;
	struct dir_reply reply = {.id = (*o)->id, .memory = (*o)->memory};

	random_bytes(reply.token, sizeof(reply.token));
	if (token_send(*o, reply.token)) {
		answer(c, &reply, &(*o)->memory_fd, 1);
		d->stats.paired++;
	} else {
		answer_rc(c, -ENOENT, 0);
		d->stats.cancelled++;
	}
	offer_free(owner, o);
}

static int accept_elsewhere(struct dir_client *c, int sock)
{
	const struct directory_elsewhere *e = c->directory->elsewhere;
	uint64_t id = ++c->directory->next_id;
	struct dir_addr src;
	struct proof dst;
	int rc;

	if (!e || proof_get(&dst, sock) || peer_addr(&src, sock))
		return -ENOENT;
	later(c, DIR_ACCEPT, id);
	rc = e->accept(e->arg, id, &src, &dst);
	if (rc)
		c->asked = 0;
	return rc;
}

static void accept_offer(struct dir_client *c, const struct message *m)
{
	struct directory *d = c->directory;
	struct dir_client *owner;
	struct offer **o = NULL;
	int rc = -ENOENT;

	if (m->n_fds == 1)
		o = offer_find(d, m->fds[0], &owner);
	if (o) {
		accept_here(c, owner, o);
		return;
	}
	if (m->n_fds == 1)
		rc = accept_elsewhere(c, m->fds[0]);
	if (rc) {
		d->stats.accept_no_offer++;
		answer_rc(c, rc, 0);
	}
}

/* -- offers elsewhere */

static struct offer **offer_anywhere(
	const struct directory *d, uint64_t id, struct dir_client **owner)
{
	struct offer **o;

	for (struct dir_client *c = d->clients; c; c = c->next) {
		o = offer_of(c, id);
		if (o && (*o)->elsewhere) {
			*owner = c;
			return o;
		}
	}
	return NULL;
}

bool directory_offer_is_connected(const struct directory *d, uint64_t id)
{
	struct dir_client *owner;
	struct offer **o = offer_anywhere(d, id, &owner);

	return o && offer_is_connected(*o);
}

int directory_offer_accepted(
	struct directory *d, uint64_t id, const uint8_t token[DIR_TOKEN_SIZE])
{
	struct dir_client *owner;
	struct offer **o = offer_anywhere(d, id, &owner);
	int rc = 0;

	if (!o || !(*o)->made)
		return -ENOENT;
	if (offer_is_connected(*o) && token_send(*o, token)) {
		d->stats.paired++;
	} else {
		d->stats.cancelled++;
		rc = -ENOTCONN;
	}
	offer_free(owner, o);
	return rc;
}

void directory_each_published(
	const struct directory *d, void (*fn)(void *arg, struct published *p), void *arg)
{
	for (const struct dir_client *c = d->clients; c; c = c->next) {
		for (struct published *p = c->published; p; p = p->next)
			fn(arg, p);
	}
}

/* -- all */

void request_handle(struct dir_client *c, struct message *m)
{
	bool done = true;
	uint64_t id = 0;
	int rc;

	if ((!c->greeted && m->request.op != DIR_HELLO) || c->asked) {
		client_garbage(c);
		return;
	}
	switch (m->request.op) {
	case DIR_HELLO:
		c->greeted = true;
		rc = m->request.version == DIR_VERSION ? 0 : -EPROTONOSUPPORT;
		break;
	case DIR_PUBLISH:
		rc = publish(c, m, &id);
		break;
	case DIR_UNPUBLISH:
		rc = unpublish(c, m->request.id);
		break;
	case DIR_OFFER:
		rc = offer(c, m);
		if (!rc)
			return;
		break;
	case DIR_CANCEL:
		rc = cancel(c, m->request.id, &done);
		if (!done && !rc)
			return;
		c->asked = 0;
		break;
	case DIR_ACCEPT:
		accept_offer(c, m);
		return;
	default:
		client_garbage(c);
		return;
	}
	/* Who has the answer may close its socket, and count on that being the last. */
	message_close(m);
	answer_rc(c, rc, id);
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "timers.h"

#include <stddef.h>

/* Two heaps become one: the later root is the first child of the other. */
static struct timer *meld(struct timer *a, struct timer *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (b->key_ns < a->key_ns) {
		struct timer *t = a;

		a = b;
		b = t;
	}
	b->prev = a;
	b->next = a->child;
	if (b->next)
		b->next->prev = b;
	a->child = b;
	return a;
}

/* The roots that begin at @t become one heap: in pairs from the left, then those from the
 * right, which is what bounds the work.
 */
static struct timer *meld_all(struct timer *t)
{
	struct timer *pairs = NULL, *root = NULL;

	while (t) {
		struct timer *a = t, *b = t->next;

		t = b ? b->next : NULL;
		a->next = a->prev = NULL;
		if (b)
			b->next = b->prev = NULL;
		a = meld(a, b);
		a->next = pairs;
		pairs = a;
	}
	while (pairs) {
		struct timer *a = pairs;

		pairs = a->next;
		a->next = NULL;
		root = meld(root, a);
	}
	return root;
}

static void enqueue(struct timers *h, struct timer *t)
{
	t->key_ns = t->due_ns;
	h->first = meld(h->first, t);
}

static void dequeue(struct timers *h, struct timer *t)
{
	struct timer *children = meld_all(t->child);

	if (h->first == t) {
		h->first = children;
	} else {
		if (t->prev->child == t)
			t->prev->child = t->next;
		else
			t->prev->next = t->next;
		if (t->next)
			t->next->prev = t->prev;
		h->first = meld(h->first, children);
	}
	t->child = t->next = t->prev = NULL;
	t->key_ns = 0;
}

void timer_set(struct timers *h, struct timer *t, uint64_t due_ns)
{
	t->due_ns = due_ns;
	if (!due_ns || (t->key_ns && t->key_ns <= due_ns))
		return;
	if (t->key_ns)
		dequeue(h, t);
	enqueue(h, t);
}

void timer_remove(struct timers *h, struct timer *t)
{
	if (t->key_ns)
		dequeue(h, t);
}

uint64_t timers_deadline(const struct timers *h)
{
	return h->first ? h->first->key_ns : TIMERS_NONE;
}

struct timer *timers_take(struct timers *h, uint64_t now_ns)
{
	struct timer *t;

	while ((t = h->first) && t->key_ns <= now_ns) {
		dequeue(h, t);
		if (t->due_ns > now_ns) {
			enqueue(h, t);
		} else if (t->due_ns) {
			t->due_ns = 0;
			return t;
		}
	}
	return NULL;
}

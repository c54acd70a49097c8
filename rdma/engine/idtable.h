/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Objects by random number: queue pairs by QPN, memory by key.
 *
 * Some bits of a number choose its slot, so that looking one up is one load; no two
 * numbers of a table share a slot. When it is half full it doubles: numbers that differ
 * in n bits differ in n + 1 bits, so each finds a slot of its own again.
 *
 * Locking: the caller's.
 */
#ifndef RDMA_ENGINE_IDTABLE_H
#define RDMA_ENGINE_IDTABLE_H

#include <stddef.h>
#include <stdint.h>

struct idtable_slot {
	void *obj; /* or NULL */
	uint32_t id;
};

struct idtable {
	struct idtable_slot *slots;
	uint32_t mask;
	uint32_t shift; /* lower bits of a number that are the object's own matter */
	uint32_t n_used;
	uint32_t n_max;
};

/** idtable_init() - for @n_max objects at most
 * @shift: so many lower bits of a number are not looked at when it is looked up
 * Return: 0 or -ENOMEM
 */
int idtable_init(struct idtable *t, uint32_t n_max, uint32_t shift);
void idtable_destroy(struct idtable *t);

/** idtable_add() - put @obj in
 * @id_mask: bits that its number may have
 * @id: out: a number that can't be guessed; never 0, 1 or all of @id_mask
 * Return: 0, or -ENOMEM: there are @n_max, or no memory
 */
int idtable_add(struct idtable *t, void *obj, uint32_t id_mask, uint32_t *id);

/** idtable_remove() - take out what was given @id; nothing happens if there is none */
void idtable_remove(struct idtable *t, uint32_t id);

/** idtable_find() - the object with number @id, but for the lower bits, or NULL */
static inline void *idtable_find(const struct idtable *t, uint32_t id)
{
	const struct idtable_slot *s = &t->slots[id >> t->shift & t->mask];

	return (s->id ^ id) >> t->shift ? NULL : s->obj;
}

#endif

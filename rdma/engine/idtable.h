/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Objects by random number: queue pairs by QPN, memory by key. An object begins with its
 * number, a uint32_t.
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

struct idtable {
	uint32_t **slots; /* objects, or NULL */
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

/** idtable_add() - put @obj in; it gets a number that can't be guessed
 * @id_mask: bits that the number may have; it is never 0, 1 or all of them
 * Return: 0, or -ENOMEM: there are @n_max, or no memory
 */
int idtable_add(struct idtable *t, void *obj, uint32_t id_mask);

/** idtable_remove() - take out what is there */
void idtable_remove(struct idtable *t, void *obj);

/** idtable_find() - the object with number @id, but for the lower bits, or NULL */
static inline void *idtable_find(const struct idtable *t, uint32_t id)
{
	uint32_t *obj = t->slots[id >> t->shift & t->mask];

	return obj && (*obj ^ id) >> t->shift == 0 ? obj : NULL;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
#include "idtable.h"

#include "lib/util.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_SLOTS 64u

static uint32_t **slot_of(const struct idtable *t, uint32_t id)
{
	return &t->slots[id >> t->shift & t->mask];
}

int idtable_init(struct idtable *t, uint32_t n_max, uint32_t shift)
{
	*t = (struct idtable){
		.slots = calloc(FIRST_SLOTS, sizeof(*t->slots)),
		.mask = FIRST_SLOTS - 1,
		.shift = shift,
		.n_max = n_max,
	};
	return t->slots ? 0 : -ENOMEM;
}

void idtable_destroy(struct idtable *t)
{
	free(t->slots);
}

static int grow(struct idtable *t)
{
	struct idtable bigger = *t;

	bigger.mask = t->mask * 2 + 1;
	bigger.slots = calloc(bigger.mask + 1ul, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (uint32_t i = 0; i <= t->mask; i++) {
		if (t->slots[i])
			*slot_of(&bigger, *t->slots[i]) = t->slots[i];
	}
	free(t->slots);
	*t = bigger;
	return 0;
}

int idtable_add(struct idtable *t, void *obj, uint32_t id_mask)
{
	uint32_t id;

	if (t->n_used == t->n_max)
		return -ENOMEM;
	/* Half full at most: a random slot is then free at the second try on average. */
	if (t->n_used > t->mask / 2 && grow(t))
		return -ENOMEM;
	do {
		id = random_u32() & id_mask;
	} while (id < 2 || id == id_mask || *slot_of(t, id));
	*(uint32_t *)obj = id;
	*slot_of(t, id) = obj;
	t->n_used++;
	return 0;
}

void idtable_remove(struct idtable *t, void *obj)
{
	*slot_of(t, *(uint32_t *)obj) = NULL;
	t->n_used--;
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "sge.h"

#include "lib/util.h"

#include <errno.h>
#include <string.h>

struct sge_cursor sge_seek(const struct sge_list *list, uint64_t offset)
{
	struct sge_cursor at = {0};

	while (at.index < list->n && offset >= list->sge[at.index].length)
		offset -= list->sge[at.index++].length;
	at.offset = (uint32_t)offset;
	return at;
}

/* The next piece, of at most @len bytes (0 when @at stands at an empty one); moves @at.
 * Return: its memory, NULL if the key does not allow it
 */
static uint8_t *next_piece(
	const struct sge_list *list, struct sge_cursor *at, uint32_t *len, int access)
{
	const struct ibv_sge *s = &list->sge[at->index];
	uint32_t left = s->length - at->offset;
	uint64_t va = s->addr + at->offset;

	*len = MIN(*len, left);
	at->offset += *len;
	if (*len == left)
		*at = (struct sge_cursor){.index = at->index + 1};
	return mr_resolve(list->mrs, s->lkey, list->pd, va, *len, access);
}

int sge_gather(const struct sge_list *list, struct sge_cursor *at, uint32_t len,
	int access, struct iovec *iov, int max)
{
	struct sge_cursor c = *at;
	int n = 0;

	while (len && c.index < list->n) {
		uint32_t piece = len;
		uint8_t *p = next_piece(list, &c, &piece, access);

		if (!piece)
			continue;
		if (!p)
			return -EFAULT;
		if (n == max)
			return -ENOBUFS;
		iov[n++] = (struct iovec){p, piece};
		len -= piece;
	}
	if (len)
		return -EFAULT;
	*at = c;
	return n;
}

int sge_scatter(const struct sge_list *list, struct sge_cursor *at, const void *data,
	uint32_t len)
{
	const uint8_t *from = data;

	while (len && at->index < list->n) {
		uint32_t piece = len;
		uint8_t *p = next_piece(list, at, &piece, IBV_ACCESS_LOCAL_WRITE);

		if (!piece)
			continue;
		if (!p)
			return -EFAULT;
		memcpy(p, from, piece);
		from += piece;
		len -= piece;
	}
	return len ? -EMSGSIZE : 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a NIC would do in hardware: checksums and TCP segmentation of a frame that
 * frame_check_offload() found good. Pure: works on bytes. Used on the receiving side
 * only, where the driver owns the frame and may write to it.
 */
#ifndef PMD_OFFLOAD_H
#define PMD_OFFLOAD_H

#include <stdint.h>

#include "pmd/frame.h"

/** offload_ipv4_csum() - fill in the IPv4 header checksum; nothing to do for IPv6 */
void offload_ipv4_csum(uint8_t *frame, const struct frame_layout *layout);

/** offload_pseudo_csum() - put what the next port expects into the layer 4 checksum
 * field: for TCP and UDP the sum of the pseudo-header with the length, not inverted
 * (virtio 1.2, 5.1.6.2); for SCTP 0
 */
void offload_pseudo_csum(uint8_t *frame, const struct frame_layout *layout);

/** offload_l4_csum() - fill in the layer 4 checksum */
void offload_l4_csum(uint8_t *frame, const struct frame_layout *layout);

/** offload_n_segments() - into how many segments a FRAME_TSO frame is cut
 * @mss: payload bytes of a segment, at least 1
 */
uint32_t offload_n_segments(
	uint32_t frame_len, const struct frame_layout *layout, uint32_t mss);

/** offload_segment() - make one segment of a FRAME_TSO frame, whole and with checksums
 * @frame: borrowed, @frame_len bytes
 * @index: below offload_n_segments()
 * @out:   room for the headers and @mss bytes
 * Return: bytes written
 */
uint32_t offload_segment(const uint8_t *frame, uint32_t frame_len,
	const struct frame_layout *layout, uint32_t mss, uint32_t index, uint8_t *out);

#endif

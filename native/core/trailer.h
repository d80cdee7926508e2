/* SPDX-License-Identifier: Apache-2.0
 *
 * The replay trailer (docs/trailer.md): a frame's own time, its place in the sequence and its lengths, carried behind the frame or inside
 * its UDP payload.
 */
#ifndef FP_TRAILER_H
#define FP_TRAILER_H

#include "flowparity/core.h"

#define FP_TRAILER_LONG  24u
#define FP_TRAILER_SHORT 16u
#define FP_TRAILER_PAD   60u /* octets to which a frame is padded before the long form */

/* Takes the trailer of a frame: sets ts_ns and seq and, with the long form, gives the frame its lengths back. False: it has none. */
bool fp_trailer_take(struct fp_packet *);

/* Writes frame, padding and long trailer to `out`; returns their length, 0 if it is above `room`. `caplen` is at most 65,535. */
size_t fp_trailer_put(const struct fp_packet *, uint32_t sequence, uint8_t *out, size_t room);

#endif

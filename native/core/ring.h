/* SPDX-License-Identifier: Apache-2.0
 *
 * From the one thread that reads a source to one worker: chunks of copied frames. One producer, one consumer; the lock is taken once a
 * chunk.
 */
#ifndef FP_RING_H
#define FP_RING_H

#include "flowparity/core.h"

#define FP_RING_CHUNK 64u /* frames taken at a time, fewer if no more have come */

struct fp_ring;

struct fp_ring *fp_ring_new(void);
void fp_ring_free(struct fp_ring *);

/* Producer: copies a frame into the open chunk, waiting while the ring is full. False: no memory. */
bool fp_ring_put(struct fp_ring *, const struct fp_packet *);
/* Producer: gives the open chunk away; `now` as recv gives it when it returned nothing. */
void fp_ring_flush(struct fp_ring *, int64_t now);
/* Producer: nothing will follow. */
void fp_ring_end(struct fp_ring *);

/* Consumer: the next chunk, waiting at most `wait_ms`; 0 = none came, FP_END. The frames are valid until the next call. */
int fp_ring_take(struct fp_ring *, struct fp_packet **, int wait_ms, int64_t *now);
/* Consumer: it takes no more; whatever comes is discarded. */
void fp_ring_abandon(struct fp_ring *);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * How reading ends after a wish to stop. The source is told once, by whoever sees the wish first. Every reader then takes what had been
 * accepted until the source says FP_END. A source that cannot tell old frames from new never says so: after some time a reader no longer
 * waits for frames, and ends when none is at hand, or after as many as no ring holds.
 */
#ifndef FP_ENDING_H
#define FP_ENDING_H

#include <stdbool.h>

#include "loader.h"

/* Of a run; the flags are atomic. */
struct fp_ending {
    bool wanted;
    bool told;
    bool cut; /* some reader ended without FP_END from a source that can be stopped */
};

/* Of one reader; all 0 at the start. */
struct fp_drain {
    int64_t since;   /* CLOCK_MONOTONIC, when the wish was seen; 0 = not yet */
    uint64_t frames; /* taken since */
};

/* Before a recv: how long it may wait, `wait_ms` at most; -1: reading is over. */
int fp_ending_before(struct fp_ending *, struct fp_drain *, const struct fp_backend_ops *, struct fp_source *, int wait_ms, char *err);
/* After a recv that gave `n` frames, 0 included: whether reading is over. */
bool fp_ending_after(struct fp_ending *, struct fp_drain *, unsigned n);

#endif

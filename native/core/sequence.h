/* SPDX-License-Identifier: Apache-2.0
 *
 * Which sequence numbers of replay trailers have come: an exact set of 32-bit numbers, a bit each, in pages that exist where one has come.
 */
#ifndef FP_SEQUENCE_H
#define FP_SEQUENCE_H

#include <stdbool.h>
#include <stdint.h>

/* All 0 is the empty set. */
struct fp_sequences {
    uint64_t **pages;
    uint64_t end; /* the largest number + 1 */
};

/* False: no memory. */
bool fp_sequences_add(struct fp_sequences *, uint32_t number);
/* The numbers in at least one of `count` sets. */
uint64_t fp_sequences_united(const struct fp_sequences *const *, unsigned count);
void fp_sequences_free(struct fp_sequences *);

#endif

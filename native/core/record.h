/* SPDX-License-Identifier: Apache-2.0
 *
 * A Flow Record that has ended (S-REC-1), on its way from a table to the export streams.
 */
#ifndef FP_RECORD_H
#define FP_RECORD_H

#include "parse.h"

enum fp_reason { FP_IDLE = 1, FP_ACTIVE = 2, FP_ENDED = 3, FP_FORCED = 4, FP_RESOURCES = 5 };

/* What the records of both address families have in common. */
struct fp_body {
    uint64_t ports; /* as in struct fp_flow */
    uint64_t word;  /* as in struct fp_flow; of an empty entry 0 */
    int64_t first, last;
    uint64_t packets, octets;
};

struct fp_record {
    uint64_t source[2], destination[2]; /* IPv4: source[0] holds both addresses */
    struct fp_body body;
    uint32_t label;
    uint8_t kind; /* FP_IPV4, FP_IPV6 */
    uint8_t reason;
};

/* Takes a record; it is the callee's to copy. */
struct fp_sink {
    void (*put)(void *context, const struct fp_record *);
    void *context;
};

#endif

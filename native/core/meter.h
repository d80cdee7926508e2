/* SPDX-License-Identifier: Apache-2.0
 *
 * The Metering Process of one worker: frames in, verdicts counted, records out (semantics: Frame to verdict, Time, When a record ends).
 */
#ifndef FP_METER_H
#define FP_METER_H

#include "table.h"

/* The 5-tuple of an export socket of our own: what carries it is `filtered` (S-VER-2). */
struct fp_own {
    uint64_t source[2], destination[2];
    uint32_t ports;
    uint8_t kind;
};

#define FP_STAGES 4u
#define FP_BLOCK  24u
#define FP_AHEAD  48u

/* Frames that go through a stage together. */
struct fp_block {
    struct fp_flow flows[FP_BLOCK];
    struct fp_flow *misses[FP_BLOCK];
    unsigned count, missed;
};

struct fp_meter {
    struct fp_profile profile;
    struct fp_parser parser;
    struct fp_table table[2]; /* IPv4, IPv6 */
    struct fp_account account;
    struct fp_sink sink;
    int64_t newest; /* the largest timestamp received; INT64_MIN before the first */
    int64_t clock;  /* S-TIM-2; INT64_MIN before the first */
    int64_t idle;   /* FP_NEVER = never */
    bool wall;
    bool filtering; /* frames may come as rejected */
    uint64_t late_packets;
    uint64_t sampled; /* index of the next frame that sampling looks at */
    uint64_t sampling_state;
    uint32_t sweep_budget;
    const struct fp_own *own; /* by `ports`, ascending */
    unsigned nown;
    struct fp_block blocks[FP_STAGES]; /* one before each stage */
    unsigned steps;
};

/* `worker` counts from 0. 0 or -ENOMEM. */
int fp_meter_init(struct fp_meter *, const struct fp_config *, unsigned worker, bool huge, struct fp_sink);
void fp_meter_free(struct fp_meter *);

/* Takes frames, all with a timestamp, then sweeps. They may be changed afterwards, but the last few blocks are metered and accounted only
 * when others follow or the meter is idle. `now` is the backend's clock for max_clock_step, FP_NS_NONE = do not judge. */
void fp_meter_batch(struct fp_meter *, const struct fp_packet *, unsigned count, int64_t now);
/* The queue is empty: meters what is on its way and sweeps. Every frame stamped before `now` was delivered (S-TIM-4); FP_NS_NONE = that is
 * not known. */
void fp_meter_idle(struct fp_meter *, int64_t now);
/* Ends everything at the final clock (S-TIM-5). */
void fp_meter_finish(struct fp_meter *, int64_t clock);

#endif

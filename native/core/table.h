/* SPDX-License-Identifier: Apache-2.0
 *
 * The flow cache of one worker and one address family.
 *
 * Groups of 16 slots. A group's 16-bit tags (0 = empty) share a 32-octet line; the entries lie at the same slots of another array, an IPv4
 * entry being exactly one cache line. A key may live in either of two groups. It is put into the first unless that is nearly full and the
 * second emptier: at the load this table is built for (70 %) one look finds 85 to 96 of 100 keys, and of a million random keys at most a
 * few meet two full groups. A stash keeps the table exact for them.
 *
 * Expiry: every 16 groups are a region with a lower bound of its records' deadlines. A sweep skips regions that can hold nothing ended, so
 * that neither an idle table nor a full one is walked for nothing. There is no list and no timer.
 */
#ifndef FP_TABLE_H
#define FP_TABLE_H

#include "record.h"

#define FP_GROUP  16u
#define FP_REGION 16u /* groups */
#define FP_SPARE  2   /* vacant slots of a first group that send a new key to look at its second */
#define FP_NEVER  INT64_MAX

struct fp_entry4 {
    uint64_t addresses;
    struct fp_body body;
    uint64_t unused;
};

struct fp_entry6 {
    uint64_t source[2], destination[2];
    struct fp_body body;
    uint32_t label;
    uint32_t unused[11];
};

_Static_assert(sizeof(struct fp_entry4) == 64, "an IPv4 entry is one cache line");
_Static_assert(sizeof(struct fp_entry6) == 128, "an IPv6 entry is two cache lines");

struct fp_timeouts {
    int64_t idle, active; /* FP_NEVER = never */
    int64_t tcp_end;      /* FP_NEVER = off */
    uint64_t limit;       /* 2^counter_bits - 1 (S-END-4) */
};

struct fp_table {
    uint16_t *tags;
    uint8_t *entries;
    uint32_t groups;
    uint32_t resident;
    uint32_t cache_size;
    uint32_t regions;
    bool six;
    struct fp_timeouts timeouts;
    uint64_t end_mask;              /* FIN and RST in a word; 0 = tcp_end is off */
    int64_t quiet[2];               /* idle, and what takes its place once a record has ended */
    uint64_t ports_mask, word_mask; /* what is key, as in struct fp_parser */
    struct fp_sink sink;
    uint64_t closed_packets; /* in records handed over */
    int64_t floor;           /* no record ends at or before it; may be too low */
    int64_t *bounds;         /* the same per region; the last one is the stash's */
    /* The sweep that is under way: where it is, when it began. */
    uint32_t position;
    int64_t pass_start;
    uint8_t *stash;
    uint32_t stashed, stash_capacity;
    size_t entries_size, size; /* of the entries; of entries and tags, one piece of memory */
};

/* Allocates everything for `cache_size` records; `huge` asks for huge pages. 0 or -ENOMEM. */
int fp_table_init(struct fp_table *, bool six, uint32_t cache_size, const struct fp_timeouts *, const struct fp_parser *, struct fp_sink,
                  bool huge);
void fp_table_free(struct fp_table *);
/* Memory of the table, octets: entries, tags, bounds. */
size_t fp_table_octets(const struct fp_table *);

enum fp_fate { FP_STORED, FP_EVICTED, FP_SHED }; /* FP_EVICTED: stored after a live record had to go */

/* Meters one packet that is not late, at `now` = max(ts, clock) (S-END-2 to S-END-5, S-FUL-1 to S-FUL-3). */
enum fp_fate fp_table_update(struct fp_table *, const struct fp_flow *, int64_t now, int64_t clock, bool refuse);

/* Closes records that have ended at `clock`, as much of the table as the clock asks for (all of it within FP_PASS) or, with a budget, so
 * many regions. */
void fp_table_sweep(struct fp_table *, int64_t clock, uint32_t budget);
/* Closes every record that has ended at `clock`. */
void fp_table_sweep_all(struct fp_table *, int64_t clock);
/* Closes whatever remains with reason 4. */
void fp_table_flush(struct fp_table *);

#endif

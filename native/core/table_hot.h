/* SPDX-License-Identifier: Apache-2.0
 *
 * What every packet does in the table, inline. The rest is in table.c. `six` is a constant at every call.
 */
#ifndef FP_TABLE_HOT_H
#define FP_TABLE_HOT_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "clock.h"
#include "mutant.h"
#include "table.h"

#define FP_TCP_FIN_RST         0x005u
#define FP_TCP_SYN             0x002u
#define FP_UNLIKELY(condition) __builtin_expect((condition), 0)

/* Which of the 16 tags are `tag`, as bits. */
static inline uint32_t fp_match(const uint16_t *tags, uint16_t tag)
{
#ifdef __SSE2__
    __m128i wanted = _mm_set1_epi16((short)tag);
    __m128i low = _mm_cmpeq_epi16(_mm_load_si128((const __m128i *)(const void *)tags), wanted);
    __m128i high = _mm_cmpeq_epi16(_mm_load_si128((const __m128i *)(const void *)(tags + 8)), wanted);

    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(low, high));
#else
    uint32_t bits = 0;

    for (unsigned i = 0; i < FP_GROUP; i++)
        bits |= (uint32_t)(tags[i] == tag) << i;
    return bits;
#endif
}

static inline uint16_t fp_tag(uint64_t hash)
{
    return (uint16_t)hash | 1;
}

static inline uint32_t first_group(const struct fp_table *t, uint64_t hash)
{
    return (uint32_t)((hash >> 32) * t->groups >> 32);
}

static inline uint32_t second_group(const struct fp_table *t, uint64_t hash)
{
    return (uint32_t)((hash & UINT32_MAX) * t->groups >> 32);
}

static inline size_t fp_entry_size(bool six)
{
    return six ? sizeof(struct fp_entry6) : sizeof(struct fp_entry4);
}

static inline struct fp_body *fp_body_of(void *entry, bool six)
{
    return six ? &((struct fp_entry6 *)entry)->body : &((struct fp_entry4 *)entry)->body;
}

static inline void *fp_slot(const struct fp_table *t, uint32_t group, unsigned i, bool six)
{
    return t->entries + ((size_t)group * FP_GROUP + i) * fp_entry_size(six);
}

/* The whole key; the families have tables of their own (S-REC-5). */
static inline bool equal(const struct fp_table *t, const void *entry, const struct fp_flow *f, bool six)
{
    const struct fp_body *b = six ? &((const struct fp_entry6 *)entry)->body : &((const struct fp_entry4 *)entry)->body;
    uint64_t differ = ((b->ports ^ f->ports) & t->ports_mask) | ((b->word ^ f->word) & t->word_mask);

    if (six) {
        const struct fp_entry6 *e = entry;
        differ |= (e->source[0] ^ f->source[0]) | (e->source[1] ^ f->source[1]) | (e->destination[0] ^ f->destination[0]) |
                  FP_MUTANT(20, e->destination[1] ^ f->destination[1], 0);
    } else {
        differ |= ((const struct fp_entry4 *)entry)->addresses ^ f->source[0];
    }
    return differ == 0;
}

/* Flags are 0 in whatever is not TCP (S-PRT-5). */
static inline bool ended(const struct fp_table *t, const struct fp_body *b)
{
    return (b->word & t->end_mask) != 0;
}

/* The earliest deadline of S-END-1. tcp_end is never above idle (S-PRO-2). */
static inline int64_t fp_deadline(const struct fp_table *t, const struct fp_body *b)
{
    int64_t quiet = fp_later(b->last, t->quiet[ended(t, b)]);

    return fp_min(quiet, fp_later(FP_MUTANT(22, b->first, b->last), t->timeouts.active));
}

static inline void fp_table_prefetch_tags(const struct fp_table *t, const struct fp_flow *f)
{
    __builtin_prefetch(t->tags + (size_t)first_group(t, f->hash) * FP_GROUP);
    __builtin_prefetch(t->tags + (size_t)second_group(t, f->hash) * FP_GROUP);
}

/* Guesses the entry by its tag, without a branch on which of the two groups has it: that would be mispredicted every other time. */
static inline void fp_table_prefetch_entry(const struct fp_table *t, struct fp_flow *f, bool six)
{
    uint32_t first = first_group(t, f->hash);
    uint32_t second = second_group(t, f->hash);
    uint16_t tag = fp_tag(f->hash);
    uint32_t hits = fp_match(t->tags + (size_t)first * FP_GROUP, tag) | fp_match(t->tags + (size_t)second * FP_GROUP, tag) << 16;
    unsigned at = (unsigned)__builtin_ctz(hits | 1u << 31);
    size_t index = (at < FP_GROUP ? (size_t)first * FP_GROUP : (size_t)second * FP_GROUP - FP_GROUP) + at;

    f->hint = t->entries + index * fp_entry_size(six);
    __builtin_prefetch(f->hint, 1);
    if (six)
        __builtin_prefetch((uint8_t *)f->hint + 64, 1);
}

static inline void *find_in_group(const struct fp_table *t, uint32_t group, const struct fp_flow *f, bool six)
{
    uint32_t hits = fp_match(t->tags + (size_t)group * FP_GROUP, fp_tag(f->hash));

    for (; hits; hits &= hits - 1) {
        void *entry = fp_slot(t, group, (unsigned)__builtin_ctz(hits), six);
        if (equal(t, entry, f, six))
            return entry;
    }
    return NULL;
}

static inline void *find(const struct fp_table *t, const struct fp_flow *f, bool six)
{
    void *entry;

    if (__builtin_expect(equal(t, f->hint, f, six), 1))
        return f->hint;
    entry = find_in_group(t, first_group(t, f->hash), f, six);
    if (!entry)
        entry = find_in_group(t, second_group(t, f->hash), f, six);
    if (!entry && FP_MUTANT(38, t->stashed, 0))
        entry = fp_table_find_in_stash(t, f);
    return entry;
}

/* Adds a packet to a resident record, after ending it first where S-END-2 to S-END-4 say so. */
static inline void fp_table_meter(struct fp_table *t, void *entry, const struct fp_flow *f, int64_t now, bool six)
{
    struct fp_body *b = fp_body_of(entry, six);
    uint64_t octets = b->octets + f->octets;
    uint64_t packets = b->packets + f->packets;
    int64_t before = b->deadline;

    if (FP_UNLIKELY(before <= now)) {
        fp_table_replace(t, entry, f, 0);
        return;
    }
    if (FP_UNLIKELY(f->word & (uint64_t)FP_TCP_SYN << FP_WORD_FLAGS) && ended(t, b) && f->ts >= b->last) {
        fp_table_replace(t, entry, f, FP_ENDED);
        return;
    }
    if (FP_UNLIKELY(octets < f->octets || octets > FP_MUTANT(24, t->timeouts.limit, UINT64_MAX) || packets > t->timeouts.limit ||
                    packets < f->packets)) {
        fp_table_replace(t, entry, f, FP_ACTIVE);
        return;
    }
    b->octets = octets;
    b->packets = packets;
    if (FP_UNLIKELY(f->ts < FP_MUTANT(25, b->first, INT64_MIN)))
        b->first = f->ts;
    if (!FP_UNLIKELY(f->ts < FP_MUTANT(26, b->last, INT64_MIN)))
        b->last = f->ts;
    b->word |= FP_MUTANT(27, f->word & UINT64_C(0xFFF) << FP_WORD_FLAGS, 0);
    b->deadline = fp_deadline(t, b);
    if (FP_UNLIKELY(b->deadline < FP_MUTANT(39, before, INT64_MIN)))
        fp_table_sooner(t, entry);
}

/* Meters one packet that is not late, at `now` = max(ts, clock) (S-END-2 to S-END-5, S-FUL-1 to S-FUL-3). */
static inline __attribute__((always_inline)) enum fp_fate fp_table_update(struct fp_table *t, const struct fp_flow *f, int64_t now,
                                                                          int64_t clock, bool refuse, bool six)
{
    void *entry = find(t, f, six);

    if (FP_UNLIKELY(!entry))
        return fp_table_open(t, f, clock, refuse);
    fp_table_meter(t, entry, f, now, six);
    return FP_STORED;
}

#endif

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
/* GCC takes a function that does nothing but prefetch for one without effect and drops the calls that it does not inline. */
#define FP_PREFETCHES static inline __attribute__((always_inline))

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

/* Which slots of the group of 16 tags hold a record. */
static inline uint32_t fp_used(const uint16_t *tags)
{
    return ~fp_match(tags, 0) & 0xFFFF;
}

static inline uint16_t fp_tag(uint64_t hash)
{
    return (uint16_t)hash | 1;
}

/* By the high bits of the hash; the other group by the low ones. */
static inline uint32_t first_group(const struct fp_table *t, uint64_t hash)
{
    __extension__ typedef unsigned __int128 u128;

    return (uint32_t)((u128)hash * t->groups >> 64);
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

static inline void *fp_entry(const struct fp_table *t, size_t slot, bool six)
{
    return t->entries + slot * fp_entry_size(six);
}

static inline void *fp_slot(const struct fp_table *t, uint32_t group, unsigned i, bool six)
{
    return fp_entry(t, (size_t)group * FP_GROUP + i, six);
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

/* The last time before a deadline. What has no deadline, or one beyond the range of times, is alive at every time. */
static inline int64_t fp_alive_until(int64_t from, int64_t timeout)
{
    return timeout == FP_NEVER ? INT64_MAX : fp_later(from, timeout - 1);
}

/* The last time before the earliest deadline of S-END-1. tcp_end is never above idle (S-PRO-2). */
static inline int64_t fp_until(const struct fp_table *t, const struct fp_body *b)
{
    int64_t quiet = fp_alive_until(b->last, t->quiet[ended(t, b)]);

    return fp_min(quiet, fp_alive_until(FP_MUTANT(22, b->first, b->last), t->timeouts.active));
}

/* Where a new key goes and which slots are vacant there: into its first group, so that a look at one line of tags finds nearly every key,
 * unless it is about to fill up and the second one is emptier. */
static inline uint32_t fp_choose_group(const struct fp_table *t, uint64_t hash, uint32_t *vacant)
{
    uint32_t group = first_group(t, hash);
    uint32_t other, there;

    *vacant = fp_match(t->tags + (size_t)group * FP_GROUP, 0);
    if (__builtin_popcount(*vacant) > FP_SPARE)
        return group;
    other = second_group(t, hash);
    there = fp_match(t->tags + (size_t)other * FP_GROUP, 0);
    if (__builtin_popcount(there) <= __builtin_popcount(*vacant))
        return group;
    *vacant = there;
    return other;
}

FP_PREFETCHES void fp_table_prefetch_tags(const struct fp_table *t, struct fp_flow *f)
{
    f->slot = first_group(t, f->hash) * FP_GROUP;
    __builtin_prefetch(t->tags + f->slot);
}

FP_PREFETCHES void fp_prefetch_entry(void *entry, bool six)
{
    __builtin_prefetch(entry, 1);
    if (six)
        __builtin_prefetch((uint8_t *)entry + 64, 1);
}

/* Guesses the entry by its tag in the first group. False: it is not there, and the second group's tags are on their way. */
static inline __attribute__((always_inline)) bool fp_table_guess(const struct fp_table *t, struct fp_flow *f, bool six)
{
    uint32_t hits = fp_match(t->tags + f->slot, fp_tag(f->hash));

    if (FP_UNLIKELY(!hits)) {
        __builtin_prefetch(t->tags + (size_t)second_group(t, f->hash) * FP_GROUP);
        return false;
    }
    f->hint = fp_entry(t, f->slot + (unsigned)__builtin_ctz(hits), six);
    fp_prefetch_entry(f->hint, six);
    return true;
}

/* The first slot in use from `start` on, going round. `used` is not 0. */
static inline unsigned fp_used_from(uint32_t used, unsigned start)
{
    return (start + (unsigned)__builtin_ctz((used | used << FP_GROUP) >> start)) % FP_GROUP;
}

/* Two slots of a key's first group, of which one will make room if the cache is full; `used` is not 0. Only two are looked at, because each
 * costs a line of memory. */
static inline void fp_candidates(uint64_t hash, uint32_t used, unsigned out[2])
{
    out[0] = fp_used_from(used, (unsigned)(hash >> 16) % FP_GROUP);
    out[1] = fp_used_from(used, (out[0] + 1) % FP_GROUP);
}

/* Of a key whose first group has no such tag: guesses the entry in the second group or, if it is not there either, what it will take. */
FP_PREFETCHES void fp_table_guess_second(const struct fp_table *t, struct fp_flow *f, bool six)
{
    uint32_t group = second_group(t, f->hash);
    uint32_t hits = fp_match(t->tags + (size_t)group * FP_GROUP, fp_tag(f->hash));
    uint32_t used, vacant;
    unsigned slots[2];

    if (hits) {
        f->hint = fp_slot(t, group, (unsigned)__builtin_ctz(hits), six);
    } else if (FP_UNLIKELY(t->resident >= t->cache_size)) {
        used = fp_used(t->tags + f->slot);
        fp_candidates(f->hash, used | (uint32_t)!used, slots);
        f->hint = fp_entry(t, f->slot + slots[0], six);
        fp_prefetch_entry(fp_entry(t, f->slot + slots[1], six), six);
    } else {
        group = fp_choose_group(t, f->hash, &vacant);
        f->hint = fp_slot(t, group, (unsigned)__builtin_ctz(vacant | 1u << (FP_GROUP - 1)), six);
    }
    fp_prefetch_entry(f->hint, six);
}

/* Adds a packet to a resident record: in order, with no deadline met, no end of TCP seen or brought, no counter at its limit. False: leave
 * it to fp_table_update. Packets never reach a limit before octets do, for every packet has at least 20. Deadlines (S-END-1) are compared
 * as gaps in unsigned numbers: storing them would cost every packet more, and a packet before `last` has a gap above any timeout. */
static inline __attribute__((always_inline)) bool fp_table_add(const struct fp_table *t, struct fp_body *b, const struct fp_flow *f)
{
    int64_t ts = f->ts;
    uint64_t gap = (uint64_t)ts - (uint64_t)b->last;
    uint64_t age = (uint64_t)ts - (uint64_t)FP_MUTANT(22, b->first, b->last);
    uint64_t octets;

    if (FP_UNLIKELY(__builtin_add_overflow(b->octets, f->octets, &octets)))
        return false;
    if (FP_UNLIKELY(FP_MUTANT(42, gap >= (uint64_t)t->timeouts.idle || age >= (uint64_t)t->timeouts.active, gap > INT64_MAX) ||
                    (b->word | f->word) & t->end_mask || octets > FP_MUTANT(24, t->timeouts.limit, UINT64_MAX)))
        return false;
    b->octets = octets;
    b->packets += f->packets;
    b->last = ts;
    b->word |= FP_MUTANT(27, f->word & FP_WORD_OF_FLAGS(FP_TCP_FLAG_BITS), 0) | FP_MUTANT(45, 0, f->word & UINT64_C(0xFF) << FP_WORD_TOS);
    return true;
}

/* Meters the common packet, at its own time: its record is resident, where it was guessed, and nothing ends. False: nothing was done. */
static inline __attribute__((always_inline)) bool fp_table_hot(const struct fp_table *t, const struct fp_flow *f, bool six)
{
    return __builtin_expect(equal(t, f->hint, f, six), 1) && fp_table_add(t, fp_body_of(f->hint, six), f);
}

#endif

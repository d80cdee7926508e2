/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "clock.h"
#include "mutant.h"

#define LOAD_PERCENT 70u
#define HUGE_PAGE (2u << 20)
#define FP_PASS (400 * (uint64_t)FP_MILLISECOND) /* of clock, for a sweep of the whole table: with the latest export (worker.c) below the second of S-END-6 */
#define TCP_FIN_RST 0x005u
#define TCP_SYN 0x002u

/* Which of the 16 tags are `tag`, as bits. */
static inline uint32_t match(const uint16_t *tags, uint16_t tag)
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

static inline uint16_t tag_of(uint64_t hash)
{
    return (uint16_t)hash ? (uint16_t)hash : 1;
}

static inline uint32_t first_group(const struct fp_table *t, uint64_t hash)
{
    return (uint32_t)((hash >> 32) * t->groups >> 32);
}

static inline uint32_t second_group(const struct fp_table *t, uint64_t hash)
{
    return (uint32_t)((hash & UINT32_MAX) * t->groups >> 32);
}

static inline size_t entry_size(bool six)
{
    return six ? sizeof(struct fp_entry6) : sizeof(struct fp_entry4);
}

static inline struct fp_body *body_of(void *entry, bool six)
{
    return six ? &((struct fp_entry6 *)entry)->body : &((struct fp_entry4 *)entry)->body;
}

static inline void *slot(const struct fp_table *t, uint32_t group, unsigned i, bool six)
{
    return t->entries + ((size_t)group * FP_GROUP + i) * entry_size(six);
}

/* The whole key; the families have tables of their own (S-REC-5). */
static inline bool equal(const struct fp_table *t, const void *entry, const struct fp_flow *f, bool six)
{
    const struct fp_body *b = six ? &((const struct fp_entry6 *)entry)->body : &((const struct fp_entry4 *)entry)->body;
    uint64_t differ = ((b->ports ^ f->ports) & t->ports_mask) | ((b->word ^ f->word) & t->word_mask);

    if (six) {
        const struct fp_entry6 *e = entry;
        differ |= (e->source[0] ^ f->source[0]) | (e->source[1] ^ f->source[1]) | (e->destination[0] ^ f->destination[0])
            | FP_MUTANT(20, e->destination[1] ^ f->destination[1], 0);
    } else {
        differ |= ((const struct fp_entry4 *)entry)->addresses ^ f->source[0];
    }
    return differ == 0;
}

static inline uint64_t flags_of(const struct fp_body *b)
{
    return b->word >> FP_WORD_FLAGS & 0xFFF;
}

/* Flags are 0 in whatever is not TCP (S-PRT-5). */
static inline bool ended(const struct fp_table *t, const struct fp_body *b)
{
    return t->timeouts.tcp_end != FP_NEVER && (flags_of(b) & FP_MUTANT(21, TCP_FIN_RST, 0x001u));
}

/* The earliest deadline of S-END-1. tcp_end is never above idle (S-PRO-2). */
static inline int64_t deadline(const struct fp_table *t, const struct fp_body *b)
{
    int64_t quiet = fp_later(b->last, ended(t, b) ? t->timeouts.tcp_end : t->timeouts.idle);

    return fp_min(quiet, fp_later(FP_MUTANT(22, b->first, b->last), t->timeouts.active));
}

/* Why a record whose earliest deadline has come ends: of equal deadlines 3, then 1, then 2 (S-END-2). */
static enum fp_reason reason_of(const struct fp_table *t, const struct fp_body *b)
{
    if (ended(t, b) && fp_later(b->last, t->timeouts.tcp_end) == b->deadline)
        return FP_MUTANT(23, FP_ENDED, FP_IDLE);
    if (t->timeouts.idle != FP_NEVER && fp_later(b->last, t->timeouts.idle) == b->deadline)
        return FP_IDLE;
    return FP_ACTIVE;
}

static void hand_over(struct fp_table *t, void *entry, enum fp_reason reason)
{
    struct fp_record record = {.kind = t->six ? FP_IPV6 : FP_IPV4, .reason = (uint8_t)reason, .body = *body_of(entry, t->six)};

    if (t->six) {
        const struct fp_entry6 *e = entry;
        memcpy(record.source, e->source, sizeof record.source);
        memcpy(record.destination, e->destination, sizeof record.destination);
        record.label = e->label;
    } else {
        record.source[0] = ((const struct fp_entry4 *)entry)->addresses;
    }
    t->resident_packets -= record.body.packets;
    t->sink.put(t->sink.context, &record);
}

/* The region's bound follows a deadline that was made or moved forward. */
static inline void lower_bound(struct fp_table *t, uint32_t region, int64_t to)
{
    if (to < t->bounds[region])
        t->bounds[region] = to;
    if (to < t->floor)
        t->floor = to;
}

static inline uint32_t region_of(const struct fp_table *t, const void *entry, bool six)
{
    uintptr_t at = (uintptr_t)entry;
    uintptr_t start = (uintptr_t)t->entries;

    if (at < start || at >= start + t->entries_size)
        return t->regions;
    return (uint32_t)((at - start) / entry_size(six) / (FP_GROUP * FP_REGION));
}

/* Begins a record with this packet (S-REC-2). */
static inline void begin(struct fp_table *t, void *entry, uint32_t region, const struct fp_flow *f, bool six)
{
    struct fp_body *b = body_of(entry, six);

    if (six) {
        struct fp_entry6 *e = entry;
        memcpy(e->source, f->source, sizeof e->source);
        memcpy(e->destination, f->destination, sizeof e->destination);
        e->label = f->label;
    } else {
        ((struct fp_entry4 *)entry)->addresses = f->source[0];
    }
    *b = (struct fp_body){.ports = f->ports, .word = f->word, .first = f->ts, .last = f->ts, .packets = f->packets, .octets = f->octets};
    b->deadline = deadline(t, b);
    t->resident_packets += f->packets;
    lower_bound(t, region, b->deadline);
}

/* Adds a packet to a resident record, after ending it first where S-END-2 to S-END-4 say so. */
static inline void meter(struct fp_table *t, void *entry, const struct fp_flow *f, int64_t now, bool six)
{
    struct fp_body *b = body_of(entry, six);
    uint64_t octets;
    int64_t before = b->deadline;
    enum fp_reason reason;

    if (__builtin_expect(b->deadline <= now, 0))
        reason = reason_of(t, b);
    else if (__builtin_expect((f->word >> FP_WORD_FLAGS & TCP_SYN) && ended(t, b) && f->ts >= b->last, 0))
        reason = FP_ENDED;
    else if (__builtin_expect(__builtin_add_overflow(b->octets, f->octets, &octets) || octets > FP_MUTANT(24, t->timeouts.limit, UINT64_MAX)
                                  || f->packets > t->timeouts.limit - b->packets, 0))
        reason = FP_ACTIVE;
    else {
        b->octets = octets;
        b->packets += f->packets;
        b->first = fp_min(b->first, FP_MUTANT(25, f->ts, b->first));
        b->last = FP_MUTANT(26, fp_max(b->last, f->ts), f->ts);
        b->word |= FP_MUTANT(27, f->word & UINT64_C(0xFFF) << FP_WORD_FLAGS, 0);
        b->deadline = deadline(t, b);
        t->resident_packets += f->packets;
        if (__builtin_expect(b->deadline < before, 0))
            lower_bound(t, region_of(t, entry, six), b->deadline);
        return;
    }
    hand_over(t, entry, reason);
    begin(t, entry, region_of(t, entry, six), f, six);
}

static inline void *find_in_group(const struct fp_table *t, uint32_t group, const struct fp_flow *f, bool six)
{
    uint32_t hits = match(t->tags + (size_t)group * FP_GROUP, tag_of(f->hash));

    for (; hits; hits &= hits - 1) {
        void *entry = slot(t, group, (unsigned)__builtin_ctz(hits), six);
        if (equal(t, entry, f, six))
            return entry;
    }
    return NULL;
}

static void *find_in_stash(const struct fp_table *t, const struct fp_flow *f, bool six)
{
    for (uint32_t i = 0; i < t->stashed; i++) {
        void *entry = t->stash + i * entry_size(six);
        if (equal(t, entry, f, six))
            return entry;
    }
    return NULL;
}

static inline void *find(const struct fp_table *t, const struct fp_flow *f, bool six)
{
    void *entry;

    if (f->hint && equal(t, f->hint, f, six))
        return f->hint;
    entry = find_in_group(t, first_group(t, f->hash), f, six);
    if (!entry)
        entry = find_in_group(t, second_group(t, f->hash), f, six);
    if (!entry && t->stashed)
        entry = find_in_stash(t, f, six);
    return entry;
}

void fp_table_prefetch_tags(const struct fp_table *t, const struct fp_flow *f)
{
    __builtin_prefetch(t->tags + (size_t)first_group(t, f->hash) * FP_GROUP);
    __builtin_prefetch(t->tags + (size_t)second_group(t, f->hash) * FP_GROUP);
}

void fp_table_prefetch_entry(const struct fp_table *t, struct fp_flow *f)
{
    uint32_t group = first_group(t, f->hash);
    uint32_t hits = match(t->tags + (size_t)group * FP_GROUP, tag_of(f->hash));

    if (!hits) {
        group = second_group(t, f->hash);
        hits = match(t->tags + (size_t)group * FP_GROUP, tag_of(f->hash));
    }
    f->hint = hits ? slot(t, group, (unsigned)__builtin_ctz(hits), t->six) : NULL;
    if (f->hint) {
        __builtin_prefetch(f->hint, 1);
        if (t->six)
            __builtin_prefetch((uint8_t *)f->hint + 64, 1);
    }
}

static void release(struct fp_table *t, uint32_t group, unsigned i)
{
    t->tags[(size_t)group * FP_GROUP + i] = 0;
    body_of(slot(t, group, i, t->six), t->six)->word = 0;
    t->resident--;
}

static void release_stashed(struct fp_table *t, uint32_t i)
{
    size_t size = entry_size(t->six);

    t->stashed--;
    t->resident--;
    memmove(t->stash + i * size, t->stash + t->stashed * size, size);
}

static void sweep_stash(struct fp_table *t, int64_t clock)
{
    int64_t bound = FP_NEVER;

    for (uint32_t i = 0; i < t->stashed;) {
        void *entry = t->stash + i * entry_size(t->six);
        struct fp_body *b = body_of(entry, t->six);
        if (b->deadline <= clock) {
            hand_over(t, entry, reason_of(t, b));
            release_stashed(t, i);
        } else {
            bound = fp_min(bound, b->deadline);
            i++;
        }
    }
    t->bounds[t->regions] = bound;
}

static void prefetch_group(const struct fp_table *t, uint32_t group)
{
    uint32_t used = group < t->groups ? ~match(t->tags + (size_t)group * FP_GROUP, 0) & 0xFFFF : 0;

    for (; used; used &= used - 1)
        __builtin_prefetch(&body_of(slot(t, group, (unsigned)__builtin_ctz(used), t->six), t->six)->deadline);
}

static void sweep_region(struct fp_table *t, uint32_t region, int64_t clock)
{
    uint32_t group = region * FP_REGION;
    uint32_t end = group + FP_REGION < t->groups ? group + FP_REGION : t->groups;
    int64_t bound = FP_NEVER;

    if (t->bounds[region] > clock)
        return;
    if (region == t->regions) {
        sweep_stash(t, clock);
        return;
    }
    prefetch_group(t, group);
    prefetch_group(t, group + 1);
    for (; group < end; group++) {
        uint32_t used = ~match(t->tags + (size_t)group * FP_GROUP, 0) & 0xFFFF;
        prefetch_group(t, group + 2);
        for (; used; used &= used - 1) {
            unsigned i = (unsigned)__builtin_ctz(used);
            void *entry = slot(t, group, i, t->six);
            struct fp_body *b = body_of(entry, t->six);
            if (b->deadline <= FP_MUTANT(28, clock, fp_earlier(clock, FP_SECOND))) {
                hand_over(t, entry, FP_MUTANT(29, reason_of(t, b), FP_IDLE));
                release(t, group, i);
            } else {
                bound = fp_min(bound, b->deadline);
            }
        }
    }
    t->bounds[region] = bound;
}

void fp_table_sweep_all(struct fp_table *t, int64_t clock)
{
    int64_t floor = FP_NEVER;

    if (t->floor > clock)
        return;
    for (uint32_t region = 0; region <= t->regions; region++) {
        sweep_region(t, region, clock);
        floor = fp_min(floor, t->bounds[region]);
    }
    t->floor = floor;
}

void fp_table_sweep(struct fp_table *t, int64_t clock, uint32_t budget)
{
    uint32_t regions = t->regions + 1;
    uint64_t since;
    uint32_t target;

    if (budget) {
        for (; budget; budget--) {
            sweep_region(t, t->position, clock);
            t->position = (t->position + 1) % regions;
        }
        return;
    }
    if (t->pass_start == INT64_MIN)
        t->pass_start = clock;
    since = (uint64_t)clock - (uint64_t)t->pass_start; /* a clock never goes back */
    if (since >= 2 * FP_PASS) {
        fp_table_sweep_all(t, clock);
        t->position = 0;
        t->pass_start = clock;
        return;
    }
    if (since >= FP_PASS) {
        for (; t->position < regions; t->position++)
            sweep_region(t, t->position, clock);
        t->position = 0;
        t->pass_start += FP_PASS;
        since -= FP_PASS;
    }
    target = (uint32_t)(regions * since / FP_PASS);
    for (; t->position < target; t->position++)
        sweep_region(t, t->position, clock);
}

void fp_table_flush(struct fp_table *t)
{
    for (uint32_t group = 0; group < t->groups && t->resident > t->stashed; group++) {
        uint32_t used = ~match(t->tags + (size_t)group * FP_GROUP, 0) & 0xFFFF;
        for (; used; used &= used - 1) {
            unsigned i = (unsigned)__builtin_ctz(used);
            hand_over(t, slot(t, group, i, t->six), FP_FORCED);
            release(t, group, i);
        }
    }
    while (t->stashed) {
        hand_over(t, t->stash, FP_FORCED);
        release_stashed(t, 0);
    }
}

/* Makes room by ending the live record of a group that would end first (S-FUL-2). */
static void evict(struct fp_table *t, uint32_t group)
{
    uint32_t used;
    unsigned victim = 0;
    int64_t earliest = FP_NEVER;

    if (t->stashed) {
        hand_over(t, t->stash, FP_RESOURCES);
        release_stashed(t, 0);
        return;
    }
    while (!(used = ~match(t->tags + (size_t)group * FP_GROUP, 0) & 0xFFFF))
        group = (group + 1) % t->groups;
    victim = (unsigned)__builtin_ctz(used);
    for (; used; used &= used - 1) {
        unsigned i = (unsigned)__builtin_ctz(used);
        int64_t d = body_of(slot(t, group, i, t->six), t->six)->deadline;
        if (d < earliest) {
            earliest = d;
            victim = i;
        }
    }
    hand_over(t, slot(t, group, victim, t->six), FP_MUTANT(30, FP_RESOURCES, FP_FORCED));
    release(t, group, victim);
}

/* Both groups are full: the stash keeps the table exact. False: no memory. */
static bool stash(struct fp_table *t, const struct fp_flow *f)
{
    size_t size = entry_size(t->six);
    uint8_t *grown;
    uint32_t capacity;

    if (t->stashed == t->stash_capacity) {
        capacity = t->stash_capacity ? t->stash_capacity * 2 : 64;
        grown = realloc(t->stash, capacity * size);
        if (!grown)
            return false;
        t->stash = grown;
        t->stash_capacity = capacity;
    }
    t->stashed++;
    t->resident++;
    memset(t->stash + (t->stashed - 1) * size, 0, size);
    begin(t, t->stash + (t->stashed - 1) * size, t->regions, f, t->six);
    return true;
}

static bool insert(struct fp_table *t, const struct fp_flow *f)
{
    uint32_t group = first_group(t, f->hash);
    uint32_t other = second_group(t, f->hash);
    uint32_t free_here = match(t->tags + (size_t)group * FP_GROUP, 0);
    uint32_t free_there = match(t->tags + (size_t)other * FP_GROUP, 0);
    unsigned i;

    if (__builtin_popcount(free_there) > __builtin_popcount(free_here)) {
        group = other;
        free_here = free_there;
    }
    if (!free_here)
        return stash(t, f);
    i = (unsigned)__builtin_ctz(free_here);
    t->tags[(size_t)group * FP_GROUP + i] = tag_of(f->hash);
    t->resident++;
    begin(t, slot(t, group, i, t->six), group / FP_REGION, f, t->six);
    return true;
}

static __attribute__((noinline)) enum fp_fate open_record(struct fp_table *t, const struct fp_flow *f, int64_t clock, bool refuse)
{
    enum fp_fate fate = FP_STORED;

    if (t->resident >= t->cache_size) {
        if (FP_MUTANT(31, true, false))
            fp_table_sweep_all(t, clock);
        if (t->resident >= t->cache_size) {
            if (refuse)
                return FP_SHED;
            evict(t, first_group(t, f->hash));
            fate = FP_EVICTED;
        }
    }
    if (!insert(t, f)) {
        evict(t, first_group(t, f->hash));
        insert(t, f);
        fate = FP_EVICTED;
    }
    return fate;
}

static inline __attribute__((always_inline)) enum fp_fate update(struct fp_table *t, const struct fp_flow *f, int64_t now, int64_t clock, bool refuse, bool six)
{
    void *entry = find(t, f, six);

    if (__builtin_expect(entry == NULL, 0))
        return open_record(t, f, clock, refuse);
    meter(t, entry, f, now, six);
    return FP_STORED;
}

enum fp_fate fp_table_update(struct fp_table *t, const struct fp_flow *f, int64_t now, int64_t clock, bool refuse)
{
    return t->six ? update(t, f, now, clock, refuse, true) : update(t, f, now, clock, refuse, false);
}

static void *map(size_t *size, bool huge)
{
    void *p = MAP_FAILED;

    *size = (*size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (huge)
        p = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (p == MAP_FAILED) {
        p = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p != MAP_FAILED && huge)
            madvise(p, *size, MADV_HUGEPAGE);
    }
    return p == MAP_FAILED ? NULL : p;
}

int fp_table_init(struct fp_table *t, bool six, uint32_t cache_size, const struct fp_timeouts *timeouts, const struct fp_parser *parser, struct fp_sink sink, bool huge)
{
    uint64_t slots = ((uint64_t)cache_size * 100 + LOAD_PERCENT - 1) / LOAD_PERCENT;

    *t = (struct fp_table){
        .six = six,
        .cache_size = cache_size,
        .timeouts = *timeouts,
        .ports_mask = parser->ports_mask,
        .word_mask = parser->word_mask,
        .sink = sink,
        .floor = FP_NEVER,
        .pass_start = INT64_MIN,
        .groups = (uint32_t)((slots + FP_GROUP - 1) / FP_GROUP),
    };
    t->regions = (t->groups + FP_REGION - 1) / FP_REGION;
    t->tags_size = (size_t)t->groups * FP_GROUP * sizeof *t->tags;
    t->entries_size = (size_t)t->groups * FP_GROUP * entry_size(six);
    t->bounds = malloc((t->regions + 1) * sizeof *t->bounds);
    t->tags = map(&t->tags_size, huge);
    t->entries = map(&t->entries_size, huge);
    if (!t->bounds || !t->tags || !t->entries) {
        fp_table_free(t);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i <= t->regions; i++)
        t->bounds[i] = FP_NEVER;
    return 0;
}

void fp_table_free(struct fp_table *t)
{
    if (t->tags)
        munmap(t->tags, t->tags_size);
    if (t->entries)
        munmap(t->entries, t->entries_size);
    free(t->bounds);
    free(t->stash);
    *t = (struct fp_table){0};
}

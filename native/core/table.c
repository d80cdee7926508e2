/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "table_hot.h"

#define LOAD_PERCENT 70u
#define HUGE_PAGE    (2u << 20)
#define FP_PASS                                                                                                                            \
    (400 *                                                                                                                                 \
     (uint64_t)                                                                                                                            \
         FP_MILLISECOND) /* of clock, for a sweep of the whole table: with the latest export (worker.c) below the second of S-END-6 */

/* Why a record whose earliest deadline has come ends: of equal deadlines 3, then 1, then 2 (S-END-2). */
static enum fp_reason reason_of(const struct fp_table *t, const struct fp_body *b)
{
    int64_t until = fp_until(t, b);

    if (ended(t, b) && fp_alive_until(b->last, t->timeouts.tcp_end) == until)
        return FP_MUTANT(23, FP_ENDED, FP_IDLE);
    if (t->timeouts.idle != FP_NEVER && fp_alive_until(b->last, t->timeouts.idle) == until &&
        FP_MUTANT(44, true, fp_alive_until(b->first, t->timeouts.active) != until))
        return FP_IDLE;
    return FP_ACTIVE;
}

static uint32_t used_in(const struct fp_table *t, uint32_t group)
{
    return fp_used(t->tags + (size_t)group * FP_GROUP);
}

static void hand_over(struct fp_table *t, void *entry, enum fp_reason reason)
{
    struct fp_record record = {.kind = t->six ? FP_IPV6 : FP_IPV4, .reason = (uint8_t)reason, .body = *fp_body_of(entry, t->six)};

    if (t->six) {
        const struct fp_entry6 *e = entry;
        memcpy(record.source, e->source, sizeof record.source);
        memcpy(record.destination, e->destination, sizeof record.destination);
        record.label = e->label;
    } else {
        record.source[0] = ((const struct fp_entry4 *)entry)->addresses;
    }
    t->closed_packets += record.body.packets;
    t->sink.put(t->sink.context, &record);
}

/* The region's bound follows an end that was made or moved forward. */
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
    return (uint32_t)((at - start) / fp_entry_size(six) / (FP_GROUP * FP_REGION));
}

/* Begins a record with this packet (S-REC-2). */
static void begin(struct fp_table *t, void *entry, uint32_t region, const struct fp_flow *f, bool six)
{
    struct fp_body *b = fp_body_of(entry, six);

    if (six) {
        struct fp_entry6 *e = entry;
        memcpy(e->source, f->source, sizeof e->source);
        memcpy(e->destination, f->destination, sizeof e->destination);
        e->label = f->label;
    } else {
        ((struct fp_entry4 *)entry)->addresses = f->source[0];
    }
    *b = (struct fp_body){.ports = f->ports, .word = f->word, .first = f->ts, .last = f->ts, .packets = f->packets, .octets = f->octets};
    lower_bound(t, region, fp_until(t, b));
}

static void release(struct fp_table *t, uint32_t group, unsigned i)
{
    t->tags[(size_t)group * FP_GROUP + i] = 0;
    fp_body_of(fp_slot(t, group, i, t->six), t->six)->word = 0;
    t->resident--;
}

static void release_stashed(struct fp_table *t, uint32_t i)
{
    size_t size = fp_entry_size(t->six);

    t->stashed--;
    t->resident--;
    memmove(t->stash + i * size, t->stash + t->stashed * size, size);
}

/* Closes an entry's record, with the reason of its earliest deadline if `reason` is 0, and begins another with this packet. */
static void replace(struct fp_table *t, void *entry, const struct fp_flow *f, unsigned reason)
{
    hand_over(t, entry, reason ? (enum fp_reason)reason : reason_of(t, fp_body_of(entry, t->six)));
    begin(t, entry, region_of(t, entry, t->six), f, t->six);
}

/* Adds a packet to a resident record, after ending it first where S-END-2 to S-END-4 say so. */
static void meter(struct fp_table *t, void *entry, const struct fp_flow *f, int64_t now)
{
    struct fp_body *b = fp_body_of(entry, t->six);
    uint64_t octets = b->octets + f->octets;
    uint64_t packets = b->packets + f->packets;
    int64_t before = fp_until(t, b);
    int64_t after;

    if (before < FP_MUTANT(42, now, INT64_MIN)) {
        replace(t, entry, f, 0);
        return;
    }
    if (f->word & FP_MUTANT(40, FP_WORD_OF_FLAGS(FP_TCP_SYN), 0) && ended(t, b) && f->ts >= FP_MUTANT(41, b->last, INT64_MIN)) {
        replace(t, entry, f, FP_ENDED);
        return;
    }
    if (octets < f->octets || octets > FP_MUTANT(24, t->timeouts.limit, UINT64_MAX) || packets > t->timeouts.limit ||
        packets < f->packets) {
        replace(t, entry, f, FP_ACTIVE);
        return;
    }
    b->octets = octets;
    b->packets = packets;
    if (f->ts < FP_MUTANT(25, b->first, INT64_MIN))
        b->first = f->ts;
    if (f->ts >= FP_MUTANT(26, b->last, INT64_MIN))
        b->last = f->ts;
    b->word |= FP_MUTANT(27, f->word & FP_WORD_OF_FLAGS(FP_TCP_FLAG_BITS), 0) | FP_MUTANT(45, 0, f->word & UINT64_C(0xFF) << FP_WORD_TOS);
    after = fp_until(t, b);
    if (after < FP_MUTANT(39, before, INT64_MIN))
        lower_bound(t, region_of(t, entry, t->six), after);
}

static inline void *find_in_group(const struct fp_table *t, uint32_t group, const struct fp_flow *f, bool six)
{
    uint32_t hits = fp_match(t->tags + (size_t)group * FP_GROUP, fp_tag(f->hash));

    for (; hits; hits &= hits - 1) {
        void *entry = fp_slot(t, group, (unsigned)__builtin_ctz(hits), six);
        if (FP_MUTANT(43, equal(t, entry, f, six), true))
            return entry;
    }
    return NULL;
}

/* The entry of a key wherever it is, NULL if it has none. */
static void *search(const struct fp_table *t, const struct fp_flow *f)
{
    void *entry = find_in_group(t, first_group(t, f->hash), f, t->six);

    if (!entry)
        entry = find_in_group(t, second_group(t, f->hash), f, t->six);
    for (uint32_t i = 0; !entry && i < FP_MUTANT(38, t->stashed, 0); i++) {
        void *stashed = t->stash + i * fp_entry_size(t->six);
        if (equal(t, stashed, f, t->six))
            entry = stashed;
    }
    return entry;
}

static void sweep_stash(struct fp_table *t, int64_t clock)
{
    int64_t bound = FP_NEVER;

    for (uint32_t i = 0; i < t->stashed;) {
        void *entry = t->stash + i * fp_entry_size(t->six);
        struct fp_body *b = fp_body_of(entry, t->six);
        int64_t until = fp_until(t, b);
        if (until < clock) {
            hand_over(t, entry, reason_of(t, b));
            release_stashed(t, i);
        } else {
            bound = fp_min(bound, until);
            i++;
        }
    }
    t->bounds[t->regions] = bound;
}

FP_PREFETCHES void prefetch_group(const struct fp_table *t, uint32_t group)
{
    uint32_t used = group < t->groups ? used_in(t, group) : 0;

    for (; used; used &= used - 1)
        __builtin_prefetch(fp_body_of(fp_slot(t, group, (unsigned)__builtin_ctz(used), t->six), t->six));
}

static void sweep_region(struct fp_table *t, uint32_t region, int64_t clock)
{
    uint32_t group = region * FP_REGION;
    uint32_t end = group + FP_REGION < t->groups ? group + FP_REGION : t->groups;
    int64_t bound = FP_NEVER;

    if (t->bounds[region] >= clock || FP_MUTANT(122, false, region % 2 == 1))
        return;
    if (region == t->regions) {
        sweep_stash(t, clock);
        return;
    }
    prefetch_group(t, group);
    prefetch_group(t, group + 1);
    for (; group < end; group++) {
        uint32_t used = used_in(t, group);
        prefetch_group(t, group + 2);
        for (; used; used &= used - 1) {
            unsigned i = (unsigned)__builtin_ctz(used);
            void *entry = fp_slot(t, group, i, t->six);
            struct fp_body *b = fp_body_of(entry, t->six);
            int64_t until = fp_until(t, b);
            if (until < FP_MUTANT(28, clock, fp_earlier(clock, FP_SECOND))) {
                hand_over(t, entry, FP_MUTANT(29, reason_of(t, b), FP_IDLE));
                release(t, group, i);
            } else {
                bound = fp_min(bound, until);
            }
        }
    }
    t->bounds[region] = bound;
}

void fp_table_sweep_all(struct fp_table *t, int64_t clock)
{
    int64_t floor = FP_NEVER;

    if (t->floor >= clock)
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
    if (since >= 2 * FP_MUTANT(47, FP_PASS, 10 * FP_PASS)) {
        fp_table_sweep_all(t, clock);
        t->position = 0;
        t->pass_start = clock;
        return;
    }
    if (since >= FP_MUTANT(47, FP_PASS, 10 * FP_PASS)) {
        for (; t->position < regions; t->position++)
            sweep_region(t, t->position, clock);
        t->position = 0;
        t->pass_start += FP_PASS;
        since -= FP_PASS;
    }
    target = (uint32_t)(regions * since / FP_MUTANT(47, FP_PASS, 10 * FP_PASS));
    for (; t->position < target; t->position++)
        sweep_region(t, t->position, clock);
}

void fp_table_flush(struct fp_table *t)
{
    for (uint32_t group = 0; group < t->groups && t->resident > t->stashed; group++) {
        uint32_t used = used_in(t, group);
        for (; used; used &= used - 1) {
            unsigned i = (unsigned)__builtin_ctz(used);
            hand_over(t, fp_slot(t, group, i, t->six), FP_FORCED);
            release(t, group, i);
        }
    }
    while (FP_MUTANT(111, t->stashed, 0)) {
        hand_over(t, t->stash, FP_FORCED);
        release_stashed(t, 0);
    }
}

/* Of two live records in a group that is not empty the slot of the one that would end first (S-FUL-2). */
static unsigned victim_in(const struct fp_table *t, uint32_t group, uint64_t hash)
{
    unsigned slots[2];

    fp_candidates(hash, used_in(t, group), slots);
    return fp_until(t, fp_body_of(fp_slot(t, group, slots[1], t->six), t->six)) <
                   fp_until(t, fp_body_of(fp_slot(t, group, slots[0], t->six), t->six))
               ? slots[1]
               : slots[0];
}

/* Makes room by ending a live record of the new key's first group and gives its slot to the new one: one line of memory for both. False:
 * there is none in that group; one elsewhere was ended instead. */
static bool evict(struct fp_table *t, const struct fp_flow *f)
{
    uint32_t group = first_group(t, f->hash);
    unsigned i;
    void *entry;

    if (t->stashed) {
        hand_over(t, t->stash, FP_RESOURCES);
        release_stashed(t, 0);
        return false;
    }
    while (!used_in(t, group))
        group = (group + 1) % t->groups;
    i = victim_in(t, group, f->hash);
    entry = fp_slot(t, group, i, t->six);
    hand_over(t, entry, FP_MUTANT(30, FP_RESOURCES, FP_FORCED));
    if (group != first_group(t, f->hash)) {
        release(t, group, i);
        return false;
    }
    t->tags[(size_t)group * FP_GROUP + i] = fp_tag(f->hash);
    begin(t, entry, group / FP_REGION, f, t->six);
    return true;
}

/* Both groups are full: the stash keeps the table exact. False: no memory. */
static bool stash(struct fp_table *t, const struct fp_flow *f)
{
    size_t size = fp_entry_size(t->six);
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
    uint32_t vacant;
    uint32_t group = fp_choose_group(t, f->hash, &vacant);
    unsigned i;

    if (!vacant)
        return stash(t, f);
    i = (unsigned)__builtin_ctz(vacant);
    t->tags[(size_t)group * FP_GROUP + i] = fp_tag(f->hash);
    t->resident++;
    begin(t, fp_slot(t, group, i, t->six), group / FP_REGION, f, t->six);
    return true;
}

/* Opens a record for a key that has none. */
static enum fp_fate open_record(struct fp_table *t, const struct fp_flow *f, int64_t clock, bool refuse)
{
    if (t->resident >= t->cache_size + FP_MUTANT(37, 0u, 1u) && FP_MUTANT(31, true, false))
        fp_table_sweep_all(t, clock);
    if (t->resident < t->cache_size + FP_MUTANT(37, 0u, 1u)) {
        if (insert(t, f))
            return FP_STORED;
    } else if (refuse) {
        return FP_SHED;
    }
    if (!evict(t, f))
        insert(t, f);
    return FP_EVICTED;
}

enum fp_fate fp_table_update(struct fp_table *t, const struct fp_flow *f, int64_t now, int64_t clock, bool refuse)
{
    void *entry = search(t, f);

    if (!entry)
        return open_record(t, f, clock, refuse);
    meter(t, entry, f, now);
    return FP_STORED;
}

/* Only pages of MAP_HUGETLB make it larger. */
static void *map(size_t *size, bool huge)
{
    size_t whole = (*size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *p = MAP_FAILED;

    if (huge)
        p = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (p == MAP_FAILED) {
        p = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p != MAP_FAILED && huge)
            madvise(p, *size, MADV_HUGEPAGE);
    } else {
        *size = whole;
    }
    return p == MAP_FAILED ? NULL : p;
}

int fp_table_init(struct fp_table *t, bool six, uint32_t cache_size, const struct fp_timeouts *timeouts, const struct fp_parser *parser,
                  struct fp_sink sink, bool huge)
{
    uint64_t slots = ((uint64_t)cache_size * 100 + LOAD_PERCENT - 1) / LOAD_PERCENT;

    *t = (struct fp_table){
        .six = six,
        .cache_size = cache_size,
        .timeouts = *timeouts,
        .ports_mask = parser->ports_mask,
        .word_mask = parser->word_mask,
        .end_mask = timeouts->tcp_end == FP_NEVER ? 0 : FP_WORD_OF_FLAGS(FP_MUTANT(21, FP_TCP_FIN_RST, 0x001u)),
        .quiet = {timeouts->idle, timeouts->tcp_end},
        .sink = sink,
        .floor = FP_NEVER,
        .pass_start = INT64_MIN,
        .groups = (uint32_t)((slots + FP_GROUP - 1) / FP_GROUP),
    };
    t->regions = (t->groups + FP_REGION - 1) / FP_REGION;
    t->entries_size = (size_t)t->groups * FP_GROUP * fp_entry_size(six);
    t->size = t->entries_size + (size_t)t->groups * FP_GROUP * sizeof *t->tags;
    t->bounds = malloc((t->regions + 1) * sizeof *t->bounds);
    t->entries = map(&t->size, huge);
    if (!t->bounds || !t->entries) {
        fp_table_free(t);
        return -ENOMEM;
    }
    t->tags = (uint16_t *)(void *)(t->entries + t->entries_size); /* a whole number of lines behind */
    for (uint32_t i = 0; i <= t->regions; i++)
        t->bounds[i] = FP_NEVER;
    return 0;
}

size_t fp_table_octets(const struct fp_table *t)
{
    return t->size + (t->regions + 1) * sizeof *t->bounds + t->stash_capacity * fp_entry_size(t->six);
}

void fp_table_free(struct fp_table *t)
{
    if (t->entries)
        munmap(t->entries, t->size);
    free(t->bounds);
    free(t->stash);
    *t = (struct fp_table){0};
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "meter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "parse_hot.h"
#include "table_hot.h"

/* Verdicts beside those of enum fp_kind. */
enum { FP_FILTERED = FP_IPV6 + 1, FP_SAMPLED_OUT };

static bool is_own(const struct fp_meter *m, const struct fp_flow *f)
{
    uint32_t ports = (uint32_t)f->ports;
    unsigned first = 0, end = m->nown;

    if (f->kind < FP_IPV4 || fp_protocol(f->word) != 17)
        return false;
    while (first < end) {
        unsigned middle = (first + end) / 2;
        if (m->own[middle].ports < ports)
            first = middle + 1;
        else
            end = middle;
    }
    for (const struct fp_own *own = m->own + first; own < m->own + m->nown && own->ports == ports; own++) {
        if (f->kind != own->kind || f->source[0] != own->source[0])
            continue;
        if (f->kind == FP_IPV4 || (f->source[1] == own->source[1] && !memcmp(f->destination, own->destination, sizeof own->destination)))
            return true;
    }
    return false;
}

/* S-VER-3 */
static bool taken(struct fp_meter *m)
{
    uint64_t i = m->sampled++;
    uint32_t interval = m->profile.sampling_interval;

    switch (m->profile.sampling) {
    case FP_SAMPLE_SYSTEMATIC:
        return i % interval == FP_MUTANT(32, 0, interval - 1);
    case FP_SAMPLE_RANDOM:
        return fp_splitmix(m->sampling_state, i) % interval == 0;
    default:
        return true;
    }
}

/* Filter and sampling, then the parser. A frame must be parsed to be known as our own. */
static void choose_and_parse(struct fp_meter *m, const struct fp_packet *p, struct fp_flow *f)
{
    if (p->rejected) {
        f->kind = FP_FILTERED;
    } else if (m->nown) {
        fp_parse(&m->parser, p, f);
        if (is_own(m, f) && FP_MUTANT(48, true, false))
            f->kind = FP_FILTERED;
        else if (!taken(m))
            f->kind = FP_SAMPLED_OUT;
    } else if (taken(m)) {
        fp_parse(&m->parser, p, f);
    } else {
        f->kind = FP_SAMPLED_OUT;
    }
}

/* S-TIM-3: a record of its own, at once. */
static void late(struct fp_meter *m, const struct fp_flow *f)
{
    struct fp_record record = {
        .body = {.ports = f->ports, .word = f->word, .first = f->ts, .last = f->ts, .packets = f->packets, .octets = f->octets},
        .source = {f->source[0]},
        .kind = f->kind,
        .reason = FP_IDLE,
    };

    if (f->kind == FP_IPV6) {
        record.source[1] = f->source[1];
        memcpy(record.destination, f->destination, sizeof record.destination);
        record.label = f->label;
    }
    m->account.late++;
    m->account.metered++;
    m->account.metered_packets += f->packets;
    m->late_packets += f->packets;
    m->sink.put(m->sink.context, &record);
}

static bool is_late(const struct fp_meter *m, const struct fp_flow *f)
{
    return m->idle != FP_NEVER && fp_later(f->ts, m->idle - 1) < m->clock && FP_MUTANT(34, true, false);
}

static void count_other(struct fp_account *a, unsigned verdict)
{
    switch (verdict) {
    case FP_NON_IP:
        a->non_ip++;
        return;
    case FP_MALFORMED:
        a->malformed++;
        return;
    case FP_FILTERED:
        a->filtered++;
        return;
    default:
        a->sampled_out++;
    }
}

static void sweep(struct fp_meter *m)
{
    if (m->clock == INT64_MIN)
        return;
    fp_table_sweep(&m->table[0], m->clock, m->sweep_budget);
    if (FP_MUTANT(46, true, false))
        fp_table_sweep(&m->table[1], m->clock, m->sweep_budget);
}

static void publish_resident(struct fp_meter *m)
{
    m->account.resident_packets = m->account.metered_packets - m->late_packets - m->table[0].closed_packets - m->table[1].closed_packets;
    m->account.resident_records = (uint64_t)m->table[0].resident + m->table[1].resident;
}

/* The timestamp that counts: one too far from the backend's clock is replaced by it (max_clock_step). */
static int64_t sane_time(struct fp_meter *m, int64_t ts, int64_t now)
{
    if (FP_MUTANT(49, now == FP_NS_NONE, true) ||
        (ts <= fp_later(now, m->profile.max_clock_step) && ts >= fp_earlier(now, m->profile.max_clock_step)))
        return ts;
    m->account.clock_steps++;
    return now;
}

/* The clock follows every frame, whatever its verdict (S-TIM-2). */
static void follow(struct fp_meter *m, int64_t ts)
{
    if (ts < m->newest)
        return;
    m->newest = ts;
    if (FP_MUTANT(121, true, false))
        m->clock = fp_max(m->clock, fp_earlier(ts, FP_MUTANT(33, m->profile.reorder, 0)));
}

/* Any frame; the common ones are dealt with in stage_update. */
static __attribute__((noinline)) void update(struct fp_meter *m, const struct fp_flow *f)
{
    enum fp_fate fate;

    follow(m, f->ts);
    if (f->kind != FP_IPV4 && f->kind != FP_IPV6) {
        count_other(&m->account, f->kind);
        return;
    }
    if (f->ts < m->clock && is_late(m, f)) {
        late(m, f);
        return;
    }
    fate = fp_table_update(&m->table[f->kind == FP_IPV6], f, fp_max(f->ts, m->clock), m->clock, m->profile.refuse);
    if (fate == FP_SHED) {
        m->account.shed++;
        return;
    }
    m->account.evicted += fate == FP_EVICTED;
    m->account.metered++;
    m->account.metered_packets += f->packets;
}

/* Stages are functions of their own, so that each has the registers for itself. */
#define STAGE static __attribute__((noinline)) void

static inline __attribute__((always_inline)) void ask_for_tags(const struct fp_meter *m, struct fp_flow *f)
{
    if (__builtin_expect(f->kind == FP_IPV4, 1))
        fp_table_prefetch_tags(&m->table[0], f);
    else if (f->kind == FP_IPV6)
        fp_table_prefetch_tags(&m->table[1], f);
}

STAGE stage_parse(struct fp_meter *m, struct fp_block *b, const struct fp_packet *p)
{
    for (struct fp_flow *f = b->flows, *end = f + b->count; f < end; f++, p++) {
        f->ts = p->ts_ns;
        fp_parse_hot(&m->parser, p, f);
        ask_for_tags(m, f);
    }
}

/* The same where frames are filtered, sampled or judged by the backend's clock. */
STAGE stage_choose(struct fp_meter *m, struct fp_block *b, const struct fp_packet *p, int64_t now)
{
    for (struct fp_flow *f = b->flows, *end = f + b->count; f < end; f++, p++) {
        f->ts = m->wall ? sane_time(m, p->ts_ns, now) : p->ts_ns;
        choose_and_parse(m, p, f);
        ask_for_tags(m, f);
    }
}

/* Lists as missed those whose first group does not have them. */
STAGE stage_match(const struct fp_meter *m, struct fp_block *b)
{
    b->missed = 0;
    for (struct fp_flow *f = b->flows, *end = f + b->count; f < end; f++) {
        bool found = true;
        if (__builtin_expect(f->kind == FP_IPV4, 1))
            found = fp_table_guess(&m->table[0], f, false);
        else if (f->kind == FP_IPV6)
            found = fp_table_guess(&m->table[1], f, true);
        if (FP_UNLIKELY(!found))
            b->misses[b->missed++] = f;
    }
}

STAGE stage_match_second(const struct fp_meter *m, struct fp_block *b)
{
    for (unsigned i = 0; i < b->missed; i++) {
        struct fp_flow *f = b->misses[i];
        if (f->kind == FP_IPV4)
            fp_table_guess_second(&m->table[0], f, false);
        else
            fp_table_guess_second(&m->table[1], f, true);
    }
}

static inline __attribute__((always_inline)) bool update_hot(const struct fp_meter *m, const struct fp_flow *f)
{
    if (__builtin_expect(f->kind == FP_IPV4, 1))
        return fp_table_hot(&m->table[0], f, false);
    return f->kind == FP_IPV6 && fp_table_hot(&m->table[1], f, true);
}

/* A packet that is stamped neither before any other nor before the clock is never late, moves the clock to at most its own time and is
 * judged at that: the clock itself can wait for frames that are not so simple. */
STAGE stage_update(struct fp_meter *m, const struct fp_block *b)
{
    int64_t newest = m->newest;
    int64_t front = fp_max(newest, m->clock);
    uint64_t packets = 0;
    unsigned others = 0;

    for (const struct fp_flow *f = b->flows, *end = f + b->count; f < end; f++) {
        if (__builtin_expect(f->ts >= front && update_hot(m, f), 1)) {
            newest = front = f->ts;
            packets += f->packets;
            continue;
        }
        others++;
        follow(m, newest);
        update(m, f);
        newest = m->newest;
        front = fp_max(newest, m->clock);
    }
    follow(m, newest);
    m->account.received += b->count;
    m->account.metered += b->count - others;
    m->account.metered_packets += packets;
}

/* One step of the pipeline: every block goes through its next stage, the oldest first, and a new one is parsed. Between two stages of a
 * block the others do theirs, while what it has asked of memory arrives: parse asks for tags, match for the entry or for the second group's
 * tags. */
static void step(struct fp_meter *m, const struct fp_packet *packets, unsigned count, int64_t now)
{
    struct fp_block *b = &m->blocks[m->steps % FP_STAGES];

    stage_update(m, b);
    stage_match_second(m, &m->blocks[(m->steps + 1) % FP_STAGES]);
    stage_match(m, &m->blocks[(m->steps + 2) % FP_STAGES]);
    b->count = count;
    if (m->nown == 0 && m->profile.sampling == FP_SAMPLE_ALL && !m->wall && !m->filtering)
        stage_parse(m, b, packets);
    else
        stage_choose(m, b, packets, now);
    m->steps++;
}

/* What is on its way arrives. */
static void drain(struct fp_meter *m)
{
    for (unsigned i = 0; i < FP_STAGES; i++)
        step(m, NULL, 0, FP_NS_NONE);
}

static void ask_for_frames(const struct fp_packet *p, const struct fp_packet *end)
{
    for (; p < end; p++)
        __builtin_prefetch(p->data + FP_ETHERNET);
}

void fp_meter_batch(struct fp_meter *m, const struct fp_packet *packets, unsigned count, int64_t now)
{
    const struct fp_packet *end = packets + count;
    const struct fp_packet *asked = packets;

    for (const struct fp_packet *p = packets; p < end; p += FP_BLOCK) {
        const struct fp_packet *ask = end - p < (int)(FP_AHEAD + FP_BLOCK) ? end : p + FP_AHEAD + FP_BLOCK;
        ask_for_frames(asked, ask);
        asked = ask;
        step(m, p, end - p < (int)FP_BLOCK ? (unsigned)(end - p) : FP_BLOCK, now);
    }
    if (FP_MUTANT(121, false, true))
        m->clock = fp_max(m->clock, fp_earlier(m->newest, m->profile.reorder));
    sweep(m);
    publish_resident(m);
}

void fp_meter_idle(struct fp_meter *m, int64_t now)
{
    drain(m);
    if (m->wall && now != FP_NS_NONE)
        m->clock = fp_max(m->clock, fp_earlier(now, m->profile.reorder));
    sweep(m);
    publish_resident(m);
}

void fp_meter_finish(struct fp_meter *m, int64_t clock)
{
    drain(m);
    m->clock = fp_max(m->clock, clock);
    for (unsigned i = 0; i < FP_MUTANT(110, 2, 1); i++) {
        if (FP_MUTANT(35, true, false))
            fp_table_sweep_all(&m->table[i], m->clock);
        fp_table_flush(&m->table[i]);
    }
    publish_resident(m);
}

int fp_meter_init(struct fp_meter *m, const struct fp_config *config, unsigned worker, bool huge, struct fp_sink sink)
{
    const struct fp_profile *p = &config->profile;
    struct fp_timeouts timeouts = {
        .idle = p->idle_timeout ? p->idle_timeout : FP_NEVER,
        .active = p->active_timeout ? p->active_timeout : FP_NEVER,
        .tcp_end = p->tcp_end >= 0 ? p->tcp_end : FP_NEVER,
        .limit = p->counter_bits == 32 ? UINT32_MAX : UINT64_MAX,
    };
    int rc;

    *m = (struct fp_meter){
        .profile = *p,
        .sink = sink,
        .newest = INT64_MIN,
        .clock = INT64_MIN,
        .idle = timeouts.idle,
        .wall = config->wall,
        .filtering = config->filter != NULL,
        .sampling_state = p->sampling_seed + FP_MUTANT(36, worker, 0),
        .sweep_budget = config->sweep_budget,
    };
    fp_parser_init(&m->parser, p, config->seed);
    for (unsigned i = 0; i < 2; i++) {
        rc = fp_table_init(&m->table[i], i == 1, p->cache_size, &timeouts, &m->parser, sink, huge);
        if (rc) {
            fp_meter_free(m);
            return rc;
        }
    }
    return 0;
}

void fp_meter_free(struct fp_meter *m)
{
    fp_table_free(&m->table[0]);
    fp_table_free(&m->table[1]);
    fp_parser_free(&m->parser);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "meter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "parse_hot.h"
#include "table_hot.h"

#define BLOCK 8u /* frames of a batch that go through a stage together */

/* Verdicts beside those of enum fp_kind. */
enum { FP_FILTERED = FP_IPV6 + 1, FP_SAMPLED_OUT };

static bool is_own(const struct fp_meter *m, const struct fp_flow *f)
{
    for (unsigned i = 0; i < m->nown; i++) {
        const struct fp_own *own = &m->own[i];
        if (f->kind != own->kind || fp_protocol(f->word) != 17 || (uint32_t)f->ports != own->ports || f->source[0] != own->source[0])
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
    if (m->nown) {
        fp_parse(&m->parser, p, f);
        if (is_own(m, f))
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
        .label = f->label,
        .kind = f->kind,
        .reason = FP_IDLE,
    };

    memcpy(record.source, f->source, sizeof record.source);
    if (f->kind == FP_IPV6)
        memcpy(record.destination, f->destination, sizeof record.destination);
    m->account.late++;
    m->account.metered++;
    m->account.metered_packets += f->packets;
    m->late_packets += f->packets;
    m->sink.put(m->sink.context, &record);
}

static inline __attribute__((always_inline)) void meter_packet(struct fp_meter *m, const struct fp_flow *f, int64_t now, bool six)
{
    struct fp_table *t = &m->table[six];
    enum fp_fate fate = FP_STORED;

    if (FP_UNLIKELY(!fp_table_hot(t, f, now, six)))
        fate = fp_table_update(t, f, now, m->clock, m->profile.refuse);
    if (FP_UNLIKELY(fate != FP_STORED)) {
        m->account.evicted += fate == FP_EVICTED;
        m->account.shed += fate == FP_SHED;
        if (fate == FP_SHED)
            return;
    }
    m->account.metered++;
    m->account.metered_packets += f->packets;
}

static bool is_late(const struct fp_meter *m, const struct fp_flow *f)
{
    return m->idle != FP_NEVER && fp_later(f->ts, m->idle) <= m->clock && FP_MUTANT(34, true, false);
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
    if (now == FP_NS_NONE || (ts <= fp_later(now, m->profile.max_clock_step) && ts >= fp_earlier(now, m->profile.max_clock_step)))
        return ts;
    m->account.clock_steps++;
    return now;
}

static inline __attribute__((always_inline)) void stage_parse(struct fp_meter *m, const struct fp_packet *p, struct fp_flow *f,
                                                              struct fp_flow *end, bool plain, int64_t now)
{
    for (; f < end; f++, p++) {
        if (plain) {
            f->ts = p->ts_ns;
            fp_parse_hot(&m->parser, p, f);
        } else {
            f->ts = m->wall ? sane_time(m, p->ts_ns, now) : p->ts_ns;
            choose_and_parse(m, p, f);
        }
        if (__builtin_expect(f->kind == FP_IPV4, 1))
            fp_table_prefetch_tags(&m->table[0], f);
        else if (f->kind == FP_IPV6)
            fp_table_prefetch_tags(&m->table[1], f);
    }
}

/* Lists in `missed` those whose first group does not have them and returns the list's end. */
static inline __attribute__((always_inline)) struct fp_flow **stage_match(struct fp_meter *m, struct fp_flow *f, struct fp_flow *end,
                                                                          struct fp_flow **missed)
{
    for (; f < end; f++) {
        if (__builtin_expect(f->kind == FP_IPV4, 1)) {
            *missed = f;
            missed += !fp_table_guess(&m->table[0], f, false);
        } else if (f->kind == FP_IPV6) {
            *missed = f;
            missed += !fp_table_guess(&m->table[1], f, true);
        }
    }
    return missed;
}

static void stage_match_second(struct fp_meter *m, struct fp_flow **f, struct fp_flow **end)
{
    for (; f < end; f++)
        fp_table_guess_second(&m->table[(*f)->kind == FP_IPV6], *f, (*f)->kind == FP_IPV6);
}

/* A packet stamped before the clock, or a frame without a flow. */
static __attribute__((noinline)) void update_other(struct fp_meter *m, const struct fp_flow *f)
{
    if (f->kind != FP_IPV4 && f->kind != FP_IPV6)
        count_other(&m->account, f->kind);
    else if (f->ts < m->clock && is_late(m, f))
        late(m, f);
    else
        meter_packet(m, f, fp_max(f->ts, m->clock), f->kind == FP_IPV6);
}

static inline __attribute__((always_inline)) void stage_update(struct fp_meter *m, const struct fp_flow *f, const struct fp_flow *end)
{
    int64_t reorder = FP_MUTANT(33, m->profile.reorder, 0);

    for (; f < end; f++) {
        /* The clock follows every frame, whatever its verdict (S-TIM-2). */
        if (__builtin_expect(f->ts >= m->newest, 1)) {
            m->newest = f->ts;
            m->clock = fp_max(m->clock, fp_earlier(f->ts, reorder));
        }
        if (FP_UNLIKELY(f->ts < m->clock))
            update_other(m, f);
        else if (__builtin_expect(f->kind == FP_IPV4, 1))
            meter_packet(m, f, f->ts, false);
        else if (f->kind == FP_IPV6)
            meter_packet(m, f, f->ts, true);
        else
            update_other(m, f);
    }
}

/* Four stages, each a block behind the one before, so that what one has asked of memory arrives while the others work: parse (asks for
 * tags), match (for the entry, or for the second group's tags), match again what was missed, update. */
static inline __attribute__((always_inline)) void stages(struct fp_meter *m, const struct fp_packet *packets, unsigned count, int64_t now,
                                                         bool plain)
{
    struct fp_flow *flows = m->flows;
    struct fp_flow *missed[2][BLOCK + 1];
    struct fp_flow **end[2] = {missed[0], missed[1]};
    unsigned parsed = 0, matched = 0, again = 0, updated = 0;

    for (unsigned turn = 0; updated < count; turn ^= 1) {
        unsigned to_update = again, to_again = matched, to_match = parsed;
        unsigned to_parse = parsed + BLOCK < count ? parsed + BLOCK : count;
        stage_parse(m, packets + parsed, flows + parsed, flows + to_parse, plain, now);
        end[turn] = stage_match(m, flows + matched, flows + to_match, missed[turn]);
        stage_match_second(m, missed[turn ^ 1], end[turn ^ 1]);
        stage_update(m, flows + updated, flows + to_update);
        end[turn ^ 1] = missed[turn ^ 1];
        parsed = to_parse;
        matched = to_match;
        again = to_again;
        updated = to_update;
    }
}

void fp_meter_batch(struct fp_meter *m, const struct fp_packet *packets, unsigned count, int64_t now)
{
    if (m->nown == 0 && m->profile.sampling == FP_SAMPLE_ALL && !m->wall)
        stages(m, packets, count, now, true);
    else
        stages(m, packets, count, now, false);
    m->account.received += count;
    sweep(m);
    publish_resident(m);
}

void fp_meter_idle(struct fp_meter *m, int64_t now)
{
    if (m->wall && now != FP_NS_NONE) {
        m->clock = fp_max(m->clock, fp_earlier(now, m->profile.reorder));
        sweep(m);
        publish_resident(m);
    }
}

void fp_meter_finish(struct fp_meter *m, int64_t clock)
{
    m->clock = fp_max(m->clock, clock);
    for (unsigned i = 0; i < 2; i++) {
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
        .sampling_state = p->sampling_seed + FP_MUTANT(36, worker, 0),
        .sweep_budget = config->sweep_budget,
    };
    fp_parser_init(&m->parser, p, config->seed);
    m->flows = aligned_alloc(64, (FP_MAX_BATCH * sizeof *m->flows + 63) / 64 * 64);
    if (!m->flows)
        return -ENOMEM;
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
    free(m->flows);
    m->flows = NULL;
}

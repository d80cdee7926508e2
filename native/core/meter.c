/* SPDX-License-Identifier: Apache-2.0 */
#include "meter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
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
    m->late_packets += f->packets;
    m->sink.put(m->sink.context, &record);
}

/* False: shed. */
static inline __attribute__((always_inline)) bool meter_packet(struct fp_meter *m, const struct fp_flow *f, int64_t now, bool six)
{
    enum fp_fate fate = fp_table_update(&m->table[six], f, now, m->clock, m->profile.refuse, six);

    if (FP_UNLIKELY(fate == FP_EVICTED))
        m->account.evicted++;
    if (FP_UNLIKELY(fate == FP_SHED))
        m->account.shed++;
    return fate != FP_SHED;
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

static inline void stage_parse(struct fp_meter *m, const struct fp_packet *p, struct fp_flow *f, struct fp_flow *end, bool plain,
                               int64_t now)
{
    for (; f < end; f++, p++) {
        f->ts = m->wall ? sane_time(m, p->ts_ns, now) : p->ts_ns;
        if (plain)
            fp_parse(&m->parser, p, f);
        else
            choose_and_parse(m, p, f);
        if (f->kind == FP_IPV4)
            fp_table_prefetch_tags(&m->table[0], f);
        else if (f->kind == FP_IPV6)
            fp_table_prefetch_tags(&m->table[1], f);
    }
}

static inline void stage_match(struct fp_meter *m, struct fp_flow *f, struct fp_flow *end)
{
    for (; f < end; f++) {
        if (f->kind == FP_IPV4)
            fp_table_prefetch_entry(&m->table[0], f, false);
        else if (f->kind == FP_IPV6)
            fp_table_prefetch_entry(&m->table[1], f, true);
    }
}

static inline void stage_update(struct fp_meter *m, struct fp_flow *f, struct fp_flow *end)
{
    uint64_t metered = 0, metered_packets = 0;

    for (; f < end; f++) {
        int64_t now = f->ts;
        bool kept;
        /* The clock follows every frame, whatever its verdict (S-TIM-2). */
        if (__builtin_expect(now >= m->newest, 1)) {
            m->newest = now;
            m->clock = fp_max(m->clock, fp_earlier(now, FP_MUTANT(33, m->profile.reorder, 0)));
        }
        if (FP_UNLIKELY(now < m->clock)) {
            now = m->clock;
            if ((f->kind == FP_IPV4 || f->kind == FP_IPV6) && is_late(m, f)) {
                late(m, f);
                metered++;
                metered_packets += f->packets;
                continue;
            }
        }
        if (f->kind == FP_IPV4) {
            kept = meter_packet(m, f, now, false);
        } else if (f->kind == FP_IPV6) {
            kept = meter_packet(m, f, now, true);
        } else {
            count_other(&m->account, f->kind);
            continue;
        }
        metered += kept;
        metered_packets += kept ? f->packets : 0;
    }
    m->account.metered += metered;
    m->account.metered_packets += metered_packets;
}

/* Three stages, each a block behind the one before, so that what one has asked of memory arrives while the others work. */
void fp_meter_batch(struct fp_meter *m, const struct fp_packet *packets, unsigned count, int64_t now)
{
    bool plain = m->nown == 0 && m->profile.sampling == FP_SAMPLE_ALL;
    struct fp_flow *flows = m->flows;
    unsigned parsed = 0, matched = 0, updated = 0;

    while (updated < count) {
        unsigned to_update = matched, to_match = parsed;
        unsigned to_parse = parsed + BLOCK < count ? parsed + BLOCK : count;
        stage_parse(m, packets + parsed, flows + parsed, flows + to_parse, plain, now);
        stage_match(m, flows + matched, flows + to_match);
        stage_update(m, flows + updated, flows + to_update);
        parsed = to_parse;
        matched = to_match;
        updated = to_update;
    }
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

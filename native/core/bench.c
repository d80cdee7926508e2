/* SPDX-License-Identifier: Apache-2.0
 *
 * What a packet costs in memory: parse, hash, update and sweep, beside two probes of the machine's memory taken in the same run. Absolute
 * times move with the machine; the ratio does not.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bytes.h"
#include "clock.h"
#include "hash.h"
#include "loader.h"
#include "meter.h"

#define FRAME      64u /* stride; the frame has 60 octets */
#define BATCH      128u
#define CHUNK      (64u << 10) /* packets between two looks at the clock */
#define MAX_CHUNKS 4096u
#define GAP        67 /* ns between packets: line rate at 10 Gb/s */
#define LINE       64u

struct chunks {
    double ns[MAX_CHUNKS];
    unsigned count;
};

static int64_t monotonic(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * FP_SECOND + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double percentile(struct chunks *c, unsigned percent)
{
    qsort(c->ns, c->count, sizeof *c->ns, compare);
    return c->ns[(c->count - 1) * percent / 100];
}

static void note(struct chunks *c, int64_t since, uint64_t packets)
{
    if (c->count < MAX_CHUNKS)
        c->ns[c->count++] = (double)(monotonic() - since) / (double)packets;
}

static void write_frame(uint8_t *frame, uint32_t flow)
{
    uint8_t *ip = frame + 14;

    memset(frame, 0, FRAME);
    fp_put16(frame + 12, 0x0800);
    ip[0] = 0x45;
    fp_put16(ip + 2, 46);
    ip[8] = 64;
    ip[9] = 17;
    fp_put32(ip + 12, 0x0A000000u + flow / 64);
    fp_put32(ip + 16, 0xC6120000u + flow % 251);
    fp_put16(ip + 20, 1024 + flow % 64);
    fp_put16(ip + 22, 53);
    fp_put16(ip + 24, 26);
}

static void *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    madvise(p, size, MADV_HUGEPAGE);
    return p;
}

static void drop(void *context, const struct fp_record *record)
{
    (void)context, (void)record;
}

/* One pass over the frames; `c` may be NULL (warming up). */
static int64_t pass(struct fp_meter *m, const uint8_t *frames, uint32_t count, int64_t ts, struct chunks *c)
{
    struct fp_packet burst[BATCH];
    int64_t since = monotonic();

    memset(burst, 0, sizeof burst);
    for (uint32_t i = 0; i < count; i += BATCH) {
        for (unsigned k = 0; k < BATCH; k++, ts += GAP) {
            burst[k].data = frames + (size_t)(i + k) * FRAME;
            burst[k].len = burst[k].caplen = burst[k].wirelen = 60;
            burst[k].link = FP_LINK_ETHERNET;
            burst[k].ts_ns = ts;
        }
        fp_meter_batch(m, burst, BATCH, FP_NS_NONE);
        if (c && (i + BATCH) % CHUNK == 0) {
            note(c, since, CHUNK);
            since = monotonic();
        }
    }
    return ts;
}

/* The same random lines that a packet touches, and nothing else: two lines of tags read, one entry read and written, fetched ahead a batch
 * at a time. */
static void probe_lines(const struct fp_table *t, uint32_t rounds, struct chunks *c)
{
    uint64_t *entries = (uint64_t *)(void *)t->entries;
    const uint64_t *tags = (const uint64_t *)(const void *)t->tags;
    uint64_t lines = (uint64_t)t->groups * FP_GROUP;
    uint64_t state = 1, sum = 0;
    uint64_t at[BATCH], tag[BATCH][2];
    int64_t since = monotonic();

    for (uint32_t i = 0; i < rounds; i += BATCH) {
        for (unsigned k = 0; k < BATCH; k++) {
            uint64_t r = fp_mix(state += UINT64_C(0x9E3779B97F4A7C15), UINT64_C(0xBF58476D1CE4E5B9));
            at[k] = ((r >> 32) * lines >> 32) * (LINE / 8);
            tag[k][0] = ((r & UINT32_MAX) * t->groups >> 32) * 4;
            tag[k][1] = ((r >> 16 & UINT32_MAX) * t->groups >> 32) * 4;
            __builtin_prefetch(tags + tag[k][0]);
            __builtin_prefetch(tags + tag[k][1]);
        }
        for (unsigned k = 0; k < BATCH; k++) {
            sum += tags[tag[k][0]] + tags[tag[k][1]];
            __builtin_prefetch(entries + at[k], 1);
        }
        for (unsigned k = 0; k < BATCH; k++)
            entries[at[k]] += sum & 1;
        if ((i + BATCH) % CHUNK == 0) {
            note(c, since, CHUNK);
            since = monotonic();
        }
    }
}

/* Each load's address comes from the one before: the latency of memory. */
static void probe_latency(const struct fp_table *t, struct chunks *c)
{
    const volatile uint64_t *entries = (const volatile uint64_t *)(const void *)t->entries;
    uint64_t lines = (uint64_t)t->groups * FP_GROUP;
    uint64_t at = 1;

    for (unsigned chunk = 0; chunk < 8; chunk++) {
        int64_t since = monotonic();
        for (uint32_t i = 0; i < CHUNK; i++)
            at = fp_mix(at + i, UINT64_C(0x9E3779B97F4A7C15)) ^ (entries[((at >> 32) * lines >> 32) * (LINE / 8)] & 1);
        note(c, since, CHUNK);
    }
}

int fp_bench_core(uint32_t flows, uint32_t passes, struct fp_bench_result *out, char *err)
{
    struct fp_config config = {
        .profile = {.key_classic = true,
                    .tos_mask = 0xFF,
                    .counter_bits = 64,
                    .sampling_interval = 1,
                    .input_interface = 1,
                    .cache_size = flows < 1024 ? 1024 : flows,
                    .idle_timeout = 15 * FP_SECOND,
                    .active_timeout = 1800 * FP_SECOND,
                    .tcp_end = 5 * FP_SECOND,
                    .reorder = FP_SECOND / 10,
                    .boot = -1},
        .seed = 1,
    };
    uint32_t count = (flows < (1u << 20) ? 1u << 20 : flows) / CHUNK * CHUNK;
    size_t size = (size_t)count * FRAME;
    struct chunks *c = malloc(sizeof *c);
    uint8_t *frames = map(size);
    struct fp_meter m;
    int64_t ts = FP_SECOND;
    int rc = c && frames ? fp_meter_init(&m, &config, 0, true, (struct fp_sink){drop, NULL}) : -ENOMEM;

    if (rc) {
        fp_host.fail(err, rc, "out of memory for %u flows", flows);
        goto out;
    }
    for (uint32_t i = 0; i < count; i++)
        write_frame(frames + (size_t)i * FRAME, i < flows ? i : (uint32_t)(fp_splitmix(flows, i) % flows));
    /* Every flow occurs once; their order is random. */
    for (uint32_t i = count - 1; i > 0; i--) {
        uint8_t swap[FRAME];
        size_t j = fp_splitmix(7, i) % (i + 1);
        memcpy(swap, frames + (size_t)i * FRAME, FRAME);
        memcpy(frames + (size_t)i * FRAME, frames + j * FRAME, FRAME);
        memcpy(frames + j * FRAME, swap, FRAME);
    }
    ts = pass(&m, frames, count, ts, NULL);
    c->count = 0;
    for (uint32_t i = 0; i < passes; i++)
        ts = pass(&m, frames, count, ts, c);
    *out = (struct fp_bench_result){.resident = m.account.resident_records, .packets = (uint64_t)count * passes};
    out->core_median = percentile(c, 50);
    out->core_p5 = percentile(c, 5);
    out->table_octets = m.table[0].tags_size + m.table[0].entries_size;
    c->count = 0;
    probe_lines(&m.table[0], count, c);
    out->lines_median = percentile(c, 50);
    out->lines_p5 = percentile(c, 5);
    c->count = 0;
    probe_latency(&m.table[0], c);
    out->latency_median = percentile(c, 50);
    fp_meter_free(&m);
out:
    if (frames)
        munmap(frames, size);
    free(c);
    return rc;
}

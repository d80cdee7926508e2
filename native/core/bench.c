/* SPDX-License-Identifier: Apache-2.0
 *
 * What a packet costs in memory: parse, hash, update and sweep, with new flows also the encoding of records, beside two probes of the
 * memory taken in the same run. Absolute times move with the machine; the ratio does not. Time is processor time of the thread: what
 * else runs counts only by what it takes of caches and of the core.
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bytes.h"
#include "clock.h"
#include "hash.h"
#include "loader.h"
#include "meter.h"
#include "stream.h"

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

static int64_t cpu_time(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
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
        c->ns[c->count++] = (double)(cpu_time() - since) / (double)packets;
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

static void discard(struct fp_transport *t, const struct fp_message *messages, unsigned count)
{
    fp_tally_add(&t->sent, messages, count);
}

/* One worker and what it meters. */
struct lane {
    struct fp_bench_load load;
    struct fp_config config;
    struct fp_meter meter;
    struct fp_face face;
    struct fp_transport nowhere;
    struct fp_stream stream;
    uint8_t *frames;
    uint32_t count;
    double *shares; /* cumulative, of each flow under Zipf's law */
    uint64_t draws, next_flow;
    int64_t ts;
    struct chunks chunks;
    pthread_barrier_t *start;
    pthread_t thread;
};

static void encode(void *context, const struct fp_record *record)
{
    struct lane *lane = context;

    lane->face.now = lane->face.clock = lane->meter.newest;
    fp_stream_put(&lane->stream, record);
}

static uint32_t zipf(const struct lane *lane, uint64_t draw)
{
    double at = (double)(draw >> 11) * 0x1p-53 * lane->shares[lane->load.flows - 1];
    uint32_t low = 0, high = lane->load.flows - 1;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (lane->shares[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The flow of the next packet. With new flows, half of `flows` is the window from which packets are drawn: a flow is in it for as long as
 * it then waits for its idle timeout. */
static uint32_t draw_flow(struct lane *lane)
{
    uint64_t draw = fp_splitmix(7, lane->draws++);
    uint64_t window = lane->load.flows / 2;

    if (lane->shares)
        return zipf(lane, draw);
    if (!lane->load.new_flows)
        return lane->draws <= lane->load.flows ? (uint32_t)lane->draws - 1 : (uint32_t)(draw % lane->load.flows);
    if (lane->next_flow * FP_SECOND <= lane->draws * GAP * lane->load.new_flows)
        return (uint32_t)lane->next_flow++;
    return (uint32_t)(lane->next_flow - 1 - draw % (lane->next_flow < window ? lane->next_flow : window));
}

/* Writes the frames of a pass; without new flows in random order. */
static void write_frames(struct lane *lane)
{
    for (uint32_t i = 0; i < lane->count; i++)
        write_frame(lane->frames + (size_t)i * FRAME, draw_flow(lane));
    if (lane->load.new_flows)
        return;
    for (uint32_t i = lane->count - 1; i > 0; i--) {
        uint8_t swap[FRAME];
        size_t j = fp_splitmix(11, i) % (i + 1);
        memcpy(swap, lane->frames + (size_t)i * FRAME, FRAME);
        memcpy(lane->frames + (size_t)i * FRAME, lane->frames + j * FRAME, FRAME);
        memcpy(lane->frames + j * FRAME, swap, FRAME);
    }
}

/* One pass over the frames; `c` may be NULL (warming up). */
static int64_t pass(struct fp_meter *m, const uint8_t *frames, uint32_t count, int64_t ts, struct chunks *c)
{
    struct fp_packet burst[BATCH];
    int64_t since = cpu_time();

    for (unsigned k = 0; k < BATCH; k++)
        burst[k] = (struct fp_packet){.len = 60, .caplen = 60, .wirelen = 60, .link = FP_LINK_ETHERNET};
    for (uint32_t i = 0; i < count; i += BATCH) {
        for (struct fp_packet *p = burst; p < burst + BATCH; p++, frames += FRAME, ts += GAP) {
            p->data = frames;
            p->ts_ns = ts;
        }
        fp_meter_batch(m, burst, BATCH, FP_NS_NONE);
        if (c && (i + BATCH) % CHUNK == 0) {
            note(c, since, CHUNK);
            since = cpu_time();
        }
    }
    fp_meter_idle(m, FP_NS_NONE);
    return ts;
}

/* The lines of memory that a packet of a resident flow touches, and nothing else: its frame read, in order; at random one line of tags
 * read, one entry read and written. All are fetched ahead a batch at a time. */
static void probe_lines(const struct lane *lane, const struct fp_table *t, struct chunks *c)
{
    uint64_t *entries = (uint64_t *)(void *)t->entries;
    const uint64_t *tags = (const uint64_t *)(const void *)t->tags;
    uint64_t lines = (uint64_t)t->groups * FP_GROUP;
    uint64_t state = 1, sum = 0;
    uint64_t at[BATCH], tag[BATCH];
    int64_t since = cpu_time();

    for (uint32_t i = 0; i < lane->count; i += BATCH) {
        const uint8_t *frames = lane->frames + (size_t)i * FRAME;
        for (unsigned k = 0; k < BATCH; k++) {
            uint64_t r = fp_mix(state += UINT64_C(0x9E3779B97F4A7C15), UINT64_C(0xBF58476D1CE4E5B9));
            at[k] = ((r >> 32) * lines >> 32) * (LINE / 8);
            tag[k] = ((r & UINT32_MAX) * t->groups >> 32) * 4;
            __builtin_prefetch(tags + tag[k]);
            __builtin_prefetch(frames + (size_t)k * FRAME);
        }
        for (unsigned k = 0; k < BATCH; k++) {
            sum += tags[tag[k]];
            __builtin_prefetch(entries + at[k], 1);
        }
        for (unsigned k = 0; k < BATCH; k++)
            entries[at[k]] += (sum + frames[(size_t)k * FRAME]) & 1;
        if ((i + BATCH) % CHUNK == 0) {
            note(c, since, CHUNK);
            since = cpu_time();
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
        int64_t since = cpu_time();
        for (uint32_t i = 0; i < CHUNK; i++)
            at = fp_mix(at + i, UINT64_C(0x9E3779B97F4A7C15)) ^ entries[((at >> 32) * lines >> 32) * (LINE / 8)];
        note(c, since, CHUNK);
    }
}

static void *run_lane(void *context)
{
    struct lane *lane = context;
    uint32_t warm = 1;

    /* With new flows until as many have ended as are made. */
    if (lane->load.new_flows)
        warm += (uint32_t)((uint64_t)lane->load.flows * 2 * FP_SECOND / lane->load.new_flows / GAP / lane->count);
    for (uint32_t i = 0; i < warm; i++) {
        if (lane->load.new_flows || i == 0)
            write_frames(lane);
        lane->ts = pass(&lane->meter, lane->frames, lane->count, lane->ts, NULL);
    }
    if (lane->start)
        pthread_barrier_wait(lane->start);
    for (uint32_t i = 0; i < lane->load.passes; i++) {
        if (lane->load.new_flows)
            write_frames(lane);
        lane->ts = pass(&lane->meter, lane->frames, lane->count, lane->ts, &lane->chunks);
    }
    return NULL;
}

static void free_lane(struct lane *lane)
{
    if (!lane)
        return;
    fp_meter_free(&lane->meter);
    fp_stream_free(&lane->stream);
    if (lane->frames)
        munmap(lane->frames, (size_t)lane->count * FRAME);
    free(lane->shares);
    free(lane);
}

static bool share_out(struct lane *lane)
{
    double sum = 0;

    lane->shares = malloc(lane->load.flows * sizeof *lane->shares);
    for (uint32_t i = 0; lane->shares && i < lane->load.flows; i++)
        lane->shares[i] = sum += pow(i + 1, -lane->load.zipf);
    return lane->shares;
}

static struct lane *new_lane(const struct fp_bench_load *load, unsigned worker)
{
    static const struct fp_transport_ops nowhere = {.send = discard};
    struct lane *lane = calloc(1, sizeof *lane);
    bool lasting = load->new_flows < FP_SECOND / GAP; /* else every packet is a new flow, and most are evicted */

    if (!lane)
        return NULL;
    lane->load = *load;
    lane->ts = FP_SECOND;
    lane->config = (struct fp_config){
        .profile = {.key_classic = true,
                    .tos_mask = 0xFF,
                    .counter_bits = 64,
                    .sampling_interval = 1,
                    .input_interface = 1,
                    .cache_size = load->flows < 1024           ? 1024
                                  : load->new_flows && lasting ? load->flows * 2
                                                               : load->flows,
                    .template_packets = 20,
                    .template_seconds = 600,
                    .idle_timeout = load->new_flows && lasting ? (int64_t)(load->flows / 2) * FP_SECOND / load->new_flows : 15 * FP_SECOND,
                    .active_timeout = 1800 * FP_SECOND,
                    .tcp_end = -1,
                    .reorder = 0,
                    .boot = -1},
        .seed = 1 + worker,
        .mtu = 1500,
    };
    lane->face = (struct fp_face){.config = &lane->config, .account = &lane->meter.account, .interface_name = "", .now = lane->ts};
    lane->nowhere = (struct fp_transport){.ops = &nowhere, .overhead = 28};
    lane->count = (load->flows < (1u << 20) || load->new_flows ? 1u << 20 : load->flows) / CHUNK * CHUNK;
    lane->frames = map((size_t)lane->count * FRAME);
    if (!lane->frames || (load->zipf > 0 && !share_out(lane)) || fp_stream_init(&lane->stream, FP_IPFIX, &lane->face, &lane->nowhere) ||
        fp_meter_init(&lane->meter, &lane->config, worker, true, (struct fp_sink){encode, lane})) {
        free_lane(lane);
        return NULL;
    }
    return lane;
}

static void run_lanes(struct lane *const *lanes, unsigned count)
{
    pthread_barrier_t start;
    unsigned running = 0;

    if (count == 1) {
        run_lane(lanes[0]);
        return;
    }
    pthread_barrier_init(&start, NULL, count);
    for (; running < count; running++) {
        lanes[running]->start = &start;
        if (pthread_create(&lanes[running]->thread, NULL, run_lane, lanes[running]))
            abort();
    }
    while (running)
        pthread_join(lanes[--running]->thread, NULL);
    pthread_barrier_destroy(&start);
}

int fp_bench_core(const struct fp_bench_load *load, struct fp_bench_result *out, char *err)
{
    struct lane *lanes[FP_BENCH_WORKERS] = {NULL};
    struct lane *lane;
    int rc = 0;

    for (unsigned i = 0; i < load->workers && !rc; i++) {
        lanes[i] = new_lane(load, i);
        if (!lanes[i])
            rc = fp_host.fail(err, -ENOMEM, "out of memory for %u flows", load->flows);
    }
    if (rc)
        goto out;
    run_lanes(lanes, load->workers);
    lane = lanes[0];
    *out = (struct fp_bench_result){.resident = lane->meter.account.resident_records,
                                    .packets = (uint64_t)lane->count * load->passes,
                                    .records = lane->stream.account.exported_records + lane->stream.account.queued_records,
                                    .evicted = lane->meter.account.evicted,
                                    .cache_size = lane->config.profile.cache_size};
    out->core_median = percentile(&lane->chunks, 50);
    out->core_p5 = percentile(&lane->chunks, 5);
    out->table_octets = fp_table_octets(&lane->meter.table[0]);
    lane->chunks.count = 0;
    probe_lines(lane, &lane->meter.table[0], &lane->chunks);
    out->lines_median = percentile(&lane->chunks, 50);
    out->lines_p5 = percentile(&lane->chunks, 5);
    lane->chunks.count = 0;
    probe_latency(&lane->meter.table[0], &lane->chunks);
    out->latency_median = percentile(&lane->chunks, 50);
out:
    for (unsigned i = 0; i < load->workers; i++)
        free_lane(lanes[i]);
    return rc;
}

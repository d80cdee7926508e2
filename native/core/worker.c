/* SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "mutant.h"
#include "ring.h"
#include "trailer.h"

#define WAIT_MS    50   /* also how late a stop may be seen */
#define HUGE_FLOWS 4096 /* caches smaller than this want no huge pages */

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * FP_SECOND + t.tv_nsec;
}

/* S-TIM-6; `least` where a record has a later time than was received. */
static void set_export_time(struct fp_worker *w, int64_t least)
{
    int64_t now = fp_max(w->meter.newest, least);

    w->face.now = w->config->wall ? fp_max(now, clock_ns(CLOCK_REALTIME)) : now;
    w->face.clock = w->config->wall ? clock_ns(CLOCK_MONOTONIC) : now;
}

static void put_record(void *context, const struct fp_record *record)
{
    struct fp_worker *w = context;

    w->face.now = fp_max(w->face.now, FP_MUTANT(103, w->meter.newest, INT64_MIN));
    if (!w->config->wall)
        w->face.clock = w->face.now;
    for (unsigned i = 0; i < w->nstreams; i++)
        fp_stream_put(&w->streams[i], record);
}

static void publish(struct fp_worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->published.account = w->meter.account;
    for (unsigned i = 0; i < w->nstreams; i++)
        w->published.streams[i] = w->streams[i].account;
    pthread_mutex_unlock(&w->lock);
}

void fp_worker_published(struct fp_worker *w, struct fp_published *out)
{
    pthread_mutex_lock(&w->lock);
    *out = w->published;
    pthread_mutex_unlock(&w->lock);
}

static void tick(struct fp_worker *w, bool idle)
{
    for (unsigned i = 0; i < w->nstreams; i++)
        fp_stream_tick(&w->streams[i], idle);
}

/* The boot second (S-TIM-7). */
static void start(struct fp_worker *w, int64_t at)
{
    const struct fp_profile *p = &w->config->profile;

    w->started = true;
    w->face.boot = p->boot >= 0 ? p->boot : fp_floor(at, FP_SECOND) + FP_MUTANT(102, 0, 1);
}

static bool log_assignment(struct fp_worker *w, const struct fp_packet *packets, unsigned n)
{
    if (w->assigned + n > w->assignment_capacity) {
        size_t capacity = w->assignment_capacity ? w->assignment_capacity * 2 : 4096;
        uint64_t *grown = realloc(w->assignment, capacity * sizeof *grown);
        if (!grown)
            return false;
        w->assignment = grown;
        w->assignment_capacity = capacity;
    }
    for (unsigned i = 0; i < n; i++)
        w->assignment[w->assigned++] = packets[i].seq;
    return true;
}

/* To the snap length, whatever the backend has made of it. A chain of segments may go on behind its captured length. */
static void cut(struct fp_packet *p, uint32_t snaplen)
{
    p->caplen = p->caplen < snaplen ? p->caplen : snaplen;
    p->len = p->len < p->caplen ? p->len : p->caplen;
}

/* Copies a burst, taking trailers and giving a time to frames that have none. Frames without a trailer are strays of the link and not part
 * of a replay. Returns how many are left, or -ENOMEM. */
static int prepare(struct fp_worker *w, const struct fp_packet *packets, unsigned n, int64_t now, struct fp_packet *out)
{
    int kept = 0;

    for (unsigned i = 0; i < n; i++) {
        out[kept] = packets[i];
        if (w->config->trailer) {
            if (!fp_trailer_take(&out[kept]) && FP_MUTANT(104, true, false)) {
                w->strays++;
                continue;
            }
            w->trailers++;
            if (!fp_sequences_add(&w->sequences, (uint32_t)out[kept].seq))
                return fp_host.fail(w->err, -ENOMEM, "out of memory for the sequence numbers of the trailers");
        }
        if (w->config->snaplen)
            cut(&out[kept], w->config->snaplen);
        if (out[kept].ts_ns == FP_NS_NONE)
            out[kept].ts_ns = now != FP_NS_NONE ? now : clock_ns(CLOCK_REALTIME);
        kept++;
    }
    return kept;
}

static bool needs_preparation(const struct fp_worker *w, const struct fp_packet *packets, unsigned n)
{
    if (w->config->trailer || w->config->snaplen)
        return true;
    for (unsigned i = 0; i < n; i++)
        if (packets[i].ts_ns == FP_NS_NONE)
            return true;
    return false;
}

/* The backend's clock now, carried on from when it last told it. */
static int64_t backend_clock(const struct fp_worker *w)
{
    if (w->backend_now == FP_NS_NONE)
        return FP_NS_NONE;
    return fp_later(w->backend_now, clock_ns(CLOCK_MONOTONIC) - w->told);
}

static void heard(struct fp_worker *w, int64_t now)
{
    if (now == FP_NS_NONE)
        return;
    w->backend_now = now;
    w->told = clock_ns(CLOCK_MONOTONIC);
}

static int feed(struct fp_worker *w, const struct fp_packet *packets, unsigned n, int64_t now)
{
    bool full = n >= (w->ring ? FP_RING_CHUNK : w->config->batch);

    if (needs_preparation(w, packets, n)) {
        int kept = prepare(w, packets, n, now, w->frames);
        if (kept < 0)
            return kept;
        n = (unsigned)kept;
        packets = w->frames;
    }
    if (n == 0)
        return 0;
    if (!w->started)
        start(w, packets->ts_ns);
    if (w->config->log_assignment && !log_assignment(w, packets, n))
        return fp_host.fail(w->err, -ENOMEM, "out of memory for the assignment log");
    if (w->config->wall)
        set_export_time(w, INT64_MIN);
    for (unsigned done = 0; done < n; done += w->config->batch) {
        unsigned count = n - done < w->config->batch ? n - done : w->config->batch;
        fp_meter_batch(&w->meter, packets + done, count, w->config->wall ? backend_clock(w) : FP_NS_NONE);
    }
    /* The queue is empty for now: nothing that would push on what is on its way. */
    if (!full)
        fp_meter_idle(&w->meter, FP_NS_NONE);
    set_export_time(w, INT64_MIN);
    tick(w, false);
    publish(w);
    return 0;
}

static void rest(struct fp_worker *w, int64_t now)
{
    heard(w, now);
    fp_meter_idle(&w->meter, now == FP_NS_NONE ? FP_NS_NONE : fp_earlier(now, w->visibility));
    if (w->config->wall)
        set_export_time(w, INT64_MIN);
    if (w->started) {
        tick(w, true);
        publish(w);
    }
}

/* What a recv gives; FP_END also when it is time to stop. */
static int take(struct fp_worker *w, struct fp_drain *drain, struct fp_packet **packets, int64_t *now)
{
    int wait;

    if (w->ring)
        return fp_ring_take(w->ring, packets, WAIT_MS, now);
    wait = fp_ending_before(w->ending, drain, w->ops, w->source, WAIT_MS, w->err);
    *packets = w->burst;
    return wait < 0 ? FP_END : w->ops->recv(w->source, w->queue, w->burst, w->config->batch, wait, now, w->err);
}

static void run(struct fp_worker *w)
{
    struct fp_drain drain = {0};
    struct fp_packet *packets;

    for (;;) {
        int64_t now = FP_NS_NONE;
        int n = take(w, &drain, &packets, &now);
        if (n == FP_END)
            return;
        if (n < 0) {
            w->result = n;
            return;
        }
        if (n == 0) {
            rest(w, now);
        } else {
            heard(w, now);
            w->result = feed(w, packets, (unsigned)n, now);
            if (!w->ring && w->ops->release)
                w->ops->release(w->source, w->queue, packets, (unsigned)n);
        }
        if (w->result || fp_ending_after(w->ending, &drain, (unsigned)n))
            return;
    }
}

void fp_worker_run(struct fp_worker *w)
{
    int64_t before = clock_ns(CLOCK_THREAD_CPUTIME_ID);

    if (w->config->wall)
        start(w, clock_ns(CLOCK_REALTIME));
    run(w);
    fp_meter_idle(&w->meter, FP_NS_NONE);
    if (w->result)
        __atomic_store_n(&w->ending->wanted, true, __ATOMIC_RELEASE);
    if (w->ring)
        fp_ring_abandon(w->ring);
    w->cpu_ns += (uint64_t)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - before);
}

void fp_worker_finish(struct fp_worker *w, int64_t final_clock)
{
    int64_t before = clock_ns(CLOCK_THREAD_CPUTIME_ID);

    if (w->started) {
        set_export_time(w, w->config->wall ? INT64_MIN : FP_MUTANT(101, final_clock, INT64_MIN));
        fp_meter_finish(&w->meter, final_clock);
        if (FP_MUTANT(80, true, false))
            for (unsigned i = 0; i < w->nstreams; i++)
                fp_stream_finish(&w->streams[i]);
        publish(w);
    }
    w->cpu_ns += (uint64_t)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - before);
}

static int open_streams(struct fp_worker *w, const bool *asked, char *err)
{
    for (unsigned i = 0; i < w->config->nstreams; i++) {
        const struct fp_stream_config *c = &w->config->streams[i];
        int rc = c->host ? fp_udp_open(c->host, c->port, w->config->block, w->config->pace, asked, &w->transports[i], err)
                         : fp_memory_open(&w->transports[i], err);
        if (rc)
            return rc;
        rc = fp_stream_init(&w->streams[i], c->format, &w->face, w->transports[i]);
        if (rc) {
            w->transports[i]->ops->close(w->transports[i]);
            return fp_host.fail(err, rc, "out of memory for an export stream");
        }
        w->nstreams++;
    }
    return 0;
}

int fp_worker_init(struct fp_worker *w, const struct fp_config *config, unsigned index, const char *interface_name, const bool *asked,
                   char *err)
{
    bool huge = config->huge && config->profile.cache_size >= HUGE_FLOWS;
    int rc;

    *w = (struct fp_worker){.config = config, .queue = index, .backend_now = FP_NS_NONE};
    w->face = (struct fp_face){
        .config = config, .account = &w->meter.account, .interface_name = interface_name, .now = FP_NS_NONE, .worker = (uint16_t)index};
    pthread_mutex_init(&w->lock, NULL);
    w->burst = calloc(FP_MAX_BATCH, sizeof *w->burst);
    w->frames = calloc(FP_MAX_BATCH, sizeof *w->frames);
    rc = w->burst && w->frames ? fp_meter_init(&w->meter, config, index, huge, (struct fp_sink){put_record, w}) : -ENOMEM;
    if (rc) {
        fp_worker_free(w);
        return fp_host.fail(err, rc, "out of memory for a cache of %u flows; lower cache_size or the number of workers",
                            config->profile.cache_size);
    }
    rc = open_streams(w, asked, err);
    if (rc)
        fp_worker_free(w);
    return rc;
}

void fp_worker_free(struct fp_worker *w)
{
    for (unsigned i = 0; i < w->nstreams; i++) {
        fp_stream_free(&w->streams[i]);
        w->transports[i]->ops->close(w->transports[i]);
    }
    fp_meter_free(&w->meter);
    fp_ring_free(w->ring);
    fp_sequences_free(&w->sequences);
    free(w->assignment);
    free(w->burst);
    free(w->frames);
    pthread_mutex_destroy(&w->lock);
}

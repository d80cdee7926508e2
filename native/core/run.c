/* SPDX-License-Identifier: Apache-2.0
 *
 * A run: a source, its workers, their end (S-TIM-5).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "clock.h"
#include "mutant.h"
#include "ring.h"
#include "worker.h"

#define MAX_WARNINGS     8u
#define DISPATCH_WAIT_MS 100
#define PACKET_SEED      0x5EEDu /* of the tables' hash under the packet clock: equal inputs give equal outputs */

struct fp_run {
    struct fp_config config;
    const struct fp_host *host;
    const struct fp_loaded *plugin;
    struct fp_source *source;
    struct fp_caps caps;
    struct fp_worker *workers;
    unsigned nworkers;
    struct fp_own *own; /* the 5-tuples of what any of them exports */
    bool dispatch;      /* one queue, dealt out by flow hash */
    bool asked;         /* to end; a worker's error does not ask, it only stops the others */
    struct fp_ending ending;
    pthread_mutex_t asking; /* for the source's counters: its stats and xstats run one at a time */
    bool ran;
    int64_t final_clock;
    uint64_t reader_cpu_ns;
    char interface_name[64];
    char warnings[MAX_WARNINGS][256];
    unsigned nwarnings;
};

/* The last part of the input's name, as much of it as is ASCII (an IPFIX string is UTF-8). */
static void name_interface(struct fp_run *r)
{
    const char *slash = strrchr(r->config.input, '/');
    const char *from = slash && slash[1] ? slash + 1 : r->config.input;
    size_t n = 0;

    for (; *from && n < FP_NAME_LENGTH; from++)
        r->interface_name[n++] = *from >= ' ' && *from <= '~' ? *from : '?';
}

static void warn_about(struct fp_run *r, const char *text)
{
    if (r->nwarnings < MAX_WARNINGS)
        snprintf(r->warnings[r->nwarnings++], sizeof r->warnings[0], "%s", text);
}

static void warn_of_v5(struct fp_run *r)
{
    for (unsigned i = 0; i < r->config.nstreams; i++) {
        if (r->config.streams[i].format != FP_V5)
            continue;
        warn_about(r, "NetFlow v5 cannot carry IPv6: such records are counted as unrepresentable and not exported in v5 (S-INV-3)");
        if (!r->config.profile.interface_source && r->config.profile.input_interface > UINT16_MAX)
            warn_about(r, "NetFlow v5 carries only the low 16 bits of the input interface (S-EXP-6)");
        return;
    }
}

static void warn_of_source(struct fp_run *r)
{
    if (r->caps.flags & FP_CAP_COALESCES)
        warn_about(r, "the source may give merged segments as one packet: packets and octets are then too low (S-SUP-2); switch "
                      "offloads off: 'ethtool -K INTERFACE gro off lro off', on a veth 'tso off gso off' at its peer");
    if (r->caps.flags & FP_CAP_LOSES_TAGS)
        warn_about(r, "VLAN tags that the interface takes out of frames do not arrive, their VLAN is then 0 (S-LNK-2); 'ethtool -K "
                      "INTERFACE rxvlan off', on a veth also 'txvlan off' at its peer");
}

static int check(const struct fp_run *r, char *err)
{
    const struct fp_config *c = &r->config;

    if (c->workers < 1 || c->workers > FP_MAX_QUEUES)
        return fp_host.fail(err, -EINVAL, "workers: %u is not 1 to %u", c->workers, FP_MAX_QUEUES);
    if (c->batch < 1 || c->batch > FP_MAX_BATCH)
        return fp_host.fail(err, -EINVAL, "batch: %u is not 1 to %u", c->batch, FP_MAX_BATCH);
    if (c->mtu < 576)
        return fp_host.fail(err, -EINVAL, "mtu: %u is below 576", c->mtu);
    if (c->nstreams > FP_MAX_STREAMS)
        return fp_host.fail(err, -EINVAL, "collectors: %u are more than %u", c->nstreams, FP_MAX_STREAMS);
    return 0;
}

/* What depends on the opened source: a backend that can be live at best may have opened a file (S-TIM-4). */
static int settle(struct fp_run *r, char *err)
{
    struct fp_config *c = &r->config;
    bool live = (r->caps.flags & FP_CAP_LIVE) != 0;

    if (c->wall_if_live)
        c->wall = live && !c->trailer;
    if (c->wall && !live)
        return fp_host.fail(err, -EINVAL, "clock: wall needs a live source, and %s is none", c->input);
    if (c->profile.interface_source && !(r->caps.flags & FP_CAP_INTERFACE))
        return fp_host.fail(err, -ENOTSUP, "input_interface = source: backend %s does not tell the interface (S-PRO-1)", c->backend);
    if (c->block_unless_wall)
        c->block = !c->wall;
    if (c->seed_by_clock)
        c->seed = PACKET_SEED;
    if (c->seed_by_clock && c->wall && getrandom(&c->seed, sizeof c->seed, 0) != (ssize_t)sizeof c->seed)
        return fp_host.fail(err, -EIO, "no random seed from the system");
    return 0;
}

static int open_source(struct fp_run *r, char *err)
{
    const struct fp_config *c = &r->config;
    struct fp_open_args args = {
        .size = sizeof args,
        .flags = c->open_flags,
        .input = c->input,
        .snaplen = c->trailer ? 0 : c->snaplen, /* the trailer is the end of the frame */
        .filter = c->filter,
        .options = c->options,
        .noptions = c->noptions,
        .stop = &r->ending.wanted,
        .object = c->memory,
    };
    int rc = check(r, err);

    if (!rc)
        rc = fp_source_probe(r->plugin, &r->caps, err);
    if (rc)
        return rc;
    r->dispatch = c->workers > r->caps.queues;
    args.queues = r->dispatch ? 1 : c->workers;
    rc = fp_source_open(r->plugin, r->host, &args, &r->source, &r->caps, err);
    if (rc)
        return rc;
    rc = settle(r, err);
    if (rc)
        r->plugin->backend.close(r->source);
    else
        warn_of_source(r);
    return rc;
}

static int open_workers(struct fp_run *r, char *err)
{
    for (unsigned i = 0; i < r->config.workers; i++) {
        struct fp_worker *w = &r->workers[i];
        int rc = fp_worker_init(w, &r->config, i, r->interface_name, &r->asked, err);
        if (rc)
            return rc;
        r->nworkers++;
        w->ops = &r->plugin->backend;
        w->source = r->source;
        w->ending = &r->ending;
        w->visibility = r->caps.visibility == FP_NS_NONE ? 0 : r->caps.visibility;
        if (r->dispatch) {
            w->ring = fp_ring_new();
            if (!w->ring)
                return fp_host.fail(err, -ENOMEM, "out of memory");
        }
    }
    return 0;
}

static int by_ports(const void *a, const void *b)
{
    uint32_t one = ((const struct fp_own *)a)->ports, other = ((const struct fp_own *)b)->ports;

    return (one > other) - (one < other);
}

/* A live source may show every worker what any of them exports (S-VER-2). */
static int share_own(struct fp_run *r, char *err)
{
    unsigned n = 0;

    if (!(r->caps.flags & FP_CAP_LIVE) || !r->config.nstreams)
        return 0;
    r->own = calloc((size_t)r->nworkers * r->config.nstreams, sizeof *r->own);
    if (!r->own)
        return fp_host.fail(err, -ENOMEM, "out of memory");
    for (unsigned i = 0; i < r->nworkers; i++)
        for (unsigned j = 0; j < r->config.nstreams; j++)
            if (r->workers[i].transports[j]->own.kind != FP_NON_IP)
                r->own[n++] = r->workers[i].transports[j]->own;
    qsort(r->own, n, sizeof *r->own, by_ports);
    for (unsigned i = 0; i < r->nworkers; i++) {
        r->workers[i].meter.own = r->own;
        r->workers[i].meter.nown = n;
    }
    return 0;
}

int fp_run_open(const struct fp_config *config, struct fp_run **out, char *err)
{
    struct fp_run *r = calloc(1, sizeof *r);
    int rc;

    if (!r)
        return fp_host.fail(err, -ENOMEM, "out of memory");
    r->config = *config;
    pthread_mutex_init(&r->asking, NULL);
    r->host = config->trailer ? &fp_replay_host : &fp_host;
    r->final_clock = FP_NS_NONE;
    r->plugin = fp_load(config->backend, err);
    rc = r->plugin ? 0 : -errno;
    if (rc)
        goto out_run;
    if (!r->plugin->backend.name) {
        rc = fp_host.fail(err, -ENOTSUP, "backend %s: it only transmits", config->backend);
        goto out_run;
    }
    name_interface(r);
    warn_of_v5(r);
    rc = open_source(r, err);
    if (rc)
        goto out_run;
    r->workers = calloc(config->workers, sizeof *r->workers);
    rc = r->workers ? open_workers(r, err) : fp_host.fail(err, -ENOMEM, "out of memory");
    if (!rc)
        rc = share_own(r, err);
    if (rc) {
        fp_run_close(r);
        return rc;
    }
    *out = r;
    return 0;

out_run:
    free(r);
    return rc;
}

void fp_run_close(struct fp_run *r)
{
    for (unsigned i = 0; i < r->nworkers; i++)
        fp_worker_free(&r->workers[i]);
    r->plugin->backend.close(r->source);
    free(r->workers);
    free(r->own);
    free(r);
}

void fp_run_stop(struct fp_run *r)
{
    __atomic_store_n(&r->asked, true, __ATOMIC_RELEASE);
    __atomic_store_n(&r->ending.wanted, true, __ATOMIC_RELEASE);
}

/* Reads the one queue and deals its frames out; the same flow always meets the same worker (S-CMP-2). */
static int dispatch(struct fp_run *r, char *err)
{
    const struct fp_backend_ops *ops = &r->plugin->backend;
    struct fp_packet burst[64];
    struct fp_drain drain = {0};
    int n = 0, rc = 0;

    do {
        int64_t now = FP_NS_NONE;
        int wait = fp_ending_before(&r->ending, &drain, ops, r->source, DISPATCH_WAIT_MS, err);
        if (wait < 0)
            return 0;
        n = ops->recv(r->source, 0, burst, sizeof burst / sizeof *burst, wait, &now, err);
        if (n < 0)
            return n == FP_END ? 0 : n;
        for (int i = 0; i < n && !rc; i++) {
            unsigned to = r->nworkers > 1 ? r->host->flow_hash(&burst[i]) % r->nworkers : 0;
            if (!fp_ring_put(r->workers[FP_MUTANT(81, to, (unsigned)i % r->nworkers)].ring, &burst[i]))
                rc = fp_host.fail(err, -ENOMEM, "out of memory");
        }
        if (n && ops->release)
            ops->release(r->source, 0, burst, (unsigned)n);
        if (n == 0)
            for (unsigned i = 0; i < r->nworkers; i++)
                fp_ring_flush(r->workers[i].ring, now);
    } while (!rc && !fp_ending_after(&r->ending, &drain, (unsigned)n));
    return rc;
}

static void *run_thread(void *worker)
{
    fp_worker_run(worker);
    return NULL;
}

struct finishing {
    struct fp_worker *worker;
    int64_t clock;
};

static void *finish_thread(void *argument)
{
    const struct finishing *f = argument;

    fp_worker_finish(f->worker, f->clock);
    return NULL;
}

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int run_workers(struct fp_run *r, char *err)
{
    unsigned running = 0;
    int rc = 0;

    if (r->nworkers == 1 && !r->dispatch) {
        fp_worker_run(&r->workers[0]);
        return 0;
    }
    for (; running < r->nworkers; running++) {
        rc = -pthread_create(&r->workers[running].thread, NULL, run_thread, &r->workers[running]);
        if (rc) {
            fp_host.fail(err, rc, "no thread for worker %u: %s", running, strerror(-rc));
            fp_run_stop(r);
            break;
        }
    }
    if (r->dispatch) {
        uint64_t before = cpu_ns();
        if (!rc)
            rc = dispatch(r, err);
        for (unsigned i = 0; i < r->nworkers; i++)
            fp_ring_end(r->workers[i].ring);
        r->reader_cpu_ns += cpu_ns() - before;
    }
    for (unsigned i = 0; i < running; i++)
        pthread_join(r->workers[i].thread, NULL);
    return rc;
}

/* S-TIM-5 */
static void finish_workers(struct fp_run *r)
{
    struct finishing finishing[FP_MAX_QUEUES];
    bool threaded[FP_MAX_QUEUES];
    int64_t clock = INT64_MIN;

    for (unsigned i = 0; i < r->nworkers; i++) {
        const struct fp_meter *m = &r->workers[i].meter;
        clock = FP_MUTANT(106, fp_max(clock, m->newest), m->newest);
        if (r->config.wall)
            clock = fp_max(clock, m->clock);
    }
    if (clock == INT64_MIN && !r->config.wall)
        return; /* S-TIM-7 */
    r->final_clock = clock;
    for (unsigned i = 0; i < r->nworkers; i++) {
        finishing[i] = (struct finishing){&r->workers[i], FP_MUTANT(82, clock, r->workers[i].meter.newest)};
        threaded[i] = r->nworkers > 1 && pthread_create(&r->workers[i].thread, NULL, finish_thread, &finishing[i]) == 0;
        if (!threaded[i])
            finish_thread(&finishing[i]);
    }
    for (unsigned i = 0; i < r->nworkers; i++)
        if (threaded[i])
            pthread_join(r->workers[i].thread, NULL);
}

int fp_run_loop(struct fp_run *r, char *err)
{
    int rc;

    if (r->ran)
        return fp_host.fail(err, -EALREADY, "a run can be run once");
    r->ran = true;
    rc = run_workers(r, err);
    finish_workers(r);
    if (r->ending.cut)
        warn_about(r, "the source did not say its end after the stop; what it had accepted and still held is lost");
    for (unsigned i = 0; i < r->nworkers && !rc; i++) {
        rc = r->workers[i].result;
        if (rc)
            fp_host.fail(err, rc, "%s", r->workers[i].err);
    }
    return rc;
}

void fp_run_snapshot(struct fp_run *r, unsigned worker, struct fp_account *account, struct fp_stream_account *streams)
{
    struct fp_published p;

    fp_worker_published(&r->workers[worker], &p);
    *account = p.account;
    memcpy(streams, p.streams, r->config.nstreams * sizeof *streams);
}

void fp_run_source_stats(struct fp_run *r, struct fp_stats *out)
{
    *out = (struct fp_stats){.received = UINT64_MAX, .dropped = UINT64_MAX};
    pthread_mutex_lock(&r->asking);
    r->plugin->backend.stats(r->source, out);
    pthread_mutex_unlock(&r->asking);
}

int fp_run_xstats(struct fp_run *r, char *text, size_t len)
{
    int rc;

    pthread_mutex_lock(&r->asking);
    rc = r->plugin->backend.xstats(r->source, text, len);
    pthread_mutex_unlock(&r->asking);
    return rc;
}

void fp_run_caps(const struct fp_run *r, struct fp_caps *out)
{
    *out = r->caps;
}

int64_t fp_run_final_clock(const struct fp_run *r)
{
    return r->final_clock;
}

void fp_run_totals(const struct fp_run *r, struct fp_totals *out)
{
    const struct fp_sequences *sets[FP_MAX_QUEUES];
    uint64_t end = 0, distinct;

    *out = (struct fp_totals){.cpu_ns = r->reader_cpu_ns};
    for (unsigned i = 0; i < r->nworkers; i++) {
        const struct fp_worker *w = &r->workers[i];
        out->cpu_ns += w->cpu_ns;
        out->trailers += w->trailers;
        out->strays += w->strays;
        sets[i] = &w->sequences;
        if (w->sequences.end > end)
            end = w->sequences.end;
    }
    distinct = fp_sequences_united(sets, r->nworkers);
    out->lost = end - distinct;
    out->doubled = out->trailers - distinct;
}

const uint64_t *fp_run_assignment(const struct fp_run *r, unsigned worker, size_t *count)
{
    *count = r->workers[worker].assigned;
    return r->workers[worker].assignment;
}

const uint8_t *fp_run_datagram(const struct fp_run *r, unsigned worker, unsigned stream, size_t index, size_t *len)
{
    return fp_memory_message(r->workers[worker].transports[stream], index, len);
}

const char *fp_run_warning(const struct fp_run *r, unsigned index)
{
    return index < r->nwarnings ? r->warnings[index] : NULL;
}

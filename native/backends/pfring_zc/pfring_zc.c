/* SPDX-License-Identifier: Apache-2.0
 *
 * PF_RING ZC: kernel bypass by ntop. The library is closed and licensed by its maker; this project neither ships nor builds against it: it
 * is opened at run time from the path in the option `library`, in FLOWPARITY_PFRING_LIBRARY, or as libpfring.so.
 *
 * What the framework is, and what follows:
 *  - recv_pkt_burst swaps the handles it is given for those of the received buffers: the frames of a burst are in the array afterwards,
 * wherever their data lies, and stay until the same handles are offered again.
 *  - A packet has a time only when the device was opened with a timestamp flag; otherwise it is 0, which is "unknown" and not 1970.
 *  - The FCS stays in the frame only when asked for (`fcs=keep`); it is cut here, because no length in this project counts it.
 *  - A receive either returns at once or blocks without a limit of time; only queue_breakloop, from another thread, ends it early. With
 * `wait=block` a thread of the source does that for every receive that has waited long enough, again and again, because a break that finds
 * nobody blocked may be lost; one that is kept instead makes the next receive fail, which is no failure of the device.
 *  - A device of the name `zc:…` needs ntop's driver; without a licence it delivers for five minutes.
 */
#include "../machine.h"
#include "flowparity/backend.h"
#include "flowparity/pfring_abi.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BURST            64u
#define QUEUE_BUFFERS    32768u /* what a device may hold in its descriptors */
#define FCS              4u
#define DEFAULT_MTU_ROOM 1536u
#define LARGEST_BUFFER   16384u
#define NS_PER_S         INT64_C(1000000000)
#define WAKER_PERIOD     5000000 /* nanoseconds */

/* Seeded misbehaviours (tests only): each is one wrong expression, compiled in by -DFP_PFRING_FAULT=n, which stand-in or suite must catch.
 */
#ifndef FP_PFRING_FAULT
#define FP_PFRING_FAULT 0
#endif
#define FAULT(n, good, bad) (FP_PFRING_FAULT == (n) ? (bad) : (good))

typedef struct pfring_zc_pkt_buff handle;

/* The functions of the library, in the order of `names`. */
struct library {
    void *object;
    pfring_zc_cluster *(*create_cluster)(uint32_t id, uint32_t buffer_len, uint32_t metadata_len, uint32_t buffers, int32_t numa_node,
                                         const char *hugepages, uint32_t flags);
    void (*destroy_cluster)(pfring_zc_cluster *);
    pfring_zc_queue *(*open_device)(pfring_zc_cluster *, const char *name, int mode, uint32_t flags);
    void (*close_device)(pfring_zc_queue *);
    handle *(*get_packet_handle)(pfring_zc_cluster *);
    void (*release_packet_handle)(pfring_zc_cluster *, handle *);
    int (*recv_pkt_burst)(pfring_zc_queue *, handle **, uint32_t max, uint8_t wait);
    uint8_t *(*pkt_buff_data)(handle *, pfring_zc_queue *);
    int (*stats)(pfring_zc_queue *, struct pfring_zc_stat *);
    int (*set_bpf_filter)(pfring_zc_queue *, const char *);
    void (*queue_breakloop)(pfring_zc_queue *);
};

struct queue {
    pfring_zc_queue *zc;
    handle *handles[BURST];
    uint64_t received;
    int64_t until; /* when a blocked receive is to be ended, CLOCK_MONOTONIC; 0: none is blocked */
    bool broken;   /* it was, or is about to be */
    bool finished;
};

struct fp_source {
    const struct fp_host *host;
    struct library lib;
    pfring_zc_cluster *cluster;
    unsigned nqueues;
    uint32_t fcs;
    bool wait; /* receives block */
    bool woken, stopping, closing;
    pthread_t waker; /* if `woken` */
    struct queue queues[FP_MAX_QUEUES];
};

static const char *library_path(const struct fp_host *host, const struct fp_open_args *args)
{
    const char *path = args == NULL ? NULL : host->option(args, "library");
    if (path == NULL)
        path = getenv("FLOWPARITY_PFRING_LIBRARY");
    return path == NULL ? "libpfring.so" : path;
}

static int load(const struct fp_host *host, const char *path, struct library *lib, char *err)
{
    struct {
        const char *name;
        void *slot;
    } functions[] = {
        {"pfring_zc_create_cluster", &lib->create_cluster},
        {"pfring_zc_destroy_cluster", &lib->destroy_cluster},
        {"pfring_zc_open_device", &lib->open_device},
        {"pfring_zc_close_device", &lib->close_device},
        {"pfring_zc_get_packet_handle", &lib->get_packet_handle},
        {"pfring_zc_release_packet_handle", &lib->release_packet_handle},
        {"pfring_zc_recv_pkt_burst", &lib->recv_pkt_burst},
        {"pfring_zc_pkt_buff_data", &lib->pkt_buff_data},
        {"pfring_zc_stats", &lib->stats},
        {"pfring_zc_set_bpf_filter", &lib->set_bpf_filter},
        {"pfring_zc_queue_breakloop", &lib->queue_breakloop},
    };
    lib->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (lib->object == NULL)
        return host->fail(
            err, -ENOENT,
            "pfring_zc: %s; install PF_RING (docs/pf_ring.md) and name its library with FLOWPARITY_PFRING_LIBRARY=/path/libpfring.so",
            dlerror());
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *function = dlsym(lib->object, functions[i].name);
        if (function == NULL) {
            dlclose(lib->object);
            return host->fail(err, -ENOSYS, "pfring_zc: %s has no %s; it was built without ZC: install the library of ntop's packages",
                              path, functions[i].name);
        }
        memcpy(functions[i].slot, &function, sizeof function);
    }
    return 0;
}

static void describe(const struct library *lib, struct fp_caps *caps, uint32_t flags)
{
    bool stamped = (flags & (PFRING_ZC_SW_TIMESTAMP | PFRING_ZC_HW_TIMESTAMP)) != 0;
    *caps = (struct fp_caps){
        .size = sizeof *caps,
        .flags = FP_CAP_LIVE | FP_CAP_DROPS_KNOWN,
        .tier =
            dlsym(lib->object, "fp_pfring_sim") != NULL ? FP_TIER_SIM : machine_tier(FP_TIER_HW), /* only the stand-in has that symbol */
        .ts_source = (flags & PFRING_ZC_HW_TIMESTAMP) != 0 ? FP_TS_HARDWARE : FP_TS_SOFTWARE,
        .queues = FP_MAX_QUEUES,
        .max_frame = LARGEST_BUFFER,
        .ts_resolution = 1,
        .ts_tolerance = stamped ? INT64_C(1000000) : FP_NS_NONE,
        .visibility = 0,
    };
}

static int zc_probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    struct library lib;
    int status = load(host, library_path(host, NULL), &lib, err);
    if (status < 0)
        return status;
    describe(&lib, caps, PFRING_ZC_SW_TIMESTAMP);
    dlclose(lib.object);
    return 0;
}

struct choices {
    uint32_t cluster, buffer, flags;
    bool block;
};

static int parse_options(const struct fp_host *host, const struct fp_open_args *args, struct choices *out, char *err)
{
    *out = (struct choices){
        .cluster = 99, .buffer = DEFAULT_MTU_ROOM, .flags = (args->flags & FP_OPEN_PROMISCUOUS) != 0 ? 0 : PFRING_ZC_NOT_PROMISC};
    if (args->flags & FP_OPEN_BUSY_POLL)
        return host->fail(err, -EINVAL, "pfring_zc: it does not poll busily; leave --busy-poll out");
    out->flags |= PFRING_ZC_SW_TIMESTAMP;
    for (uint32_t i = 0; i < args->noptions; i++) {
        const char *key = args->options[i].key, *value = args->options[i].value;
        if (strcmp(key, "library") == 0)
            continue;
        if (strcmp(key, "cluster") == 0)
            out->cluster = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(key, "buffer") == 0)
            out->buffer = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(key, "time") == 0 && strcmp(value, "hardware") == 0)
            out->flags = (out->flags & ~PFRING_ZC_SW_TIMESTAMP) | PFRING_ZC_HW_TIMESTAMP;
        else if (strcmp(key, "time") == 0 && strcmp(value, "none") == 0)
            out->flags &= ~PFRING_ZC_SW_TIMESTAMP;
        else if (strcmp(key, "fcs") == 0 && strcmp(value, "keep") == 0)
            out->flags |= PFRING_ZC_DO_NOT_STRIP_FCS;
        else if (strcmp(key, "wait") == 0 && (strcmp(value, "block") == 0 || strcmp(value, "spin") == 0))
            out->block = strcmp(value, "block") == 0;
        else if (!(strcmp(key, "time") == 0 && strcmp(value, "software") == 0))
            return host->fail(
                err, -EINVAL,
                "pfring_zc: unknown option '%s=%s'; known: library=PATH, cluster=ID, buffer=OCTETS, time=software|hardware|none, fcs=keep, "
                "wait=spin|block",
                key, value);
    }
    if (out->buffer < 64 || out->buffer > LARGEST_BUFFER)
        return host->fail(err, -EINVAL, "pfring_zc: buffer=%u is not 64 to %u octets (MTU and link header)", out->buffer, LARGEST_BUFFER);
    return 0;
}

static int explain_cluster(const struct fp_host *host, int code, uint32_t id, char *err)
{
    if (code == ENOBUFS || code == ENOMEM)
        return host->fail(err, -ENODEV,
                          "pfring_zc: no hugepages for the buffers: `echo 1024 > /proc/sys/vm/nr_hugepages` and `mount -t hugetlbfs none "
                          "/dev/hugepages`");
    if (code == EBUSY || code == EEXIST)
        return host->fail(err, -EBUSY, "pfring_zc: cluster %u is in use by another program: choose another with cluster=ID", id);
    return host->fail(err, code > 0 ? -code : -EIO, "pfring_zc: cannot create cluster %u: %s", id, strerror(code));
}

static int explain_device(const struct fp_host *host, int code, const char *name, char *err)
{
    if (code == ENOTSOCK || code == ENOTSUP)
        return host->fail(
            err, -ENOTSUP,
            "pfring_zc: '%s' has no ZC driver loaded: load ntop's driver for this card, or leave out 'zc:' for the 1-copy mode", name);
    if (code == ENODEV || code == ENOENT)
        return host->fail(err, -ENODEV,
                          "pfring_zc: no device '%s': name an interface that `ip link` shows, and load pf_ring.ko (docs/pf_ring.md)", name);
    if (code == EBUSY)
        return host->fail(err, -EBUSY, "pfring_zc: '%s' is in use by another program: close that one first", name);
    if (code == EACCES || code == EPERM)
        return host->fail(err, -EPERM, "pfring_zc: no permission to open '%s': run as root", name);
    return host->fail(err, code > 0 ? -code : -EIO, "pfring_zc: cannot open '%s': %s", name, strerror(code));
}

static int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Ends every receive that has been blocked for long enough, and all of them once the source is stopping. */
static void *wake(void *argument)
{
    struct fp_source *source = argument;
    while (!__atomic_load_n(&source->closing, __ATOMIC_ACQUIRE)) {
        for (unsigned q = 0; q < source->nqueues; q++) {
            struct queue *queue = &source->queues[q];
            int64_t until = __atomic_load_n(&queue->until, __ATOMIC_ACQUIRE);
            if (until == 0 || (monotonic_ns() < until && !__atomic_load_n(&source->stopping, __ATOMIC_ACQUIRE)))
                continue;
            __atomic_store_n(&queue->broken, true, __ATOMIC_RELEASE);
            source->lib.queue_breakloop(queue->zc);
        }
        nanosleep(&(struct timespec){.tv_nsec = WAKER_PERIOD}, NULL);
    }
    return NULL;
}

static void zc_close(struct fp_source *source)
{
    if (source->woken) {
        __atomic_store_n(&source->closing, true, __ATOMIC_RELEASE);
        pthread_join(source->waker, NULL);
    }
    if (FAULT(11, false, source->cluster != NULL))
        source->lib.destroy_cluster(source->cluster); /* 11: the cluster before its devices */
    for (unsigned q = 0; q < source->nqueues; q++) {
        if (source->queues[q].zc != NULL)
            source->lib.close_device(source->queues[q].zc);
        for (unsigned i = 0; i < BURST && source->queues[q].handles[i] != NULL; i++)
            source->lib.release_packet_handle(source->cluster, source->queues[q].handles[i]);
    }
    if (source->cluster != NULL)
        source->lib.destroy_cluster(source->cluster);
    if (source->lib.object != NULL)
        dlclose(source->lib.object);
    free(source);
}

static int open_queue(struct fp_source *source, const struct fp_open_args *args, unsigned q, uint32_t flags, char *err)
{
    struct queue *queue = &source->queues[q];
    char name[256];
    snprintf(name, sizeof name, args->queues > 1 ? "%s@%u" : "%s", args->input, q);
    errno = 0;
    queue->zc = source->lib.open_device(source->cluster, name, PFRING_ZC_RX_ONLY, flags);
    if (queue->zc == NULL)
        return explain_device(source->host, errno, name, err);
    for (unsigned i = 0; i < BURST; i++) {
        queue->handles[i] = source->lib.get_packet_handle(source->cluster);
        if (queue->handles[i] == NULL)
            return source->host->fail(err, -EBUSY,
                                      "pfring_zc: the cluster's buffers are used up: raise the hugepages or ask for fewer workers");
    }
    if (args->filter != NULL && source->lib.set_bpf_filter(queue->zc, args->filter) < 0)
        return source->host->fail(err, -EINVAL, "pfring_zc: the filter '%s' was refused for '%s'", args->filter, name);
    return 0;
}

static int zc_open(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    struct choices choices;
    int status = parse_options(host, args, &choices, err);
    if (status < 0)
        return status;
    struct fp_source *source = calloc(1, sizeof *source);
    if (source == NULL)
        return host->fail(err, -ENOMEM, "pfring_zc: out of memory");
    source->host = host;
    source->fcs = (choices.flags & PFRING_ZC_DO_NOT_STRIP_FCS) != 0 ? FCS : 0;
    status = load(host, library_path(host, args), &source->lib, err);
    if (status < 0) {
        free(source);
        return status;
    }
    errno = 0;
    uint32_t room = choices.buffer + source->fcs;
    source->cluster = source->lib.create_cluster(choices.cluster, room, 0, args->queues * (QUEUE_BUFFERS + BURST), -1, NULL, 0);
    if (source->cluster == NULL) {
        status = explain_cluster(host, errno, choices.cluster, err);
        goto out;
    }
    for (unsigned q = 0; q < args->queues; q++) {
        source->nqueues++;
        status = open_queue(source, args, q, choices.flags, err);
        if (status < 0)
            goto out;
    }
    if (choices.block && FAULT(7, true, false)) { /* 7: nobody ends a blocked receive */
        if (pthread_create(&source->waker, NULL, wake, source) != 0) {
            status = host->fail(err, -EAGAIN, "pfring_zc: no thread can be started");
            goto out;
        }
        source->woken = true;
    }
    source->wait = choices.block;
    describe(&source->lib, caps, choices.flags);
    caps->queues = args->queues;
    caps->max_frame = choices.buffer;
    *out = source;
    return 0;
out:
    zc_close(source);
    return status;
}

static int64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void fill(const struct fp_source *source, unsigned q, handle *from, struct fp_packet *packet)
{
    uint32_t fcs = FAULT(4, source->fcs, 0u); /* 4: counts the FCS */
    uint32_t len = from->len > fcs ? from->len - fcs : 0;
    bool timed = FAULT(5, from->ts.sec != 0 || from->ts.nsec != 0, true); /* 5: takes "no time" for 1970 */
    *packet = (struct fp_packet){
        .data = FAULT(3, source->lib.pkt_buff_data(from, source->queues[q].zc),
                      (uint8_t *)(from + 1)), /* 3: believes that data follows its handle */
        .len = len,
        .caplen = len,
        .wirelen = len,
        .link = FP_LINK_ETHERNET,
        .ts_source = FP_TS_SOFTWARE,
        .ts_ns = timed ? from->ts.sec * NS_PER_S + from->ts.nsec : FP_NS_NONE,
        .rss = from->hash,
        .queue = (uint16_t)q,
        .seq = FP_SEQ_NONE,
    };
}

/* One receive of the library, for at most `wait_ns`. Returns the number of packets, 0 when there were none, or -1 when the device delivers
 * no more. */
static int receive(struct fp_source *source, struct queue *queue, unsigned max, int64_t wait_ns)
{
    bool block = source->wait && wait_ns > 0;
    handle *before[BURST];
    memcpy(before, queue->handles, sizeof before);
    if (block)
        __atomic_store_n(&queue->until, monotonic_ns() + wait_ns, __ATOMIC_RELEASE);
    int count = source->lib.recv_pkt_burst(queue->zc, queue->handles, max, block);
    __atomic_store_n(&queue->until, 0, __ATOMIC_RELEASE);
    if (FAULT(1, false, true))
        memcpy(queue->handles, before, sizeof before); /* 1: ignores that the handles were swapped */
    bool broken = count < 0 && __atomic_exchange_n(&queue->broken, false, __ATOMIC_ACQ_REL);
    return broken && FAULT(8, true, false) ? 0 : count; /* 8: takes the end of a blocked receive for the end of the device */
}

static int zc_recv(struct fp_source *source, unsigned q, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns, char *err)
{
    struct queue *queue = &source->queues[q];
    int64_t give_up = monotonic_ns() + wait_ms * INT64_C(1000000);
    if (max > BURST)
        max = BURST;
    if (queue->finished)
        return FP_END;
    if (FAULT(10, false, true))
        queue->handles[0] = &(handle){0}; /* 10: offers a handle of its own making */
    for (;;) {
        bool last = __atomic_load_n(&source->stopping, __ATOMIC_ACQUIRE);
        int64_t left = last ? 0 : give_up - monotonic_ns();
        int count = receive(source, queue, max, left);
        if (count < 0)
            return source->host->fail(err, -ENODEV,
                                      "pfring_zc: the device stopped delivering: without a licence a 'zc:' device ends after five minutes "
                                      "(docs/pf_ring.md); otherwise check `ip link`");
        for (int i = 0; i < count; i++)
            fill(source, q, queue->handles[i], &packets[i]);
        if (FAULT(2, false, count > 0))
            source->lib.release_packet_handle(source->cluster, queue->handles[0]); /* 2: releases what the core still reads */
        if (FAULT(9, false, count > 0))
            queue->handles[0] = source->lib.get_packet_handle(source->cluster); /* 9: takes a new handle and leaks the one it had */
        __atomic_fetch_add(&queue->received, (unsigned)count, __ATOMIC_RELAXED);
        if (count > 0)
            return count;
        if (last) {
            queue->finished = true;
            return FP_END;
        }
        if (left <= 0) {
            *now_ns = wall_ns();
            return 0;
        }
        sched_yield();
    }
}

/* No release op: a burst's buffers stay ours until their handles are offered to the next receive. */

static int zc_stop(struct fp_source *source, char *err)
{
    (void)err;
    __atomic_store_n(&source->stopping, true, __ATOMIC_RELEASE); /* the waker ends what is blocked, until it is over */
    return 0;
}

static int zc_stats(struct fp_source *source, struct fp_stats *stats)
{
    *stats = (struct fp_stats){0};
    for (unsigned q = 0; q < source->nqueues; q++)
        stats->received += __atomic_load_n(&source->queues[q].received, __ATOMIC_RELAXED);
    for (unsigned q = 0; q < source->nqueues; q++) {
        struct pfring_zc_stat one;
        if (source->lib.stats(source->queues[q].zc, &one) < 0) {
            stats->dropped = UINT64_MAX;
            return 0;
        }
        stats->dropped += FAULT(6, one.drop, UINT64_C(0)); /* 6: hides the loss */
        if (FAULT(12, false, true))
            stats->received = one.recv; /* 12: believes the library's count, whatever it counts */
    }
    return 0;
}

static const struct fp_backend_ops pfring_zc_backend = {
    .abi = FP_ABI,
    .size = sizeof(struct fp_backend_ops),
    .name = "pfring_zc",
    .summary = "PF_RING ZC devices through a libpfring.so of yours",
    .probe = zc_probe,
    .open = zc_open,
    .recv = zc_recv,
    .stop = zc_stop,
    .stats = zc_stats,
    .close = zc_close,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .backend = &pfring_zc_backend};

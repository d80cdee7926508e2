/* SPDX-License-Identifier: Apache-2.0
 *
 * PF_RING, the ordinary interface: pf_ring.ko and libpfring (GPL and LGPL) on any driver. The library is opened at run time, as for
 * pfring_zc.
 *
 * What the framework is, and what follows:
 *  - A received frame stays in the ring only until the next receive, so a burst is copied out of it.
 *  - The kernel puts a stripped tag back, as 0x8100 whatever it was; a stripped tag whose TCI is 0 is lost (upstream behaviour; the
 * capability says so in docs/pf_ring.md).
 *  - PF_RING sees frames after GRO: with GRO on, merged TCP segments count as one packet. The capability says so; `ethtool -K eth0 gro off
 * lro off` mends it.
 *  - extended_hdr.timestamp_ns holds nanoseconds when the library fills the long header; the struct timeval beside it only microseconds.
 *  - The captured length in the header is that of the capture, whatever the length of the buffer given to receive.
 *  - poll sleeps until 128 packets wait, unless told otherwise, and says 0 even when some do: whatever it says, the ring is looked at.
 *  - The library counts what it has handed out in its own way: only its count of lost frames is taken.
 */
#include "../machine.h"
#include "flowparity/backend.h"
#include "flowparity/pfring_abi.h"

#include <dlfcn.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BURST    64u
#define ROOM     65536u /* octets for one frame */
#define NS_PER_S INT64_C(1000000000)

/* Seeded misbehaviours (tests only): each is one wrong expression, compiled in by -DFP_RING_FAULT=n, which stand-in or suite must catch. */
#ifndef FP_RING_FAULT
#define FP_RING_FAULT 0
#endif
#define FAULT(n, good, bad) (FP_RING_FAULT == (n) ? (bad) : (good))

struct library {
    void *object;
    pfring_ring *(*open)(const char *device, uint32_t caplen, uint32_t flags);
    void (*close)(pfring_ring *);
    int (*recv)(pfring_ring *, uint8_t **buffer, unsigned len, struct pfring_header *, uint8_t wait);
    int (*poll)(pfring_ring *, unsigned wait_ms);
    int (*stats)(pfring_ring *, struct pfring_stat *);
    int (*enable_ring)(pfring_ring *);
    int (*set_direction)(pfring_ring *, int direction);
    int (*set_bpf_filter)(pfring_ring *, const char *);
    int (*set_poll_watermark)(pfring_ring *, uint16_t packets);
    void (*breakloop)(pfring_ring *);
};

struct queue {
    pfring_ring *ring;
    uint8_t *arena; /* BURST frames of ROOM octets; only the pages that frames touch are ever real */
    uint64_t received;
    bool finished;
};

struct fp_source {
    const struct fp_host *host;
    struct library lib;
    unsigned nqueues;
    bool stopping;
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
        {"pfring_open", &lib->open},
        {"pfring_close", &lib->close},
        {"pfring_recv", &lib->recv},
        {"pfring_poll", &lib->poll},
        {"pfring_stats", &lib->stats},
        {"pfring_enable_ring", &lib->enable_ring},
        {"pfring_set_direction", &lib->set_direction},
        {"pfring_set_bpf_filter", &lib->set_bpf_filter},
        {"pfring_set_poll_watermark", &lib->set_poll_watermark},
        {"pfring_breakloop", &lib->breakloop},
    };
    lib->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (lib->object == NULL)
        return host->fail(
            err, -ENOENT,
            "pfring: %s; build and install libpfring (docs/pf_ring.md) and name it with FLOWPARITY_PFRING_LIBRARY=/path/libpfring.so",
            dlerror());
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *function = dlsym(lib->object, functions[i].name);
        if (function == NULL) {
            dlclose(lib->object);
            return host->fail(err, -ENOSYS, "pfring: %s has no %s; it is no libpfring, or too old a one", path, functions[i].name);
        }
        memcpy(functions[i].slot, &function, sizeof function);
    }
    return 0;
}

static void describe(const struct library *lib, struct fp_caps *caps)
{
    *caps = (struct fp_caps){
        .size = sizeof *caps,
        .flags = FP_CAP_LIVE | FP_CAP_DROPS_KNOWN | FP_CAP_INTERFACE | FP_CAP_WIRE_LENGTH,
        .tier = dlsym(lib->object, "fp_pfring_sim") != NULL ? FP_TIER_SIM
                                                            : machine_tier(FP_TIER_KERNEL), /* only the stand-in has that symbol */
        .ts_source = FP_TS_KERNEL,
        .queues = FP_MAX_QUEUES,
        .max_frame = ROOM,
        .ts_resolution = 1,
        .ts_tolerance = INT64_C(10000000),
        .visibility = INT64_C(10000000),
    };
}

static int ring_probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    struct library lib;
    int status = load(host, library_path(host, NULL), &lib, err);
    if (status < 0)
        return status;
    describe(&lib, caps);
    bool real = caps->tier != FP_TIER_SIM;
    dlclose(lib.object);
    FILE *module = real ? fopen("/proc/net/pf_ring/info", "r") : NULL;
    if (real && module == NULL)
        return host->fail(err, -ENODEV, "pfring: pf_ring.ko is not loaded; build it (docs/pf_ring.md) and load it with `modprobe pf_ring`");
    if (module != NULL)
        fclose(module);
    return 0;
}

static void ring_close(struct fp_source *source)
{
    for (unsigned q = 0; q < source->nqueues; q++) {
        if (source->queues[q].ring != NULL)
            source->lib.close(source->queues[q].ring);
        free(source->queues[q].arena);
    }
    if (source->lib.object != NULL)
        dlclose(source->lib.object);
    free(source);
}

static int open_queue(struct fp_source *source, const struct fp_open_args *args, unsigned q, char *err)
{
    struct queue *queue = &source->queues[q];
    const struct fp_host *host = source->host;
    char name[256];
    snprintf(name, sizeof name, args->queues > 1 ? "%s@%u" : "%s", args->input, q);
    uint32_t flags = FAULT(7, PFRING_LONG_HEADER, 0u) | PFRING_TIMESTAMP | /* 7: expects nanoseconds that it did not ask for */
                     ((args->flags & FP_OPEN_PROMISCUOUS) != 0 ? PFRING_PROMISC : 0);
    queue->arena = malloc((size_t)BURST * ROOM);
    if (queue->arena == NULL)
        return host->fail(err, -ENOMEM, "pfring: out of memory");
    errno = 0;
    queue->ring = source->lib.open(name, args->snaplen == 0 ? ROOM : args->snaplen, flags);
    if (queue->ring == NULL) {
        int code = errno;
        if (code == EPERM || code == EACCES)
            return host->fail(err, -EPERM, "pfring: no permission to open '%s': run as root or with CAP_NET_ADMIN", name);
        if (code == EPROTONOSUPPORT || code == EAFNOSUPPORT || code == EPROTOTYPE)
            return host->fail(err, -ENODEV, "pfring: pf_ring.ko is not loaded: `modprobe pf_ring`");
        if (code == EBUSY)
            return host->fail(err, -EBUSY, "pfring: '%s' is in use by another program: close that one first", name);
        /* EINVAL is what the module says of an interface that it does not know */
        return host->fail(err, -ENODEV, "pfring: cannot open '%s' (%s): name an interface that `ip link` shows", name,
                          strerror(code > 0 ? code : ENODEV));
    }
    if (args->filter != NULL && source->lib.set_bpf_filter(queue->ring, args->filter) < 0)
        return host->fail(err, -EINVAL, "pfring: the filter '%s' was refused", args->filter);
    if (FAULT(5, true, false)) /* 5: hears what this machine sends, too */
        source->lib.set_direction(queue->ring, PFRING_RX_ONLY_DIRECTION);
    source->lib.set_poll_watermark(queue->ring, 1);
    if (FAULT(4, true, false) && source->lib.enable_ring(queue->ring) < 0) /* 4: receives before the ring is enabled */
        return host->fail(err, -EIO, "pfring: '%s' cannot be enabled: check that the interface is up", name);
    return 0;
}

/* Whether the kernel merges received TCP segments before PF_RING sees them, which nothing in a packet's header tells afterwards. False for
 * what is no interface. */
static bool coalesces(const char *device)
{
    struct ethtool_value gro = {.cmd = ETHTOOL_GGRO}, flags = {.cmd = ETHTOOL_GFLAGS};
    struct ifreq request = {0};
    size_t length = strcspn(device, "@");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    if (length < sizeof request.ifr_name) {
        memcpy(request.ifr_name, device, length);
        request.ifr_data = (char *)&gro;
        if (ioctl(fd, SIOCETHTOOL, &request) < 0)
            gro.data = 0;
        request.ifr_data = (char *)&flags;
        if (ioctl(fd, SIOCETHTOOL, &request) < 0)
            flags.data = 0;
    }
    close(fd);
    return gro.data != 0 || (flags.data & ETH_FLAG_LRO) != 0;
}

static int ring_open(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    if (args->flags & FP_OPEN_BUSY_POLL)
        return host->fail(err, -EINVAL, "pfring: it does not poll busily; leave --busy-poll out");
    for (uint32_t i = 0; i < args->noptions; i++)
        if (strcmp(args->options[i].key, "library") != 0)
            return host->fail(err, -EINVAL, "pfring: unknown option '%s'; known: library=PATH", args->options[i].key);
    struct fp_source *source = calloc(1, sizeof *source);
    if (source == NULL)
        return host->fail(err, -ENOMEM, "pfring: out of memory");
    source->host = host;
    int status = load(host, library_path(host, args), &source->lib, err);
    if (status < 0) {
        free(source);
        return status;
    }
    for (unsigned q = 0; q < args->queues; q++) {
        source->nqueues++;
        status = open_queue(source, args, q, err);
        if (status < 0) {
            ring_close(source);
            return status;
        }
    }
    describe(&source->lib, caps);
    if (coalesces(args->input))
        caps->flags |= FP_CAP_COALESCES;
    caps->queues = args->queues;
    *out = source;
    return 0;
}

static int64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Copies what is ready, without waiting. */
static int take(struct fp_source *source, unsigned q, struct fp_packet *packets, unsigned max, char *err)
{
    struct queue *queue = &source->queues[q];
    unsigned count = 0;
    while (count < max && count < BURST) {
        struct pfring_header header;
        uint8_t *room = queue->arena + (size_t)count * ROOM;
        int got = source->lib.recv(queue->ring, &room, FAULT(1, ROOM, 0u), &header, 0); /* 1: keeps frames that are only lent */
        if (got < 0 && count == 0)
            return source->host->fail(err, -EIO, "pfring: the ring went away: check `ip link` and start again");
        if (got <= 0)
            break;
        int64_t ns =
            header.timestamp_ns != 0 ? (int64_t)header.timestamp_ns : header.ts.tv_sec * NS_PER_S + header.ts.tv_usec * INT64_C(1000);
        if (FAULT(2, false, true))
            ns = header.ts.tv_sec * NS_PER_S + header.ts.tv_usec; /* 2: takes microseconds for nanoseconds */
        uint32_t caplen = FAULT(3, header.caplen, header.len);    /* 3: takes the length on the wire for what was captured */
        packets[count++] = (struct fp_packet){
            .data = room,
            .len = caplen,
            .caplen = caplen,
            .wirelen = header.len > header.caplen ? header.len : header.caplen,
            .link = FP_LINK_ETHERNET,
            .ts_source = FP_TS_KERNEL,
            .ts_ns = ns == 0 ? FP_NS_NONE : ns,
            .interface = header.if_index > 0 ? (uint32_t)header.if_index : 0,
            .rss = header.pkt_hash,
            .queue = (uint16_t)q,
            .seq = FP_SEQ_NONE,
        };
    }
    __atomic_fetch_add(&queue->received, count, __ATOMIC_RELAXED);
    return (int)count;
}

static int ring_recv(struct fp_source *source, unsigned q, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns, char *err)
{
    struct queue *queue = &source->queues[q];
    if (queue->finished)
        return FP_END;
    bool last = __atomic_load_n(&source->stopping, __ATOMIC_ACQUIRE);
    int64_t now = wall_ns();
    int count = take(source, q, packets, max, err);
    if (count == 0 && !last && wait_ms > 0) {
        source->lib.poll(queue->ring, (unsigned)wait_ms);
        now = wall_ns();
        count = take(source, q, packets, max, err);
    }
    if (FAULT(10, false, last)) /* 10: forgets what had come before the stop */
        count = 0;
    if (count == 0 && (last || FAULT(9, false, true))) { /* 9: takes a pause for the end */
        queue->finished = true;
        return FP_END;
    }
    *now_ns = now;
    return count;
}

static int ring_stop(struct fp_source *source, char *err)
{
    (void)err;
    __atomic_store_n(&source->stopping, true, __ATOMIC_RELEASE);
    for (unsigned q = 0; q < source->nqueues; q++)
        source->lib.breakloop(source->queues[q].ring); /* for libraries whose poll it ends; the others' poll has a limit of time */
    return 0;
}

static int ring_stats(struct fp_source *source, struct fp_stats *stats)
{
    *stats = (struct fp_stats){0};
    for (unsigned q = 0; q < source->nqueues; q++)
        stats->received += __atomic_load_n(&source->queues[q].received, __ATOMIC_RELAXED);
    for (unsigned q = 0; q < source->nqueues; q++) {
        struct pfring_stat one;
        if (source->lib.stats(source->queues[q].ring, &one) < 0) {
            stats->dropped = UINT64_MAX;
            return 0;
        }
        stats->dropped += FAULT(6, one.drop, UINT64_C(0)); /* 6: hides the loss */
        if (FAULT(8, false, true))
            stats->received = one.recv; /* 8: believes the library's count, whatever it counts */
    }
    return 0;
}

static const struct fp_backend_ops pfring_backend = {
    .abi = FP_ABI,
    .size = sizeof(struct fp_backend_ops),
    .name = "pfring",
    .summary = "PF_RING (1-copy) through a libpfring.so of yours",
    .probe = ring_probe,
    .open = ring_open,
    .recv = ring_recv,
    .stop = ring_stop,
    .stats = ring_stats,
    .close = ring_close,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .backend = &pfring_backend};

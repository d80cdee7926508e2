/* SPDX-License-Identifier: Apache-2.0
 *
 * netmap: frames straight from the rings that the netmap kernel module shares with user space (netmap(4), API 14). Hardware rings, VALE
 * ports and pipes.
 *
 * What the framework is, and what follows:
 *  - `tail` moves only inside a system call of the ring's owner, so between two of them the slots [scan, tail) are ours without any
 * synchronisation.
 *  - Buffers are swapped between slots: addresses are computed anew for every slot, with the ring's offset_mask.
 *  - A frame may span slots (NS_MOREFRAG); it is delivered when its last slot has come. The other flag bits (a fragment count of VALE among
 * them) mean nothing here.
 *  - ring->ts is the time of the last system call that synchronised the whole ring, not a packet's: it is given as FP_TS_SYNC with a
 * declared tolerance.
 *  - There is no drop counter at all: `dropped` stays unknown. What the interface counted meanwhile goes into the accounting beside it.
 *  - Host rings are left alone; registration is exclusive, because a second opener would share head and cur with us.
 *  - An illegal head makes NIOCRXSYNC succeed and leave bogus slots behind, but makes poll say POLLERR: so every slot is checked before it
 * is believed.
 */
#include "../linux_interface.h"
#include "../machine.h"
#include "port.h"
#include "transmit.h"

#include <dlfcn.h>
#include <net/if.h>
#include <poll.h>

#define SYNC_TOLERANCE NS_PER_S         /* a ring that is read at least every 50 ms was seen 0.5 s late on an emulated machine */
#define LINGER         NETMAP_MAX_FRAGS /* looks for the rest of a frame that a stop cut off; one slot may come at a time */
#define LINGER_MS      5

struct counted { /* by a network interface, of received frames */
    unsigned long long packets, errors, dropped;
};

struct fp_source {
    const struct fp_host *host;
    unsigned nports;
    bool busy;
    bool stopping;
    char interface[IF_NAMESIZE]; /* the port's, if it is one's */
    struct counted before;       /* what that had counted at open */
    struct port ports[FP_MAX_QUEUES];
};

static int netmap_probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    int fd = open_device(host, err);
    if (fd < 0)
        return fd;
    close(fd);
    *caps = (struct fp_caps){
        .size = sizeof *caps,
        .flags = FP_CAP_LIVE | FAULT(12, 0u, FP_CAP_EXACT_TIME), /* 12: takes the ring's time for the packets' */
        .tier =
            dlsym(RTLD_DEFAULT, "fp_netmap_sim") != NULL ? FP_TIER_SIM : machine_tier(FP_TIER_HW), /* only the stand-in has that symbol */
        .ts_source = FP_TS_SYNC,
        .queues = FP_MAX_QUEUES,
        .max_frame = SLOT_LEN_CEILING,
        .ts_resolution = 1000,
        .ts_tolerance = FAULT(12, SYNC_TOLERANCE, INT64_C(0)),
        .visibility = 0,
    };
    return 0;
}

/* What the interface says of itself, in the namespace of this process; false if there is no such interface. */
static bool ask_interface(const char *name, struct counted *out)
{
    char line[512], found[64];
    bool there = false;
    FILE *file = fopen("/proc/self/net/dev", "r");
    while (file != NULL && !there && fgets(line, sizeof line, file) != NULL)
        there = sscanf(line, " %63[^:]: %*u %llu %llu %llu", found, &out->packets, &out->errors, &out->dropped) == 4 &&
                strcmp(found, name) == 0;
    if (file != NULL)
        fclose(file);
    return there;
}

static int netmap_open(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    bool busy = false;
    int status = parse_options(host, args, &busy, err);
    if (status < 0)
        return status;
    if (args->filter != NULL)
        return host->fail(err, -ENOTSUP, "netmap: the framework has no filter: leave --filter out");
    const char *name = name_of(args->input);
    int rings = ring_count(host, name, false, err);
    if (rings < 0)
        return rings;
    if (args->queues > 1 && args->queues != rings)
        return host->fail(err, args->queues > rings ? -E2BIG : -EINVAL,
                          "netmap: '%s' has %d receive ring%s and every ring needs its worker: ask for 1 or %d workers, or set the rings "
                          "with `ethtool -L`",
                          name, rings, rings == 1 ? "" : "s", rings);
    struct fp_source *source = calloc(1, sizeof *source);
    if (source == NULL)
        return host->fail(err, -ENOMEM, "netmap: out of memory");
    source->host = host;
    source->busy = busy;
    if (strlen(name) < sizeof source->interface && ask_interface(name, &source->before))
        strcpy(source->interface, name);
    for (unsigned q = 0; q < args->queues; q++) {
        status = open_port(host, &source->ports[q], name, args->queues == 1 ? -1 : (int)q, false, err);
        if (status < 0)
            goto out;
        source->nports++;
    }
    status = netmap_probe(host, caps, err);
    if (status < 0)
        goto out;
    caps->queues = args->queues;
    if (source->interface[0] != '\0' && li_takes_tags(&(struct li_interface){.name = source->interface}))
        caps->flags |= FP_CAP_LOSES_TAGS; /* a slot has no place beside the frame */
    *out = source;
    return 0;
out:
    while (source->nports > 0)
        close_port(&source->ports[--source->nports]);
    free(source);
    return status;
}

/* The octets of a slot, or NULL if the slot cannot be believed. */
static const uint8_t *slot_data(const struct netmap_ring *nr, uint32_t slot)
{
    const struct netmap_slot *s = &nr->slot[slot];
    uint64_t offset = FAULT(5, s->ptr & nr->offset_mask, UINT64_C(0));
    if (s->len == 0 || offset + s->len > nr->nr_buf_size)
        return NULL;
    uint32_t index = FAULT(11, s->buf_idx, slot + 2); /* 11: believes that buffers stay at their slots */
    return (const uint8_t *)nr + nr->buf_ofs + (size_t)index * nr->nr_buf_size + offset;
}

/* Takes the frame that starts at ring->scan. Returns 1, 0 if its last slot has not come yet, or -1 if it was passed over as damaged. */
static int take_frame(struct port *port, struct ring *ring, uint32_t tail, struct fp_packet *packet)
{
    struct netmap_ring *nr = ring->nr;
    uint32_t first = ring->scan, slot = first, last = first, length = 0, pieces = 0;
    bool damaged = false, more = true;
    while (more) {
        if (slot == tail) {
            if (FAULT(14, false, pieces > 0)) /* 14: delivers what there is of it */
                break;
            bool endless = nr->head == first && after(nr, tail) == nr->head; /* a whole ring, and still no end */
            if (!endless)
                return 0;
            __atomic_fetch_add(&port->errors, 1, __ATOMIC_RELAXED);
            ring->scan = tail;
            return -1;
        }
        const struct netmap_slot *s = &nr->slot[slot];
        ring->slots[slot].segment = (struct fp_segment){.data = slot_data(nr, slot), .len = s->len};
        damaged |= ring->slots[slot].segment.data == NULL;
        if (pieces++ > 0)
            ring->slots[last].segment.next = &ring->slots[slot].segment;
        length += s->len;
        more = FAULT(3, FAULT(4, (s->flags & NS_MOREFRAG) != 0, s->flags == NS_MOREFRAG), false);
        last = slot;
        slot = after(nr, slot);
    }
    ring->scan = slot;
    if (damaged || pieces > NETMAP_MAX_FRAGS) {
        __atomic_fetch_add(&port->errors, 1, __ATOMIC_RELAXED);
        return -1;
    }
    const struct fp_segment *head = &ring->slots[first].segment;
    int64_t stamp = nr->ts.tv_sec * NS_PER_S + nr->ts.tv_usec * INT64_C(1000);
    *packet = (struct fp_packet){
        .data = head->data,
        .len = head->len,
        .caplen = length,
        .wirelen = length,
        .link = FP_LINK_ETHERNET,
        .ts_source = FP_TS_SYNC,
        .ts_ns = stamp == 0 ? FP_NS_NONE : stamp,
        .queue = nr->ringid,
        .seq = FP_SEQ_NONE,
        .next = head->next,
        .handle = &ring->slots[last],
    };
    ring->lent++;
    return 1;
}

static unsigned scan_rings(struct port *port, struct fp_packet *packets, unsigned max)
{
    unsigned count = 0, rings = FAULT(15, port->nrings, 1u); /* 15: looks at the first ring only */
    for (unsigned i = 0; i < rings && count < max; i++) {
        struct ring *ring = &port->rings[(port->turn + i) % rings];
        uint32_t tail = FAULT(1, ring->nr->tail, after(ring->nr, ring->nr->tail)); /* 1: reads past tail */
        if (FAULT(18, false, after(ring->nr, tail) == ring->scan))                 /* 18: takes a full ring for an empty one */
            continue;
        while (count < max && ring->scan != tail) {
            int taken = take_frame(port, ring, tail, &packets[count]);
            if (taken == 0)
                break;
            if (taken > 0)
                count++;
        }
    }
    port->turn = (port->turn + 1) % rings;
    __atomic_fetch_add(&port->received, count, __ATOMIC_RELAXED);
    return count;
}

/* Before a system call: what is lent to the core stays behind head; cur says that everything up to tail was seen, the slots of an
 * unfinished frame too, so that poll sleeps until there is more. */
static void publish(struct port *port)
{
    for (unsigned i = 0; i < port->nrings; i++) {
        struct ring *ring = &port->rings[i];
        struct netmap_ring *nr = ring->nr;
        if (ring->lent == FAULT(2, 0u, ring->lent))
            nr->head = ring->scan;
        nr->cur = FAULT(6, nr->tail, nr->head); /* 6: poll returns at once, for ever */
        if (FAULT(7, false, true))
            nr->tail = nr->head; /* 7: writes what is the kernel's */
        if (FAULT(8, false, true))
            nr->head = nr->cur = nr->num_slots; /* 8: illegal */
    }
}

static int synchronise(const struct fp_source *source, struct port *port, int wait_ms, char *err)
{
    publish(port);
    if (source->busy || wait_ms == 0)
        return ioctl(port->fd, NIOCRXSYNC, NULL) == 0 ? 0
                                                      : source->host->fail(err, -errno, "netmap: the port went away (%s)", strerror(errno));
    struct pollfd wanted = {.fd = port->fd, .events = POLLIN};
    int ready = poll(&wanted, 1, wait_ms);
    if (ready < 0 && (errno != EINTR || FAULT(17, false, true))) /* 17: takes a signal for a fault of the port */
        return source->host->fail(err, -errno, "netmap: poll: %s", strerror(errno));
    if (ready > 0 && (wanted.revents & (POLLERR | POLLNVAL)) != 0)
        return source->host->fail(err, -EIO, "netmap: the port was reset or its interface went away: check `ip link` and start again");
    return 0;
}

/* Whether a frame has come whose last slot has not. */
static bool unfinished(const struct port *port)
{
    for (unsigned i = 0; i < port->nrings; i++)
        if (port->rings[i].scan != port->rings[i].nr->tail)
            return true;
    return false;
}

static int netmap_recv(struct fp_source *source, unsigned queue, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns,
                       char *err)
{
    struct port *port = &source->ports[queue];
    unsigned count = scan_rings(port, packets, max);
    if (count > 0)
        return (int)count;
    if (port->finished)
        return FP_END;
    bool last = __atomic_load_n(&source->stopping, __ATOMIC_ACQUIRE);
    if (FAULT(16, false, last)) /* 16: forgets what had come before the stop */
        return FP_END;
    int64_t now = FP_NS_NONE;
    for (unsigned looks = 0; count == 0 && looks <= LINGER; looks++) {
        if (looks > 0 && !(last && unfinished(port)))
            break;
        int status = synchronise(source, port, !last ? wait_ms : looks > 0 ? LINGER_MS : 0, err);
        if (status < 0)
            return status;
        now = wall_ns();
        count = scan_rings(port, packets, max);
    }
    if (FAULT(2, false, count > 0)) /* 2: gives back what the core still reads */
        synchronise(source, port, 0, err);
    if (count > 0)
        return (int)count;
    if (last) {
        port->finished = true;
        return FP_END;
    }
    *now_ns = now;
    return 0;
}

static void netmap_release(struct fp_source *source, unsigned queue, struct fp_packet *packets, unsigned count)
{
    (void)source;
    (void)queue;
    /* Bursts come back in order, so each frame given back moves the head of its ring past its last slot (and past damaged frames before
     * it). */
    for (unsigned i = 0; i < count; i++) {
        struct lent *last = packets[i].handle;
        struct ring *ring = last->ring;
        ring->nr->head = after(ring->nr, (uint32_t)(last - ring->slots));
        ring->nr->cur = ring->nr->head;
        ring->lent--;
    }
}

static int netmap_stop(struct fp_source *source, char *err)
{
    (void)err;
    __atomic_store_n(&source->stopping, true, __ATOMIC_RELEASE);
    return 0;
}

static int netmap_stats(struct fp_source *source, struct fp_stats *stats)
{
    *stats = (struct fp_stats){.dropped = UINT64_MAX};
    for (unsigned q = 0; q < source->nports; q++) {
        stats->received += __atomic_load_n(&source->ports[q].received, __ATOMIC_RELAXED);
        stats->errors += __atomic_load_n(&source->ports[q].errors, __ATOMIC_RELAXED);
    }
    return 0;
}

static int netmap_xstats(struct fp_source *source, char *text, size_t len)
{
    struct counted now;
    if (source->interface[0] == '\0' || !ask_interface(source->interface, &now))
        return 0;
    int written = snprintf(text, len, "interface_packets=%llu\ninterface_errors=%llu\ninterface_dropped=%llu\n",
                           now.packets - source->before.packets, now.errors - source->before.errors, now.dropped - source->before.dropped);
    return written < 0 || (size_t)written >= len ? 0 : written;
}

static void netmap_close(struct fp_source *source)
{
    for (unsigned q = 0; q < source->nports; q++)
        close_port(&source->ports[q]);
    free(source);
}

static const struct fp_backend_ops netmap_backend = {
    .abi = FP_ABI,
    .size = sizeof(struct fp_backend_ops),
    .name = "netmap",
    .summary = "netmap rings of a NIC, a VALE port or a pipe",
    .probe = netmap_probe,
    .open = netmap_open,
    .recv = netmap_recv,
    .release = netmap_release,
    .stop = netmap_stop,
    .stats = netmap_stats,
    .xstats = netmap_xstats,
    .close = netmap_close,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .backend = &netmap_backend, .injector = &netmap_injector};

/* SPDX-License-Identifier: Apache-2.0
 *
 * A capture file played into a net_ring port of the same process: real ethdev receive, without loss, with the capture's own nanoseconds in
 * the mbuf's timestamp field, on any number of queues. A NIC for tests: it can also split frames into chained mbufs, strip VLAN tags into
 * metadata, and repeat the capture.
 *
 * The capture is classic pcap, Ethernet, in micro- or nanoseconds and either byte order. It is read whole at open.
 */
#ifndef FP_DPDK_FEED_H
#define FP_DPDK_FEED_H

#include <stdatomic.h>
#include <sys/stat.h>

#include <rte_bus_vdev.h>
#include <rte_eth_ring.h>
#include <rte_mbuf_dyn.h>
#include <rte_ring.h>

#include "clock.h"
#include "port.h"
#include "spread.h"

#define FEED_RING  1024
#define FEED_BURST 32
#define FEED_POOL  8191

/* What of a frame no mbuf field carries; in the private area of the feed's mbufs, after the receiver's own part. */
struct feed_note {
    uint64_t seq;
    uint32_t wirelen;
};

struct feed_frame {
    const uint8_t *data;
    uint32_t caplen, wirelen, hash;
    int64_t ns;
    uint16_t queue;
};

struct feed {
    uint8_t *map;
    size_t size;
    struct feed_frame *frames;
    size_t count;
    uint64_t loops;
    uint16_t queues, strip;
    bool toeplitz;
    uint32_t segment;
    int64_t period; /* ns that one loop lasts */
    struct rte_ring *rings[FP_MAX_QUEUES];
    struct rte_mempool *pool;
    size_t note_offset;
    int ts_offset;
    uint64_t ts_flag;
    pthread_t thread;
    bool running;
    _Atomic bool stop, done;
    struct rte_mbuf *waiting[FP_MAX_QUEUES][FEED_BURST]; /* built, not yet in the ring */
    unsigned nwaiting[FP_MAX_QUEUES];
};

static uint32_t feed_u32(const uint8_t *at, bool swap)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return swap ? __builtin_bswap32(value) : value;
}

/* Maps the capture and finds its frames. */
static int feed_read(const struct fp_host *host, struct feed *f, const char *path, char *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

    if (fd < 0)
        return host->fail(err, -errno, "dpdk: capture %s cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &st) < 0 || st.st_size < 24) {
        close(fd);
        return host->fail(err, -EBADMSG, "dpdk: %s is not a capture file: it has no header", path);
    }
    f->size = (size_t)st.st_size;
    void *map = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    rc = errno;
    close(fd);
    if (map == MAP_FAILED)
        return host->fail(err, -rc, "dpdk: capture %s cannot be mapped: %s", path, strerror(rc));
    f->map = map;

    uint32_t magic = feed_u32(f->map, false);
    bool swap = magic == 0xD4C3B2A1u || magic == 0x4D3CB2A1u;
    uint32_t unit = magic == 0xA1B23C4Du || magic == 0x4D3CB2A1u ? 1 : 1000;
    if (!swap && magic != 0xA1B2C3D4u && magic != 0xA1B23C4Du)
        return host->fail(err, -EBADMSG, "dpdk: %s is not a classic pcap file; convert it (editcap -F nsecpcap IN OUT)", path);
    uint32_t link = feed_u32(f->map + 20, swap) & 0x0FFFFFFFu;
    if (link != FP_LINK_ETHERNET)
        return host->fail(err, -EPROTONOSUPPORT, "dpdk: %s has link type %u; DPDK ports carry Ethernet (1) only", path, link);

    size_t room = 0;
    for (size_t at = 24; at < f->size;) {
        if (f->size - at < 16)
            return host->fail(err, -EBADMSG, "dpdk: %s is truncated after %zu frames", path, f->count);
        uint32_t caplen = feed_u32(f->map + at + 8, swap), wirelen = feed_u32(f->map + at + 12, swap);
        if (caplen > 262144 || caplen > f->size - at - 16)
            return host->fail(err, -EBADMSG, "dpdk: %s is truncated or damaged after %zu frames", path, f->count);
        if (f->count == room) {
            room = room ? room * 2 : 1024;
            struct feed_frame *more = realloc(f->frames, room * sizeof(*more));
            if (!more)
                return host->fail(err, -ENOMEM, "dpdk: no memory for the frames of %s", path);
            f->frames = more;
        }
        f->frames[f->count++] = (struct feed_frame){
            .data = f->map + at + 16,
            .caplen = caplen,
            .wirelen = wirelen < caplen ? caplen : wirelen,
            .ns = (int64_t)feed_u32(f->map + at, swap) * 1000000000 + (int64_t)feed_u32(f->map + at + 4, swap) * unit,
        };
        at += 16 + (size_t)caplen;
    }
    return 0;
}

static bool feed_is_tag(const uint8_t *type)
{
    uint16_t value = (uint16_t)(type[0] << 8 | type[1]);

    return value == 0x8100 || value == 0x88A8 || value == 0x9100;
}

/* Takes up to `strip` tags out of the frame's first 12 + 4n octets into the mbuf's metadata, as NICs do; returns the octets taken. */
static unsigned feed_strip(const struct feed_frame *frame, unsigned strip, struct rte_mbuf *m)
{
    const uint8_t *at = frame->data + 12;
    unsigned tags = 0;
    uint16_t tci[2] = {0};

    while (tags < strip && tags < 2 && 12 + 4 * (tags + 1) + 2 <= frame->caplen && feed_is_tag(at + 4 * tags)) {
        tci[tags] = (uint16_t)(at[4 * tags + 2] << 8 | at[4 * tags + 3]);
        tags++;
    }
    if (tags == 1) {
        m->vlan_tci = tci[0];
        m->ol_flags |= RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
    } else if (tags == 2) {
        m->vlan_tci_outer = tci[0];
        m->vlan_tci = tci[1];
        m->ol_flags |= RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_RX_QINQ | RTE_MBUF_F_RX_QINQ_STRIPPED;
    }
    return 4 * tags;
}

/* Puts what waits for a queue into its ring as far as there is room; the number left. */
static unsigned feed_flush(struct feed *f, unsigned queue)
{
    struct rte_mbuf **waiting = f->waiting[queue];
    unsigned sent = rte_ring_enqueue_burst(f->rings[queue], (void **)waiting, f->nwaiting[queue], NULL);

    f->nwaiting[queue] -= sent;
    memmove(waiting, waiting + sent, f->nwaiting[queue] * sizeof(*waiting));
    return f->nwaiting[queue];
}

/* Waits for a free mbuf; NULL if stopped. What waits for rings is pushed on meanwhile: it may hold the very mbufs that are missing. */
static struct rte_mbuf *feed_alloc(struct feed *f)
{
    struct rte_mbuf *m;

    while (!(m = rte_pktmbuf_alloc(f->pool))) {
        if (atomic_load(&f->stop))
            return NULL;
        for (unsigned q = 0; q < f->queues; q++)
            feed_flush(f, q);
        sched_yield();
    }
    return m;
}

/* Appends octets to the packet, chaining mbufs of at most `segment` octets; false if stopped. */
static bool feed_copy(struct feed *f, struct rte_mbuf *head, struct rte_mbuf **last, const uint8_t *from, uint32_t len)
{
    while (len) {
        uint32_t room = RTE_MIN((uint32_t)rte_pktmbuf_tailroom(*last), f->segment - (*last)->data_len), take = RTE_MIN(len, room);
        if (!take) {
            struct rte_mbuf *next = feed_alloc(f);
            if (!next)
                return false;
            (*last)->next = next;
            *last = next;
            head->nb_segs++;
            continue;
        }
        memcpy(rte_pktmbuf_mtod_offset(*last, uint8_t *, (*last)->data_len), from, take);
        (*last)->data_len = (uint16_t)((*last)->data_len + take);
        head->pkt_len += take;
        from += take;
        len -= take;
    }
    return true;
}

static struct rte_mbuf *feed_build(struct feed *f, size_t index, uint64_t loop)
{
    const struct feed_frame *frame = &f->frames[index];
    struct rte_mbuf *m = feed_alloc(f), *last = m;

    if (!m)
        return NULL;
    unsigned gone = f->strip ? feed_strip(frame, f->strip, m) : 0, head = gone ? 12 : 0;
    if (!feed_copy(f, m, &last, frame->data, head) || !feed_copy(f, m, &last, frame->data + head + gone, frame->caplen - head - gone)) {
        rte_pktmbuf_free(m);
        return NULL;
    }
    struct feed_note *note = RTE_PTR_ADD(rte_mbuf_to_priv(m), f->note_offset);
    note->seq = loop * f->count + index;
    note->wirelen = frame->wirelen - gone;
    *RTE_MBUF_DYNFIELD(m, f->ts_offset, rte_mbuf_timestamp_t *) = (uint64_t)(frame->ns + (int64_t)loop * f->period);
    m->ol_flags |= f->ts_flag;
    if (frame->hash) {
        m->hash.rss = frame->hash;
        m->ol_flags |= RTE_MBUF_F_RX_RSS_HASH;
    }
    return m;
}

static void *feed_run(void *arg)
{
    struct feed *f = arg;

    rte_thread_register();
    for (uint64_t loop = 0; loop < f->loops; loop++) {
        for (size_t i = 0; i < f->count; i++) {
            unsigned queue = f->frames[i].queue;
            struct rte_mbuf *m = feed_build(f, i, loop);
            if (!m)
                goto out_stopped;
            while (f->nwaiting[queue] == FEED_BURST && feed_flush(f, queue) == FEED_BURST) {
                if (atomic_load(&f->stop)) {
                    rte_pktmbuf_free(m);
                    goto out_stopped;
                }
                sched_yield();
            }
            f->waiting[queue][f->nwaiting[queue]++] = m;
        }
    }
    for (unsigned q = 0; q < f->queues; q++)
        while (feed_flush(f, q) && !atomic_load(&f->stop))
            sched_yield();
out_stopped:
    for (unsigned q = 0; q < f->queues; q++)
        rte_pktmbuf_free_bulk(f->waiting[q], f->nwaiting[q]);
    atomic_store(&f->done, true);
    rte_thread_unregister();
    return NULL;
}

/* Chooses every frame's queue: by the core's symmetric flow hash, or as a NIC with Toeplitz would (spread=toeplitz). */
static int feed_spread(const struct fp_host *host, const struct fp_open_args *args, struct feed *f, char *err)
{
    int rc = spread_option(host, args, &f->toeplitz, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < f->count; i++) {
        struct feed_frame *frame = &f->frames[i];
        struct fp_packet packet = {
            .data = frame->data,
            .len = frame->caplen,
            .caplen = frame->caplen,
            .wirelen = frame->wirelen,
            .link = FP_LINK_ETHERNET,
            .ts_ns = frame->ns,
        };
        if (f->toeplitz)
            frame->hash = toeplitz_hash(frame->data, frame->caplen);
        else if (f->queues > 1)
            packet.rss = host->flow_hash(&packet);
        frame->queue = (uint16_t)((f->toeplitz ? frame->hash : packet.rss) % f->queues);
    }
    return 0;
}

/* Reads the capture and makes the port; the thread starts with feed_go. */
static int feed_open(const struct fp_host *host, const struct fp_open_args *args, const char *path, size_t note_offset, struct feed *f,
                     struct port *p, char *err)
{
    static unsigned serial;
    char name[32];
    int rc;
    int64_t segment = port_number(host, args, "segment", 65535, 16, 65535, err), strip = port_number(host, args, "strip", 0, 0, 2, err),
            loops = port_number(host, args, "loops", 1, 1, INT32_MAX, err);

    if (segment < 0 || strip < 0 || loops < 0)
        return -EINVAL;
    if ((rc = feed_read(host, f, path, err)) < 0 || (rc = eal_start(host, args, NULL, err)) < 0)
        return rc;
    if (args->queues > RTE_PMD_RING_MAX_RX_RINGS)
        return host->fail(err, -E2BIG, "dpdk: a ring port has at most %u queues, not %u; use fewer workers", RTE_PMD_RING_MAX_RX_RINGS,
                          args->queues);
    f->queues = args->queues;
    f->segment = (uint32_t)segment;
    f->strip = (uint16_t)strip;
    f->loops = (uint64_t)loops;
    f->note_offset = note_offset;
    f->period = f->count ? f->frames[f->count - 1].ns - f->frames[0].ns + 1000 : 0;
    if ((rc = feed_spread(host, args, f, err)) < 0)
        return rc;
    if (rte_mbuf_dyn_rx_timestamp_register(&f->ts_offset, &f->ts_flag) < 0)
        return host->fail(err, -rte_errno, "dpdk: no room for the timestamp in the mbuf: %s", rte_strerror(rte_errno));
    if (!(f->pool = port_pool(p, FP_MAX_QUEUES, FEED_POOL, RTE_MBUF_DEFAULT_DATAROOM, (unsigned)(note_offset + sizeof(struct feed_note)))))
        return host->fail(err, -rte_errno, "dpdk: no memory for packet buffers (%s); free hugepages or run 'sysctl vm.nr_hugepages=512'",
                          rte_strerror(rte_errno));
    for (unsigned i = 0; i < f->queues; i++) {
        snprintf(name, sizeof(name), "fp_feed%u_%u", serial, i);
        if (!(f->rings[i] = rte_ring_create(name, FEED_RING, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ)))
            return host->fail(err, -rte_errno, "dpdk: no memory for a ring: %s", rte_strerror(rte_errno));
    }
    snprintf(name, sizeof(name), "fp_feed%u", serial++);
    struct quiet q;
    quiet_begin(&q);
    rc = rte_eth_from_rings(name, f->rings, f->queues, f->rings, 1, 0); /* the PMD refuses 0 transmit rings; none is configured */
    quiet_end(&q);
    if (rc < 0)
        return host->fail(err, -ENODEV, "dpdk: no ring port (%s); apt-get install librte-net-ring23", rte_strerror(rte_errno));
    p->id = (uint16_t)rc;
    p->vdev = p->made = true;
    snprintf(p->name, sizeof(p->name), "net_ring_%s", name);
    return 0;
}

static int feed_go(const struct fp_host *host, struct feed *f, char *err)
{
    int rc = pthread_create(&f->thread, NULL, feed_run, f);

    if (rc)
        return host->fail(err, -rc, "dpdk: no thread for the feeder: %s", strerror(rc));
    f->running = true;
    return 0;
}

/* Ends the thread and empties the rings; before the port goes. */
static void feed_halt(struct feed *f)
{
    void *m;

    atomic_store(&f->stop, true);
    if (f->running)
        pthread_join(f->thread, NULL);
    f->running = false;
    for (unsigned i = 0; i < f->queues; i++)
        while (f->rings[i] && rte_ring_dequeue(f->rings[i], &m) == 0)
            rte_pktmbuf_free(m);
}

/* Frees the rest; after the port has gone. */
static void feed_free(struct feed *f)
{
    for (unsigned i = 0; i < f->queues; i++)
        rte_ring_free(f->rings[i]);
    rte_mempool_free(f->pool);
    free(f->frames);
    if (f->map)
        munmap(f->map, f->size);
}

#endif

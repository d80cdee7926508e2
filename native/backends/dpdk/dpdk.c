/* SPDX-License-Identifier: Apache-2.0
 *
 * DPDK: poll-mode reception and transmission in user space. The only part of the project that links libdpdk (22.11 or later).
 *
 * Input names one port: a PCI address (0000:01:00.0[,devargs]), a vdev (net_virtio_user0,path=…), a capture file (read by net_pcap), or
 * feed:FILE (a capture played into a net_ring port of this process, see feed.h). Every queue of the port is one worker's. docs/dpdk.md
 * lists the options.
 */
#define ALLOW_EXPERIMENTAL_API /* rte_eth_read_clock is, to this day */

#include <inttypes.h>

#include <dlfcn.h>

#include "../machine.h"
#include "clock.h"
#include "eal.h"
#include "feed.h"
#include "hello.h"
#include "incoming.h"
#include "inject.h"
#include "port.h"
#include "spread.h"

#define BURST         SPREAD_BURST /* of one rte_eth_rx_burst */
#define FILE_BURST    24           /* of a capture: with frames of 262,144 octets it fits into the pool */
#define SPINS         256          /* empty polls before the thread sleeps */
#define NAP_NS        20000        /* then */
#define QUIET_NS      50000000     /* after stop: this long without a frame is the end */
#define STOP_FRAMES   65536        /* after stop: at most so many frames a queue are taken as accepted before it; of a NIC its ring */
#define LINK_CHECK_NS 200000000    /* between looks at the link while idle */
#define CALIBRATE_NS  100000000    /* between the two readings at open */
#define FEED_PREFIX   "feed:"

struct queue {
    uint64_t received;
    uint64_t after_stop;
    int64_t last_ns;      /* CLOCK_MONOTONIC of the last frame after stop */
    int64_t link_checked; /* queue 0 */
    struct ticks ticks;
    _Atomic bool bye; /* the injector has said that nothing follows */
    bool ended;
} __rte_cache_aligned;

struct fp_source {
    const struct fp_host *host;
    struct port port;
    struct feed feed;
    struct spread spread;
    uint16_t nqueues; /* workers */
    bool fed, finite, hello, busy, watch_link;
    enum unit unit;
    uint8_t ts_source;
    uint32_t flags, snaplen, stop_frames;
    int ts_offset;
    uint64_t ts_flag;
    _Atomic bool stopping, peer_gone, drained; /* drained: a dealt-out input is at its end */
    _Atomic uint64_t file_lost;                /* frames that net_pcap lost, as last seen */
    struct queue queues[FP_MAX_QUEUES];
};

/* What each PMD gives; the first prefix that fits. NICs: the last line. */
static const struct driver {
    const char *name;
    uint8_t tier;
    enum unit unit, unit_advertised; /* of the timestamps; with the offload advertised */
    uint32_t flags;
    uint32_t max_frame; /* octets that arrive whole; 0: by the port */
} drivers[] = {
    {"net_pcap", FP_TIER_VDEV, UNIT_US, UNIT_NS, FP_CAP_DROPS_KNOWN, 262144},
    {"net_ring", FP_TIER_VDEV, UNIT_NONE, UNIT_NONE, 0, 65535},
    {"net_virtio_user", FP_TIER_VDEV, UNIT_NONE, UNIT_NONE, 0, 0},
    {"net_vhost", FP_TIER_VDEV, UNIT_NONE, UNIT_NONE, 0, 0},
    {"net_memif", FP_TIER_VDEV, UNIT_NONE, UNIT_NONE, 0, 0},
    {"net_null", FP_TIER_VDEV, UNIT_NONE, UNIT_NONE, 0, 0},
    {"net_af_packet", FP_TIER_KERNEL, UNIT_NONE, UNIT_NONE, FP_CAP_COALESCES, 0},
    {"net_af_xdp", FP_TIER_KERNEL, UNIT_NONE, UNIT_NONE, FP_CAP_COALESCES, 0},
    {"net_tap", FP_TIER_KERNEL, UNIT_NONE, UNIT_NONE, FP_CAP_COALESCES, 0},
    {"", FP_TIER_HW, UNIT_TICKS, UNIT_TICKS, FP_CAP_DROPS_KNOWN, 0},
};

/* EAL's threads live as long as the process: the plug-in must not be unmapped under them. */
static void stay_loaded(void)
{
    Dl_info self;

    if (dladdr(&drivers, &self))
        (void)dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

static int dpdk_probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    if (access(RTE_EAL_PMD_PATH, R_OK | X_OK) < 0)
        return host->fail(err, -ENOENT, "dpdk: libdpdk is here but its PMDs are not (%s); run 'apt-get install dpdk'", RTE_EAL_PMD_PATH);
    *caps = (struct fp_caps){
        .size = sizeof(*caps),
        .flags = FP_CAP_LIVE | FP_CAP_INTERFACE | FP_CAP_DROPS_KNOWN | FP_CAP_EXACT_TIME | FP_CAP_WIRE_LENGTH | FP_CAP_STAMPS_SEQUENCE,
        .tier = machine_tier(FP_TIER_HW),
        .ts_source = FP_TS_SOFTWARE,
        .queues = FP_MAX_QUEUES,
        .max_frame = 65535,
        .ts_resolution = 1,
        .ts_tolerance = FP_NS_NONE,
    };
    return 0;
}

static int read_device_clock(void *device, uint64_t *tick)
{
    return rte_eth_read_clock(((struct port *)device)->id, tick);
}

/* Finds where and in which unit this port stamps, and calibrates ticks. A device without a readable clock is stamped in software. */
static void find_clock(struct fp_source *s, const struct driver *d)
{
    const struct timespec pause = {.tv_nsec = CALIBRATE_NS};
    bool advertised = s->port.rx_offloads & RTE_ETH_RX_OFFLOAD_TIMESTAMP;

    s->unit = s->fed ? UNIT_NS : advertised ? d->unit_advertised : d->unit == UNIT_TICKS ? UNIT_NONE : d->unit;
    int flag = rte_mbuf_dynflag_lookup(RTE_MBUF_DYNFLAG_RX_TIMESTAMP_NAME, NULL);
    s->ts_offset = rte_mbuf_dynfield_lookup(RTE_MBUF_DYNFIELD_TIMESTAMP_NAME, NULL);
    if (flag < 0 || s->ts_offset < 0)
        s->unit = UNIT_NONE;
    else
        s->ts_flag = UINT64_C(1) << flag;
    if (s->unit == UNIT_TICKS) {
        int rc = ticks_calibrate(&s->queues[0].ticks, read_device_clock, &s->port, clock_now);
        nanosleep(&pause, NULL);
        if (rc < 0 || ticks_calibrate(&s->queues[0].ticks, read_device_clock, &s->port, clock_now) < 0)
            s->unit = UNIT_NONE;
        for (int i = 1; i < FP_MAX_QUEUES; i++)
            s->queues[i].ticks = s->queues[0].ticks;
    }
    s->ts_source = s->finite || s->fed ? FP_TS_CAPTURE : s->unit ? FP_TS_HARDWARE : FP_TS_SOFTWARE;
}

static void fill_caps(const struct fp_source *s, const struct driver *d, const char *input, struct fp_caps *caps)
{
    *caps = (struct fp_caps){
        .size = sizeof(*caps),
        .flags = d->flags | FP_CAP_INTERFACE,
        .tier = d->tier == FP_TIER_HW ? machine_tier(FP_TIER_HW) : d->tier,
        .ts_source = s->ts_source,
        .queues = s->nqueues,
        .max_frame = d->max_frame ? d->max_frame : port_max_frame(&s->port, input),
        .ts_resolution = s->unit == UNIT_US ? 1000 : 1,
        .ts_tolerance = s->unit == UNIT_TICKS ? 1000000 : FP_NS_NONE,
        .visibility = s->unit == UNIT_TICKS ? 10000000 : 0,
    };
    if (!s->finite && !s->fed)
        caps->flags |= FP_CAP_LIVE;
    if (s->port.interface[0])
        caps->flags |= FP_CAP_COALESCES; /* the kernel's GRO and a veth peer's segmentation, of which no PMD tells (S-SUP-2) */
    if (s->fed)
        caps->flags |= FP_CAP_WIRE_LENGTH | FP_CAP_DROPS_KNOWN | FP_CAP_STAMPS_SEQUENCE;
    if (s->fed || s->unit == UNIT_US) {
        caps->flags |= FP_CAP_EXACT_TIME;
        caps->ts_tolerance = 0;
    }
    if (s->finite && s->port.nrx == 1)
        caps->flags |= FP_CAP_STAMPS_SEQUENCE;
    if (s->port.nrx > 1 && d->tier != FP_TIER_VDEV)
        caps->flags |= FP_CAP_SPLITS; /* by the hash of a NIC or of the kernel */
    if ((s->spread.on && s->spread.toeplitz) || (s->fed && s->feed.toeplitz && s->nqueues > 1))
        caps->flags |= FP_CAP_SPLITS; /* as a NIC's */
}

static void dpdk_close(struct fp_source *s)
{
    pthread_mutex_lock(&eal.lock);
    if (s->fed)
        feed_halt(&s->feed);
    spread_close(&s->spread);
    port_detach(&s->port);
    if (s->fed)
        feed_free(&s->feed);
    pthread_mutex_unlock(&eal.lock);
    free(s);
}

/* The vdev that reads a capture file on one queue. */
static int pcap_input(const struct fp_host *host, const struct fp_open_args *args, bool spread, char *text, size_t len, char *err)
{
    static unsigned serial;

    if (args->queues > 1 && !spread)
        return host->fail(err, -E2BIG, "dpdk: a file has one queue, not %u; use one worker, or spread=flow", args->queues);
    if (strpbrk(args->input, ",[]="))
        return host->fail(err, -EINVAL, "dpdk: net_pcap cannot take the path '%s' with one of ,[]= in it; rename or link the file",
                          args->input);
    if (snprintf(text, len, "net_pcap_fp%u,rx_pcap=%s", serial++, args->input) >= (int)len)
        return host->fail(err, -ENAMETOOLONG, "dpdk: the path '%.200s…' is too long", args->input);
    return 0;
}

/* Whether every queue that the vdev has is read; frames of the others would be lost unseen. */
static int check_all_read(const struct fp_source *s, uint16_t nrx, char *err)
{
    static const char *const whole[] = {"net_pcap", "net_af_packet", "net_af_xdp"};

    for (size_t i = 0; i < sizeof(whole) / sizeof(*whole); i++)
        if (strcmp(s->port.driver, whole[i]) == 0 && s->port.info.max_rx_queues > nrx)
            return s->host->fail(err, -EINVAL, "dpdk: port %s has %u queues and all must be read; use %u workers, not %u", s->port.name,
                                 s->port.info.max_rx_queues, s->port.info.max_rx_queues, nrx);
    return 0;
}

static int open_locked(const struct fp_host *host, const struct fp_open_args *args, struct fp_source *s, struct fp_caps *caps, char *err)
{
    const char *input = args->input, *hello = host->option(args, "hello");
    struct incoming incoming;
    char vdev[4096 + 64];
    bool toeplitz;
    int spread = spread_option(host, args, &toeplitz, err), rc;

    if (spread < 0)
        return spread;
    incoming_before(&incoming);
    if (strncmp(input, FEED_PREFIX, strlen(FEED_PREFIX)) == 0) {
        s->fed = true;
        rc = feed_open(host, args, input + strlen(FEED_PREFIX), sizeof(struct fp_segment), &s->feed, &s->port, err);
    } else {
        if (!port_is_pci(input) && strncmp(input, "net_", 4) != 0 && access(input, F_OK) == 0) {
            if ((rc = pcap_input(host, args, spread, vdev, sizeof(vdev), err)) < 0)
                return rc;
            input = vdev;
        }
        s->finite = strncmp(input, "net_pcap", 8) == 0 && strstr(input, "rx_pcap=") && !strstr(input, "infinite_rx=1");
        rc = port_attach(host, args, input, &s->port, err);
    }
    if (rc < 0)
        return rc;
    s->hello = hello && strcmp(hello, "1") == 0;
    s->nqueues = args->queues;
    if (spread && !s->fed && args->queues > 1 && (rc = spread_open(host, &s->spread, args->queues, toeplitz, err)) < 0)
        return rc;
    uint16_t nrx = s->spread.on ? 1 : args->queues;
    if ((rc = port_start(host, args, &s->port, nrx, s->fed ? 0 : nrx, sizeof(struct fp_segment) + sizeof(struct feed_note), err)) < 0 ||
        (rc = check_all_read(s, nrx, err)) < 0)
        return rc;
    if (s->port.interface[0] && strcmp(s->port.driver, "net_af_xdp") != 0) {
        rc = incoming_only(&incoming, &s->port);
        if (rc < 0 || (rc == 0 && strcmp(s->port.driver, "net_af_packet") == 0))
            return host->fail(err, rc < 0 ? rc : -ENOTSUP, "dpdk: port %s: outgoing frames of %s cannot be told from incoming ones%s%s",
                              s->port.name, s->port.interface, rc < 0 ? ": " : "", rc < 0 ? strerror(-rc) : "");
    }
    const struct driver *d = drivers;
    while (strncmp(s->port.driver, d->name, strlen(d->name)) != 0)
        d++;
    if (!s->fed && !s->finite && (rc = port_wait_link(host, args, &s->port, err)) < 0)
        return rc;
    s->watch_link = strcmp(d->name, "net_virtio_user") == 0 && !strstr(input, "server=1");
    s->stop_frames = d->tier == FP_TIER_HW ? s->port.descriptors : STOP_FRAMES;
    find_clock(s, d);
    fill_caps(s, d, input, caps);
    return s->fed ? feed_go(host, &s->feed, err) : 0;
}

static int dpdk_open(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    int rc;

    if ((rc = port_check_options(host, args, PORT_OPTIONS "link_wait hello rss spread segment strip loops ", err)) < 0)
        return rc;
    if (args->filter)
        return host->fail(err, -ENOTSUP, "dpdk: there is no filter in the framework; leave filter out");
    if (args->queues < 1 || args->queues > FP_MAX_QUEUES)
        return host->fail(err, -E2BIG, "dpdk: %u queues; 1 to %u are possible", args->queues, FP_MAX_QUEUES);
    struct fp_source *s = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(sizeof(*s), RTE_CACHE_LINE_SIZE));
    if (!s)
        return host->fail(err, -ENOMEM, "dpdk: no memory");
    memset(s, 0, sizeof(*s));
    s->host = host;
    s->snaplen = args->snaplen;
    s->busy = args->flags & FP_OPEN_BUSY_POLL;
    stay_loaded();
    pthread_mutex_lock(&eal.lock);
    rc = open_locked(host, args, s, caps, err);
    pthread_mutex_unlock(&eal.lock);
    if (rc < 0) {
        dpdk_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

/* Chains the further segments of a frame through their mbufs' private areas, up to `limit` octets in all. */
static void chain(struct fp_packet *p, struct rte_mbuf *m, uint32_t limit)
{
    const struct fp_segment **link = &p->next;
    uint32_t left = limit - p->len;

    for (m = m->next; m && left; m = m->next) {
        struct fp_segment *segment = rte_mbuf_to_priv(m);
        segment->data = rte_pktmbuf_mtod(m, const uint8_t *);
        segment->len = RTE_MIN(m->data_len, left);
        segment->next = NULL;
        left -= segment->len;
        *link = segment;
        link = &segment->next;
    }
}

static int64_t stamp(const struct fp_source *s, const struct queue *q, const struct rte_mbuf *m, int64_t now)
{
    if (s->unit == UNIT_NONE || !(m->ol_flags & s->ts_flag))
        return now;
    uint64_t value = *RTE_MBUF_DYNFIELD(m, s->ts_offset, const rte_mbuf_timestamp_t *);
    switch (s->unit) {
    case UNIT_US:
        return (int64_t)value * 1000;
    case UNIT_TICKS:
        return ticks_to_ns(&q->ticks, value);
    default:
        return (int64_t)value;
    }
}

/* The tags that the port took out of the frame (rte_mbuf_core.h says which flag means which field). */
static void restore_tags(struct fp_packet *p, const struct rte_mbuf *m)
{
    if (m->ol_flags & RTE_MBUF_F_RX_QINQ_STRIPPED)
        p->tags[p->ntags++] = (struct fp_tag){.tpid = 0x88A8, .tci = m->vlan_tci_outer};
    if (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED)
        p->tags[p->ntags++] = (struct fp_tag){.tpid = 0x8100, .tci = m->vlan_tci};
}

static void fill(const struct fp_source *s, struct queue *q, unsigned queue, struct fp_packet *p, struct rte_mbuf *m, int64_t now)
{
    uint32_t limit = s->snaplen && s->snaplen < m->pkt_len ? s->snaplen : m->pkt_len;

    *p = (struct fp_packet){
        .data = rte_pktmbuf_mtod(m, const uint8_t *),
        .len = RTE_MIN(m->data_len, limit),
        .caplen = limit,
        .wirelen = m->pkt_len,
        .link = FP_LINK_ETHERNET,
        .ts_source = s->ts_source,
        .ts_ns = stamp(s, q, m, now),
        .interface = m->port,
        .rss = m->ol_flags & RTE_MBUF_F_RX_RSS_HASH ? m->hash.rss : 0,
        .queue = (uint16_t)queue,
        .seq = FP_SEQ_NONE,
        .handle = m,
    };
    if (m->ol_flags & (RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_RX_QINQ_STRIPPED))
        restore_tags(p, m);
    if (m->nb_segs > 1)
        chain(p, m, limit);
    if (s->fed) {
        const struct feed_note *note = RTE_PTR_ADD(rte_mbuf_to_priv(m), s->feed.note_offset);
        p->seq = note->seq;
        p->wirelen = note->wirelen;
    } else if (s->finite && s->port.nrx == 1) {
        p->seq = s->spread.on ? ((const struct feed_note *)RTE_PTR_ADD(rte_mbuf_to_priv(m), sizeof(struct fp_segment)))->seq : q->received;
    }
    __atomic_store_n(&q->received, q->received + 1, __ATOMIC_RELAXED); /* one writer; stats reads it */
}

/* Answers and removes hellos from a burst, and minds the bye; the number of frames left. */
static unsigned answer_hellos(struct fp_source *s, unsigned queue, struct rte_mbuf **mbufs, unsigned count)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < count; i++) {
        int kind = hello_kind(mbufs[i]);
        if (kind == HELLO_ASK && s->port.ntx)
            hello_send(s->port.id, (uint16_t)(queue % s->port.ntx), s->port.pools[queue], HELLO_REPLY, hello_queue(mbufs[i]));
        if (kind == HELLO_BYE)
            atomic_store(s->spread.on ? &s->drained : &s->queues[queue].bye, true);
        if (kind)
            rte_pktmbuf_free(mbufs[i]);
        else
            mbufs[kept++] = mbufs[i];
    }
    return kept;
}

/* net_pcap gives nothing at the end of its file, and when it lost a frame for want of an mbuf. */
static bool file_ended(struct fp_source *s)
{
    struct rte_eth_stats stats;

    if (rte_eth_stats_get(s->port.id, &stats) < 0)
        return true;
    return atomic_exchange(&s->file_lost, stats.rx_nombuf + stats.ierrors) == stats.rx_nombuf + stats.ierrors;
}

/* Whether a queue that just gave no frame will give none any more: 1 end, 0 not yet, -errno. `gone`: the peer had gone already before the
 * queue was looked at. In a replay (hello=1) the sender's going is the end of the input. */
static int at_end(struct fp_source *s, unsigned queue, bool gone, char *err)
{
    struct queue *q = &s->queues[queue];
    int64_t now;

    if (s->queues[queue].bye || (s->hello && s->spread.on && atomic_load(&s->drained) && rte_ring_empty(s->spread.rings[queue])))
        return 1;
    if (s->finite)
        return s->spread.on ? atomic_load(&s->drained) && rte_ring_empty(s->spread.rings[queue]) : file_ended(s);
    if (s->fed)
        return atomic_load(&s->feed.done) && rte_ring_empty(s->feed.rings[queue]);
    now = clock_now(CLOCK_MONOTONIC);
    if (atomic_load_explicit(&s->stopping, memory_order_relaxed)) {
        if (!q->last_ns)
            q->last_ns = now;
        return now - q->last_ns > QUIET_NS;
    }
    if (!s->watch_link)
        return 0;
    if (gone && s->hello)
        return 1;
    if (gone)
        return s->host->fail(err, -EPIPE, "dpdk: the vhost peer of %s has gone; start it again, then the exporter", s->port.name);
    if (queue == 0 && now - q->link_checked > LINK_CHECK_NS) {
        q->link_checked = now;
        if (!port_up(&s->port))
            atomic_store(&s->peer_gone, true);
    }
    return 0;
}

/* A burst dealt out in software: from the worker's own ring, else from the port if it is nobody else's turn. `*looked` is false if it was,
 * for then frames may be in its hands. */
static unsigned take_dealt(struct fp_source *s, unsigned queue, struct rte_mbuf **mbufs, unsigned max, bool *looked)
{
    struct spread *d = &s->spread;
    unsigned count = rte_ring_sc_dequeue_burst(d->rings[queue], (void **)mbufs, max, NULL);

    *looked = false;
    if (count || atomic_flag_test_and_set_explicit(&d->turn, memory_order_acquire))
        return count;
    *looked = true;
    if (rte_ring_empty(d->rings[queue])) {
        count = rte_eth_rx_burst(s->port.id, 0, mbufs, (uint16_t)max);
        if (!count && s->finite && file_ended(s))
            atomic_store(&s->drained, true);
        if (s->hello && count)
            count = answer_hellos(s, 0, mbufs, count);
        for (unsigned i = 0; i < count; i++)
            ((struct feed_note *)RTE_PTR_ADD(rte_mbuf_to_priv(mbufs[i]), sizeof(struct fp_segment)))->seq = d->seq++;
        count = spread_deal(d, queue, mbufs, count);
    }
    atomic_flag_clear_explicit(&d->turn, memory_order_release);
    return count;
}

static unsigned take(struct fp_source *s, unsigned queue, struct rte_mbuf **mbufs, unsigned max, bool *looked)
{
    if (unlikely(s->spread.on))
        return take_dealt(s, queue, mbufs, max, looked);
    unsigned count = rte_eth_rx_burst(s->port.id, (uint16_t)queue, mbufs, (uint16_t)max);
    return unlikely(s->hello) && count ? answer_hellos(s, queue, mbufs, count) : count;
}

static void idle(const struct fp_source *s, unsigned spins)
{
    const struct timespec nap = {.tv_nsec = NAP_NS};

    if (s->busy || spins < SPINS)
        rte_pause();
    else
        nanosleep(&nap, NULL);
}

static int dpdk_recv(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns, char *err)
{
    struct queue *q = &s->queues[queue];
    struct rte_mbuf *mbufs[BURST];
    int64_t begin = 0, empty_ns = FP_NS_NONE;
    unsigned count;

    eal_thread_enter();
    *now_ns = FP_NS_NONE;
    if (q->ended)
        return FP_END;
    for (unsigned spins = 0;; spins++) {
        bool gone = atomic_load_explicit(&s->peer_gone, memory_order_acquire);
        bool looked = true;
        int64_t before = clock_now(CLOCK_REALTIME);
        count = take(s, queue, mbufs, RTE_MIN(max, s->finite ? FILE_BURST : (unsigned)BURST), &looked);
        if (count)
            break;
        if (looked) /* a frame that comes after the look is stamped after `before` */
            empty_ns = before;
        int rc = at_end(s, queue, gone, err);
        if (rc > 0)
            q->ended = true;
        if (rc)
            return rc > 0 ? FP_END : rc;
        if (!begin)
            begin = clock_now(CLOCK_MONOTONIC);
        if (!wait_ms || clock_now(CLOCK_MONOTONIC) - begin >= (int64_t)wait_ms * 1000000)
            break;
        idle(s, spins);
    }
    int64_t now = s->finite || s->fed ? FP_NS_NONE : count ? clock_now(CLOCK_REALTIME) : empty_ns;
    *now_ns = now;
    if (s->unit == UNIT_TICKS && now != FP_NS_NONE && now - q->ticks.ns > CLOCK_PERIOD)
        ticks_calibrate(&q->ticks, read_device_clock, &s->port, clock_now);
    for (unsigned i = 0; i < count; i++) {
        if (i + 2 < count)
            rte_prefetch0(mbufs[i + 2]);
        rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
        fill(s, q, queue, &packets[i], mbufs[i], now);
    }
    if (unlikely(atomic_load_explicit(&s->stopping, memory_order_relaxed)) && count) {
        q->last_ns = clock_now(CLOCK_MONOTONIC);
        q->after_stop += count;
        q->ended = q->after_stop >= s->stop_frames;
    }
    return (int)count;
}

static void dpdk_release(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned count)
{
    struct rte_mbuf *mbufs[BURST];

    (void)s;
    (void)queue;
    for (unsigned at = 0; at < count;) {
        unsigned n = 0;
        while (n < BURST && at < count)
            mbufs[n++] = packets[at++].handle;
        rte_pktmbuf_free_bulk(mbufs, n);
    }
}

static int dpdk_stop(struct fp_source *s, char *err)
{
    (void)err;
    atomic_store(&s->stopping, true);
    if (s->fed)
        atomic_store(&s->feed.stop, true);
    return 0;
}

static int dpdk_stats(struct fp_source *s, struct fp_stats *out)
{
    struct rte_eth_stats stats;
    uint64_t received = 0;
    bool known = s->fed;

    for (const struct driver *d = drivers; !known; d++)
        if (strncmp(s->port.driver, d->name, strlen(d->name)) == 0) {
            known = d->flags & FP_CAP_DROPS_KNOWN;
            break;
        }
    int rc = rte_eth_stats_get(s->port.id, &stats);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < s->nqueues; i++)
        received += __atomic_load_n(&s->queues[i].received, __ATOMIC_RELAXED);
    *out = (struct fp_stats){
        .received = received,
        .dropped = known ? stats.imissed + stats.rx_nombuf + atomic_load(&s->spread.lost) : UINT64_MAX,
        .errors = stats.ierrors,
    };
    return 0;
}

static int dpdk_xstats(struct fp_source *s, char *text, size_t len)
{
    struct rte_eth_xstat_name *names = NULL;
    struct rte_eth_xstat *values = NULL;
    size_t used = (size_t)snprintf(text, len, "driver=%s\nmemory=%s\n", s->port.driver, eal.huge ? "hugepages" : "ordinary");
    int count = rte_eth_xstats_get_names(s->port.id, NULL, 0);

    if (used >= len || count <= 0)
        goto out;
    names = calloc((size_t)count, sizeof(*names));
    values = calloc((size_t)count, sizeof(*values));
    if (!names || !values || rte_eth_xstats_get_names(s->port.id, names, (unsigned)count) != count ||
        rte_eth_xstats_get(s->port.id, values, (unsigned)count) != count)
        goto out;
    for (int i = 0; i < count; i++) {
        int n = snprintf(text + used, len - used, "%s=%" PRIu64 "\n", names[values[i].id].name, values[i].value);
        if (n < 0 || (size_t)n >= len - used) {
            text[used] = '\0';
            break;
        }
        used += (size_t)n;
    }
out:
    free(names);
    free(values);
    return (int)RTE_MIN(used, len - 1);
}

static const struct fp_backend_ops backend_ops = {
    .abi = FP_ABI,
    .size = sizeof(struct fp_backend_ops),
    .name = "dpdk",
    .summary = "DPDK ports: NICs by PCI address, vdevs, captures",
    .probe = dpdk_probe,
    .open = dpdk_open,
    .recv = dpdk_recv,
    .release = dpdk_release,
    .stop = dpdk_stop,
    .stats = dpdk_stats,
    .xstats = dpdk_xstats,
    .close = dpdk_close,
};

FP_PLUGIN = {
    .abi = FP_ABI,
    .size = sizeof(struct fp_plugin),
    .backend = &backend_ops,
    .injector = &inject_ops,
};

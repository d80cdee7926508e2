/* SPDX-License-Identifier: Apache-2.0
 *
 * AF_PACKET with a TPACKET_V3 ring per worker, shared out by PACKET_FANOUT; and the sender over the same sockets, whose packets carry their
 * own times by SO_TXTIME.
 *
 * Receive options: fanout=flow|hash|cpu|queue|lb|rnd|rollover, time=kernel|hardware, blocks=N (of 1 MiB, per worker), tov=MILLISECONDS.
 * The kernel always takes the outer 0x8100 or 0x88A8 tag out of the frame; it comes back as fp_packet.tags (S-LNK-2).
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "../packet_socket.h"

#define BLOCK  (1u << 20)
#define BLOCKS 64ul
#define TOV_MS 10ul
/* A stamped frame waits for its block: at most two periods of the block timer, and for the softirq that stamped it. */
#define VISIBLE_WITHIN(tov_ms) ((int64_t)(2 * (tov_ms) + 80) * 1000000)
#define SETTLE_NS              20000000 /* stop: frames that the kernel has taken in but not yet handed on arrive within this */
#define TOLERANCE_NS           20000000

struct queue {
    _Alignas(64) int fd;
    uint8_t *ring;
    unsigned block;             /* the next to look at */
    struct tpacket3_hdr *frame; /* the next of the block in hand */
    uint32_t left;              /* frames in hand not yet given to the core */
    bool held;                  /* the block in hand goes back with the release */
    atomic_ulong received;
    pthread_mutex_t counting; /* the kernel's counters start again at every look */
    uint64_t dropped, freezes, packets;
};

struct fp_source {
    const struct fp_host *host;
    struct ps_common common;
    struct hwtstamp_config time_before;
    unsigned long blocks, tov;
    uint16_t queues;
    _Atomic int64_t end; /* CLOCK_MONOTONIC; after it an empty ring is the end. 0 = not stopped */
    struct queue queue[];
};

static struct fp_caps receive_caps(uint16_t queues, unsigned long tov)
{
    return (struct fp_caps){
        .size = sizeof(struct fp_caps),
        .flags = FP_CAP_WIRE_LENGTH | FP_CAP_DROPS_KNOWN | FP_CAP_LIVE | FP_CAP_INTERFACE,
        .tier = FP_TIER_KERNEL,
        .ts_source = FP_TS_KERNEL,
        .queues = queues,
        .max_frame = BLOCK - 256,
        .ts_resolution = 1,
        .ts_tolerance = TOLERANCE_NS,
        .visibility = VISIBLE_WITHIN(tov),
    };
}

static int probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    *caps = receive_caps(FP_MAX_QUEUES, TOV_MS);
    return ps_probe(host, "af_packet", err);
}

static int read_options(struct fp_source *s, const struct fp_open_args *args, char *err)
{
    for (uint32_t i = 0; i < args->noptions; i++) {
        const struct fp_option *o = &args->options[i];
        int rc = ps_option(s->host, &s->common, o, err);
        if (rc > 0)
            continue;
        if (rc == 0 && !strcmp(o->key, "blocks"))
            rc = li_number(s->host, "af_packet", o, 2, 4096, &s->blocks, err);
        else if (rc == 0 && !strcmp(o->key, "tov"))
            rc = li_number(s->host, "af_packet", o, 1, 1000, &s->tov, err);
        else if (rc == 0)
            rc = s->host->fail(err, -EINVAL, "backend af_packet: unknown option '%s'; it has fanout, time, blocks, tov", o->key);
        if (rc)
            return rc;
    }
    return 0;
}

static int open_ring(struct fp_source *s, struct queue *q, char *err)
{
    struct tpacket_req3 req = {
        .tp_block_size = BLOCK,
        .tp_block_nr = (unsigned)s->blocks,
        .tp_frame_size = TPACKET_ALIGNMENT << 7,
        .tp_frame_nr = (unsigned)(s->blocks * (BLOCK / (TPACKET_ALIGNMENT << 7))),
        .tp_retire_blk_tov = (unsigned)s->tov,
    };
    int version = TPACKET_V3;
    void *ring;

    if (setsockopt(q->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version))
        return s->host->fail(err, -errno, "backend af_packet: the kernel lacks TPACKET_V3: %s", strerror(errno));
    if (setsockopt(q->fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof req))
        return s->host->fail(err, -errno, "backend af_packet: no ring of %lu MiB: %s; make it smaller with option blocks", s->blocks,
                             strerror(errno));
    ring = mmap(NULL, (size_t)s->blocks * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, q->fd, 0);
    if (ring == MAP_FAILED)
        return s->host->fail(err, -errno, "backend af_packet: the ring cannot be mapped: %s", strerror(errno));
    q->ring = ring;
    return 0;
}

static int open_queue(struct fp_source *s, struct queue *q, uint16_t *group, char *err)
{
    int rc;

    /* Protocol 0: nothing arrives before the ring, the filter and the group are there. */
    q->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (q->fd < 0)
        return errno == EPERM ? ps_probe(s->host, "af_packet", err)
                              : s->host->fail(err, -errno, "backend af_packet: no packet socket: %s", strerror(errno));
    rc = ps_prepare(s->host, &s->common, q->fd, err);
    if (!rc)
        rc = open_ring(s, q, err);
    /* A socket that is bound but not yet of the group would get what the others get as well. */
    if (!rc)
        rc = ps_drop_all(q->fd);
    if (!rc)
        rc = ps_bind_to(s->host, &s->common, q->fd, err);
    if (!rc && s->queues > 1)
        rc = ps_fanout(s->host, &s->common, q->fd, group, err);
    return rc;
}

static void close_source(struct fp_source *s)
{
    if (s->common.hardware_time && s->queues && s->queue[0].fd >= 0)
        ps_restore_time(&s->common, s->queue[0].fd, &s->time_before);
    for (unsigned i = 0; i < s->queues; i++) {
        struct queue *q = &s->queue[i];
        if (q->ring)
            munmap(q->ring, (size_t)s->blocks * BLOCK);
        if (q->fd >= 0)
            close(q->fd);
        pthread_mutex_destroy(&q->counting);
    }
    free(s);
}

static int open_source(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    size_t size = sizeof(struct fp_source) + args->queues * sizeof(struct queue);
    struct fp_source *s = aligned_alloc(64, (size + 63) & ~(size_t)63);
    struct bpf_program filter = {0};
    uint16_t group = 0;
    int rc;

    if (!s)
        return host->fail(err, -ENOMEM, "backend af_packet: out of memory");
    memset(s, 0, size);
    s->host = host;
    s->blocks = BLOCKS;
    s->tov = TOV_MS;
    s->queues = args->queues;
    s->common = (struct ps_common){.name = "af_packet",
                                   .interface.name = args->input,
                                   .fanout = PS_FANOUT_FLOW,
                                   .promiscuous = args->flags & FP_OPEN_PROMISCUOUS,
                                   .snaplen = args->snaplen};
    for (unsigned i = 0; i < s->queues; i++) {
        s->queue[i].fd = -1;
        pthread_mutex_init(&s->queue[i].counting, NULL);
    }
    rc = ps_flags(host, "af_packet", args, err);
    if (!rc)
        rc = read_options(s, args, err);
    if (!rc)
        rc = ps_probe(host, "af_packet", err);
    if (!rc)
        rc = li_open(host, &s->common.interface, err);
    if (!rc)
        rc = ps_filter(host, &s->common, args->filter, &filter, err);
    for (unsigned i = 0; i < s->queues && !rc; i++)
        rc = open_queue(s, &s->queue[i], &group, err);
    for (unsigned i = 0; i < s->queues && !rc; i++)
        rc = ps_admit(host, &s->common, s->queue[i].fd, &filter, err);
    if (!rc && s->common.hardware_time) {
        rc = ps_hardware_time(host, &s->common, s->queue[0].fd, &s->time_before, err);
        s->common.hardware_time = rc == 0; /* else there is nothing to put back */
    }
    ps_free_filter(&filter);
    if (rc) {
        close_source(s);
        return rc;
    }
    *caps = receive_caps(s->queues, s->tov);
    if (s->queues > 1 && s->common.fanout != PS_FANOUT_FLOW)
        caps->flags |= FP_CAP_SPLITS;
    if (s->common.hardware_time)
        caps->ts_source = FP_TS_HARDWARE;
    *out = s;
    return 0;
}

static struct tpacket_block_desc *block_of(const struct queue *q)
{
    return (struct tpacket_block_desc *)(q->ring + (size_t)q->block * BLOCK);
}

static void give_back(const struct fp_source *s, struct queue *q)
{
    __atomic_store_n(&block_of(q)->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    q->block = q->block + 1 == s->blocks ? 0 : q->block + 1;
}

/* Takes the next full block in hand; false if the kernel has none. */
static bool next_block(const struct fp_source *s, struct queue *q)
{
    for (;;) {
        struct tpacket_block_desc *b = block_of(q);
        if (!(__atomic_load_n(&b->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
            return false;
        q->left = b->hdr.bh1.num_pkts;
        if (q->left) {
            q->frame = (struct tpacket3_hdr *)((uint8_t *)b + b->hdr.bh1.offset_to_first_pkt);
            return true;
        }
        give_back(s, q);
    }
}

static const struct sockaddr_ll *address_of(const struct tpacket3_hdr *h)
{
    return (const struct sockaddr_ll *)(const void *)((const uint8_t *)h + TPACKET_ALIGN(sizeof *h));
}

static void describe(const struct fp_source *s, unsigned queue, const struct tpacket3_hdr *h, struct fp_packet *p)
{
    const uint8_t *data = (const uint8_t *)h + h->tp_mac;
    const struct sockaddr_ll *from = address_of(h);
    struct virtio_net_hdr offload;

    *p = (struct fp_packet){
        .data = data,
        .len = h->tp_snaplen,
        .caplen = h->tp_snaplen,
        .wirelen = h->tp_len,
        .link = FP_LINK_ETHERNET,
        .ts_source = h->tp_status & TP_STATUS_TS_RAW_HARDWARE ? FP_TS_HARDWARE : FP_TS_KERNEL,
        .ts_ns = (int64_t)h->tp_sec * 1000000000 + h->tp_nsec,
        .interface = (uint32_t)from->sll_ifindex,
        .queue = (uint16_t)queue,
        .seq = FP_SEQ_NONE,
    };
    memcpy(&offload, data - sizeof offload, sizeof offload);
    if (offload.gso_type != VIRTIO_NET_HDR_GSO_NONE)
        p->segments = ps_segments(&offload, data, p->caplen, p->wirelen);
    if (h->tp_status & TP_STATUS_VLAN_VALID) {
        p->ntags = 1;
        p->tags[0].tci = (uint16_t)h->hv1.tp_vlan_tci;
        p->tags[0].tpid = h->tp_status & TP_STATUS_VLAN_TPID_VALID ? h->hv1.tp_vlan_tpid : ETH_P_8021Q;
    }
    if (s->common.snaplen && p->caplen > s->common.snaplen)
        p->len = p->caplen = s->common.snaplen;
}

/* Nobody needs to wait beyond the end. */
static int until_end(int64_t end, int64_t ticks, int wait_ms)
{
    int64_t left = (end - ticks) / 1000000 + 1;

    return end && left < wait_ms ? (int)left : wait_ms;
}

/* Describes up to `max` frames of the block in hand. */
static unsigned take(const struct fp_source *s, unsigned queue, struct queue *q, struct fp_packet *packets, unsigned max)
{
    unsigned n = 0;

    for (; n < max && q->left; q->left--) {
        const struct tpacket3_hdr *h = q->frame;
        /* A frame that the kernel gave up half-way (no virtio-net header can say its offload) leaves its place in the block, with whatever
         * was there before; it is in tp_drops. Outgoing frames come from kernels whose fanout groups cannot leave them out. */
        if (h->tp_status & TP_STATUS_USER && address_of(h)->sll_pkttype != PACKET_OUTGOING)
            describe(s, queue, h, &packets[n++]);
        q->frame = (struct tpacket3_hdr *)((uint8_t *)h + h->tp_next_offset);
    }
    return n;
}

static int recv_burst(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns, char *err)
{
    struct queue *q = &s->queue[queue];
    unsigned n;

    /* The clocks are read before the ring: a frame stamped before that is in it by now, or within the visibility bound. */
    *now_ns = li_now(CLOCK_REALTIME);
    for (;;) {
        int64_t end = atomic_load(&s->end), ticks = li_now(CLOCK_MONOTONIC);
        if (q->left || next_block(s, q)) {
            n = take(s, queue, q, packets, max);
            if (n)
                break;
            give_back(s, q);
            continue;
        }
        if (end && ticks >= end)
            return FP_END;
        if (!wait_ms)
            return 0;
        struct pollfd p = {.fd = q->fd, .events = POLLIN | POLLERR};
        int rc = poll(&p, 1, until_end(end, ticks, wait_ms));
        if (rc == 0 || (rc > 0 && p.revents & (POLLERR | POLLHUP))) { /* the one error may have come while a removal was still under way */
            rc = li_still_there(s->host, &s->common.interface, q->fd, err);
            if (rc)
                return rc;
        }
        wait_ms = 0;
        *now_ns = li_now(CLOCK_REALTIME);
    }
    q->held = true;
    atomic_fetch_add_explicit(&q->received, n, memory_order_relaxed);
    return (int)n;
}

static void release(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned count)
{
    struct queue *q = &s->queue[queue];

    (void)packets, (void)count;
    if (q->held && !q->left)
        give_back(s, q);
    q->held = false;
}

static int stop(struct fp_source *s, char *err)
{
    struct timespec settle = {.tv_nsec = SETTLE_NS};

    /* What was sent before the stop may still be on its way through the kernel. */
    nanosleep(&settle, NULL);
    for (unsigned i = 0; i < s->queues; i++) {
        int rc = ps_drop_all(s->queue[i].fd);
        if (rc)
            return s->host->fail(err, rc, "backend af_packet: the kernel does not stop: %s", strerror(-rc));
    }
    /* The open block retires within two periods of its timer; only then is all of it visible. */
    atomic_store(&s->end, li_now(CLOCK_MONOTONIC) + (int64_t)(3 * s->tov + 20) * 1000000);
    return 0;
}

static void count(struct queue *q)
{
    struct tpacket_stats_v3 now;
    socklen_t len = sizeof now;

    if (getsockopt(q->fd, SOL_PACKET, PACKET_STATISTICS, &now, &len) == 0) {
        q->packets += now.tp_packets;
        q->dropped += now.tp_drops;
        q->freezes += now.tp_freeze_q_cnt;
    }
}

static int stats(struct fp_source *s, struct fp_stats *out)
{
    *out = (struct fp_stats){0};
    for (unsigned i = 0; i < s->queues; i++) {
        struct queue *q = &s->queue[i];
        pthread_mutex_lock(&q->counting);
        count(q);
        out->received += atomic_load_explicit(&q->received, memory_order_relaxed);
        out->dropped += q->dropped;
        pthread_mutex_unlock(&q->counting);
    }
    return 0;
}

static int xstats(struct fp_source *s, char *text, size_t len)
{
    size_t used = 0;

    for (unsigned i = 0; i < s->queues && used < len; i++) {
        struct queue *q = &s->queue[i];
        pthread_mutex_lock(&q->counting);
        count(q);
        int n = snprintf(text + used, len - used, "worker_%u_tp_packets=%llu\nworker_%u_tp_drops=%llu\nworker_%u_tp_freeze_q_cnt=%llu\n", i,
                         (unsigned long long)q->packets, i, (unsigned long long)q->dropped, i, (unsigned long long)q->freezes);
        pthread_mutex_unlock(&q->counting);
        if (n < 0 || (size_t)n >= len - used)
            break;
        used += (size_t)n;
    }
    return (int)used;
}

static const struct fp_backend_ops receive_ops = {
    .abi = FP_ABI,
    .size = sizeof receive_ops,
    .name = "af_packet",
    .summary = "a network interface through AF_PACKET, TPACKET_V3 rings shared by PACKET_FANOUT",
    .probe = probe,
    .open = open_source,
    .recv = recv_burst,
    .release = release,
    .stop = stop,
    .stats = stats,
    .xstats = xstats,
    .close = close_source,
};

/* The sender. Options: time=own|none (own: SO_TXTIME carries each packet's time), encapsulate=0|1, bypass=0|1 (past the queueing
 * discipline).
 *
 * With encapsulate, 34 octets go before each frame: its time (u64) and its ordinal (u32) in the place of the MAC addresses, then the header
 * of an IPv4 packet of protocol 253 (RFC 3692) from the frame's flow hash, by which veth chooses the queue, to "FPts". The XDP program of
 * backend af_xdp takes them off and keeps time and ordinal as metadata, so that every frame arrives there as it was. */
#define SEND_BATCH    64
#define ENCAPSULATION 34
#define SPIN_NS       60000      /* a sleep may end this late; the rest of a wait is spun */
#define FULL_NS       2000000000 /* a receiver that is full for so long is given up */
#define NS_PER_S      1000000000

struct fp_injector {
    const struct fp_host *host;
    struct ps_common common;
    bool own_time, encapsulate, bypass;
    uint16_t queues;
    atomic_ulong sent;
    int fd[];
};

static struct fp_injector_caps send_caps(uint16_t queues, bool exact, uint32_t max_frame)
{
    return (struct fp_injector_caps){
        .size = sizeof(struct fp_injector_caps),
        .flags = exact ? FP_CAP_EXACT_TIME : 0,
        .queues = queues,
        .min_frame = 14,
        .max_frame = max_frame,
        .rate_pps = 800000,
    };
}

static int ask_own_time(int fd)
{
    struct sock_txtime how = {.clockid = CLOCK_REALTIME};

    return setsockopt(fd, SOL_SOCKET, SO_TXTIME, &how, sizeof how);
}

static int send_probe(const struct fp_host *host, struct fp_injector_caps *caps, char *err)
{
    int fd, rc = ps_probe(host, "af_packet", err);

    if (rc)
        return rc;
    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    *caps = send_caps(FP_MAX_QUEUES, ask_own_time(fd) == 0, 65549);
    close(fd);
    return 0;
}

static int send_options(struct fp_injector *t, const struct fp_open_args *args, char *err)
{
    for (uint32_t i = 0; i < args->noptions; i++) {
        const struct fp_option *o = &args->options[i];
        bool one = !strcmp(o->value, "1");
        if (!strcmp(o->key, "time") && (!strcmp(o->value, "own") || !strcmp(o->value, "none")))
            t->own_time = !strcmp(o->value, "own");
        else if (!strcmp(o->key, "encapsulate") && (one || !strcmp(o->value, "0")))
            t->encapsulate = one;
        else if (!strcmp(o->key, "bypass") && (one || !strcmp(o->value, "0")))
            t->bypass = one;
        else
            return t->host->fail(
                err, -EINVAL,
                "injector af_packet: '%s=%s' is none of time=own, time=none, encapsulate=0, encapsulate=1, bypass=0, bypass=1", o->key,
                o->value);
    }
    return 0;
}

static void send_close(struct fp_injector *t)
{
    for (unsigned i = 0; i < t->queues; i++)
        if (t->fd[i] >= 0)
            close(t->fd[i]);
    free(t);
}

static int open_sender(struct fp_injector *t, int *fd, char *err)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = t->common.interface.index};
    int one = 1, buffer = 4 << 20;

    *fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (*fd < 0 || bind(*fd, (struct sockaddr *)&to, sizeof to))
        return t->host->fail(err, -errno, "interface %s: cannot be sent to: %s", t->common.interface.name, strerror(errno));
    (void)setsockopt(*fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    if (t->bypass && setsockopt(*fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one))
        return t->host->fail(err, -errno, "injector af_packet: the kernel does not bypass the queueing discipline: %s", strerror(errno));
    if (t->own_time && ask_own_time(*fd))
        return t->host->fail(err, -errno,
                             "injector af_packet: the kernel does not carry the packets' own times (SO_TXTIME: %s); use the trailer",
                             strerror(errno));
    return 0;
}

static int send_open(const struct fp_host *host, const struct fp_open_args *args, struct fp_injector **out, struct fp_injector_caps *caps,
                     char *err)
{
    struct fp_injector *t = calloc(1, sizeof *t + args->queues * sizeof t->fd[0]);
    struct ifreq ifr = {0};
    int rc;

    if (!t)
        return host->fail(err, -ENOMEM, "injector af_packet: out of memory");
    t->host = host;
    t->own_time = true;
    t->queues = args->queues;
    t->common = (struct ps_common){.name = "af_packet", .interface.name = args->input};
    for (unsigned i = 0; i < t->queues; i++)
        t->fd[i] = -1;
    rc = send_options(t, args, err);
    if (!rc)
        rc = ps_probe(host, "af_packet", err);
    if (!rc)
        rc = li_open(host, &t->common.interface, err);
    for (unsigned i = 0; i < t->queues && !rc; i++)
        rc = open_sender(t, &t->fd[i], err);
    if (!rc) {
        strcpy(ifr.ifr_name, args->input);
        if (ioctl(t->fd[0], SIOCGIFMTU, &ifr))
            rc = host->fail(err, -errno, "interface %s: no MTU: %s", args->input, strerror(errno));
    }
    if (rc) {
        send_close(t);
        return rc;
    }
    *caps = send_caps(t->queues, t->own_time || t->encapsulate, (uint32_t)ifr.ifr_mtu + ETH_HLEN - (t->encapsulate ? ENCAPSULATION : 0));
    *out = t;
    return 0;
}

/* One prepared message; the control part holds the packet's own time. */
struct message {
    struct iovec part[18];
    uint8_t outer[ENCAPSULATION];
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint64_t))];
};

static void encapsulate(const struct fp_injector *t, const struct fp_packet *p, uint8_t *out)
{
    static const uint8_t header[ENCAPSULATION] = {[12] = 0x08, [14] = 0x45, [17] = 20,  [22] = 64, [23] = 253,
                                                  [30] = 'F',  [31] = 'P',  [32] = 't', [33] = 's'};
    uint64_t ts = htobe64((uint64_t)p->ts_ns);
    uint32_t seq = htonl((uint32_t)p->seq), flow = htonl(t->host->flow_hash(p));

    memcpy(out, header, sizeof header);
    memcpy(out, &ts, 8);
    memcpy(out + 8, &seq, 4);
    memcpy(out + 26, &flow, 4);
}

/* Fills `h` from `p`; -EMSGSIZE if the frame is in too many pieces, -ERANGE if its time cannot be carried. */
static int prepare(const struct fp_injector *t, const struct fp_packet *p, struct message *m, struct msghdr *h)
{
    struct fp_segment first = {.data = p->data, .len = p->len, .next = p->next};
    struct cmsghdr *c;
    unsigned n = 0;

    if ((t->own_time || t->encapsulate) && p->ts_ns <= 0)
        return -ERANGE; /* the kernel takes 0 as "no time" */
    if (t->encapsulate) {
        encapsulate(t, p, m->outer);
        m->part[n++] = (struct iovec){m->outer, sizeof m->outer};
    }
    for (const struct fp_segment *s = &first; s; s = s->next) {
        if (n == sizeof m->part / sizeof *m->part)
            return -EMSGSIZE;
        m->part[n++] = (struct iovec){(void *)(uintptr_t)s->data, s->len};
    }
    *h = (struct msghdr){.msg_iov = m->part, .msg_iovlen = n};
    if (t->own_time && !t->encapsulate) {
        h->msg_control = m->control;
        h->msg_controllen = sizeof m->control;
        c = CMSG_FIRSTHDR(h);
        *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_TXTIME, .cmsg_len = CMSG_LEN(sizeof(uint64_t))};
        memcpy(CMSG_DATA(c), &p->ts_ns, sizeof(uint64_t));
    }
    return 0;
}

static void wait_until(int64_t due)
{
    int64_t now = li_now(CLOCK_MONOTONIC);

    if (due - now > SPIN_NS) {
        struct timespec t = {.tv_sec = (due - SPIN_NS) / NS_PER_S, .tv_nsec = (due - SPIN_NS) % NS_PER_S};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
            ;
    }
    while (li_now(CLOCK_MONOTONIC) < due)
        ;
}

/* Sends what is prepared. A full receiver (ENOBUFS: the frame was not delivered) is tried again. */
static int send_batch(struct fp_injector *t, int fd, struct mmsghdr *batch, unsigned n, char *err)
{
    struct timespec moment = {.tv_nsec = 50000};
    int64_t give_up = 0;

    for (;;) {
        int rc = sendmmsg(fd, batch, n, 0);
        if (rc > 0)
            return rc;
        if (errno == EINTR)
            continue;
        if (errno != ENOBUFS && errno != EAGAIN)
            return t->host->fail(err, -errno, "interface %s: a frame cannot be sent: %s", t->common.interface.name, strerror(errno));
        if (!give_up)
            give_up = li_now(CLOCK_MONOTONIC) + FULL_NS;
        else if (li_now(CLOCK_MONOTONIC) > give_up)
            return t->host->fail(err, -ENOBUFS, "interface %s: full for two seconds", t->common.interface.name);
        nanosleep(&moment, NULL);
    }
}

static int send_burst(struct fp_injector *t, unsigned queue, const struct fp_packet *packets, const int64_t *due_ns, unsigned count,
                      char *err)
{
    struct message messages[SEND_BATCH];
    struct mmsghdr batch[SEND_BATCH];
    unsigned done = 0;

    while (done < count) {
        int64_t now = due_ns ? (wait_until(due_ns[done]), li_now(CLOCK_MONOTONIC)) : 0;
        unsigned n = 0;
        int rc = 0;
        while (n < SEND_BATCH && done + n < count && (!due_ns || due_ns[done + n] <= now)) {
            rc = prepare(t, &packets[done + n], &messages[n], &batch[n].msg_hdr);
            if (rc)
                break;
            n++;
        }
        if (!n)
            return done ? (int)done
                        : t->host->fail(err, rc,
                                        rc == -ERANGE ? "a time before 1970 or at its very start cannot be carried"
                                                      : "a frame is in too many pieces");
        rc = send_batch(t, t->fd[queue], batch, n, err);
        if (rc < 0)
            return done ? (int)done : rc;
        done += (unsigned)rc;
        atomic_fetch_add_explicit(&t->sent, (unsigned long)rc, memory_order_relaxed);
    }
    return (int)done;
}

static int send_stats(struct fp_injector *t, struct fp_stats *out)
{
    *out = (struct fp_stats){.received = atomic_load_explicit(&t->sent, memory_order_relaxed)};
    return 0;
}

static const struct fp_injector_ops send_ops = {
    .abi = FP_ABI,
    .size = sizeof send_ops,
    .name = "af_packet",
    .summary = "sendmmsg on packet sockets; each packet's own time by SO_TXTIME",
    .probe = send_probe,
    .open = send_open,
    .send = send_burst,
    .stats = send_stats,
    .close = send_close,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .backend = &receive_ops, .injector = &send_ops};

/* SPDX-License-Identifier: Apache-2.0
 *
 * AF_XDP: one socket for each receive queue of the interface, with a program of our own on it. The program is attached by a BPF link, so it
 * goes however the process ends.
 *
 * Options: mode=auto|native|generic, copy=auto|copy|zerocopy, frames=N (buffers of 4 KiB per queue, a power of two),
 * times=kernel|sender|burst:
 *
 *  - kernel: the program stamps each frame as the driver hands it over.
 *  - sender: the frame comes with 34 octets before it, as the injector af_packet sends under encapsulate=1: its time (u64) and its ordinal
 *    (u32) in the place of the MAC addresses of an IPv4 packet of protocol 253. The program takes them off and leaves time and ordinal as
 *    metadata. Frames without them have no time.
 *  - burst: no metadata, for drivers that have none. All frames of a burst get the time at which they were read.
 *
 * Frames longer than a buffer come in several (XDP_USE_SG). Tags stay in the frame; those that the card took out are lost, and the
 * capability says so. The network card chooses the queue, so several workers
 * split keys (S-CMP-2).
 */
#include <bpf/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <xdp/xsk.h>

#include "../linux_interface.h"
#include "program.h"

#define BUFFER       4096ul
#define FRAMES       16384ul
#define USE_SG       (1u << 4) /* XDP_USE_SG and XDP_PKT_CONTD are newer than Debian 12's headers */
#define CONTINUED    (1u << 0)
#define BUSY_TRIES   25        /* the kernel may need a moment to let go of a queue that was just closed */
#define SETTLE_NS    20000000  /* stop: frames that the kernel has taken in but not yet handed on arrive within this */
#define VISIBLE_NS   100000000 /* a stamped frame waits for the end of its softirq */
#define TOLERANCE_NS 20000000

/* One receive queue of the interface. */
struct port {
    struct xsk_umem *umem;
    struct xsk_socket *socket;
    struct xsk_ring_prod fill;
    struct xsk_ring_cons comp, rx;
    uint8_t *area;
    uint32_t id;
    struct xdp_statistics last; /* what was read when the socket could still be asked */
};

/* What one worker serves: ports id, id + queues, id + 2 * queues, … */
struct queue {
    _Alignas(64) unsigned turn; /* the port to look at first */
    struct port *holding;       /* whose descriptors are in the core's hands */
    uint32_t first, held;
    struct fp_segment *segments;
    atomic_ulong received;
    int64_t looked; /* CLOCK_MONOTONIC of the last look whether the interface is there */
};

struct fp_source {
    const struct fp_host *host;
    struct li_interface interface;
    enum times times;
    bool try_native, try_generic, native, busy_poll, promiscuous;
    uint16_t bind_flags;
    unsigned long frames;
    uint32_t snaplen;
    int map, failures, link;
    int watch; /* a packet socket that hears nothing, to ask about the interface and to make it promiscuous: AF_XDP sockets do neither */
    uint16_t queues;
    unsigned nports;
    struct port *ports;
    atomic_bool stopped;
    struct queue queue[];
};

static struct fp_caps receive_caps(uint16_t queues)
{
    /* No FP_CAP_DROPS_KNOWN: what is lost between the driver and the socket's ring, XDP_STATISTICS does not count. */
    return (struct fp_caps){
        .size = sizeof(struct fp_caps),
        .flags = FP_CAP_WIRE_LENGTH | FP_CAP_LIVE | FP_CAP_INTERFACE | (queues > 1 ? FP_CAP_SPLITS : 0),
        .tier = FP_TIER_KERNEL,
        .ts_source = FP_TS_KERNEL,
        .queues = queues,
        .max_frame = 65549,
        .ts_resolution = 1,
        .ts_tolerance = TOLERANCE_NS,
        .visibility = VISIBLE_NS,
    };
}

static int probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    int fd, map;

    *caps = receive_caps(FP_MAX_QUEUES);
    fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0 && errno == EPERM)
        return host->fail(err, -EPERM,
                          "backend af_xdp: no privilege to open AF_XDP sockets; run as root or give the process CAP_NET_RAW, CAP_NET_ADMIN "
                          "and CAP_BPF (setpriv, or the systemd unit)");
    if (fd < 0)
        return host->fail(err, -errno, "backend af_xdp: this kernel has no AF_XDP (%s); use a kernel with CONFIG_XDP_SOCKETS",
                          strerror(errno));
    close(fd);
    map = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "fp_probe", 4, 4, 1, NULL);
    if (map < 0)
        return host->fail(
            err, map == -EPERM ? -EPERM : map,
            "backend af_xdp: no privilege to load BPF programs (%s); run as root of the host or give the process CAP_BPF and CAP_NET_ADMIN",
            strerror(-map));
    close(map);
    return 0;
}

static int read_options(struct fp_source *s, const struct fp_open_args *args, char *err)
{
    static const char *const known[][4] = {
        {"mode", "auto", "native", "generic"}, {"copy", "auto", "copy", "zerocopy"}, {"times", "kernel", "sender", "burst"}};

    for (uint32_t i = 0; i < args->noptions; i++) {
        const struct fp_option *o = &args->options[i];
        unsigned which = 0, value = 1;
        if (!strcmp(o->key, "frames")) {
            int rc = li_number(s->host, "af_xdp", o, 64, 1ul << 20, &s->frames, err);
            if (rc)
                return rc;
            if (s->frames & (s->frames - 1))
                return s->host->fail(err, -EINVAL, "backend af_xdp: option frames=%s is not a power of two", o->value);
            continue;
        }
        while (which < 3 && strcmp(o->key, known[which][0]))
            which++;
        if (which == 3)
            return s->host->fail(err, -EINVAL, "backend af_xdp: unknown option '%s'; it has mode, copy, frames, times", o->key);
        while (value < 4 && strcmp(o->value, known[which][value]))
            value++;
        if (value == 4)
            return s->host->fail(err, -EINVAL, "backend af_xdp: option %s=%s is none of %s, %s, %s", o->key, o->value, known[which][1],
                                 known[which][2], known[which][3]);
        if (which == 0) {
            s->try_native = value != 3;
            s->try_generic = value != 2;
        } else if (which == 1) {
            s->bind_flags = (uint16_t)(value == 2 ? XDP_COPY : value == 3 ? XDP_ZEROCOPY : 0);
        } else {
            s->times = (enum times)(value - 1);
        }
    }
    return 0;
}

/* How many receive queues the interface has in use. */
static unsigned count_ports(const struct li_interface *i)
{
    struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
    struct ifreq ifr = {.ifr_data = (char *)&channels};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    unsigned n = 1;

    strcpy(ifr.ifr_name, i->name);
    if (fd >= 0 && ioctl(fd, SIOCETHTOOL, &ifr) == 0)
        n = channels.rx_count + channels.combined_count;
    if (fd >= 0)
        close(fd);
    return n ? n : 1;
}

static int load_program(const struct fp_source *s, char *err)
{
    struct bpf_prog_load_opts opts = {.sz = sizeof opts, .prog_flags = BPF_F_XDP_HAS_FRAGS};
    struct assembly a;
    int fd;

    assemble(&a, s->times, s->map, s->failures);
    fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "flowparity", "GPL", a.code, a.n, &opts);
    if (fd == -EINVAL) { /* before 5.18: no frames in several buffers */
        opts.prog_flags = 0;
        fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "flowparity", "GPL", a.code, a.n, &opts);
    }
    if (fd < 0)
        return s->host->fail(err, fd, "backend af_xdp: the kernel refuses the program: %s; it needs CAP_BPF and CAP_NET_ADMIN",
                             strerror(-fd));
    return fd;
}

static int attach_as(const struct fp_source *s, int program, uint32_t flags)
{
    struct bpf_link_create_opts opts = {.sz = sizeof opts, .flags = flags};

    return bpf_link_create(program, s->interface.index, BPF_XDP, &opts);
}

static int attach(struct fp_source *s, char *err)
{
    const char *name = s->interface.name;
    int program = load_program(s, err), rc = -EOPNOTSUPP;

    if (program < 0)
        return program;
    if (s->try_native) {
        rc = attach_as(s, program, XDP_FLAGS_DRV_MODE);
        s->native = rc >= 0;
    }
    if (rc < 0 && rc != -EBUSY && rc != -EEXIST && s->try_generic)
        rc = attach_as(s, program, XDP_FLAGS_SKB_MODE);
    close(program); /* the link keeps it */
    if (rc >= 0) {
        s->link = rc;
        return 0;
    }
    if (rc == -EBUSY || rc == -EEXIST)
        return s->host->fail(err, -EBUSY,
                             "interface %s: it has an XDP program already; 'ip link set %s xdp off', or wait for the other process to end",
                             name, name);
    if (rc == -EOPNOTSUPP)
        return s->host->fail(err, -ENOSYS, "interface %s: its driver has no native XDP; use mode=generic", name);
    if (rc == -ERANGE)
        return s->host->fail(
            err, rc, "interface %s: its MTU is too large for native XDP; lower it with 'ip link set %s mtu 3498', or use mode=generic",
            name, name);
    return s->host->fail(err, rc, "interface %s: no XDP program can be attached: %s", name, strerror(-rc));
}

static int open_port(struct fp_source *s, struct port *p, char *err)
{
    struct xsk_umem_config umem = {.fill_size = (uint32_t)s->frames, .comp_size = 64, .frame_size = BUFFER};
    struct xsk_socket_config config = {.rx_size = (uint32_t)s->frames,
                                       .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
                                       .bind_flags = (uint16_t)(s->bind_flags | XDP_USE_NEED_WAKEUP | USE_SG)};
    struct timespec moment = {.tv_nsec = 20000000};
    void *area = mmap(NULL, s->frames * BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t at;
    int rc;

    if (area == MAP_FAILED)
        return s->host->fail(err, -ENOMEM, "backend af_xdp: no memory for %lu buffers a queue; use fewer with option frames", s->frames);
    p->area = area;
    rc = xsk_umem__create(&p->umem, area, s->frames * BUFFER, &p->fill, &p->comp, &umem);
    if (rc)
        return s->host->fail(err, rc,
                             "backend af_xdp: %lu buffers of queue %u cannot be registered: %s; use fewer with option frames, or raise the "
                             "limit (LimitMEMLOCK)",
                             s->frames, p->id, strerror(-rc));
    for (int i = 0; i < BUSY_TRIES; i++) {
        rc = xsk_socket__create(&p->socket, s->interface.name, p->id, p->umem, &p->rx, NULL, &config);
        if (rc == -EINVAL && config.bind_flags & USE_SG) {
            config.bind_flags &= (uint16_t)~USE_SG; /* before 6.6 */
            continue;
        }
        if (rc != -EBUSY)
            break;
        nanosleep(&moment, NULL);
    }
    if (rc == -EOPNOTSUPP && s->bind_flags == XDP_ZEROCOPY)
        return s->host->fail(err, -ENOSYS, "interface %s: its driver has no zero-copy AF_XDP; use copy=copy", s->interface.name);
    if (rc)
        return s->host->fail(err, rc, "interface %s: queue %u cannot be bound: %s", s->interface.name, p->id, strerror(-rc));
    if (xsk_ring_prod__reserve(&p->fill, (uint32_t)s->frames, &at) != s->frames)
        return s->host->fail(err, -ENOSPC, "backend af_xdp: the fill ring of queue %u is too small", p->id);
    for (uint32_t i = 0; i < s->frames; i++)
        *xsk_ring_prod__fill_addr(&p->fill, at + i) = i * BUFFER;
    xsk_ring_prod__submit(&p->fill, (uint32_t)s->frames);
    return 0;
}

static int busy_poll(const struct fp_source *s, const struct port *p, char *err)
{
    int prefer = 1, usecs = 20, budget = 64, fd = xsk_socket__fd(p->socket);

    if (setsockopt(fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, &prefer, sizeof prefer) ||
        setsockopt(fd, SOL_SOCKET, SO_BUSY_POLL, &usecs, sizeof usecs) ||
        setsockopt(fd, SOL_SOCKET, SO_BUSY_POLL_BUDGET, &budget, sizeof budget))
        return s->host->fail(err, -errno, "backend af_xdp: the kernel refuses busy polling: %s; leave it off", strerror(errno));
    return 0;
}

static void close_source(struct fp_source *s)
{
    /* The program first: nothing is redirected to a socket that is going. */
    if (s->link >= 0)
        close(s->link);
    for (unsigned i = 0; i < s->nports; i++) {
        struct port *p = &s->ports[i];
        if (p->socket)
            xsk_socket__delete(p->socket);
        if (p->umem)
            xsk_umem__delete(p->umem);
        if (p->area)
            munmap(p->area, s->frames * BUFFER);
    }
    if (s->map >= 0)
        close(s->map);
    if (s->failures >= 0)
        close(s->failures);
    if (s->watch >= 0)
        close(s->watch);
    for (unsigned i = 0; i < s->queues; i++)
        free(s->queue[i].segments);
    free(s->ports);
    free(s);
}

static int open_watch(struct fp_source *s, char *err)
{
    struct packet_mreq promiscuous = {.mr_ifindex = s->interface.index, .mr_type = PACKET_MR_PROMISC};

    s->watch = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (s->watch < 0)
        return s->host->fail(err, -errno, "backend af_xdp: no socket to watch %s: %s", s->interface.name, strerror(errno));
    if (s->promiscuous && setsockopt(s->watch, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous))
        return s->host->fail(err, -errno, "interface %s: cannot be made promiscuous: %s", s->interface.name, strerror(errno));
    return 0;
}

static int open_ports(struct fp_source *s, char *err)
{
    unsigned n = count_ports(&s->interface);
    int rc = 0;

    if (n < s->queues)
        return s->host->fail(
            err, -E2BIG, "interface %s: %u workers need as many receive queues, it has %u; ask for %u, or raise them with 'ethtool -L %s'",
            s->interface.name, s->queues, n, n, s->interface.name);
    s->ports = calloc(n, sizeof *s->ports);
    if (!s->ports)
        return s->host->fail(err, -ENOMEM, "backend af_xdp: out of memory");
    s->nports = n;
    rc = open_watch(s, err);
    if (rc)
        return rc;
    s->map = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "flowparity", 4, 4, s->nports, NULL);
    s->failures = bpf_map_create(BPF_MAP_TYPE_ARRAY, "flowparity", 4, 8, 1, NULL);
    if (s->map < 0 || s->failures < 0)
        return s->host->fail(err, -EPERM,
                             "backend af_xdp: no BPF maps can be made; run as root or give the process CAP_BPF and CAP_NET_ADMIN");
    for (unsigned i = 0; i < s->queues; i++) {
        s->queue[i].segments = calloc(s->frames, sizeof *s->queue[i].segments);
        if (!s->queue[i].segments)
            return s->host->fail(err, -ENOMEM, "backend af_xdp: out of memory");
    }
    rc = attach(s, err);
    for (uint32_t i = 0; i < s->nports && !rc; i++) {
        s->ports[i].id = i;
        rc = open_port(s, &s->ports[i], err);
        if (!rc && s->busy_poll)
            rc = busy_poll(s, &s->ports[i], err);
    }
    for (uint32_t i = 0; i < s->nports && !rc; i++) {
        int fd = xsk_socket__fd(s->ports[i].socket);
        rc = bpf_map_update_elem(s->map, &i, &fd, BPF_ANY);
        if (rc)
            rc = s->host->fail(err, rc, "backend af_xdp: queue %u cannot be directed here: %s", i, strerror(-rc));
    }
    return rc;
}

static int open_source(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    size_t size = sizeof(struct fp_source) + args->queues * sizeof(struct queue);
    struct fp_source *s = aligned_alloc(64, (size + 63) & ~(size_t)63);
    int rc;

    if (!s)
        return host->fail(err, -ENOMEM, "backend af_xdp: out of memory");
    memset(s, 0, size);
    s->host = host;
    s->interface.name = args->input;
    s->queues = args->queues;
    s->snaplen = args->snaplen;
    s->frames = FRAMES;
    s->try_native = s->try_generic = true;
    s->busy_poll = args->flags & FP_OPEN_BUSY_POLL;
    s->promiscuous = args->flags & FP_OPEN_PROMISCUOUS;
    s->map = s->failures = s->link = s->watch = -1;
    rc = read_options(s, args, err);
    if (!rc && args->filter)
        rc = host->fail(err, -ENOTSUP, "backend af_xdp: it has no filter; leave the filter out or use backend af_packet");
    if (!rc)
        rc = probe(host, caps, err);
    if (!rc)
        rc = li_open(host, &s->interface, err);
    if (!rc)
        rc = open_ports(s, err);
    if (rc) {
        close_source(s);
        return rc;
    }
    *caps = receive_caps(s->queues);
    if (s->times == TIMES_SENDER) {
        caps->flags |= FP_CAP_STAMPS_SEQUENCE | FP_CAP_EXACT_TIME;
        caps->ts_source = FP_TS_SENDER;
        caps->ts_tolerance = 0;
        caps->max_frame -= ENCAPSULATION;
    } else if (s->times == TIMES_BURST) {
        caps->ts_source = FP_TS_SOFTWARE;
        caps->ts_tolerance = FP_NS_NONE; /* a frame may have waited in the ring for as long as nobody read */
    }
    /* Drivers with XDP have no super-packets. The generic program gets those of a veth's peer or the loopback, and they look like long
     * frames. */
    if (!s->native)
        caps->flags |= FP_CAP_COALESCES;
    if (li_takes_tags(&s->interface))
        caps->flags |= FP_CAP_LOSES_TAGS;
    *out = s;
    return 0;
}

/* Clocks of one recv. The program's stamps are of CLOCK_MONOTONIC. */
struct clocks {
    int64_t real, monotonic;
};

static void describe(const struct fp_source *s, unsigned queue, const struct clocks *c, const uint8_t *data, uint32_t len,
                     struct fp_packet *p)
{
    uint64_t meta[2] = {0, 0};

    *p = (struct fp_packet){
        .data = data,
        .len = len,
        .caplen = len,
        .wirelen = len,
        .link = FP_LINK_ETHERNET,
        .ts_source = FP_TS_SOFTWARE,
        .ts_ns = c->real,
        .interface = (uint32_t)s->interface.index,
        .queue = (uint16_t)queue,
        .seq = FP_SEQ_NONE,
    };
    if (s->times == TIMES_BURST)
        return;
    memcpy(meta, data - META, META);
    if (s->times == TIMES_KERNEL) {
        p->ts_ns = (int64_t)meta[0] + c->real - c->monotonic;
        p->ts_source = FP_TS_KERNEL;
    } else if (meta[0]) {
        p->ts_ns = (int64_t)meta[0];
        p->ts_source = FP_TS_SENDER;
        p->seq = meta[1] ? meta[1] - 1 : FP_SEQ_NONE;
    }
}

/* Takes up to `max` whole frames of a port; a frame of several buffers whose end is not there yet stays. */
static unsigned take(const struct fp_source *s, unsigned queue, struct port *port, const struct clocks *c, struct fp_packet *packets,
                     unsigned max)
{
    struct queue *q = &((struct fp_source *)(uintptr_t)s)->queue[queue];
    uint32_t first = 0, used = 0, whole = 0, nsegments = 0;
    uint32_t there = xsk_ring_cons__peek(&port->rx, (uint32_t)s->frames, &first);
    const struct fp_segment **tail = NULL;
    unsigned n = 0;

    while (used < there && n < max) {
        const struct xdp_desc *d = xsk_ring_cons__rx_desc(&port->rx, first + used);
        const uint8_t *data = xsk_umem__get_data(port->area, d->addr);
        if (used == whole) {
            describe(s, queue, c, data, d->len, &packets[n]);
            tail = &packets[n].next;
        } else {
            struct fp_segment *segment = &q->segments[nsegments++];
            *segment = (struct fp_segment){.data = data, .len = d->len};
            *tail = segment;
            tail = &segment->next;
            packets[n].caplen += d->len;
            packets[n].wirelen += d->len;
        }
        used++;
        if (!(d->options & CONTINUED)) {
            whole = used;
            n++;
        }
    }
    xsk_ring_cons__cancel(&port->rx, there - whole);
    q->holding = port;
    q->first = first;
    q->held = whole;
    return n;
}

/* The snap length is the user's wish and not the framework's: the frame is cut here. */
static void cut(struct fp_packet *p, uint32_t snaplen)
{
    struct fp_segment *segment;
    uint32_t left;

    if (p->caplen <= snaplen)
        return;
    p->caplen = snaplen;
    if (p->len >= snaplen) {
        p->len = snaplen;
        p->next = NULL;
        return;
    }
    left = snaplen - p->len;
    for (segment = (struct fp_segment *)(uintptr_t)p->next; segment->len < left; segment = (struct fp_segment *)(uintptr_t)segment->next)
        left -= segment->len;
    segment->len = left;
    segment->next = NULL;
}

static int still_there(struct fp_source *s, struct queue *q, int64_t now, char *err)
{
    /* AF_XDP sockets do not tell that their interface went. */
    if (now - q->looked < 100000000)
        return 0;
    q->looked = now;
    return li_still_there(s->host, &s->interface, s->watch, err);
}

static int wait_for(const struct fp_source *s, unsigned queue, int wait_ms)
{
    struct pollfd p[256];
    nfds_t n = 0;

    for (unsigned i = queue; i < s->nports && n < 256; i += s->queues)
        p[n++] = (struct pollfd){.fd = xsk_socket__fd(s->ports[i].socket), .events = POLLIN};
    return poll(p, n, wait_ms);
}

static int recv_burst(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns, char *err)
{
    struct queue *q = &s->queue[queue];
    unsigned served = (s->nports - queue + s->queues - 1) / s->queues;

    for (;;) {
        bool stopped = atomic_load(&s->stopped);
        struct clocks c = {.monotonic = li_now(CLOCK_MONOTONIC), .real = li_now(CLOCK_REALTIME)};
        *now_ns = c.real;
        for (unsigned i = 0; i < served; i++) {
            struct port *port = &s->ports[queue + q->turn * s->queues];
            q->turn = q->turn + 1 == served ? 0 : q->turn + 1;
            unsigned n = take(s, queue, port, &c, packets, max);
            if (!n)
                continue;
            for (unsigned k = 0; s->snaplen && k < n; k++)
                cut(&packets[k], s->snaplen);
            atomic_fetch_add_explicit(&q->received, n, memory_order_relaxed);
            return (int)n;
        }
        if (stopped)
            return FP_END;
        int rc = still_there(s, q, c.monotonic, err);
        if (rc)
            return rc;
        if (!wait_ms) {
            if (s->busy_poll)
                wait_for(s, queue, 0);
            return 0;
        }
        wait_for(s, queue, wait_ms);
        wait_ms = 0;
    }
}

static void release(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned count)
{
    struct queue *q = &s->queue[queue];
    struct port *port = q->holding;
    uint32_t at;

    (void)packets, (void)count;
    if (!q->held)
        return;
    /* There are as many buffers as places, so there is always room. */
    if (xsk_ring_prod__reserve(&port->fill, q->held, &at) == q->held) {
        for (uint32_t i = 0; i < q->held; i++)
            *xsk_ring_prod__fill_addr(&port->fill, at + i) = xsk_ring_cons__rx_desc(&port->rx, q->first + i)->addr & ~(BUFFER - 1);
        xsk_ring_prod__submit(&port->fill, q->held);
    }
    xsk_ring_cons__release(&port->rx, q->held);
    q->held = 0;
}

static int stop(struct fp_source *s, char *err)
{
    struct timespec settle = {.tv_nsec = SETTLE_NS};

    /* What was sent before the stop may still be on its way through the kernel. */
    nanosleep(&settle, NULL);
    for (uint32_t i = 0; i < s->nports; i++) {
        int rc = bpf_map_delete_elem(s->map, &i);
        if (rc && rc != -ENOENT)
            return s->host->fail(err, rc, "backend af_xdp: queue %u does not stop: %s", i, strerror(-rc));
    }
    /* A redirect under way ends within this; then empty rings are the end. */
    nanosleep(&settle, NULL);
    atomic_store(&s->stopped, true);
    return 0;
}

static uint64_t without_metadata(const struct fp_source *s)
{
    uint64_t n = 0;
    uint32_t key = 0;

    (void)bpf_map_lookup_elem(s->failures, &key, &n);
    return n;
}

static const struct xdp_statistics *statistics(struct port *p)
{
    struct xdp_statistics now = {0};
    socklen_t len = sizeof now;

    if (getsockopt(xsk_socket__fd(p->socket), SOL_XDP, XDP_STATISTICS, &now, &len) == 0)
        p->last = now;
    return &p->last;
}

static int stats(struct fp_source *s, struct fp_stats *out)
{
    *out = (struct fp_stats){.dropped = without_metadata(s)};
    for (unsigned i = 0; i < s->queues; i++)
        out->received += atomic_load_explicit(&s->queue[i].received, memory_order_relaxed);
    for (unsigned i = 0; i < s->nports; i++) {
        const struct xdp_statistics *x = statistics(&s->ports[i]);
        out->dropped += x->rx_dropped + x->rx_ring_full;
        out->errors += x->rx_invalid_descs;
    }
    return 0;
}

static int xstats(struct fp_source *s, char *text, size_t len)
{
    int n =
        snprintf(text, len, "native=%d\nqueues=%u\nwithout_metadata=%llu\n", s->native, s->nports, (unsigned long long)without_metadata(s));
    size_t used = n < 0 || (size_t)n >= len ? 0 : (size_t)n;

    for (unsigned i = 0; i < s->nports; i++) {
        const struct xdp_statistics *x = statistics(&s->ports[i]);
        n = snprintf(text + used, len - used,
                     "queue_%u_rx_dropped=%llu\nqueue_%u_rx_ring_full=%llu\nqueue_%u_rx_fill_ring_empty_descs=%llu\nqueue_%u_rx_invalid_"
                     "descs=%llu\n",
                     i, (unsigned long long)x->rx_dropped, i, (unsigned long long)x->rx_ring_full, i,
                     (unsigned long long)x->rx_fill_ring_empty_descs, i, (unsigned long long)x->rx_invalid_descs);
        if (n < 0 || (size_t)n >= len - used)
            break;
        used += (size_t)n;
    }
    return (int)used;
}

static const struct fp_backend_ops ops = {
    .abi = FP_ABI,
    .size = sizeof ops,
    .name = "af_xdp",
    .summary = "a network interface through AF_XDP, native or generic",
    .probe = probe,
    .open = open_source,
    .recv = recv_burst,
    .release = release,
    .stop = stop,
    .stats = stats,
    .xstats = xstats,
    .close = close_source,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .backend = &ops};

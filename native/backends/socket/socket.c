/* SPDX-License-Identifier: Apache-2.0
 *
 * A plain packet socket, the lower bound of every comparison of frameworks. Two rows of it (option mode):
 *   default  one recvmsg per frame, the buffer that the system gives;
 *   tuned    recvmmsg, 64 frames at a time, a buffer of 64 MiB.
 * Further options: fanout=flow|hash|cpu|queue|lb|rnd|rollover, time=kernel|hardware.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "../packet_socket.h"

#define TUNED_BATCH  64u
#define TUNED_BUFFER (64 << 20)
#define FRAME        (262144u + 64) /* the longest super-packet, and room before it */
#define SETTLE_NS    20000000       /* stop: frames that the kernel has taken in but not yet handed on arrive within this */
#define VISIBLE_NS   100000000      /* a stamped frame waits for the softirq that stamped it */
#define TOLERANCE_NS 20000000
#define STAMP_TRIES  200      /* looks whether the kernel stamps, … */
#define STAMP_NAP_NS 10000000 /* … and the pause between them */

struct slot {
    struct iovec part[2];
    struct virtio_net_hdr offload;
    struct sockaddr_ll from;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct timespec) * 3) + CMSG_SPACE(sizeof(struct tpacket_auxdata))];
};

enum stamps { STAMP_SOFTWARE, STAMP_UNUSED, STAMP_HARDWARE, STAMPS }; /* of a message of SCM_TIMESTAMPING */

struct queue {
    _Alignas(64) int fd;
    uint8_t *frames;
    struct slot *slots;
    struct mmsghdr *messages;
    atomic_ulong received, unreadable;
    pthread_mutex_t counting; /* the kernel's counters start again at every look */
    uint64_t packets, dropped;
};

struct fp_source {
    const struct fp_host *host;
    struct ps_common common;
    struct hwtstamp_config time_before;
    bool tuned;
    unsigned batch;
    uint16_t queues;
    atomic_bool stopped;
    struct queue queue[];
};

static struct fp_caps receive_caps(uint16_t queues)
{
    return (struct fp_caps){
        .size = sizeof(struct fp_caps),
        .flags = FP_CAP_WIRE_LENGTH | FP_CAP_DROPS_KNOWN | FP_CAP_LIVE | FP_CAP_INTERFACE,
        .tier = FP_TIER_KERNEL,
        .ts_source = FP_TS_KERNEL,
        .queues = queues,
        .max_frame = FRAME - 64,
        .ts_resolution = 1,
        .ts_tolerance = TOLERANCE_NS,
        .visibility = VISIBLE_NS,
    };
}

static int probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    *caps = receive_caps(FP_MAX_QUEUES);
    return ps_probe(host, "socket", err);
}

static int read_options(struct fp_source *s, const struct fp_open_args *args, char *err)
{
    for (uint32_t i = 0; i < args->noptions; i++) {
        const struct fp_option *o = &args->options[i];
        int rc = ps_option(s->host, &s->common, o, err);
        if (rc < 0)
            return rc;
        if (rc)
            continue;
        if (strcmp(o->key, "mode"))
            return s->host->fail(err, -EINVAL, "backend socket: unknown option '%s'; it has mode, fanout, time", o->key);
        s->tuned = !strcmp(o->value, "tuned");
        if (!s->tuned && strcmp(o->value, "default"))
            return s->host->fail(err, -EINVAL, "backend socket: option mode=%s is neither default nor tuned", o->value);
    }
    return 0;
}

static int allocate(struct fp_source *s, struct queue *q)
{
    q->frames = malloc((size_t)s->batch * FRAME);
    q->slots = calloc(s->batch, sizeof *q->slots);
    q->messages = calloc(s->batch, sizeof *q->messages);
    if (!q->frames || !q->slots || !q->messages)
        return -ENOMEM;
    for (unsigned i = 0; i < s->batch; i++) {
        struct slot *slot = &q->slots[i];
        slot->part[0] = (struct iovec){&slot->offload, sizeof slot->offload};
        slot->part[1] = (struct iovec){q->frames + (size_t)i * FRAME, FRAME};
    }
    return 0;
}

/* SO_TIMESTAMPING and not SO_TIMESTAMPNS: where the kernel took no stamp, the latter gives the time of reading as if it were one. */
static int ask_stamps(int fd, bool hardware)
{
    int wanted = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;

    if (hardware)
        wanted |= SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE;
    return setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &wanted, sizeof wanted);
}

static int64_t stamp_of(const struct cmsghdr *c, enum stamps which)
{
    struct timespec t[STAMPS];

    memcpy(t, CMSG_DATA(c), sizeof t);
    return (int64_t)t[which].tv_sec * 1000000000 + t[which].tv_nsec;
}

/* Whether a datagram that `fd` sends to itself arrives with a stamp. */
static bool stamped(int fd)
{
    struct slot slot;
    char octet;
    struct iovec part = {&octet, 1};
    struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = slot.control, .msg_controllen = sizeof slot.control};

    if (send(fd, "", 1, 0) != 1 || recvmsg(fd, &h, 0) < 0)
        return false;
    for (const struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, (struct cmsghdr *)(uintptr_t)c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING && stamp_of(c, STAMP_SOFTWARE))
            return true;
    return false;
}

/* The kernel begins to stamp some time after it was asked to (it changes its own code in a work queue), on a busy machine a long time.
 * Until then a frame's time would be that of its reading. Where there is no loopback nothing can be tried. */
static void await_stamps(void)
{
    struct sockaddr_in self = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_usec = STAMP_NAP_NS / 1000};
    struct timespec nap = {.tv_nsec = STAMP_NAP_NS};
    socklen_t len = sizeof self;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return;
    if (bind(fd, (struct sockaddr *)&self, sizeof self) == 0 && getsockname(fd, (struct sockaddr *)&self, &len) == 0 &&
        connect(fd, (struct sockaddr *)&self, sizeof self) == 0 && ask_stamps(fd, false) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0)
        for (int i = 0; i < STAMP_TRIES && !stamped(fd); i++)
            nanosleep(&nap, NULL);
    close(fd);
}

static int open_queue(struct fp_source *s, struct queue *q, uint16_t *group, char *err)
{
    int one = 1, size = TUNED_BUFFER, rc;

    if (allocate(s, q))
        return s->host->fail(err, -ENOMEM, "backend socket: out of memory");
    /* Protocol 0: nothing arrives before the socket is ready. */
    q->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (q->fd < 0)
        return s->host->fail(err, -errno, "backend socket: no packet socket: %s", strerror(errno));
    rc = ps_prepare(s->host, &s->common, q->fd, err);
    if (rc)
        return rc;
    if (setsockopt(q->fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) || ask_stamps(q->fd, s->common.hardware_time))
        return s->host->fail(err, -errno, "backend socket: the kernel gives no timestamps or tags: %s", strerror(errno));
    /* The privileged way may go beyond net.core.rmem_max; without it the most allowed has to do. */
    if (s->tuned && setsockopt(q->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
        (void)setsockopt(q->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    /* A socket that is bound but not yet of the group would get what the others get as well. */
    rc = ps_drop_all(q->fd);
    if (!rc)
        rc = ps_bind_to(s->host, &s->common, q->fd, err);
    if (!rc && s->queues > 1)
        rc = ps_fanout(s->host, &s->common, q->fd, group, err);
    return rc;
}

static void close_source(struct fp_source *s)
{
    if (s->common.hardware_time && s->queue[0].fd >= 0)
        ps_restore_time(&s->common, s->queue[0].fd, &s->time_before);
    for (unsigned i = 0; i < s->queues; i++) {
        struct queue *q = &s->queue[i];
        if (q->fd >= 0)
            close(q->fd);
        free(q->messages);
        free(q->slots);
        free(q->frames);
        pthread_mutex_destroy(&q->counting);
    }
    free(s);
}

static int open_source(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    size_t size = sizeof(struct fp_source) + args->queues * sizeof(struct queue);
    struct fp_source *s = aligned_alloc(64, (size + 63) & ~(size_t)63);
    struct bpf_program filter = {0};
    bool hardware;
    uint16_t group = 0;
    int rc;

    if (!s)
        return host->fail(err, -ENOMEM, "backend socket: out of memory");
    memset(s, 0, size);
    s->host = host;
    s->queues = args->queues;
    s->common = (struct ps_common){.name = "socket",
                                   .interface.name = args->input,
                                   .fanout = PS_FANOUT_FLOW,
                                   .promiscuous = args->flags & FP_OPEN_PROMISCUOUS,
                                   .snaplen = args->snaplen};
    for (unsigned i = 0; i < s->queues; i++) {
        s->queue[i].fd = -1;
        pthread_mutex_init(&s->queue[i].counting, NULL);
    }
    rc = ps_flags(host, "socket", args, err);
    if (!rc)
        rc = read_options(s, args, err);
    s->batch = s->tuned ? TUNED_BATCH : 1;
    hardware = s->common.hardware_time;
    if (!rc)
        rc = ps_probe(host, "socket", err);
    if (!rc)
        rc = li_open(host, &s->common.interface, err);
    if (!rc)
        rc = ps_filter(host, &s->common, args->filter, &filter, err);
    for (unsigned i = 0; i < s->queues && !rc; i++)
        rc = open_queue(s, &s->queue[i], &group, err);
    if (!rc)
        await_stamps();
    for (unsigned i = 0; i < s->queues && !rc; i++)
        rc = ps_admit(host, &s->common, s->queue[i].fd, &filter, err);
    s->common.hardware_time = false; /* there is something to put back only after the next step */
    if (!rc && hardware) {
        rc = ps_hardware_time(host, &s->common, s->queue[0].fd, &s->time_before, err);
        s->common.hardware_time = rc == 0;
    }
    ps_free_filter(&filter);
    if (rc) {
        close_source(s);
        return rc;
    }
    *caps = receive_caps(s->queues);
    if (s->queues > 1 && s->common.fanout != PS_FANOUT_FLOW)
        caps->flags |= FP_CAP_SPLITS;
    if (hardware)
        caps->ts_source = FP_TS_HARDWARE;
    *out = s;
    return 0;
}

static void ready_slots(struct queue *q, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct slot *slot = &q->slots[i];
        q->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &slot->from,
            .msg_namelen = sizeof slot->from,
            .msg_iov = slot->part,
            .msg_iovlen = 2,
            .msg_control = slot->control,
            .msg_controllen = sizeof slot->control,
        };
    }
}

static void describe(const struct fp_source *s, unsigned queue, const struct mmsghdr *m, const struct slot *slot, struct fp_packet *p)
{
    const struct msghdr *h = &m->msg_hdr;
    uint32_t caplen = m->msg_len - (uint32_t)sizeof slot->offload;

    *p = (struct fp_packet){
        .data = slot->part[1].iov_base,
        .caplen = caplen,
        .wirelen = caplen,
        .link = FP_LINK_ETHERNET,
        .ts_source = FP_TS_SOFTWARE, /* unless there is a stamp */
        .ts_ns = FP_NS_NONE,
        .interface = (uint32_t)slot->from.sll_ifindex,
        .queue = (uint16_t)queue,
        .seq = FP_SEQ_NONE,
    };
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR((struct msghdr *)h, c)) {
        if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA) {
            struct tpacket_auxdata aux;
            memcpy(&aux, CMSG_DATA(c), sizeof aux);
            p->wirelen = aux.tp_len;
            if (aux.tp_status & TP_STATUS_VLAN_VALID) {
                p->ntags = 1;
                p->tags[0].tci = aux.tp_vlan_tci;
                p->tags[0].tpid = aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETH_P_8021Q;
            }
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING) {
            int64_t hardware = stamp_of(c, STAMP_HARDWARE), software = stamp_of(c, STAMP_SOFTWARE);
            if (hardware || software) {
                p->ts_ns = hardware ? hardware : software;
                p->ts_source = hardware ? FP_TS_HARDWARE : FP_TS_KERNEL;
            }
        }
    }
    if (s->common.snaplen && p->caplen > s->common.snaplen)
        p->caplen = s->common.snaplen;
    p->len = p->caplen;
    if (p->wirelen < p->caplen)
        p->wirelen = p->caplen;
    if (slot->offload.gso_type != VIRTIO_NET_HDR_GSO_NONE)
        p->segments = ps_segments(&slot->offload, p->data, p->caplen, p->wirelen);
}

/* Up to `n` frames that are there now: their number, 0, -EAGAIN if one was lost and there may be more, or another -errno. */
static int take(const struct fp_source *s, struct queue *q, unsigned n)
{
    ssize_t rc;

    ready_slots(q, n);
    if (s->tuned) {
        rc = recvmmsg(q->fd, q->messages, n, MSG_DONTWAIT, NULL);
    } else {
        rc = recvmsg(q->fd, &q->messages[0].msg_hdr, MSG_DONTWAIT);
        if (rc >= 0) {
            q->messages[0].msg_len = (unsigned)rc;
            return 1;
        }
    }
    if (rc >= 0)
        return (int)rc;
    if (errno == EINVAL) { /* a frame whose offload no virtio-net header can say (UDP fragmentation, SCTP): the kernel has thrown it away */
        atomic_fetch_add_explicit(&q->unreadable, 1, memory_order_relaxed);
        return -EAGAIN;
    }
    return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

static int recv_burst(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns, char *err)
{
    struct queue *q = &s->queue[queue];

    for (;;) {
        bool stopped = atomic_load(&s->stopped);
        *now_ns = li_now(CLOCK_REALTIME); /* read first: what was stamped before is in the socket by now, or within the visibility bound */
        int n = take(s, q, max < s->batch ? max : s->batch), rc;
        if (n > 0) {
            int taken = 0;
            for (int i = 0; i < n; i++)
                if (q->slots[i].from.sll_pkttype != PACKET_OUTGOING) /* a kernel whose fanout groups cannot leave them out */
                    describe(s, queue, &q->messages[i], &q->slots[i], &packets[taken++]);
            atomic_fetch_add_explicit(&q->received, (unsigned long)taken, memory_order_relaxed);
            if (taken)
                return taken;
            continue;
        }
        if (n == -EAGAIN)
            continue;
        if (n < 0 && n != -ENETDOWN)
            return s->host->fail(err, n, "interface %s: cannot be read: %s", s->common.interface.name, strerror(-n));
        if (n == -ENETDOWN && (rc = li_still_there(s->host, &s->common.interface, q->fd, err)))
            return rc;
        if (stopped)
            return FP_END;
        if (!wait_ms)
            return 0;
        struct pollfd p = {.fd = q->fd, .events = POLLIN};
        rc = poll(&p, 1, wait_ms);
        if (rc == 0 || (rc > 0 && p.revents & (POLLERR | POLLHUP))) { /* the one error may have come while a removal was still under way */
            rc = li_still_there(s->host, &s->common.interface, q->fd, err);
            if (rc)
                return rc;
        }
        wait_ms = 0;
    }
}

static int stop(struct fp_source *s, char *err)
{
    struct timespec settle = {.tv_nsec = SETTLE_NS};

    /* What was sent before the stop may still be on its way through the kernel. */
    nanosleep(&settle, NULL);
    for (unsigned i = 0; i < s->queues; i++) {
        int rc = ps_drop_all(s->queue[i].fd);
        if (rc)
            return s->host->fail(err, rc, "backend socket: the kernel does not stop: %s", strerror(-rc));
    }
    /* A softirq that had passed the filter before the change ends within this; then an empty socket is the end. */
    nanosleep(&settle, NULL);
    atomic_store(&s->stopped, true);
    return 0;
}

static void count(struct queue *q)
{
    struct tpacket_stats now;
    socklen_t len = sizeof now;

    if (getsockopt(q->fd, SOL_PACKET, PACKET_STATISTICS, &now, &len) == 0) {
        q->packets += now.tp_packets;
        q->dropped += now.tp_drops;
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
        out->dropped += q->dropped + atomic_load_explicit(&q->unreadable, memory_order_relaxed);
        pthread_mutex_unlock(&q->counting);
    }
    return 0;
}

static int xstats(struct fp_source *s, char *text, size_t len)
{
    size_t used = 0;

    for (unsigned i = 0; i < s->queues; i++) {
        struct queue *q = &s->queue[i];
        pthread_mutex_lock(&q->counting);
        count(q);
        int n = snprintf(text + used, len - used, "worker_%u_tp_packets=%llu\nworker_%u_tp_drops=%llu\n", i, (unsigned long long)q->packets,
                         i, (unsigned long long)q->dropped);
        pthread_mutex_unlock(&q->counting);
        if (n < 0 || (size_t)n >= len - used)
            break;
        used += (size_t)n;
    }
    return (int)used;
}

static const struct fp_backend_ops ops = {
    .abi = FP_ABI,
    .size = sizeof ops,
    .name = "socket",
    .summary = "a network interface through a plain packet socket, the baseline (mode=default or tuned)",
    .probe = probe,
    .open = open_source,
    .recv = recv_burst,
    .stop = stop,
    .stats = stats,
    .xstats = xstats,
    .close = close_source,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .backend = &ops};

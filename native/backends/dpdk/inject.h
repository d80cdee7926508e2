/* SPDX-License-Identifier: Apache-2.0
 *
 * DPDK as the sender of a wire: the vhost side of a virtio link, or any port that transmits. A frame that finds no room is offered again by
 * the caller, never dropped; on a vhost port an accepted frame is in the peer's ring, so nothing accepted can be lost.
 */
#ifndef FP_DPDK_INJECT_H
#define FP_DPDK_INJECT_H

#include "hello.h"
#include "port.h"
#include "spread.h"
#include "vhost.h"

#define INJECT_RETRIES  2048       /* polls of a full queue before the caller gets its turn */
#define INJECT_HELLO    10000      /* ms that the handshake may last, if link_wait does not say otherwise */
#define HELLO_AGAIN_NS  500000     /* between two hellos on a queue */
#define INJECT_STALL    5000000000 /* ns that a queue among several may take nothing */
#define INJECT_BURST    32
#define INJECT_SHORTEST 14u /* octets: virtio refuses less than an Ethernet header */

struct fp_injector {
    const struct fp_host *host;
    struct port port;
    struct rte_mempool *pool;
    bool hello, spread, toeplitz; /* spread: the caller has one queue, the port several */
    int64_t patience;             /* ns that the handshake may last */
    uint32_t max_frame;
    pthread_mutex_t ready_lock;
    _Atomic int ready; /* 0 not yet, 1 yes, -errno for good */
    char why[FP_ERRLEN];
    _Atomic uint64_t sent;
};

static int inject_probe(const struct fp_host *host, struct fp_injector_caps *caps, char *err)
{
    if (access(RTE_EAL_PMD_PATH, R_OK | X_OK) < 0)
        return host->fail(err, -ENOENT, "dpdk: libdpdk is here but its PMDs are not (%s); run 'apt-get install dpdk'", RTE_EAL_PMD_PATH);
    *caps = (struct fp_injector_caps){.size = sizeof(*caps), .queues = FP_MAX_QUEUES, .min_frame = INJECT_SHORTEST, .max_frame = 65535};
    return 0;
}

/* Says on every queue that nothing will follow. */
static void inject_bye(struct fp_injector *in)
{
    for (uint16_t q = 0; q < in->port.ntx; q++)
        for (unsigned tries = 0; tries < INJECT_RETRIES && !hello_send(in->port.id, q, in->pool, HELLO_BYE, q); tries++)
            sched_yield();
}

static void inject_close(struct fp_injector *in)
{
    if (atomic_load(&in->ready) == 1 && in->hello)
        inject_bye(in);
    pthread_mutex_lock(&eal.lock);
    struct rte_mempool *pool = in->pool;
    port_detach(&in->port);
    vhost_wake();
    rte_mempool_free(pool);
    pthread_mutex_unlock(&eal.lock);
    pthread_mutex_destroy(&in->ready_lock);
    free(in);
}

static int inject_open_locked(const struct fp_host *host, const struct fp_open_args *args, struct fp_injector *in, char *err)
{
    int64_t wait = port_number(host, args, "link_wait", INJECT_HELLO, 0, 3600000, err);
    int64_t queues = port_number(host, args, "queues", args->queues, 1, FP_MAX_QUEUES, err);
    const char *hello = host->option(args, "hello");
    int rc;

    if (wait < 0 || queues < 0)
        return -EINVAL;
    if (queues != args->queues && args->queues != 1)
        return host->fail(err, -EINVAL, "dpdk: option queues=%d does not go with %u queues of the sender; leave it out", (int)queues,
                          args->queues);
    if ((rc = spread_option(host, args, &in->toeplitz, err)) < 0)
        return rc;
    in->spread = queues != args->queues;
    bool vhost = strncmp(args->input, "net_vhost", 9) == 0 || strncmp(args->input, "eth_vhost", 9) == 0;
    if (vhost) {
        if ((rc = eal_start(host, args, NULL, err)) < 0)
            return rc;
        struct quiet q;
        quiet_begin(&q);
        vhost_alarm_open();
        quiet_end(&q);
    }
    in->patience = wait * 1000000;
    in->hello = hello && strcmp(hello, "1") == 0;
    if ((rc = port_attach(host, args, args->input, &in->port, err)) < 0 ||
        (rc = port_start(host, args, &in->port, (uint16_t)queues, (uint16_t)queues, 0, err)) < 0)
        return rc;
    if (in->port.ntx < queues)
        return host->fail(err, -E2BIG, "dpdk: port %s has %u transmit queues, not %d; use as many", in->port.name, in->port.ntx,
                          (int)queues);
    if (!(in->pool = port_pool(&in->port, FP_MAX_QUEUES, PORT_POOL_LARGE, RTE_MBUF_DEFAULT_DATAROOM, 0)))
        return host->fail(err, -rte_errno, "dpdk: no memory for packet buffers (%s); free hugepages or run 'sysctl vm.nr_hugepages=512'",
                          rte_strerror(rte_errno));
    in->max_frame = port_max_frame(&in->port, args->input);
    vhost_wake();
    return 0;
}

static int inject_open(const struct fp_host *host, const struct fp_open_args *args, struct fp_injector **out, struct fp_injector_caps *caps,
                       char *err)
{
    if (args->queues < 1 || args->queues > FP_MAX_QUEUES)
        return host->fail(err, -E2BIG, "dpdk: %u queues; 1 to %u are possible", args->queues, FP_MAX_QUEUES);
    int rc = port_check_options(host, args, PORT_OPTIONS "link_wait hello spread queues ", err);
    if (rc < 0)
        return rc;
    struct fp_injector *in = calloc(1, sizeof(*in));
    if (!in)
        return host->fail(err, -ENOMEM, "dpdk: no memory");
    in->host = host;
    pthread_mutex_init(&in->ready_lock, NULL);
    pthread_mutex_lock(&eal.lock);
    rc = inject_open_locked(host, args, in, err);
    pthread_mutex_unlock(&eal.lock);
    if (rc < 0) {
        inject_close(in);
        return rc;
    }
    *caps = (struct fp_injector_caps){
        .size = sizeof(*caps), .queues = in->spread ? 1 : in->port.ntx, .min_frame = INJECT_SHORTEST, .max_frame = in->max_frame};
    *out = in;
    return 0;
}

/* Throws received frames away; hellos' replies are noted in `heard`. */
static void inject_listen(struct fp_injector *in, bool *heard)
{
    struct rte_mbuf *mbufs[32];

    for (uint16_t q = 0; q < in->port.nrx; q++) {
        unsigned n = rte_eth_rx_burst(in->port.id, q, mbufs, 32);
        for (unsigned i = 0; i < n; i++) {
            unsigned about = hello_kind(mbufs[i]) == HELLO_REPLY ? hello_queue(mbufs[i]) : FP_MAX_QUEUES;
            if (about < FP_MAX_QUEUES)
                heard[about] = true;
        }
        rte_pktmbuf_free_bulk(mbufs, n);
    }
}

/* Waits for the link and, with hello=1, until the peer has answered on every queue. */
static int inject_handshake(struct fp_injector *in, char *err)
{
    const struct timespec nap = {.tv_nsec = 200000};
    int64_t begin = clock_now(CLOCK_MONOTONIC), asked = 0;
    bool heard[FP_MAX_QUEUES] = {false};
    unsigned silent = in->hello ? in->port.ntx : 0;
    bool up;

    while (!(up = port_up(&in->port)) || silent) {
        int64_t now = clock_now(CLOCK_MONOTONIC);
        if (now - begin > in->patience)
            break;
        if (up) {
            silent = 0;
            for (uint16_t q = 0; q < in->port.ntx; q++) {
                silent += !heard[q];
                if (!heard[q] && now - asked > HELLO_AGAIN_NS)
                    hello_send(in->port.id, q, in->pool, HELLO_ASK, q);
            }
            if (now - asked > HELLO_AGAIN_NS)
                asked = now;
            inject_listen(in, heard);
            if (!silent)
                break;
        }
        nanosleep(&nap, NULL);
    }
    if (!up)
        return in->host->fail(err, -ENETDOWN, "dpdk: port %s (%s) has no link after %lld ms; start the exporter at its other end first",
                              in->port.name, in->port.driver, (long long)(in->patience / 1000000));
    if (silent)
        return in->host->fail(
            err, -ETIMEDOUT,
            "dpdk: the exporter behind %s did not answer on %u of %u queues within %lld ms; give it hello=1 and as many queues",
            in->port.name, silent, in->port.ntx, (long long)(in->patience / 1000000));
    return 1;
}

static int inject_ready(struct fp_injector *in, char *err)
{
    int ready = atomic_load_explicit(&in->ready, memory_order_acquire);

    if (ready == 1)
        return 1;
    pthread_mutex_lock(&in->ready_lock);
    if (!(ready = atomic_load(&in->ready))) {
        ready = inject_handshake(in, in->why);
        atomic_store_explicit(&in->ready, ready, memory_order_release);
    }
    pthread_mutex_unlock(&in->ready_lock);
    return ready < 0 ? in->host->fail(err, ready, "%s", in->why) : ready;
}

/* A frame as mbufs; NULL if there are none left. */
static struct rte_mbuf *inject_build(struct fp_injector *in, const struct fp_packet *p)
{
    struct fp_segment first = {.data = p->data, .len = p->len, .next = p->next};
    struct rte_mbuf *m = rte_pktmbuf_alloc(in->pool), *last = m;

    for (const struct fp_segment *from = &first; m && from; from = from->next) {
        for (uint32_t at = 0; at < from->len;) {
            uint32_t take = RTE_MIN((uint32_t)rte_pktmbuf_tailroom(last), from->len - at);
            if (!take) {
                if (!(last->next = rte_pktmbuf_alloc(in->pool))) {
                    rte_pktmbuf_free(m);
                    return NULL;
                }
                last = last->next;
                m->nb_segs++;
                continue;
            }
            memcpy(rte_pktmbuf_mtod_offset(last, uint8_t *, last->data_len), from->data + at, take);
            last->data_len = (uint16_t)(last->data_len + take);
            m->pkt_len += take;
            at += take;
        }
    }
    return m;
}

static void inject_wait_until(int64_t due)
{
    struct timespec at = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}

/* Offers frames to one queue of the port until they are taken, or for INJECT_RETRIES turns; those not taken are freed. */
static unsigned inject_offer(struct fp_injector *in, uint16_t queue, struct rte_mbuf **mbufs, unsigned count)
{
    unsigned sent = 0;

    for (unsigned tries = 0; sent < count && tries < INJECT_RETRIES; tries++) {
        unsigned n = rte_eth_tx_burst(in->port.id, queue, mbufs + sent, (uint16_t)(count - sent));
        sent += n;
        tries = n ? 0 : tries;
        if (!n)
            sched_yield();
    }
    atomic_fetch_add_explicit(&in->sent, sent, memory_order_relaxed);
    return sent;
}

/* Spreads frames over the port's queues as a NIC or the core would, so that a key stays on one queue in order. All are taken, or the link
 * is broken. */
static int inject_spread(struct fp_injector *in, const struct fp_packet *packets, struct rte_mbuf **mbufs, unsigned count, char *err)
{
    uint16_t target[INJECT_BURST];
    struct rte_mbuf *one[INJECT_BURST];
    int rc = (int)count;

    for (unsigned i = 0; i < count; i++) {
        const struct fp_packet *p = &packets[i];
        target[i] = (uint16_t)((in->toeplitz ? toeplitz_hash(p->data, p->len) : in->host->flow_hash(p)) % in->port.ntx);
    }
    for (uint16_t q = 0; q < in->port.ntx; q++) {
        int64_t begin = 0;
        unsigned n = 0, sent = 0;
        for (unsigned i = 0; i < count; i++)
            if (target[i] == q)
                one[n++] = mbufs[i];
        while (rc >= 0 && (sent += inject_offer(in, q, one + sent, n - sent)) < n) {
            int64_t now = clock_now(CLOCK_MONOTONIC);
            begin = begin ? begin : now;
            if (!port_up(&in->port) || now - begin > INJECT_STALL)
                rc = in->host->fail(err, -EPIPE,
                                    "dpdk: the peer of port %s takes no more frames; start it again and inject from the beginning",
                                    in->port.name);
        }
        rte_pktmbuf_free_bulk(one + sent, n - sent);
    }
    return rc;
}

static int inject_send(struct fp_injector *in, unsigned queue, const struct fp_packet *packets, const int64_t *due_ns, unsigned count,
                       char *err)
{
    struct rte_mbuf *mbufs[INJECT_BURST];
    unsigned built = 0, sent;
    int rc = inject_ready(in, err);

    if (rc < 0)
        return rc;
    eal_thread_enter();
    if (due_ns && due_ns[0] && count)
        inject_wait_until(due_ns[0]);
    int64_t now = due_ns ? clock_now(CLOCK_MONOTONIC) : 0;
    for (; built < RTE_MIN(count, (unsigned)INJECT_BURST); built++) {
        const struct fp_packet *p = &packets[built];
        if (p->caplen > in->max_frame || p->caplen < INJECT_SHORTEST) {
            if (built)
                break;
            return in->host->fail(err, p->caplen < INJECT_SHORTEST ? -ERANGE : -EMSGSIZE,
                                  "dpdk: a frame of %u octets does not go through port %s; %u to %u do", p->caplen, in->port.name,
                                  INJECT_SHORTEST, in->max_frame);
        }
        if ((due_ns && due_ns[built] > now) || !(mbufs[built] = inject_build(in, p)))
            break;
    }
    if (in->spread)
        return inject_spread(in, packets, mbufs, built, err);
    sent = inject_offer(in, (uint16_t)queue, mbufs, built);
    rte_pktmbuf_free_bulk(mbufs + sent, built - sent);
    if (!sent && built && !port_up(&in->port))
        return in->host->fail(err, -EPIPE, "dpdk: the peer of port %s has gone; start it again and inject from the beginning",
                              in->port.name);
    return (int)sent;
}

/* Accepted frames are in the peer's ring (vhost), the kernel's (af_packet, af_xdp) or the NIC's, which nothing can recall: only the last
 * one is worth a wait. */
static int inject_drain(struct fp_injector *in, int wait_ms, char *err)
{
    bool heard[FP_MAX_QUEUES];

    (void)wait_ms;
    (void)err;
    inject_listen(in, heard);
    for (uint16_t q = 0; q < in->port.ntx; q++)
        rte_eth_tx_done_cleanup(in->port.id, q, 0);
    return 0;
}

static int inject_stats(struct fp_injector *in, struct fp_stats *out)
{
    struct rte_eth_stats stats;
    int rc = rte_eth_stats_get(in->port.id, &stats);

    if (rc < 0)
        return rc;
    *out = (struct fp_stats){.received = atomic_load(&in->sent), .dropped = stats.oerrors, .errors = stats.oerrors};
    return 0;
}

static const struct fp_injector_ops inject_ops = {
    .abi = FP_ABI,
    .size = sizeof(struct fp_injector_ops),
    .name = "dpdk",
    .summary = "DPDK ports: the vhost side of virtio, NICs, vdevs",
    .probe = inject_probe,
    .open = inject_open,
    .send = inject_send,
    .drain = inject_drain,
    .stats = inject_stats,
    .close = inject_close,
};

#endif

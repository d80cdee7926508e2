/* SPDX-License-Identifier: Apache-2.0
 *
 * More workers than the port has queues (option spread=flow|toeplitz): the frames of the one queue are dealt out in software. There is no
 * thread for it: whichever worker has nothing to do takes the turn, polls the port, keeps what is its own and puts the rest into the
 * others' rings. Frames of one hash stay in order, because a worker takes from the port only while its own ring is empty and nobody else
 * can fill it.
 */
#ifndef FP_DPDK_SPREAD_H
#define FP_DPDK_SPREAD_H

#include <stdatomic.h>

#include <rte_ring.h>

#include "port.h"
#include "toeplitz.h"

#define SPREAD_RING     4096 /* frames in all rings together */
#define SPREAD_BURST    64
#define SPREAD_PATIENCE 100000000 /* ns that a full ring is waited for before its frames are counted as dropped */

struct spread {
    const struct fp_host *host;
    bool on, toeplitz;
    uint16_t workers;
    atomic_flag turn;
    uint64_t seq; /* of the next frame from the port; under the turn */
    _Atomic uint64_t lost;
    struct rte_ring *rings[FP_MAX_QUEUES];
};

/* Reads option spread. 1 on, 0 off, -EINVAL. */
static int spread_option(const struct fp_host *host, const struct fp_open_args *args, bool *toeplitz, char *err)
{
    const char *spread = host->option(args, "spread");

    *toeplitz = spread && strcmp(spread, "toeplitz") == 0;
    if (spread && !*toeplitz && strcmp(spread, "flow") != 0)
        return host->fail(err, -EINVAL, "dpdk: option spread=%s is none of flow, toeplitz", spread);
    return spread != NULL;
}

static int spread_open(const struct fp_host *host, struct spread *d, uint16_t workers, bool toeplitz, char *err)
{
    static unsigned serial;
    char name[RTE_RING_NAMESIZE];
    unsigned size = rte_align32prevpow2(RTE_MAX(SPREAD_RING / workers, 2u * SPREAD_BURST));

    d->host = host;
    d->on = true;
    d->toeplitz = toeplitz;
    d->workers = workers;
    for (unsigned i = 0; i < workers; i++) {
        snprintf(name, sizeof(name), "fp_spread%u_%u", serial, i);
        if (!(d->rings[i] = rte_ring_create(name, size, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ)))
            return host->fail(err, -rte_errno, "dpdk: no memory for a ring: %s", rte_strerror(rte_errno));
    }
    serial++;
    return 0;
}

/* With no worker running; before the port goes. */
static void spread_close(struct spread *d)
{
    void *m;

    for (unsigned i = 0; i < d->workers; i++) {
        while (d->rings[i] && rte_ring_dequeue(d->rings[i], &m) == 0)
            rte_pktmbuf_free(m);
        rte_ring_free(d->rings[i]);
    }
}

static uint32_t spread_hash(const struct spread *d, struct rte_mbuf *m)
{
    const struct fp_packet packet = {
        .data = rte_pktmbuf_mtod(m, const uint8_t *),
        .len = m->data_len,
        .caplen = m->data_len,
        .wirelen = m->pkt_len,
        .link = FP_LINK_ETHERNET,
    };

    if (!d->toeplitz)
        return d->host->flow_hash(&packet);
    m->hash.rss = toeplitz_hash(packet.data, packet.len);
    m->ol_flags |= RTE_MBUF_F_RX_RSS_HASH;
    return m->hash.rss;
}

static void spread_give(struct spread *d, struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned count)
{
    unsigned given = 0;
    int64_t begin = 0;

    while ((given += rte_ring_sp_enqueue_burst(ring, (void **)(mbufs + given), count - given, NULL)) < count) {
        int64_t now = clock_now(CLOCK_MONOTONIC);
        if (!begin)
            begin = now;
        if (now - begin > SPREAD_PATIENCE)
            break;
        sched_yield();
    }
    rte_pktmbuf_free_bulk(mbufs + given, count - given);
    atomic_fetch_add_explicit(&d->lost, count - given, memory_order_relaxed);
}

/* Deals a burst out; the number of frames, moved to the front, that are `self`'s own. */
static unsigned spread_deal(struct spread *d, unsigned self, struct rte_mbuf **mbufs, unsigned count)
{
    struct rte_mbuf *others[SPREAD_BURST];
    uint16_t target[SPREAD_BURST];
    unsigned own = 0, rest = 0;

    for (unsigned i = 0; i < count; i++) {
        uint16_t worker = (uint16_t)(spread_hash(d, mbufs[i]) % d->workers);
        if (worker == self) {
            mbufs[own++] = mbufs[i];
        } else {
            target[rest] = worker;
            others[rest++] = mbufs[i];
        }
    }
    for (unsigned from = 0, to; from < rest; from = to) {
        for (to = from + 1; to < rest && target[to] == target[from]; to++)
            ;
        spread_give(d, d->rings[target[from]], others + from, to - from);
    }
    return own;
}

#endif

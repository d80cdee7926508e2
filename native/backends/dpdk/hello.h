/* SPDX-License-Identifier: Apache-2.0
 *
 * The handshake of a replay over a link (option hello=1 on both sides). Link up is not readiness: the first frames of several paths vanish
 * while rings, sockets or XDP redirects are being set up. The injector sends a hello on each queue until the exporter's answer to it has
 * come back; the exporter answers each and hands none to the core. A bye on each queue, after its last frame, ends the exporter's input.
 */
#ifndef FP_DPDK_HELLO_H
#define FP_DPDK_HELLO_H

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define HELLO_LEN   60
#define HELLO_ASK   'A'
#define HELLO_REPLY 'R'
#define HELLO_BYE   'B'

/* MAC addresses, the first EtherType for local experiments (IEEE 802), text, kind, queue. */
static const uint8_t hello_head[] = {2,   0,   0,   0,   0,   2,   2,   0,   0,   0,   0,   1,   0x88, 0xB5, 'f',
                                     'l', 'o', 'w', 'p', 'a', 'r', 'i', 't', 'y', ' ', 'h', 'e', 'l',  'l',  'o'};

/* HELLO_ASK, HELLO_REPLY, HELLO_BYE or 0 for any other frame. */
static int hello_kind(const struct rte_mbuf *m)
{
    const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);

    if (m->data_len < HELLO_LEN || memcmp(data, hello_head, sizeof(hello_head)) != 0)
        return 0;
    return data[sizeof(hello_head)];
}

static unsigned hello_queue(const struct rte_mbuf *m)
{
    return rte_pktmbuf_mtod(m, const uint8_t *)[sizeof(hello_head) + 1];
}

/* Sends one on a queue; false if there was no room. */
static bool hello_send(uint16_t port, uint16_t queue, struct rte_mempool *pool, int kind, unsigned about)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

    if (!m)
        return false;
    uint8_t *data = (uint8_t *)rte_pktmbuf_append(m, HELLO_LEN);
    if (!data) {
        rte_pktmbuf_free(m);
        return false;
    }
    memset(data, 0, HELLO_LEN);
    memcpy(data, hello_head, sizeof(hello_head));
    data[sizeof(hello_head)] = (uint8_t)kind;
    data[sizeof(hello_head) + 1] = (uint8_t)about;
    if (rte_eth_tx_burst(port, queue, &m, 1) == 1)
        return true;
    rte_pktmbuf_free(m);
    return false;
}

#endif

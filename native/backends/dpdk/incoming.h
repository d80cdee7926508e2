/* SPDX-License-Identifier: Apache-2.0
 *
 * Only frames that come in (S-VER-1). The PMDs over AF_PACKET give outgoing ones too and do not say which they are. Their sockets are
 * descriptors of this process: they are found by comparing before and after, and given a filter that leaves outgoing frames out.
 * (PACKET_IGNORE_OUTGOING has no effect once a socket is in a fanout group, and the af_packet PMD always joins one.)
 */
#ifndef FP_DPDK_INCOMING_H
#define FP_DPDK_INCOMING_H

#include <linux/filter.h>
#include <linux/if_packet.h>

#include "port.h"

#define INCOMING_FDS     4096
#define INCOMING_EARLIER 8192 /* frames of a queue that may have come before the filter did */

struct incoming {
    bool before[INCOMING_FDS]; /* descriptors that were packet sockets already */
};

static bool incoming_is_packet(int fd)
{
    int domain = 0;
    socklen_t length = sizeof(domain);

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_PACKET;
}

static void incoming_before(struct incoming *in)
{
    for (int fd = 0; fd < INCOMING_FDS; fd++)
        in->before[fd] = incoming_is_packet(fd);
}

/* Filters the sockets that the started port has opened on its interface, and forgets what came before that. Their number, or -errno. */
static int incoming_only(const struct incoming *in, const struct port *p)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    const struct sock_fprog program = {.len = sizeof(code) / sizeof(*code), .filter = code};
    int index = (int)if_nametoindex(p->interface), found = 0;

    for (int fd = 0; fd < INCOMING_FDS; fd++) {
        struct sockaddr_ll address = {0};
        socklen_t length = sizeof(address);
        if (in->before[fd] || !incoming_is_packet(fd) || getsockname(fd, (struct sockaddr *)&address, &length) < 0 ||
            address.sll_ifindex != index)
            continue;
        if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
            return -errno;
        found++;
    }
    for (uint16_t queue = 0; queue < p->nrx; queue++) {
        struct rte_mbuf *mbufs[32];
        unsigned count = 1;
        for (unsigned taken = 0; count && taken < INCOMING_EARLIER; taken += count) {
            count = rte_eth_rx_burst(p->id, queue, mbufs, 32);
            rte_pktmbuf_free_bulk(mbufs, count);
        }
    }
    return found;
}

#endif

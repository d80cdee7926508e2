/* SPDX-License-Identifier: Apache-2.0
 *
 * A packet socket is nearly what a NIC's ring would be: it gives each frame once, with the kernel's time and with the tag beside it that
 * the kernel took out, which goes back to its place here. What the application does not read in time is lost in the socket's buffer.
 */
#include "traffic.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RECEIVE_BUFFER (64 << 20)
#define ADDRESSES      12u /* octets before the type, where a tag belongs */
#define TAG            4u

int sim_live_open(const char *interface)
{
    unsigned index = if_nametoindex(interface);
    if (index == 0)
        return -ENXIO;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); /* nothing before it is bound */
    if (fd < 0)
        return -errno;
    const int yes = 1, room = RECEIVE_BUFFER;
    const struct packet_mreq promiscuous = {.mr_ifindex = (int)index, .mr_type = PACKET_MR_PROMISC};
    const struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room); /* an ordinary user gets what the system allows */
    if (setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &yes, sizeof yes) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof yes) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) < 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        int code = errno;
        close(fd);
        return -code;
    }
    return fd;
}

static void deal(struct msghdr *message, uint8_t *data, uint32_t len, struct sim_feed *feeds, unsigned rings, bool as_8021q)
{
    int64_t ns = 0;
    uint32_t wirelen = len;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec ts;
            memcpy(&ts, CMSG_DATA(c), sizeof ts);
            ns = ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
        } else if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA) {
            struct tpacket_auxdata beside;
            memcpy(&beside, CMSG_DATA(c), sizeof beside);
            if ((beside.tp_status & TP_STATUS_VLAN_VALID) == 0 || len < ADDRESSES || (as_8021q && beside.tp_vlan_tci == 0))
                continue;
            bool known = !as_8021q && (beside.tp_status & TP_STATUS_VLAN_TPID_VALID) != 0;
            const uint16_t tag[2] = {htons(known ? beside.tp_vlan_tpid : ETH_P_8021Q), htons(beside.tp_vlan_tci)};
            memmove(data + ADDRESSES + TAG, data + ADDRESSES, len - ADDRESSES);
            memcpy(data + ADDRESSES, tag, TAG);
            len += TAG;
            wirelen += TAG;
        }
    }
    sim_feed_put(&feeds[sim_ring_of(data, len, rings)], data, len, wirelen, ns, false);
}

void sim_live_read(int fd, struct sim_feed *feeds, unsigned rings, bool as_8021q)
{
    static uint8_t data[SIM_LONGEST + TAG]; /* one thread at a time: the stand-ins hold their lock */
    for (;;) {
        uint8_t control[256] __attribute__((aligned(sizeof(size_t))));
        struct iovec room = {.iov_base = data, .iov_len = SIM_LONGEST};
        struct msghdr message = {.msg_iov = &room, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t len = recvmsg(fd, &message, 0);
        if (len < 0)
            return;
        deal(&message, data, (uint32_t)len, feeds, rings, as_8021q);
    }
}

uint64_t sim_live_lost(int fd)
{
    struct tpacket_stats counted = {0};
    socklen_t size = sizeof counted;
    return getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &counted, &size) < 0 ? 0 : counted.tp_drops;
}

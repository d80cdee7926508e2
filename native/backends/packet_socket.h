/* SPDX-License-Identifier: Apache-2.0
 *
 * What the two backends over AF_PACKET sockets (af_packet, socket) have in common: how such a socket is made, filtered, shared out to
 * workers, and how it ends. Static functions only, so that each plug-in stays one object without unresolved symbols.
 */
#ifndef FLOWPARITY_PACKET_SOCKET_H
#define FLOWPARITY_PACKET_SOCKET_H

#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>

#include "linux_interface.h"

#define PS_MAX_TAGS   8 /* S-VER-4 */
#define PS_MAX_LABELS 16

/* What the options common to both backends say. */
struct ps_common {
    const char *name; /* the backend's, for messages */
    struct li_interface interface;
    int fanout; /* PACKET_FANOUT_*, or PS_FANOUT_FLOW */
    bool hardware_time;
    bool promiscuous;
    uint32_t snaplen;
};

#define PS_FANOUT_FLOW (-1)
/* PACKET_FANOUT_FLAG_IGNORE_OUTGOING of newer headers: a group does not heed its sockets' PACKET_IGNORE_OUTGOING. A kernel that does not
 * know the flag ignores it. */
#define PS_FANOUT_IGNORE_OUTGOING 0x4000u
#define PS_GSO_UDP_L4             5 /* VIRTIO_NET_HDR_GSO_UDP_L4, newer than Debian 12's headers */

/* Whether packet sockets can be made here. */
static inline int ps_probe(const struct fp_host *host, const char *name, char *err)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

    if (fd < 0 && errno == EPERM)
        return host->fail(err, -EPERM,
                          "backend %s: no privilege to open packet sockets; run as root, give the process CAP_NET_RAW (setpriv, or the "
                          "systemd unit), or try 'unshare -Urn'",
                          name);
    if (fd < 0)
        return host->fail(err, -errno, "backend %s: packet sockets do not work here: %s", name, strerror(errno));
    close(fd);
    return 0;
}

/* The kernel polls no driver on behalf of a packet socket. */
static inline int ps_flags(const struct fp_host *host, const char *name, const struct fp_open_args *args, char *err)
{
    if (args->flags & FP_OPEN_BUSY_POLL)
        return host->fail(err, -EINVAL, "backend %s: packet sockets do not poll busily; leave --busy-poll out, or use backend af_xdp",
                          name);
    return 0;
}

static inline int ps_fanout_mode(const char *text)
{
    static const struct {
        const char *name;
        int mode;
    } modes[] = {
        {"flow", PS_FANOUT_FLOW}, {"hash", PACKET_FANOUT_HASH}, {"cpu", PACKET_FANOUT_CPU},           {"queue", PACKET_FANOUT_QM},
        {"lb", PACKET_FANOUT_LB}, {"rnd", PACKET_FANOUT_RND},   {"rollover", PACKET_FANOUT_ROLLOVER},
    };

    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(modes[i].name, text))
            return modes[i].mode;
    return -2;
}

/* Takes an option that both backends have. 1 = taken, 0 = not one of them, or -errno. */
static inline int ps_option(const struct fp_host *host, struct ps_common *c, const struct fp_option *o, char *err)
{
    if (!strcmp(o->key, "fanout")) {
        c->fanout = ps_fanout_mode(o->value);
        if (c->fanout < PS_FANOUT_FLOW)
            return host->fail(err, -EINVAL, "backend %s: option fanout=%s is none of flow, hash, cpu, queue, lb, rnd, rollover", c->name,
                              o->value);
        return 1;
    }
    if (!strcmp(o->key, "time")) {
        c->hardware_time = !strcmp(o->value, "hardware");
        if (!c->hardware_time && strcmp(o->value, "kernel"))
            return host->fail(err, -EINVAL, "backend %s: option time=%s is neither kernel nor hardware", c->name, o->value);
        return 1;
    }
    return 0;
}

/* A classic BPF program under construction. */
struct ps_asm {
    struct sock_filter code[512];
    unsigned n;
};

/* Jumps to one label, bound later. */
struct ps_label {
    unsigned from[24];
    unsigned n;
};

static inline void ps_emit(struct ps_asm *a, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
    a->code[a->n++] = (struct sock_filter){.code = code, .jt = jt, .jf = jf, .k = k};
}

static inline void ps_jump(struct ps_asm *a, struct ps_label *to)
{
    to->from[to->n++] = a->n;
    ps_emit(a, BPF_JMP | BPF_JA, 0, 0, 0);
}

static inline void ps_jump_if(struct ps_asm *a, uint32_t k, struct ps_label *to)
{
    ps_emit(a, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, k);
    ps_jump(a, to);
}

static inline void ps_bind(struct ps_asm *a, const struct ps_label *label)
{
    for (unsigned i = 0; i < label->n; i++)
        a->code[label->from[i]].k = a->n - label->from[i] - 1;
}

#define PS_ADVANCE 6u /* instructions of ps_advance */

/* A = what stands `at` octets after X; X += by. */
static inline void ps_advance(struct ps_asm *a, uint16_t size, uint32_t at, uint32_t by)
{
    ps_emit(a, BPF_LD | size | BPF_IND, 0, 0, (uint32_t)SKF_NET_OFF + at);
    ps_emit(a, BPF_ST, 0, 0, 1);
    ps_emit(a, BPF_MISC | BPF_TXA, 0, 0, 0);
    ps_emit(a, BPF_ALU | BPF_ADD | BPF_K, 0, 0, by);
    ps_emit(a, BPF_MISC | BPF_TAX, 0, 0, 0);
    ps_emit(a, BPF_LD | BPF_MEM, 0, 0, 1);
}

/* Returns the XOR of the address words, well mixed: the same for both directions. X = where the IP header starts. */
static inline void ps_return_hash(struct ps_asm *a, uint32_t at, unsigned words)
{
    ps_emit(a, BPF_STX, 0, 0, 2);
    ps_emit(a, BPF_LD | BPF_IMM, 0, 0, 0);
    ps_emit(a, BPF_ST, 0, 0, 0);
    for (unsigned i = 0; i < words; i++) {
        ps_emit(a, BPF_LDX | BPF_MEM, 0, 0, 2);
        ps_emit(a, BPF_LD | BPF_W | BPF_IND, 0, 0, (uint32_t)SKF_NET_OFF + at + 4 * i);
        ps_emit(a, BPF_LDX | BPF_MEM, 0, 0, 0);
        ps_emit(a, BPF_ALU | BPF_XOR | BPF_X, 0, 0, 0);
        ps_emit(a, BPF_ST, 0, 0, 0);
    }
    ps_emit(a, BPF_ALU | BPF_MUL | BPF_K, 0, 0, 0x9E3779B1u);
    ps_emit(a, BPF_ALU | BPF_RSH | BPF_K, 0, 0, 12); /* the kernel takes it modulo the number of workers */
    ps_emit(a, BPF_RET | BPF_A, 0, 0, 0);
}

/* Chooses the worker by the IP addresses alone, found behind tags, MPLS labels and PPPoE: the only choice under which every packet of a
 * key, fragments and the insides of tunnels included, meets one worker (S-CMP-2; the kernel's own hash uses the ports of whole packets and
 * looks into tunnels). What carries no IP goes to the first worker, as does a packet that the program runs out of. */
static inline void ps_flow_program(struct ps_asm *a)
{
    struct ps_label ipv4 = {.n = 0}, ipv6 = {.n = 0}, none = {.n = 0}, mpls = {.n = 0}, bottom = {.n = 0};

    a->n = 0;
    ps_emit(a, BPF_LDX | BPF_IMM, 0, 0, 0);
    ps_emit(a, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL));
    for (unsigned i = 0; i < PS_MAX_TAGS; i++) {
        ps_emit(a, BPF_JMP | BPF_JEQ | BPF_K, 2, 0, ETH_P_8021Q);
        ps_emit(a, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ETH_P_8021AD);
        ps_emit(a, BPF_JMP | BPF_JEQ | BPF_K, 0, PS_ADVANCE, ETH_P_QINQ1);
        ps_advance(a, BPF_H, 2, 4);
    }
    ps_jump_if(a, ETH_P_IP, &ipv4);
    ps_jump_if(a, ETH_P_IPV6, &ipv6);
    ps_jump_if(a, ETH_P_MPLS_UC, &mpls);
    ps_jump_if(a, ETH_P_MPLS_MC, &mpls);
    ps_emit(a, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ETH_P_PPP_SES);
    ps_jump(a, &none);
    ps_advance(a, BPF_H, 6, 8);
    ps_jump_if(a, 0x0021, &ipv4);
    ps_jump_if(a, 0x0057, &ipv6);
    ps_jump(a, &none);

    ps_bind(a, &mpls);
    for (unsigned i = 0; i < PS_MAX_LABELS; i++) {
        ps_advance(a, BPF_W, 0, 4);
        ps_emit(a, BPF_JMP | BPF_JSET | BPF_K, 0, 1, 0x100);
        ps_jump(a, &bottom);
    }
    ps_jump(a, &none);
    ps_bind(a, &bottom);
    ps_emit(a, BPF_LD | BPF_B | BPF_IND, 0, 0, (uint32_t)SKF_NET_OFF);
    ps_emit(a, BPF_ALU | BPF_RSH | BPF_K, 0, 0, 4);
    ps_jump_if(a, 4, &ipv4);
    ps_jump_if(a, 6, &ipv6);

    ps_bind(a, &none);
    ps_emit(a, BPF_RET | BPF_K, 0, 0, 0);
    ps_bind(a, &ipv4);
    ps_return_hash(a, 12, 2);
    ps_bind(a, &ipv6);
    ps_return_hash(a, 8, 8);
}

/* Makes `fd` share the interface's frames with the others of `group` (0 = found it, and say which id the kernel gave). */
static inline int ps_fanout(const struct fp_host *host, const struct ps_common *c, int fd, uint16_t *group, char *err)
{
    struct ps_asm a;
    int mode = c->fanout == PS_FANOUT_FLOW ? PACKET_FANOUT_CBPF : c->fanout;
    uint32_t flags = PS_FANOUT_IGNORE_OUTGOING | (*group ? 0 : PACKET_FANOUT_FLAG_UNIQUEID);
    uint32_t arg = *group | ((uint32_t)mode | flags) << 16;
    socklen_t len = sizeof arg;

    if (setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &arg, sizeof arg))
        return host->fail(err, -errno, "backend %s: the kernel refuses to share %s among workers: %s", c->name, c->interface.name,
                          strerror(errno));
    if (*group)
        return 0;
    if (getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &arg, &len))
        return host->fail(err, -errno, "backend %s: the kernel does not tell the id of the group: %s", c->name, strerror(errno));
    *group = (uint16_t)arg;
    if (c->fanout == PS_FANOUT_FLOW) {
        ps_flow_program(&a);
        struct sock_fprog program = {.len = (unsigned short)a.n, .filter = a.code};
        if (setsockopt(fd, SOL_PACKET, PACKET_FANOUT_DATA, &program, sizeof program))
            return host->fail(err, -errno, "backend %s: the kernel refuses the program that chooses the worker: %s", c->name,
                              strerror(errno));
    }
    return 0;
}

/* Compiles the user's expression for this interface; NULL leaves `out` empty. libpcap's live handle knows where the kernel puts a stripped
 * tag; it is closed again at once. */
static inline int ps_filter(const struct fp_host *host, const struct ps_common *c, const char *expression, struct bpf_program *out,
                            char *err)
{
    char reason[PCAP_ERRBUF_SIZE] = "";
    pcap_t *live;
    int rc = 0;

    if (!expression)
        return 0;
    live = pcap_open_live(c->interface.name, 262144, 0, 1, reason);
    if (!live)
        return host->fail(err, -EIO, "filter '%s': libpcap cannot look at %s: %s", expression, c->interface.name, reason);
    if (pcap_compile(live, out, expression, 1, PCAP_NETMASK_UNKNOWN))
        rc = host->fail(err, -EINVAL, "filter '%s': %s", expression, pcap_geterr(live));
    pcap_close(live);
    return rc;
}

static inline void ps_free_filter(struct bpf_program *filter)
{
    if (filter->bf_insns)
        pcap_freecode(filter);
}

static inline int ps_attach(int fd, struct sock_filter *code, unsigned n)
{
    struct sock_fprog program = {.len = (unsigned short)n, .filter = code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) ? -errno : 0;
}

/* From now on the kernel gives the socket nothing more; what it holds stays. */
static inline int ps_drop_all(int fd)
{
    struct sock_filter none = {.code = BPF_RET | BPF_K, .k = 0};

    return ps_attach(fd, &none, 1);
}

/* Lets frames in, those that the filter takes. */
static inline int ps_admit(const struct fp_host *host, const struct ps_common *c, int fd, const struct bpf_program *filter, char *err)
{
    int unused = 0, rc;

    if (filter->bf_len)
        rc = ps_attach(fd, (struct sock_filter *)filter->bf_insns, filter->bf_len);
    else
        rc = setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) ? -errno : 0;
    return rc ? host->fail(err, rc, "backend %s: the kernel refuses the filter: %s", c->name, strerror(-rc)) : 0;
}

/* Asks the network card for its own stamps. `before` is what to put back. */
static inline int ps_hardware_time(const struct fp_host *host, const struct ps_common *c, int fd, struct hwtstamp_config *before, char *err)
{
    struct hwtstamp_config wanted = {.rx_filter = HWTSTAMP_FILTER_ALL};
    struct ifreq ifr = {0};

    strcpy(ifr.ifr_name, c->interface.name);
    ifr.ifr_data = (char *)before;
    if (ioctl(fd, SIOCGHWTSTAMP, &ifr))
        *before = (struct hwtstamp_config){0};
    wanted.tx_type = before->tx_type;
    ifr.ifr_data = (char *)&wanted;
    if (ioctl(fd, SIOCSHWTSTAMP, &ifr))
        return host->fail(err, -ENOSYS, "interface %s: its driver takes no hardware timestamps (%s); use time=kernel", c->interface.name,
                          strerror(errno));
    return 0;
}

static inline void ps_restore_time(const struct ps_common *c, int fd, struct hwtstamp_config *before)
{
    struct ifreq ifr = {0};

    strcpy(ifr.ifr_name, c->interface.name);
    ifr.ifr_data = (char *)before;
    (void)ioctl(fd, SIOCSHWTSTAMP, &ifr);
}

/* A bound socket needs these before it is bound: no outgoing copies, the offload header, which stamp. */
static inline int ps_prepare(const struct fp_host *host, const struct ps_common *c, int fd, char *err)
{
    int one = 1, stamp = SOF_TIMESTAMPING_RAW_HARDWARE | SOF_TIMESTAMPING_SOFTWARE;

    if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one))
        return host->fail(err, -errno, "backend %s: the kernel cannot leave out outgoing frames (Linux 4.20 can): %s", c->name,
                          strerror(errno));
    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one))
        return host->fail(err, -errno, "backend %s: the kernel does not tell the segments of offloaded frames: %s", c->name,
                          strerror(errno));
    if (c->hardware_time && setsockopt(fd, SOL_PACKET, PACKET_TIMESTAMP, &stamp, sizeof stamp))
        return host->fail(err, -errno, "backend %s: the kernel refuses hardware timestamps: %s", c->name, strerror(errno));
    return 0;
}

/* Binds; frames arrive from here on. */
static inline int ps_bind_to(const struct fp_host *host, const struct ps_common *c, int fd, char *err)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = c->interface.index};
    struct packet_mreq promiscuous = {.mr_ifindex = c->interface.index, .mr_type = PACKET_MR_PROMISC};

    if (bind(fd, (struct sockaddr *)&to, sizeof to))
        return host->fail(err, -errno, "interface %s: cannot be listened to: %s", c->interface.name, strerror(errno));
    if (c->promiscuous && setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous))
        return host->fail(err, -errno, "interface %s: cannot be made promiscuous: %s", c->interface.name, strerror(errno));
    return 0;
}

/* Where the transport header of a whole frame starts, behind tags, IPv4 options and IPv6 extension headers; 0 if it is not found. */
static inline uint32_t ps_transport(const uint8_t *frame, uint32_t len)
{
    uint32_t at = 14; /* behind the type */
    uint16_t type;
    uint8_t next;

    if (len < at)
        return 0;
    type = (uint16_t)(frame[12] << 8 | frame[13]);
    while ((type == ETH_P_8021Q || type == ETH_P_8021AD || type == 0x9100) && at + 4 <= len) {
        type = (uint16_t)(frame[at + 2] << 8 | frame[at + 3]);
        at += 4;
    }
    if (type == ETH_P_IP && at + 20 <= len)
        return at + (frame[at] & 0x0Fu) * 4;
    if (type != ETH_P_IPV6 || at + 40 > len)
        return 0;
    next = frame[at + 6];
    at += 40;
    while ((next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS) && at + 2 <= len) {
        next = frame[at];
        at += (frame[at + 1] + 1u) * 8;
    }
    return at;
}

/* Wire segments of a frame of `len` octets that the kernel or the card coalesced (S-SUP-1). The kernel's hdr_len is the linear part of its
 * buffer and not the headers' length. Where the transport header starts it says as csum_start while the checksum is still to be done; a
 * card that merged and checked leaves it to be looked for. */
static inline uint16_t ps_segments(const struct virtio_net_hdr *h, const uint8_t *frame, uint32_t caplen, uint32_t len)
{
    uint32_t headers = h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM ? h->csum_start : ps_transport(frame, caplen), payload;

    if (h->gso_type == VIRTIO_NET_HDR_GSO_NONE || !h->gso_size || !headers)
        return 1;
    if ((h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == PS_GSO_UDP_L4)
        headers += 8;
    else if (headers + 13 <= caplen && frame[headers + 12] >> 4 >= 5)
        headers += (uint32_t)(frame[headers + 12] >> 4) * 4;
    else
        headers += 20;
    if (headers >= len)
        return 1;
    payload = (len - headers + h->gso_size - 1) / h->gso_size;
    return payload > UINT16_MAX ? UINT16_MAX : (uint16_t)payload;
}

#endif

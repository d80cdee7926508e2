/* SPDX-License-Identifier: Apache-2.0
 *
 * Exercises the semantics of netmap that the backend relies on, over the two ends of a pipe and three ports of a switch, and prints a
 * transcript without machine-dependent numbers: the transcript of the real module and that of the stand-in (strict=0,traps=0) must be the
 * same. Exit status 0 when it ran to its end, 3 when there is no netmap.
 *
 * Usage: netmap_abi_probe [PIPE-NAME]     (default: fpprobe)
 */
#include "flowparity/netmap_abi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

struct side {
    int fd;
    void *memory;
    struct netmap_if *nifp;
    struct netmap_ring *tx, *rx;
};

static const char *pipe_name = "fpprobe";

static const char *error_name(int code)
{
    return code == 0 ? "0" : code == EINVAL ? "EINVAL" : code == EBUSY ? "EBUSY" : code == ENXIO ? "ENXIO" : "another error";
}

static int register_port(int fd, const char *name, uint64_t flags, uint32_t mode, uint16_t ring, uint16_t version,
                         struct nmreq_register *reg)
{
    struct nmreq_header header = {.nr_version = version, .nr_reqtype = NETMAP_REQ_REGISTER, .nr_body = (uintptr_t)reg};
    *reg = (struct nmreq_register){.nr_mode = mode, .nr_ringid = ring, .nr_flags = flags};
    snprintf(header.nr_name, sizeof header.nr_name, "%s", name);
    return ioctl(fd, NIOCCTRL, &header) == 0 ? 0 : errno;
}

static struct side open_port(const char *name, const char *shown)
{
    struct nmreq_register reg;
    struct side side = {.fd = open("/dev/netmap", O_RDWR)};
    int code = register_port(side.fd, name, 0, NR_REG_ALL_NIC, 0, NETMAP_API, &reg);
    printf("register %s: %s\n", shown, error_name(code));
    if (code != 0)
        exit(1);
    side.memory = mmap(NULL, reg.nr_memsize, PROT_READ | PROT_WRITE, MAP_SHARED, side.fd, 0);
    if (side.memory == MAP_FAILED) {
        printf("mmap failed\n");
        exit(1);
    }
    side.nifp = (struct netmap_if *)((char *)side.memory + reg.nr_offset);
    uint32_t tx = side.nifp->ni_tx_rings, host = side.nifp->ni_host_tx_rings;
    printf("rings: tx %u rx %u\n", tx, side.nifp->ni_rx_rings);
    side.tx = (struct netmap_ring *)((char *)side.nifp + side.nifp->ring_ofs[0]);
    side.rx = (struct netmap_ring *)((char *)side.nifp + side.nifp->ring_ofs[tx + host]);
    return side;
}

static struct side open_end(const char *mark)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s1", pipe_name, mark);
    return open_port(name, mark);
}

static unsigned space(const struct netmap_ring *r)
{
    return (r->tail + r->num_slots - r->head) % r->num_slots;
}

static uint32_t after(const struct netmap_ring *r, uint32_t slot)
{
    return slot + 1 == r->num_slots ? 0 : slot + 1;
}

static unsigned char *octets(struct netmap_ring *r, uint32_t slot)
{
    return (unsigned char *)r + r->buf_ofs + (size_t)r->slot[slot].buf_idx * r->nr_buf_size;
}

static void put(struct netmap_ring *tx, unsigned len, unsigned char fill, uint16_t flags)
{
    memset(octets(tx, tx->head), fill, len);
    tx->slot[tx->head].len = (uint16_t)len;
    tx->slot[tx->head].flags = flags;
    tx->head = tx->cur = after(tx, tx->head);
}

static void take_all(struct side *side)
{
    side->rx->head = side->rx->cur = side->rx->tail;
    ioctl(side->fd, NIOCRXSYNC, NULL);
}

static void poll_says(struct side *side, const char *when)
{
    struct pollfd wanted = {.fd = side->fd, .events = POLLIN};
    int ready = poll(&wanted, 1, 20);
    printf("poll %s: %d%s%s\n", when, ready, (wanted.revents & POLLIN) != 0 ? " POLLIN" : "",
           (wanted.revents & POLLERR) != 0 ? " POLLERR" : "");
}

static void constants(void)
{
    printf("NETMAP_API %d, slot %zu, ring %zu, if %zu, header %zu, register %zu octets\n", NETMAP_API, sizeof(struct netmap_slot),
           sizeof(struct netmap_ring), sizeof(struct netmap_if), sizeof(struct nmreq_header), sizeof(struct nmreq_register));
}

static void refusals(void)
{
    struct nmreq_register reg;
    int fd = open("/dev/netmap", O_RDWR);
    printf("version 11: %s\n", error_name(register_port(fd, "fpprobe{2", 0, NR_REG_ALL_NIC, 0, 11, &reg)));
    printf("no such interface: %s\n", error_name(register_port(fd, "nosuchif0", 0, NR_REG_ALL_NIC, 0, NETMAP_API, &reg)));
    printf("sync before register: %s\n", ioctl(fd, NIOCRXSYNC, NULL) == 0 ? "0" : error_name(errno));
    close(fd);
}

static void delivery(struct side *a, struct side *b)
{
    printf("fresh: rx %u tx %s\n", space(b->rx), space(a->tx) == a->tx->num_slots - 1 ? "num_slots - 1" : "other");
    put(a->tx, 60, 0x11, 0);
    put(a->tx, 61, 0x22, 0);
    put(a->tx, 1514, 0x33, 0);
    ioctl(b->fd, NIOCRXSYNC, NULL);
    printf("before txsync: rx %u\n", space(b->rx));
    ioctl(a->fd, NIOCTXSYNC, NULL);
    printf("after txsync, before rxsync: rx %u\n", space(b->rx));
    ioctl(b->fd, NIOCRXSYNC, NULL);
    printf("after rxsync: rx %u\n", space(b->rx));
    uint32_t slot = b->rx->head;
    for (unsigned i = 0; i < space(b->rx); i++, slot = after(b->rx, slot))
        printf("  frame of %u octets of 0x%02x, morefrag %d\n", b->rx->slot[slot].len, octets(b->rx, slot)[0],
               (b->rx->slot[slot].flags & NS_MOREFRAG) != 0);
    printf("ring time %s\n", b->rx->ts.tv_sec != 0 ? "set" : "0");
}

static void levels(struct side *a, struct side *b)
{
    poll_says(b, "with cur behind tail");
    poll_says(b, "again, nothing taken");
    b->rx->cur = b->rx->tail;
    poll_says(b, "with cur at tail, nothing released");
    put(a->tx, 60, 0x44, 0);
    ioctl(a->fd, NIOCTXSYNC, NULL);
    poll_says(b, "after one more frame");
    printf("held and new: rx %u\n", space(b->rx));
    take_all(b);
    printf("all taken: rx %u\n", space(b->rx));
}

static void epolls(struct side *a, struct side *b)
{
    struct epoll_event event = {.events = EPOLLIN};
    int set = epoll_create1(0);
    printf("epoll_ctl: %s\n", epoll_ctl(set, EPOLL_CTL_ADD, b->fd, &event) == 0 ? "0" : error_name(errno));
    printf("epoll with nothing there: %d\n", epoll_wait(set, &event, 1, 20));
    put(a->tx, 60, 0x88, 0);
    ioctl(a->fd, NIOCTXSYNC, NULL);
    int ready = epoll_wait(set, &event, 1, 20);
    printf("epoll with a frame: %d%s, rx %u\n", ready, ready == 1 && (event.events & EPOLLIN) != 0 ? " EPOLLIN" : "", space(b->rx));
    ready = epoll_wait(set, &event, 1, 20);
    printf("epoll again, nothing taken: %d\n", ready);
    take_all(b);
    printf("epoll, all taken: %d\n", epoll_wait(set, &event, 1, 20));
    close(set);
}

static void fragments(struct side *a, struct side *b)
{
    put(a->tx, 100, 0x55, NS_MOREFRAG);
    put(a->tx, 50, 0x66, 0);
    ioctl(a->fd, NIOCTXSYNC, NULL);
    ioctl(b->fd, NIOCRXSYNC, NULL);
    uint32_t slot = b->rx->head;
    printf("fragments: %u slots, morefrag %d then %d\n", space(b->rx), (b->rx->slot[slot].flags & NS_MOREFRAG) != 0,
           (b->rx->slot[after(b->rx, slot)].flags & NS_MOREFRAG) != 0);
    take_all(b);
}

static void abuse(struct side *a, struct side *b)
{
    put(a->tx, 60, 0x77, 0);
    ioctl(a->fd, NIOCTXSYNC, NULL);
    ioctl(b->fd, NIOCRXSYNC, NULL);
    uint32_t tail = b->rx->tail;
    b->rx->tail = after(b->rx, tail);
    ioctl(b->fd, NIOCRXSYNC, NULL);
    printf("a written tail is %s\n", b->rx->tail == tail ? "restored" : "kept");
    take_all(b);
    b->rx->head = b->rx->cur = b->rx->num_slots + 5;
    int code = ioctl(b->fd, NIOCRXSYNC, NULL) == 0 ? 0 : errno;
    printf("illegal head: NIOCRXSYNC %s, head is %s\n", error_name(code), b->rx->head < b->rx->num_slots ? "put right" : "left");
    b->rx->head = b->rx->cur = b->rx->num_slots + 5;
    poll_says(b, "with an illegal head");
}

/* A frame between two of the addresses 02:00:00:00:00:0N; what then lies in the three receive rings, which are emptied. */
static void switched(struct side *ports, unsigned from, unsigned source, unsigned destination)
{
    struct netmap_ring *tx = ports[from].tx;
    unsigned char *frame = octets(tx, tx->head);
    put(tx, 60, 0, 0);
    frame[0] = frame[6] = 2;
    frame[5] = (unsigned char)destination;
    frame[11] = (unsigned char)source;
    ioctl(ports[from].fd, NIOCTXSYNC, NULL);
    printf("switch: %u to %u by port %c:", source, destination, 'a' + (int)from);
    for (unsigned i = 0; i < 3; i++) {
        ioctl(ports[i].fd, NIOCRXSYNC, NULL);
        printf(" %c %u", 'a' + (int)i, space(ports[i].rx));
        take_all(&ports[i]);
    }
    printf("\n");
}

static void vale(void)
{
    struct side ports[3] = {open_port("valefp:a", "a"), open_port("valefp:b", "b"), open_port("valefp:c", "c")};
    switched(ports, 0, 1, 2); /* nobody has seen 2 send */
    switched(ports, 1, 2, 1);
    switched(ports, 0, 1, 2);
    switched(ports, 0, 2, 1); /* 2 has moved, and 1 is where this came from */
    for (unsigned i = 0; i < 3; i++)
        close(ports[i].fd);
}

static void ownership(void)
{
    char name[64];
    struct nmreq_register reg;
    int first = open("/dev/netmap", O_RDWR), second = open("/dev/netmap", O_RDWR);
    snprintf(name, sizeof name, "%s{3", pipe_name);
    printf("exclusive: %s\n", error_name(register_port(first, name, NR_EXCLUSIVE, NR_REG_ALL_NIC, 0, NETMAP_API, &reg)));
    printf("second open: %s\n", error_name(register_port(second, name, 0, NR_REG_ALL_NIC, 0, NETMAP_API, &reg)));
    close(first);
    printf("after the first is closed: %s\n", error_name(register_port(second, name, NR_EXCLUSIVE, NR_REG_ALL_NIC, 0, NETMAP_API, &reg)));
    close(second);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        pipe_name = argv[1];
    int fd = open("/dev/netmap", O_RDWR);
    if (fd < 0) {
        fprintf(stderr, "netmap_abi_probe: no /dev/netmap: load the netmap kernel module or preload the stand-in\n");
        return 3;
    }
    close(fd);
    constants();
    refusals();
    struct side a = open_end("{"), b = open_end("}");
    delivery(&a, &b);
    levels(&a, &b);
    epolls(&a, &b);
    fragments(&a, &b);
    abuse(&a, &b);
    close(a.fd);
    close(b.fd);
    vale();
    ownership();
    printf("end\n");
    return 0;
}

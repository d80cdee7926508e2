/* SPDX-License-Identifier: Apache-2.0
 *
 * Exercises the semantics of PF_RING's ordinary interface that the backend relies on, over a veth pair, and prints a transcript without
 * machine-dependent numbers: the transcript of the real module with its library and that of the stand-in (strict=0,traps=0) must be the
 * same. Exit status 0 when it ran to its end, 3 when there is no such library or device.
 *
 * Usage: pfring LIBRARY RECEIVING SENDING       (the two ends of a veth pair that is up, without IPv6; as root)
 */
#include "flowparity/pfring_abi.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)
#define ROOM     65536

static struct {
    pfring_ring *(*open)(const char *, uint32_t, uint32_t);
    void (*close)(pfring_ring *);
    int (*recv)(pfring_ring *, uint8_t **, unsigned, struct pfring_header *, uint8_t);
    int (*poll)(pfring_ring *, unsigned);
    int (*stats)(pfring_ring *, struct pfring_stat *);
    int (*enable_ring)(pfring_ring *);
    int (*set_direction)(pfring_ring *, int);
    int (*set_poll_watermark)(pfring_ring *, uint16_t);
    void (*breakloop)(pfring_ring *);
} lib;

static const char *receiving;
static int mouth, echo; /* packet sockets that send out of the one end and of the other */
static uint8_t room[ROOM];

static void *function(void *object, const char *name)
{
    void *found = dlsym(object, name);
    if (found == NULL) {
        fprintf(stderr, "pfring probe: the library has no %s\n", name);
        exit(3);
    }
    return found;
}

static void load(const char *path)
{
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (object == NULL) {
        fprintf(stderr, "pfring probe: %s\n", dlerror());
        exit(3);
    }
    *(void **)&lib.open = function(object, "pfring_open");
    *(void **)&lib.close = function(object, "pfring_close");
    *(void **)&lib.recv = function(object, "pfring_recv");
    *(void **)&lib.poll = function(object, "pfring_poll");
    *(void **)&lib.stats = function(object, "pfring_stats");
    *(void **)&lib.enable_ring = function(object, "pfring_enable_ring");
    *(void **)&lib.set_direction = function(object, "pfring_set_direction");
    *(void **)&lib.set_poll_watermark = function(object, "pfring_set_poll_watermark");
    *(void **)&lib.breakloop = function(object, "pfring_breakloop");
}

static int sender(const char *interface)
{
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    const struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = 0, .sll_ifindex = (int)if_nametoindex(interface)};
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        perror(interface);
        exit(3);
    }
    return fd;
}

/* A frame of this length, with these octets behind its addresses and `fill` after them. */
static void put(int fd, size_t len, const char *type, size_t type_len, uint8_t fill)
{
    uint8_t frame[2048];
    memset(frame, fill, sizeof frame);
    memcpy(frame, "\x02\0\0\0\0\1\x02\0\0\0\0\2", 12);
    memcpy(frame + 12, type, type_len);
    if (send(fd, frame, len, 0) != (ssize_t)len)
        perror("send");
}

static const char *error_name(int code)
{
    return code == 0 ? "0" : code == ENODEV ? "ENODEV" : code == EINTR ? "EINTR" : code == EINVAL ? "EINVAL" : "another error";
}

static pfring_ring *open_ring(uint32_t caplen)
{
    pfring_ring *ring = lib.open(receiving, caplen, PFRING_LONG_HEADER | PFRING_TIMESTAMP | PFRING_PROMISC);
    if (ring == NULL) {
        fprintf(stderr, "pfring probe: %s cannot be opened: %s\n", receiving, strerror(errno));
        exit(3);
    }
    return ring;
}

static int64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Waits for the next frame and says of it what does not depend on the machine. */
static void next(pfring_ring *ring, const char *what, unsigned buffer)
{
    struct pfring_header header;
    uint8_t *data = room;
    memset(&header, 0, sizeof header);
    memset(room, 0, sizeof room);
    int ready = 0;
    for (unsigned i = 0; i < 10 && ready <= 0; i++)
        ready = lib.poll(ring, 20);
    int got = lib.recv(ring, &data, buffer, &header, 0);
    printf("%s: poll %d, receive %d", what, ready, got);
    if (got > 0) {
        int64_t off = (int64_t)header.timestamp_ns - wall_ns();
        bool agree = header.ts.tv_sec == (int64_t)(header.timestamp_ns / NS_PER_S) &&
                     header.ts.tv_usec == (int64_t)(header.timestamp_ns % NS_PER_S / 1000);
        printf(", captured %u of %u, type %02x%02x %02x%02x, last octet %02x, nanoseconds %s, microseconds %s, interface %s, direction %u",
               header.caplen, header.len, data[12], data[13], data[14], data[15], data[(header.caplen < ROOM ? header.caplen : 1) - 1],
               off < 0 && off > -5 * NS_PER_S ? "of now" : "wrong", agree ? "agree" : "differ",
               header.if_index == (int32_t)if_nametoindex(receiving) ? "right" : "wrong", header.rx_direction);
    }
    printf("\n");
}

static void before_enabling(void)
{
    errno = 0;
    pfring_ring *none = lib.open("nosuchif0", 1500, PFRING_LONG_HEADER);
    printf("no such interface: %s %s\n", none == NULL ? "NULL" : "opened", error_name(errno));
    pfring_ring *ring = open_ring(1500);
    struct pfring_header header;
    struct pfring_stat stats = {7, 7, 7};
    uint8_t *data = room;
    printf("receive before enabling: %s\n", lib.recv(ring, &data, ROOM, &header, 0) < 0 ? "negative" : "not negative");
    printf("stats before enabling: %d\n", lib.stats(ring, &stats));
    printf("  received %lu dropped %lu\n", (unsigned long)stats.recv, (unsigned long)stats.drop);
    lib.close(ring);
}

static void delivery(pfring_ring *ring)
{
    struct pfring_header header;
    uint8_t *data = room;
    printf("nothing there: receive %d, poll 0 ms %d, poll 20 ms %d\n", lib.recv(ring, &data, ROOM, &header, 0), lib.poll(ring, 0),
           lib.poll(ring, 20));
    put(mouth, 60, "\x08\x00", 2, 0x11);
    next(ring, "a frame", ROOM);
    printf("watermark of 1: %d\n", lib.set_poll_watermark(ring, 1));
    put(mouth, 60, "\x08\x00", 2, 0x12);
    next(ring, "another frame", ROOM);
    put(mouth, 200, "\x08\x00", 2, 0x22);
    next(ring, "cut by the capture length", ROOM);
    put(mouth, 90, "\x08\x00", 2, 0x33);
    next(ring, "a buffer of 64 octets", 64);
    put(mouth, 60, "\x08\x00", 2, 0x44);
    next(ring, "lent", 0);
}

static void tags(pfring_ring *ring)
{
    put(mouth, 64, "\x81\x00\x00\x07\x08\x00", 6, 0x55);
    next(ring, "tag 8100", ROOM);
    put(mouth, 64, "\x88\xa8\x00\x07\x08\x00", 6, 0x66);
    next(ring, "tag 88a8", ROOM);
    put(mouth, 64, "\x81\x00\x00\x00\x08\x00", 6, 0x77);
    next(ring, "tag 8100 with tci 0", ROOM);
    put(mouth, 68, "\x88\xa8\x00\x05\x81\x00\x00\x07\x08\x00", 10, 0x88);
    next(ring, "two tags", ROOM);
}

static void direction(pfring_ring *ring)
{
    put(echo, 60, "\x08\x00", 2, 0x99);
    usleep(20000);
    struct pfring_header header;
    uint8_t *data = room;
    printf("a frame that leaves by the interface: receive %d\n", lib.recv(ring, &data, ROOM, &header, 0));
}

struct blocked {
    pfring_ring *ring;
    int result, code;
    bool over;
};

static void *block(void *argument)
{
    struct blocked *b = argument;
    struct pfring_header header;
    uint8_t *data = room;
    errno = 0;
    b->result = lib.recv(b->ring, &data, ROOM, &header, 1);
    b->code = errno;
    __atomic_store_n(&b->over, true, __ATOMIC_RELEASE);
    return NULL;
}

static void breaks(pfring_ring *ring)
{
    struct blocked b = {.ring = ring};
    pthread_t thread;
    struct pfring_header header;
    uint8_t *data = room;
    lib.breakloop(ring); /* nobody is blocked yet */
    printf("breakloop with nobody blocked: the next receive %d\n", lib.recv(ring, &data, ROOM, &header, 0));
    pthread_create(&thread, NULL, block, &b);
    usleep(50000);
    printf("a blocked receive %s\n", __atomic_load_n(&b.over, __ATOMIC_ACQUIRE) ? "returned" : "waits");
    while (!__atomic_load_n(&b.over, __ATOMIC_ACQUIRE)) {
        lib.breakloop(ring);
        usleep(10000);
    }
    pthread_join(thread, NULL);
    printf("after breakloop from another thread: receive %d %s\n", b.result, error_name(b.code));
    put(mouth, 60, "\x08\x00", 2, 0xaa);
    next(ring, "a frame after that", ROOM);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s LIBRARY RECEIVING SENDING\n", argv[0]);
        return 2;
    }
    load(argv[1]);
    receiving = argv[2];
    mouth = sender(argv[3]);
    echo = sender(argv[2]);
    before_enabling();
    pfring_ring *ring = open_ring(100);
    printf("direction: %d\n", lib.set_direction(ring, PFRING_RX_ONLY_DIRECTION));
    printf("enable: %d\n", lib.enable_ring(ring));
    delivery(ring);
    tags(ring);
    direction(ring);
    breaks(ring);
    struct pfring_stat stats;
    printf("stats: %d\n", lib.stats(ring, &stats));
    printf("  received %lu dropped %lu\n", (unsigned long)stats.recv, (unsigned long)stats.drop);
    lib.close(ring);
    printf("end\n");
    return 0;
}

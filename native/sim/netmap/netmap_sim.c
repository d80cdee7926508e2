/* SPDX-License-Identifier: Apache-2.0
 *
 * A stand-in for the netmap kernel module, in user space: preloaded (LD_PRELOAD), it answers open, ioctl, poll and close for /dev/netmap;
 * the file descriptor it gives is a memfd, so that mmap works untouched. Written from netmap(4) and from the behaviour of the real module,
 * which the ABI probe compares. Results over it are of tier `sim`, and no rate of it means anything.
 *
 * It is stricter than the real module: where that one restores, reinitialises or lets pass, this one aborts and says why (`strict=1`, the
 * default). Its traps are all on by default: rings that start near their wrap, buffers that change from slot to slot, released and
 * unpublished buffers full of 0xDB, frames cut into fragments, tails in the middle of a frame, offsets with garbage above their mask, flag
 * bits that mean nothing, a far and uninteresting ring time.
 *
 * Environment: FLOWPARITY_NETMAP_SIM="key=value,…"
 *   capture=PATH  classic pcap file (µs or ns) whose frames the port NAME receives      port=NAME    its name (sim0)
 *   rings=N       receive rings (1)         slots=N   slots in each ring (64)           buf=N        octets in a buffer (2048); slots and
 * buf are read once seed=N        of every choice (1)       strict=0  behave as the real module does    traps=0      no traps, only the
 * interface fail=WHAT     ENOENT, EACCES at open; ENXIO, EBUSY, ENOMEM, EINVAL, ENOTTY, VERSION at NIOCCTRL A port that is named by an
 * absolute path is the same port with further settings, which are in that file. Whoever opens the port when nobody has it gets fresh rings,
 * settings read again and the capture from its beginning, so that one process can serve many captures. Ports named X{N and X}N are the two
 * ends of a pipe.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "flowparity/netmap_abi.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC    __attribute__((visibility("default")))
#define MAX_RINGS 16
#define MAX_PORTS 8
#define MAX_FDS   1024
#define IF_AREA   4096
#define POISON    0xDB
#define LATE                                                                                                                               \
    700000 /* microseconds by which ring->ts is wrong under the traps: within the tolerance that fits a ring's time, and nothing that      \
              could be taken for a packet's */
#define SPIN 4

PUBLIC const int fp_netmap_sim = 1; /* how a backend knows that it runs over the stand-in */

struct frame {
    struct frame *next;
    uint32_t len;
    bool more; /* over a pipe: the sender's NS_MOREFRAG */
    uint8_t data[];
};

struct feed {
    struct frame *first, **last;
};

struct kring { /* the kernel's view of one ring; ring offset is from the start of the region */
    size_t offset;
    uint32_t hwcur, hwtail, cur;
    uint32_t idle_polls;
    struct feed feed; /* receive rings: what has not been published */
    uint32_t done;    /* octets of feed.first that earlier fragments carried */
    uint32_t pieces_left;
    uint32_t stall; /* syncs that publish nothing, while a frame is unfinished */
    int owner;      /* the exclusive owner's descriptor, or -1 */
};

struct port {
    char name[NETMAP_REQ_IFNAMSIZ];
    unsigned tx_rings, rx_rings;
    struct kring tx[MAX_RINGS + 1], rx[MAX_RINGS + 1]; /* the last one is the host ring */
    struct port *peer;
    unsigned users; /* descriptors that are registered on it */
};

struct descriptor {
    bool used, transmit, receive;
    struct port *port;
    unsigned first, count;
};

static struct {
    pthread_mutex_t lock;
    bool ready, strict, traps;
    char capture[4096], name[NETMAP_REQ_IFNAMSIZ], fail[32];
    unsigned rings, slots, buf;
    uint64_t random;
    int memfd;
    uint8_t *region;
    size_t size, used, buffers;
    uint32_t nbufs, *free_bufs, nfree;
    struct port ports[MAX_PORTS];
    unsigned nports;
    struct descriptor fds[MAX_FDS];
} sim = {.lock = PTHREAD_MUTEX_INITIALIZER, .memfd = -1};

__attribute__((noreturn, format(printf, 1, 2))) static void illegal(const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "netmap stand-in: illegal use: %s\n", text);
    abort();
}

static uint64_t roll(uint64_t below)
{ /* SplitMix64 */
    uint64_t z = sim.random += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return below == 0 ? z : z % below;
}

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static struct netmap_ring *ring_of(const struct kring *k)
{
    return (struct netmap_ring *)(sim.region + k->offset);
}

static uint8_t *buffer(uint32_t index)
{
    return sim.region + sim.buffers + (size_t)index * sim.buf;
}

static uint32_t take_buffer(void)
{
    if (sim.nfree == 0)
        illegal("the stand-in itself ran out of buffers");
    uint32_t at = sim.traps ? (uint32_t)roll(sim.nfree) : sim.nfree - 1, index = sim.free_bufs[at];
    sim.free_bufs[at] = sim.free_bufs[--sim.nfree];
    return index;
}

static void give_buffer(uint32_t index)
{
    memset(buffer(index), POISON, sim.buf);
    sim.free_bufs[sim.nfree++] = index;
}

/* Sets a member that is const for users. */
#define SET(pointer, type, value) (*(type *)(uintptr_t)(pointer) = (value))

/* A ring as it is when nobody has used it yet. */
static void reset_ring(struct kring *k, bool receive)
{
    struct netmap_ring *r = ring_of(k);
    uint32_t start = sim.traps ? sim.slots - 3 : 0;
    for (struct frame *frame = k->feed.first, *next; frame != NULL; frame = next) {
        next = frame->next;
        free(frame);
    }
    k->feed = (struct feed){.last = &k->feed.first};
    k->owner = -1;
    k->done = k->stall = k->idle_polls = 0;
    k->hwcur = k->cur = start;
    k->hwtail = receive ? start : (start + sim.slots - 1) % sim.slots;
    SET(&r->offset_mask, uint64_t, sim.traps &&receive ? 0xFF : 0);
    r->head = r->cur = start;
    r->tail = k->hwtail;
    for (uint32_t i = 0; i < sim.slots; i++) {
        memset(buffer(r->slot[i].buf_idx), POISON, sim.buf);
        r->slot[i] = (struct netmap_slot){.buf_idx = r->slot[i].buf_idx};
    }
}

static void make_ring(struct kring *k, unsigned id, bool receive)
{
    k->offset = sim.used;
    sim.used += (sizeof(struct netmap_ring) + sim.slots * sizeof(struct netmap_slot) + 4095) & ~(size_t)4095;
    struct netmap_ring *r = ring_of(k);
    SET(&r->buf_ofs, int64_t, (int64_t)(sim.buffers - k->offset));
    SET(&r->num_slots, uint32_t, sim.slots);
    SET(&r->nr_buf_size, uint32_t, sim.buf);
    SET(&r->ringid, uint16_t, (uint16_t)id);
    SET(&r->dir, uint16_t, receive ? 1 : 0);
    for (uint32_t i = 0; i < sim.slots; i++)
        r->slot[i] = (struct netmap_slot){.buf_idx = take_buffer()};
    reset_ring(k, receive);
}

static struct port *find_port(const char *name)
{
    for (unsigned i = 1; i < sim.nports; i++) /* the first is the fed one */
        if (strcmp(sim.ports[i].name, name) == 0)
            return &sim.ports[i];
    return NULL;
}

static struct port *make_port(const char *name, unsigned rings)
{
    if (sim.nports == MAX_PORTS)
        return NULL;
    struct port *port = &sim.ports[sim.nports++];
    memcpy(port->name, name, strlen(name) + 1);
    port->tx_rings = port->rx_rings = rings;
    for (unsigned i = 0; i <= rings; i++)
        make_ring(&port->tx[i], i, false);
    for (unsigned i = 0; i <= rings; i++)
        make_ring(&port->rx[i], i, true);
    return port;
}

static void feed_ring(struct kring *k, const uint8_t *data, uint32_t len, bool more)
{
    struct frame *frame = malloc(sizeof *frame + len);
    if (frame == NULL)
        illegal("the stand-in itself ran out of memory");
    *frame = (struct frame){.len = len, .more = more};
    memcpy(frame->data, data, len);
    *k->feed.last = frame;
    k->feed.last = &frame->next;
}

/* The ring of a frame, as RSS would choose it: by the addresses behind the tags, alike for both directions, so that no flow is split. */
static unsigned choose_ring(const uint8_t *d, uint32_t len, unsigned rings)
{
    uint32_t at = 12, sum = 0;
    while (at + 4 <= len &&
           ((d[at] == 0x81 && d[at + 1] == 0) || (d[at] == 0x88 && d[at + 1] == 0xA8) || (d[at] == 0x91 && d[at + 1] == 0)))
        at += 4;
    bool four = at + 2 + 20 <= len && d[at] == 8 && d[at + 1] == 0, six = at + 2 + 40 <= len && d[at] == 0x86 && d[at + 1] == 0xDD;
    if (!four && !six)
        return 0;
    const uint8_t *addresses = d + at + 2 + (four ? 12 : 8);
    for (unsigned i = 0; i < (four ? 8u : 32u); i++)
        sum += addresses[i];
    return sum % rings;
}

static uint32_t word(const uint8_t *p, bool swap)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return swap ? __builtin_bswap32(v) : v;
}

static void load_capture(struct port *port)
{
    FILE *file = fopen(sim.capture, "rb");
    uint8_t header[24], record[16], *data = malloc(1 << 18);
    if (file == NULL || data == NULL || fread(header, 24, 1, file) != 1)
        illegal("cannot read the capture %s", sim.capture);
    bool swap = word(header, false) == 0xD4C3B2A1 || word(header, false) == 0x4D3CB2A1;
    if (word(header, swap) != 0xA1B2C3D4 && word(header, swap) != 0xA1B23C4D)
        illegal("%s is not a classic pcap file", sim.capture);
    while (fread(record, 16, 1, file) == 1) {
        uint32_t len = word(record + 8, swap);
        if (len > 1 << 18 || fread(data, 1, len, file) != len)
            illegal("%s ends inside a frame", sim.capture);
        feed_ring(&port->rx[choose_ring(data, len, port->rx_rings)], data, len, false);
    }
    free(data);
    fclose(file);
}

static void read_settings(char *text)
{
    for (char *pair; (pair = strsep(&text, ",\n")) != NULL;) {
        char *value = strchr(pair, '=');
        if (value == NULL)
            continue;
        *value++ = '\0';
        unsigned long number = strtoul(value, NULL, 0);
        if (strcmp(pair, "capture") == 0)
            snprintf(sim.capture, sizeof sim.capture, "%s", value);
        else if (strcmp(pair, "port") == 0)
            snprintf(sim.name, sizeof sim.name, "%s", value);
        else if (strcmp(pair, "fail") == 0)
            snprintf(sim.fail, sizeof sim.fail, "%s", value);
        else if (strcmp(pair, "rings") == 0)
            sim.rings = number >= 1 && number <= MAX_RINGS ? (unsigned)number : 1;
        else if (strcmp(pair, "slots") == 0 && !sim.ready)
            sim.slots = number >= 8 ? (unsigned)number : 8;
        else if (strcmp(pair, "buf") == 0 && !sim.ready)
            sim.buf = number >= 512 ? (unsigned)number : 512;
        else if (strcmp(pair, "seed") == 0)
            sim.random = number;
        else if (strcmp(pair, "strict") == 0)
            sim.strict = number != 0;
        else if (strcmp(pair, "traps") == 0)
            sim.traps = number != 0;
    }
}

/* The defaults, what the environment says, and what the file says if the port is named by one. Returns false if there is no such file. */
static bool settle(const char *path)
{
    char text[8192];
    sim.strict = sim.traps = true;
    sim.rings = 1, sim.random = 1;
    sim.capture[0] = sim.fail[0] = '\0';
    strcpy(sim.name, "sim0");
    const char *environment = getenv("FLOWPARITY_NETMAP_SIM");
    snprintf(text, sizeof text, "%s", environment == NULL ? "" : environment);
    read_settings(text);
    if (path == NULL)
        return true;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    read_settings(text);
    return true;
}

static void start(void)
{
    if (sim.ready)
        return;
    sim.slots = 64, sim.buf = 2048;
    settle(NULL);
    sim.ready = true;
    unsigned rings_at_most = MAX_PORTS * 2 * (MAX_RINGS + 1);
    sim.used = IF_AREA * MAX_PORTS * 8;
    sim.buffers = sim.used + rings_at_most * ((sizeof(struct netmap_ring) + sim.slots * sizeof(struct netmap_slot) + 4095) & ~(size_t)4095);
    sim.nbufs = rings_at_most * sim.slots + 4096;
    sim.size = sim.buffers + (size_t)sim.nbufs * sim.buf;
    sim.memfd = memfd_create("netmap", MFD_CLOEXEC);
    sim.free_bufs = malloc(sim.nbufs * sizeof *sim.free_bufs);
    if (sim.memfd < 0 || sim.free_bufs == NULL || ftruncate(sim.memfd, (off_t)sim.size) != 0)
        illegal("the stand-in cannot get its memory");
    sim.region = mmap(NULL, sim.size, PROT_READ | PROT_WRITE, MAP_SHARED, sim.memfd, 0);
    if (sim.region == MAP_FAILED)
        illegal("the stand-in cannot map its memory");
    for (uint32_t i = 2; i < sim.nbufs; i++) /* 0 and 1 are the module's own */
        sim.free_bufs[sim.nfree++] = i;
    make_port(sim.name, MAX_RINGS);
}

static bool failing(const char *what)
{
    return strcmp(sim.fail, what) == 0;
}

/* The port with a capture, by its name or by the path of its settings; anew if nobody has it. NULL if it is not meant, or is another one at
 * present. */
static struct port *fed_port(const char *name, bool load)
{
    struct port *port = &sim.ports[0];
    if (port->users > 0)
        return strcmp(port->name, name) == 0 ? port : NULL;
    if ((name[0] != '/' && strcmp(name, sim.name) != 0) || !settle(name[0] == '/' ? name : NULL))
        return NULL;
    memcpy(port->name, name, strlen(name) + 1);
    port->tx_rings = port->rx_rings = sim.rings;
    for (unsigned i = 0; i <= MAX_RINGS; i++) {
        reset_ring(&port->tx[i], false);
        reset_ring(&port->rx[i], true);
    }
    if (load && sim.capture[0] != '\0')
        load_capture(port);
    return port;
}

/* Both ends of a pipe come into being when one is named. */
static struct port *pipe_port(const char *name)
{
    char other[NETMAP_REQ_IFNAMSIZ];
    memcpy(other, name, strlen(name) + 1);
    char *mark = strpbrk(other, "{}");
    if (mark == NULL)
        return NULL;
    *mark = *mark == '{' ? '}' : '{';
    struct port *a = make_port(name, 1), *b = a == NULL ? NULL : make_port(other, 1);
    if (b == NULL)
        return NULL;
    a->peer = b;
    b->peer = a;
    return a;
}

static struct port *port_called(const char *name, bool load)
{
    struct port *port = fed_port(name, load);
    if (port == NULL)
        port = find_port(name);
    return port == NULL ? pipe_port(name) : port;
}

static int do_register(int fd, struct nmreq_header *header)
{
    struct nmreq_register *reg = (struct nmreq_register *)(uintptr_t)header->nr_body;
    struct descriptor *d = &sim.fds[fd];
    if (d->port != NULL)
        return EBUSY;
    struct port *port = port_called(header->nr_name, true);
    if (port == NULL)
        return ENXIO;
    if (reg->nr_mode != NR_REG_ALL_NIC && reg->nr_mode != NR_REG_ONE_NIC) {
        if (sim.strict)
            illegal("registration mode %u takes rings that belong to the host", reg->nr_mode);
        return EINVAL;
    }
    if (reg->nr_mode == NR_REG_ONE_NIC && reg->nr_ringid >= port->rx_rings)
        return EINVAL;
    bool receive = (reg->nr_flags & NR_TX_RINGS_ONLY) == 0, transmit = (reg->nr_flags & NR_RX_RINGS_ONLY) == 0;
    unsigned first = reg->nr_mode == NR_REG_ALL_NIC ? 0 : reg->nr_ringid, count = reg->nr_mode == NR_REG_ALL_NIC ? port->rx_rings : 1;
    for (unsigned i = first; i < first + count; i++)
        if ((receive && port->rx[i].owner >= 0) || (transmit && port->tx[i].owner >= 0))
            return EBUSY;
    if ((reg->nr_flags & NR_EXCLUSIVE) == 0 && sim.strict)
        illegal("a registration that is not exclusive shares head and cur with whoever opens next");
    if ((reg->nr_flags & NR_EXCLUSIVE) != 0)
        for (unsigned i = first; i < first + count; i++) {
            if (receive)
                port->rx[i].owner = fd;
            if (transmit)
                port->tx[i].owner = fd;
        }
    port->users++;
    d->port = port, d->first = first, d->count = count, d->receive = receive, d->transmit = transmit;
    size_t at = (size_t)IF_AREA * ((unsigned)fd % (MAX_PORTS * 8));
    struct netmap_if *nifp = (struct netmap_if *)(sim.region + at);
    memset(nifp, 0, IF_AREA);
    memcpy(nifp->ni_name, port->name, 15);
    SET(&nifp->ni_tx_rings, uint32_t, port->tx_rings);
    SET(&nifp->ni_rx_rings, uint32_t, port->rx_rings);
    SET(&nifp->ni_host_tx_rings, uint32_t, 1);
    SET(&nifp->ni_host_rx_rings, uint32_t, 1);
    ssize_t *offsets = (ssize_t *)(uintptr_t)nifp->ring_ofs;
    for (unsigned i = 0; i < count; i++) { /* rings that were not asked for keep offset 0 */
        if (transmit)
            offsets[first + i] = (ssize_t)(port->tx[first + i].offset - at);
        if (receive)
            offsets[port->tx_rings + 1 + first + i] = (ssize_t)(port->rx[first + i].offset - at);
    }
    reg->nr_offset = at;
    reg->nr_memsize = sim.size;
    reg->nr_tx_rings = (uint16_t)port->tx_rings, reg->nr_rx_rings = (uint16_t)port->rx_rings;
    reg->nr_host_tx_rings = reg->nr_host_rx_rings = 1;
    reg->nr_tx_slots = reg->nr_rx_slots = sim.slots;
    reg->nr_mem_id = 1;
    return 0;
}

static int do_control(int fd, struct nmreq_header *header)
{
    static const struct {
        const char *name;
        int code;
    } failures[] = {{"ENXIO", ENXIO}, {"EBUSY", EBUSY}, {"ENOMEM", ENOMEM}, {"EINVAL", EINVAL}, {"ENOTTY", ENOTTY}};
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
        if (failing(failures[i].name))
            return failures[i].code;
    if (failing("VERSION")) {
        header->nr_version = 13;
        return EINVAL;
    }
    if (header->nr_version != NETMAP_API)
        return EINVAL;
    if (header->nr_reqtype == NETMAP_REQ_REGISTER)
        return do_register(fd, header);
    if (header->nr_reqtype != NETMAP_REQ_PORT_INFO_GET)
        return EINVAL;
    struct port *port = port_called(header->nr_name, false);
    if (port == NULL)
        return ENXIO;
    *(struct nmreq_port_info_get *)(uintptr_t)header->nr_body = (struct nmreq_port_info_get){
        .nr_memsize = sim.size,
        .nr_tx_slots = sim.slots,
        .nr_rx_slots = sim.slots,
        .nr_tx_rings = (uint16_t)port->tx_rings,
        .nr_rx_rings = (uint16_t)port->rx_rings,
        .nr_host_tx_rings = 1,
        .nr_host_rx_rings = 1,
        .nr_mem_id = 1,
    };
    return 0;
}

static uint32_t between(uint32_t from, uint32_t to)
{ /* slots from `from` up to `to` */
    return (to + sim.slots - from) % sim.slots;
}

/* What the real module checks before a sync. Returns false for an illegal head or cur, after putting things right as it would. */
static bool prologue(struct kring *k)
{
    struct netmap_ring *r = ring_of(k);
    uint32_t owned = between(k->hwcur, k->hwtail);
    bool good = r->head < sim.slots && r->cur < sim.slots && between(k->hwcur, r->head) <= owned && between(k->hwcur, r->cur) <= owned &&
                between(k->hwcur, r->head) <= between(k->hwcur, r->cur);
    if (sim.strict) {
        if (!good)
            illegal("ring %u: head %u and cur %u are not between %u and tail %u", r->ringid, r->head, r->cur, k->hwcur, k->hwtail);
        if (r->tail != k->hwtail)
            illegal("ring %u: tail is the kernel's and was written (%u, was %u)", r->ringid, r->tail, k->hwtail);
        if (r->num_slots != sim.slots || r->nr_buf_size != sim.buf || r->buf_ofs != (int64_t)(sim.buffers - k->offset))
            illegal("ring %u: a constant of the ring was written", r->ringid);
    }
    if (!good) {
        if (r->head >= sim.slots || r->cur >= sim.slots || r->tail >= sim.slots)
            r->head = r->cur = k->hwcur;
        r->tail = k->hwtail;
        return false;
    }
    r->tail = k->hwtail;
    return true;
}

/* Puts the next piece of the feed into a slot. */
static void publish_piece(struct kring *k)
{
    struct netmap_ring *r = ring_of(k);
    struct frame *frame = k->feed.first;
    uint32_t left = frame->len - k->done, offset = sim.traps ? (uint32_t)roll(32) * 2 : 0, room = sim.buf - offset;
    if (k->done == 0)
        k->pieces_left = sim.slots - 2 < NETMAP_MAX_FRAGS ? sim.slots - 2 : NETMAP_MAX_FRAGS;
    k->pieces_left--;
    bool spare = (uint64_t)k->pieces_left * (sim.buf - 64) >= left; /* whatever is cut now, the rest has room */
    if (sim.traps && spare && roll(4) == 0 && left > 20)
        room = 1 + (uint32_t)roll(left < room ? left : room); /* cut where it hurts */
    uint32_t part = left < room ? left : room;
    struct netmap_slot *s = &r->slot[k->hwtail];
    uint32_t old = s->buf_idx;
    s->buf_idx = take_buffer();
    give_buffer(old);
    memcpy(buffer(s->buf_idx) + offset, frame->data + k->done, part);
    s->len = (uint16_t)part;
    s->ptr = sim.traps ? (roll(0) & ~UINT64_C(0xFF)) | offset : 0;
    s->flags = (uint16_t)((part < left || frame->more ? NS_MOREFRAG : 0) | (sim.traps ? 0x0301 : 0));
    k->done += part;
    k->hwtail = (k->hwtail + 1) % sim.slots;
    if (k->done < frame->len)
        return;
    k->done = 0;
    k->feed.first = frame->next;
    if (frame->next == NULL)
        k->feed.last = &k->feed.first;
    free(frame);
}

static bool sync_receive(struct kring *k)
{
    struct netmap_ring *r = ring_of(k);
    bool good = prologue(k);
    if (good) {
        for (; k->hwcur != r->head; k->hwcur = (k->hwcur + 1) % sim.slots) { /* released: nobody may read them any more */
            memset(buffer(r->slot[k->hwcur].buf_idx), POISON, sim.buf);
            r->slot[k->hwcur].len = 0;
        }
        k->cur = r->cur;
        uint32_t batch = sim.traps ? (uint32_t)roll(sim.slots) : sim.slots;
        if (k->stall > 0) {
            k->stall--;
            batch = 0;
        }
        while (batch-- > 0 && k->feed.first != NULL && between(k->hwcur, k->hwtail) < sim.slots - 1)
            publish_piece(k);
        if (sim.traps && k->done > 0 && k->stall == 0 && roll(4) == 0)
            k->stall = SPIN + 2;
        r->tail = k->hwtail;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t us = now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000 - (sim.traps ? LATE : 0);
    r->ts = (struct timeval){.tv_sec = us / 1000000, .tv_usec = us % 1000000};
    return good;
}

static bool sync_transmit(struct port *port, unsigned which)
{
    struct kring *k = &port->tx[which];
    struct netmap_ring *r = ring_of(k);
    if (!prologue(k))
        return false;
    for (; k->hwcur != r->head; k->hwcur = (k->hwcur + 1) % sim.slots) {
        const struct netmap_slot *s = &r->slot[k->hwcur];
        if (port->peer != NULL)
            feed_ring(&port->peer->rx[0], buffer(s->buf_idx), s->len, (s->flags & NS_MOREFRAG) != 0);
    }
    k->hwtail = (k->hwcur + sim.slots - 1) % sim.slots;
    r->tail = k->hwtail;
    return true;
}

static bool ours(int fd)
{
    return fd >= 0 && fd < MAX_FDS && sim.fds[fd].used;
}

static int open_device(void)
{
    pthread_mutex_lock(&sim.lock);
    start();
    int fd = -1;
    if (failing("ENOENT"))
        errno = ENOENT;
    else if (failing("EACCES"))
        errno = EACCES;
    else
        fd = fcntl(sim.memfd, F_DUPFD_CLOEXEC, 0);
    if (fd >= MAX_FDS)
        illegal("more descriptors than the stand-in keeps");
    if (fd >= 0)
        sim.fds[fd] = (struct descriptor){.used = true};
    pthread_mutex_unlock(&sim.lock);
    return fd;
}

#define OPEN(name, ...)                                                                                                                    \
    va_list args;                                                                                                                          \
    va_start(args, flags);                                                                                                                 \
    unsigned mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, unsigned) : 0;                                                     \
    va_end(args);                                                                                                                          \
    if (strcmp(path, "/dev/netmap") == 0)                                                                                                  \
        return open_device();                                                                                                              \
    return ((int (*)(__VA_ARGS__))real(name))

PUBLIC int open(const char *path, int flags, ...)
{
    OPEN("open", const char *, int, ...)(path, flags, mode);
}

PUBLIC int open64(const char *path, int flags, ...)
{
    OPEN("open64", const char *, int, ...)(path, flags, mode);
}

PUBLIC int openat(int directory, const char *path, int flags, ...)
{
    OPEN("openat", int, const char *, int, ...)(directory, path, flags, mode);
}

PUBLIC int openat64(int directory, const char *path, int flags, ...)
{
    OPEN("openat64", int, const char *, int, ...)(directory, path, flags, mode);
}

PUBLIC int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    void *argument = va_arg(args, void *);
    va_end(args);
    if (!ours(fd))
        return ((int (*)(int, unsigned long, ...))real("ioctl"))(fd, request, argument);
    pthread_mutex_lock(&sim.lock);
    struct descriptor *d = &sim.fds[fd];
    int code = 0;
    if (request == NIOCCTRL) {
        code = do_control(fd, argument);
    } else if (request == NIOCRXSYNC || request == NIOCTXSYNC) {
        if (d->port == NULL)
            code = ENXIO;
        else
            for (unsigned i = d->first; i < d->first + d->count; i++) { /* an illegal head does not make a sync fail: only poll tells */
                if (request == NIOCRXSYNC && d->receive)
                    sync_receive(&d->port->rx[i]);
                else if (request == NIOCTXSYNC && d->transmit)
                    sync_transmit(d->port, i);
            }
    } else {
        code = EINVAL;
    }
    pthread_mutex_unlock(&sim.lock);
    errno = code != 0 ? code : errno;
    return code != 0 ? -1 : 0;
}

/* One pass of the module's poll: level-triggered on cur != tail after a sync of all bound rings. */
static short poll_once(int fd, short events)
{
    struct descriptor *d = &sim.fds[fd];
    if (d->port == NULL)
        return POLLERR;
    short result = 0;
    for (unsigned i = d->first; i < d->first + d->count; i++) {
        if (d->receive && (events & POLLIN) != 0) {
            struct kring *k = &d->port->rx[i];
            uint32_t cur = ring_of(k)->cur, tail = k->hwtail;
            if (!sync_receive(k))
                result |= POLLERR;
            bool more = k->hwtail != tail;
            if (k->cur != k->hwtail)
                result |= POLLIN;
            k->idle_polls = !more && cur != tail && k->cur == cur ? k->idle_polls + 1 : 0;
            if (sim.strict && k->idle_polls > SPIN)
                illegal("ring %u: %d polls in a row returned at once with nothing new: cur must say what was seen", i, SPIN);
        }
        if (d->transmit && (events & POLLOUT) != 0) {
            if (!sync_transmit(d->port, i))
                result |= POLLERR;
            if (ring_of(&d->port->tx[i])->cur != d->port->tx[i].hwtail)
                result |= POLLOUT;
        }
    }
    return result;
}

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

PUBLIC int poll(struct pollfd *set, nfds_t count, int timeout)
{
    int (*next)(struct pollfd *, nfds_t, int) = (int (*)(struct pollfd *, nfds_t, int))real("poll");
    bool any = false;
    for (nfds_t i = 0; i < count; i++)
        any |= ours(set[i].fd);
    if (!any)
        return next(set, count, timeout);
    int64_t end = monotonic_ms() + timeout;
    for (;;) {
        int ready = 0;
        for (nfds_t i = 0; i < count; i++) {
            if (ours(set[i].fd)) {
                pthread_mutex_lock(&sim.lock);
                set[i].revents = poll_once(set[i].fd, set[i].events);
                pthread_mutex_unlock(&sim.lock);
            } else {
                struct pollfd one = set[i];
                next(&one, 1, 0);
                set[i].revents = one.revents;
            }
            ready += set[i].revents != 0;
        }
        if (ready > 0 || (timeout >= 0 && monotonic_ms() >= end))
            return ready;
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
}

PUBLIC int __poll_chk(struct pollfd *set, nfds_t count, int timeout, size_t size)
{
    if (size / sizeof *set < count)
        abort();
    return poll(set, count, timeout);
}

PUBLIC int ppoll(struct pollfd *set, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    for (nfds_t i = 0; i < count; i++)
        if (ours(set[i].fd))
            return poll(set, count, timeout == NULL ? -1 : (int)(timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000));
    return ((int (*)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))real("ppoll"))(set, count, timeout, mask);
}

PUBLIC int close(int fd)
{
    if (ours(fd)) {
        pthread_mutex_lock(&sim.lock);
        struct descriptor *d = &sim.fds[fd];
        if (d->port != NULL) {
            d->port->users--;
            for (unsigned i = 0; i <= MAX_RINGS; i++) {
                if (d->port->rx[i].owner == fd)
                    d->port->rx[i].owner = -1;
                if (d->port->tx[i].owner == fd)
                    d->port->tx[i].owner = -1;
            }
        }
        *d = (struct descriptor){0};
        pthread_mutex_unlock(&sim.lock);
    }
    return ((int (*)(int))real("close"))(fd);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * netmap: frames straight from the rings that the netmap kernel module shares with user space (netmap(4), API 14). Hardware rings, VALE
 * ports and pipes.
 *
 * What the framework is, and what follows:
 *  - `tail` moves only inside a system call of the ring's owner, so between two of them the slots [scan, tail) are ours without any
 * synchronisation.
 *  - Buffers are swapped between slots: addresses are computed anew for every slot, with the ring's offset_mask.
 *  - A frame may span slots (NS_MOREFRAG); it is delivered when its last slot has come. The other flag bits (a fragment count of VALE among
 * them) mean nothing here.
 *  - ring->ts is the time of the last system call that synchronised the whole ring, not a packet's: it is given as FP_TS_SYNC with a
 * declared tolerance.
 *  - There is no drop counter at all: `dropped` stays unknown.
 *  - Host rings are left alone; registration is exclusive, because a second opener would share head and cur with us.
 *  - An illegal head makes NIOCRXSYNC succeed and leave bogus slots behind, but makes poll say POLLERR: so every slot is checked before it
 * is believed.
 */
#include "flowparity/backend.h"
#include "flowparity/netmap_abi.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S         INT64_C(1000000000)
#define SYNC_TOLERANCE   NS_PER_S /* a ring that is read at least every 50 ms was seen 0.5 s late on an emulated machine */
#define DEVICE           "/dev/netmap"
#define SLOT_LEN_CEILING 65535u

/* Seeded misbehaviours (tests only): each is one wrong expression, compiled in by -DFP_NETMAP_FAULT=n, which stand-in or suite must catch.
 */
#ifndef FP_NETMAP_FAULT
#define FP_NETMAP_FAULT 0
#endif
#define FAULT(n, good, bad) (FP_NETMAP_FAULT == (n) ? (bad) : (good))

struct ring;

struct lent { /* one for each slot */
    struct fp_segment segment;
    struct ring *ring;
};

struct ring {
    struct netmap_ring *nr;
    struct lent *slots;
    uint32_t scan; /* the next slot to look at */
    uint32_t lent; /* frames that the core has, all in [head, scan) */
};

struct port { /* one file descriptor: all rings, or the one of a worker */
    int fd;
    void *memory;
    size_t size;
    struct netmap_if *nifp;
    struct ring *rings;
    unsigned nrings, turn;
    uint64_t received, errors;
    bool finished;
};

struct fp_source {
    const struct fp_host *host;
    unsigned nports;
    bool busy;
    bool stopping;
    struct port ports[FP_MAX_QUEUES];
};

static int64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static uint32_t after(const struct netmap_ring *nr, uint32_t slot)
{
    return slot + 1 == FAULT(13, nr->num_slots, nr->num_slots + 1) ? 0 : slot + 1; /* 13: wraps one slot too late */
}

static const char *name_of(const char *input)
{
    return strncmp(input, "netmap:", 7) == 0 ? input + 7 : input;
}

static int open_device(const struct fp_host *host, char *err)
{
    int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    if (errno == EACCES || errno == EPERM)
        return host->fail(err, -EACCES, "netmap: no permission on " DEVICE "; run as root, or give this user read and write access to it");
    return host->fail(err, -ENODEV,
                      "netmap: no " DEVICE " (%s); build the netmap kernel module (docs/netmap.md) and load it with `modprobe netmap`",
                      strerror(errno));
}

static int control(const struct fp_host *host, int fd, const char *port, uint16_t type, void *body, char *err)
{
    struct nmreq_header header = {.nr_version = NETMAP_API, .nr_reqtype = type, .nr_body = (uintptr_t)body};
    if (strlen(port) >= sizeof header.nr_name)
        return host->fail(err, -EINVAL, "netmap: the port name '%s' is longer than %zu octets", port, sizeof header.nr_name - 1);
    memcpy(header.nr_name, port, strlen(port) + 1);
    if (ioctl(fd, NIOCCTRL, &header) == 0)
        return 0;
    int code = errno;
    if (header.nr_version != NETMAP_API)
        return host->fail(err, -EPROTO,
                          "netmap: the loaded module speaks API %u and this build speaks %u: load the module that matches net/netmap.h",
                          header.nr_version, NETMAP_API);
    switch (code) {
    case ENXIO:
    case ENODEV:
        return host->fail(err, -ENODEV,
                          "netmap: no port '%s': name an interface that `ip link` shows and that is up, 'valeX:Y', or a pipe 'NAME{N'",
                          port);
    case EBUSY:
        return host->fail(err, -EBUSY, "netmap: port '%s' is in use by another program: close that one first", port);
    case ENOMEM:
        return host->fail(
            err, -ENOMEM,
            "netmap: out of netmap memory for '%s': raise /sys/module/netmap/parameters/{ring,buf}_num or ask for fewer workers", port);
    case ENOTTY:
        return host->fail(err, -EPROTO, "netmap: the loaded module is too old: it has no NIOCCTRL (API %u): update it", NETMAP_API);
    case EINVAL: /* a module older than API 14 answers so to any NIOCCTRL; so does a newer one to an impossible ring */
        return host->fail(err, -EINVAL,
                          "netmap: port '%s' was refused (EINVAL): the module is older than API %u, or the port has no such ring", port,
                          NETMAP_API);
    default:
        return host->fail(err, -code, "netmap: port '%s': %s", port, strerror(code));
    }
}

static void close_port(struct port *port)
{
    for (unsigned i = 0; i < port->nrings; i++)
        free(port->rings[i].slots);
    free(port->rings);
    if (port->memory != NULL)
        munmap(port->memory, port->size);
    if (port->fd >= 0)
        close(port->fd);
    *port = (struct port){.fd = -1};
}

/* Registers one descriptor: all NIC rings (which < 0) or one of them, receive or transmit side. */
static int open_port(const struct fp_host *host, struct port *port, const char *name, int which, bool transmit, char *err)
{
    struct nmreq_register reg = {
        .nr_mode = which < 0 ? NR_REG_ALL_NIC : NR_REG_ONE_NIC,
        .nr_ringid = which < 0 ? 0 : (uint16_t)which,
        .nr_flags = FAULT(9, NR_EXCLUSIVE, 0) | (transmit ? NR_TX_RINGS_ONLY : NR_RX_RINGS_ONLY),
    };
    *port = (struct port){.fd = open_device(host, err)};
    int status = port->fd;
    if (status < 0)
        return status;
    status = control(host, port->fd, name, NETMAP_REQ_REGISTER, &reg, err);
    if (status < 0)
        goto out;
    port->size = reg.nr_memsize;
    port->memory = mmap(NULL, port->size, PROT_READ | PROT_WRITE, MAP_SHARED, port->fd, 0);
    if (port->memory == MAP_FAILED) {
        port->memory = NULL;
        status = host->fail(err, -errno, "netmap: cannot map %zu octets of '%s': %s", port->size, name, strerror(errno));
        goto out;
    }
    port->nifp = (struct netmap_if *)((char *)port->memory + reg.nr_offset);
    /* ring_ofs: NIC tx, host tx, NIC rx, host rx. Rings that were not registered have offset 0. */
    unsigned base = transmit ? 0 : port->nifp->ni_tx_rings + FAULT(10, port->nifp->ni_host_tx_rings, 0u); /* 10: forgets the host rings */
    unsigned rings = transmit ? port->nifp->ni_tx_rings : port->nifp->ni_rx_rings;
    port->nrings = which < 0 ? rings : 1;
    port->rings = calloc(port->nrings, sizeof *port->rings);
    if (port->nrings == 0 || port->rings == NULL) {
        status = host->fail(err, -ENOMEM, "netmap: '%s' gave no rings", name);
        port->nrings = 0;
        goto out;
    }
    for (unsigned i = 0; i < port->nrings; i++) {
        struct ring *ring = &port->rings[i];
        ssize_t offset = port->nifp->ring_ofs[base + (which < 0 ? i : (unsigned)which)];
        ring->nr = (struct netmap_ring *)((char *)port->nifp + offset);
        if (offset == 0) {
            status = host->fail(err, -EIO, "netmap: ring %u of '%s' was not given", i, name);
            goto out;
        }
        ring->slots = calloc(ring->nr->num_slots, sizeof *ring->slots);
        if (ring->slots == NULL) {
            status = host->fail(err, -ENOMEM, "netmap: out of memory");
            goto out;
        }
        for (uint32_t slot = 0; slot < ring->nr->num_slots; slot++)
            ring->slots[slot].ring = ring;
        ring->scan = ring->nr->head;
        ring->nr->flags |= NR_TIMESTAMP;
    }
    return 0;
out:
    close_port(port);
    return status;
}

static int ring_count(const struct fp_host *host, const char *name, bool transmit, char *err)
{
    int fd = open_device(host, err);
    if (fd < 0)
        return fd;
    struct nmreq_port_info_get info = {0};
    int status = control(host, fd, name, NETMAP_REQ_PORT_INFO_GET, &info, err);
    close(fd);
    return status < 0 ? status : transmit ? info.nr_tx_rings : info.nr_rx_rings;
}

static int netmap_probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    int fd = open_device(host, err);
    if (fd < 0)
        return fd;
    close(fd);
    *caps = (struct fp_caps){
        .size = sizeof *caps,
        .flags = FP_CAP_LIVE | FP_CAP_HOLDS_BURSTS | FAULT(12, 0u, FP_CAP_EXACT_TIME),   /* 12: takes the ring's time for the packets' */
        .tier = dlsym(RTLD_DEFAULT, "fp_netmap_sim") != NULL ? FP_TIER_SIM : FP_TIER_HW, /* only the stand-in has that symbol */
        .ts_source = FP_TS_SYNC,
        .queues = FP_MAX_QUEUES,
        .max_frame = SLOT_LEN_CEILING,
        .ts_resolution = 1000,
        .ts_tolerance = FAULT(12, SYNC_TOLERANCE, INT64_C(0)),
        .visibility = 0,
    };
    return 0;
}

static int parse_options(const struct fp_host *host, const struct fp_open_args *args, bool *busy, char *err)
{
    for (uint32_t i = 0; i < args->noptions; i++)
        if (strcmp(args->options[i].key, "mode") != 0)
            return host->fail(err, -EINVAL, "netmap: unknown option '%s'; known: mode=poll|busy", args->options[i].key);
    const char *mode = host->option(args, "mode");
    if (mode != NULL && strcmp(mode, "poll") != 0 && strcmp(mode, "busy") != 0)
        return host->fail(err, -EINVAL, "netmap: mode '%s' is neither poll nor busy", mode);
    *busy = (args->flags & FP_OPEN_BUSY_POLL) != 0 || (mode != NULL && strcmp(mode, "busy") == 0);
    const char *name = name_of(args->input);
    if (name[0] == '\0' || strpbrk(name, "^*") != NULL)
        return host->fail(err, -EINVAL,
                          "netmap: '%s' is not a port: name an interface, 'valeX:Y' or a pipe; host rings (^ and *) are left to the kernel",
                          args->input);
    return 0;
}

static int netmap_open(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    bool busy = false;
    int status = parse_options(host, args, &busy, err);
    if (status < 0)
        return status;
    if (args->filter != NULL)
        return host->fail(err, -ENOTSUP, "netmap: the framework has no filter: leave --filter out");
    const char *name = name_of(args->input);
    int rings = ring_count(host, name, false, err);
    if (rings < 0)
        return rings;
    if (args->queues > 1 && args->queues != rings)
        return host->fail(err, args->queues > rings ? -E2BIG : -EINVAL,
                          "netmap: '%s' has %d receive ring%s and every ring needs its worker: ask for 1 or %d workers, or set the rings "
                          "with `ethtool -L`",
                          name, rings, rings == 1 ? "" : "s", rings);
    struct fp_source *source = calloc(1, sizeof *source);
    if (source == NULL)
        return host->fail(err, -ENOMEM, "netmap: out of memory");
    source->host = host;
    source->busy = busy;
    for (unsigned q = 0; q < args->queues; q++) {
        status = open_port(host, &source->ports[q], name, args->queues == 1 ? -1 : (int)q, false, err);
        if (status < 0)
            goto out;
        source->nports++;
    }
    status = netmap_probe(host, caps, err);
    if (status < 0)
        goto out;
    caps->queues = args->queues;
    *out = source;
    return 0;
out:
    while (source->nports > 0)
        close_port(&source->ports[--source->nports]);
    free(source);
    return status;
}

/* The octets of a slot, or NULL if the slot cannot be believed. */
static const uint8_t *slot_data(const struct netmap_ring *nr, uint32_t slot)
{
    const struct netmap_slot *s = &nr->slot[slot];
    uint64_t offset = FAULT(5, s->ptr & nr->offset_mask, UINT64_C(0));
    if (s->len == 0 || offset + s->len > nr->nr_buf_size)
        return NULL;
    uint32_t index = FAULT(11, s->buf_idx, slot + 2); /* 11: believes that buffers stay at their slots */
    return (const uint8_t *)nr + nr->buf_ofs + (size_t)index * nr->nr_buf_size + offset;
}

/* Takes the frame that starts at ring->scan. Returns 1, 0 if its last slot has not come yet, or -1 if it was passed over as damaged. */
static int take_frame(struct port *port, struct ring *ring, uint32_t tail, struct fp_packet *packet)
{
    struct netmap_ring *nr = ring->nr;
    uint32_t first = ring->scan, slot = first, last = first, length = 0, pieces = 0;
    bool damaged = false, more = true;
    while (more) {
        if (slot == tail) {
            if (FAULT(14, false, pieces > 0)) /* 14: delivers what there is of it */
                break;
            bool endless = nr->head == first && after(nr, tail) == nr->head; /* a whole ring, and still no end */
            if (!endless)
                return 0;
            port->errors++;
            ring->scan = tail;
            return -1;
        }
        const struct netmap_slot *s = &nr->slot[slot];
        ring->slots[slot].segment = (struct fp_segment){.data = slot_data(nr, slot), .len = s->len};
        damaged |= ring->slots[slot].segment.data == NULL;
        if (pieces++ > 0)
            ring->slots[last].segment.next = &ring->slots[slot].segment;
        length += s->len;
        more = FAULT(3, FAULT(4, (s->flags & NS_MOREFRAG) != 0, s->flags == NS_MOREFRAG), false);
        last = slot;
        slot = after(nr, slot);
    }
    ring->scan = slot;
    if (damaged || pieces > NETMAP_MAX_FRAGS) {
        port->errors++;
        return -1;
    }
    const struct fp_segment *head = &ring->slots[first].segment;
    int64_t stamp = nr->ts.tv_sec * NS_PER_S + nr->ts.tv_usec * INT64_C(1000);
    *packet = (struct fp_packet){
        .data = head->data,
        .len = head->len,
        .caplen = length,
        .wirelen = length,
        .link = FP_LINK_ETHERNET,
        .ts_source = FP_TS_SYNC,
        .ts_ns = stamp == 0 ? FP_NS_NONE : stamp,
        .queue = nr->ringid,
        .seq = FP_SEQ_NONE,
        .next = head->next,
        .handle = &ring->slots[last],
    };
    ring->lent++;
    return 1;
}

static unsigned scan_rings(struct port *port, struct fp_packet *packets, unsigned max)
{
    unsigned count = 0, rings = FAULT(15, port->nrings, 1u); /* 15: looks at the first ring only */
    for (unsigned i = 0; i < rings && count < max; i++) {
        struct ring *ring = &port->rings[(port->turn + i) % rings];
        uint32_t tail = FAULT(1, ring->nr->tail, after(ring->nr, ring->nr->tail)); /* 1: reads past tail */
        while (count < max && ring->scan != tail) {
            int taken = take_frame(port, ring, tail, &packets[count]);
            if (taken == 0)
                break;
            if (taken > 0)
                count++;
        }
    }
    port->turn = (port->turn + 1) % rings;
    port->received += count;
    return count;
}

/* Before a system call: what is lent to the core stays behind head; cur says that everything up to tail was seen, the slots of an
 * unfinished frame too, so that poll sleeps until there is more. */
static void publish(struct port *port)
{
    for (unsigned i = 0; i < port->nrings; i++) {
        struct ring *ring = &port->rings[i];
        struct netmap_ring *nr = ring->nr;
        if (ring->lent == FAULT(2, 0u, ring->lent))
            nr->head = ring->scan;
        nr->cur = FAULT(6, nr->tail, nr->head); /* 6: poll returns at once, for ever */
        if (FAULT(7, false, true))
            nr->tail = nr->head; /* 7: writes what is the kernel's */
        if (FAULT(8, false, true))
            nr->head = nr->cur = nr->num_slots; /* 8: illegal */
    }
}

static int synchronise(const struct fp_source *source, struct port *port, int wait_ms, char *err)
{
    publish(port);
    if (source->busy || wait_ms == 0)
        return ioctl(port->fd, NIOCRXSYNC, NULL) == 0 ? 0
                                                      : source->host->fail(err, -errno, "netmap: the port went away (%s)", strerror(errno));
    struct pollfd wanted = {.fd = port->fd, .events = POLLIN};
    int ready = poll(&wanted, 1, wait_ms);
    if (ready < 0 && errno != EINTR)
        return source->host->fail(err, -errno, "netmap: poll: %s", strerror(errno));
    if (ready > 0 && (wanted.revents & (POLLERR | POLLNVAL)) != 0)
        return source->host->fail(err, -EIO, "netmap: the port was reset or its interface went away: check `ip link` and start again");
    return 0;
}

static int netmap_recv(struct fp_source *source, unsigned queue, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns,
                       char *err)
{
    struct port *port = &source->ports[queue];
    unsigned count = scan_rings(port, packets, max);
    if (count > 0)
        return (int)count;
    if (port->finished)
        return FP_END;
    bool last = __atomic_load_n(&source->stopping, __ATOMIC_ACQUIRE);
    int status = synchronise(source, port, last ? 0 : wait_ms, err);
    if (status < 0)
        return status;
    int64_t now = wall_ns();
    count = scan_rings(port, packets, max);
    if (FAULT(2, false, count > 0)) /* 2: gives back what the core still reads */
        synchronise(source, port, 0, err);
    if (count > 0)
        return (int)count;
    if (last) {
        port->finished = true;
        return FP_END;
    }
    *now_ns = now;
    return 0;
}

static void netmap_release(struct fp_source *source, unsigned queue, struct fp_packet *packets, unsigned count)
{
    (void)source;
    (void)queue;
    /* Bursts come back in order, so each frame given back moves the head of its ring past its last slot (and past damaged frames before
     * it). */
    for (unsigned i = 0; i < count; i++) {
        struct lent *last = packets[i].handle;
        struct ring *ring = last->ring;
        ring->nr->head = after(ring->nr, (uint32_t)(last - ring->slots));
        ring->nr->cur = ring->nr->head;
        ring->lent--;
    }
}

static int netmap_stop(struct fp_source *source, char *err)
{
    (void)err;
    __atomic_store_n(&source->stopping, true, __ATOMIC_RELEASE);
    return 0;
}

static int netmap_stats(struct fp_source *source, struct fp_stats *stats)
{
    *stats = (struct fp_stats){.dropped = UINT64_MAX};
    for (unsigned q = 0; q < source->nports; q++) {
        stats->received += source->ports[q].received;
        stats->errors += source->ports[q].errors;
    }
    return 0;
}

static void netmap_close(struct fp_source *source)
{
    for (unsigned q = 0; q < source->nports; q++)
        close_port(&source->ports[q]);
    free(source);
}

/* Transmit side: for pipes, VALE ports and wires in a lab. */

struct fp_injector {
    const struct fp_host *host;
    unsigned nports;
    uint64_t sent;
    struct port ports[FP_MAX_QUEUES];
};

static int transmit_probe(const struct fp_host *host, struct fp_injector_caps *caps, char *err)
{
    int fd = open_device(host, err);
    if (fd < 0)
        return fd;
    close(fd);
    *caps = (struct fp_injector_caps){.size = sizeof *caps, .queues = FP_MAX_QUEUES, .max_frame = SLOT_LEN_CEILING};
    return 0;
}

static int transmit_open(const struct fp_host *host, const struct fp_open_args *args, struct fp_injector **out,
                         struct fp_injector_caps *caps, char *err)
{
    bool busy = false;
    int status = parse_options(host, args, &busy, err);
    if (status < 0)
        return status;
    const char *name = name_of(args->input);
    int rings = ring_count(host, name, true, err);
    if (rings < 0)
        return rings;
    if (args->queues > rings)
        return host->fail(err, -E2BIG, "netmap: '%s' has %d transmit rings, not %u: ask for fewer queues", name, rings, args->queues);
    struct fp_injector *injector = calloc(1, sizeof *injector);
    if (injector == NULL)
        return host->fail(err, -ENOMEM, "netmap: out of memory");
    injector->host = host;
    for (unsigned q = 0; q < args->queues; q++) {
        status = open_port(host, &injector->ports[q], name, args->queues == 1 && rings == 1 ? -1 : (int)q, true, err);
        if (status < 0)
            goto out;
        injector->nports++;
    }
    status = transmit_probe(host, caps, err);
    if (status < 0)
        goto out;
    caps->queues = args->queues;
    *out = injector;
    return 0;
out:
    while (injector->nports > 0)
        close_port(&injector->ports[--injector->nports]);
    free(injector);
    return status;
}

static uint32_t free_slots(const struct netmap_ring *nr)
{
    return (nr->tail + nr->num_slots - nr->head) % nr->num_slots;
}

static int push(struct fp_injector *injector, struct port *port, char *err)
{
    return ioctl(port->fd, NIOCTXSYNC, NULL) == 0 ? 0
                                                  : injector->host->fail(err, -errno, "netmap: the port went away (%s)", strerror(errno));
}

/* Copies one frame into as many slots as it takes; false if they are not free. */
static bool put_frame(struct netmap_ring *nr, const struct fp_packet *packet)
{
    uint32_t room = nr->nr_buf_size, pieces = (packet->caplen + room - 1) / room, slot = nr->head;
    if (pieces > free_slots(nr))
        return false;
    struct fp_segment piece = {.data = packet->data, .len = packet->len, .next = packet->next};
    for (uint32_t left = packet->caplen; left > 0;) {
        struct netmap_slot *s = &nr->slot[slot];
        uint8_t *buffer = (uint8_t *)nr + nr->buf_ofs + (size_t)s->buf_idx * nr->nr_buf_size;
        uint32_t filled = 0;
        while (filled < room && left > 0) {
            while (piece.len == 0)
                piece = *piece.next;
            uint32_t part = piece.len < room - filled ? piece.len : room - filled;
            memcpy(buffer + filled, piece.data, part);
            piece.data += part;
            piece.len -= part;
            filled += part;
            left -= part;
        }
        s->len = (uint16_t)filled;
        s->flags = left > 0 ? NS_MOREFRAG : 0;
        s->ptr &= ~nr->offset_mask;
        slot = after(nr, slot);
    }
    nr->head = nr->cur = slot;
    return true;
}

static int transmit_send(struct fp_injector *injector, unsigned queue, const struct fp_packet *packets, const int64_t *due_ns,
                         unsigned count, char *err)
{
    (void)due_ns; /* pacing is the caller's: a frame offered is sent */
    struct port *port = &injector->ports[queue];
    struct netmap_ring *nr = port->rings[0].nr;
    unsigned done = 0;
    if (packets[0].caplen > NETMAP_MAX_FRAGS * nr->nr_buf_size || packets[0].caplen == 0)
        return injector->host->fail(err, -EMSGSIZE, "netmap: a frame of %u octets cannot be sent", packets[0].caplen);
    while (done < count && packets[done].caplen > 0 && packets[done].caplen <= NETMAP_MAX_FRAGS * nr->nr_buf_size &&
           put_frame(nr, &packets[done]))
        done++;
    int status = push(injector, port, err);
    injector->sent += done;
    return status < 0 ? status : (int)done;
}

static int transmit_drain(struct fp_injector *injector, int wait_ms, char *err)
{
    int64_t end = wall_ns() + wait_ms * INT64_C(1000000);
    int inside = 0;
    do {
        inside = 0;
        for (unsigned q = 0; q < injector->nports; q++) {
            struct netmap_ring *nr = injector->ports[q].rings[0].nr;
            int status = push(injector, &injector->ports[q], err);
            if (status < 0)
                return status;
            inside += (int)(nr->num_slots - 1 - free_slots(nr));
        }
    } while (inside > 0 && wall_ns() < end);
    return inside;
}

static int transmit_stats(struct fp_injector *injector, struct fp_stats *stats)
{
    *stats = (struct fp_stats){.received = injector->sent, .dropped = UINT64_MAX};
    return 0;
}

static void transmit_close(struct fp_injector *injector)
{
    for (unsigned q = 0; q < injector->nports; q++)
        close_port(&injector->ports[q]);
    free(injector);
}

static const struct fp_backend_ops netmap_backend = {
    .abi = FP_ABI,
    .size = sizeof(struct fp_backend_ops),
    .name = "netmap",
    .summary = "netmap rings of a NIC, a VALE port or a pipe",
    .probe = netmap_probe,
    .open = netmap_open,
    .recv = netmap_recv,
    .release = netmap_release,
    .stop = netmap_stop,
    .stats = netmap_stats,
    .close = netmap_close,
};

static const struct fp_injector_ops netmap_injector = {
    .abi = FP_ABI,
    .size = sizeof(struct fp_injector_ops),
    .name = "netmap",
    .summary = "transmit rings of a netmap port",
    .probe = transmit_probe,
    .open = transmit_open,
    .send = transmit_send,
    .drain = transmit_drain,
    .stats = transmit_stats,
    .close = transmit_close,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .backend = &netmap_backend, .injector = &netmap_injector};

/* SPDX-License-Identifier: Apache-2.0
 *
 * A netmap port: the device, its registration and its rings in memory, for either direction. A part of netmap.c, which alone includes it.
 */
#ifndef FLOWPARITY_NETMAP_PORT_H
#define FLOWPARITY_NETMAP_PORT_H

#include "flowparity/backend.h"
#include "flowparity/netmap_abi.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S         INT64_C(1000000000)
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
        return host->fail(err, -EPERM, "netmap: no permission on " DEVICE "; run as root, or give this user read and write access to it");
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
            err, -EBUSY,
            "netmap: out of netmap memory for '%s': raise /sys/module/netmap/parameters/{ring,buf}_num or ask for fewer workers", port);
    case ENOTTY:
        return host->fail(err, -EPROTO, "netmap: the loaded module is too old: it has no NIOCCTRL (API %u): update it", NETMAP_API);
    case EINVAL: /* a module older than API 14 answers so to any NIOCCTRL, the first one already */
        if (type == NETMAP_REQ_PORT_INFO_GET)
            return host->fail(err, -EPROTO,
                              "netmap: port '%s' was refused (EINVAL): the loaded module is older than API %u (update it), or this is no "
                              "name of a port",
                              port, NETMAP_API);
        return host->fail(err, -EINVAL, "netmap: port '%s' has no such ring (EINVAL): ask for fewer workers", port);
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

#endif

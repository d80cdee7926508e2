/* SPDX-License-Identifier: Apache-2.0
 *
 * Transmit side: for pipes, VALE ports and wires in a lab. A part of netmap.c, which alone includes it.
 */
#ifndef FLOWPARITY_NETMAP_TRANSMIT_H
#define FLOWPARITY_NETMAP_TRANSMIT_H

#include "port.h"

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

#endif

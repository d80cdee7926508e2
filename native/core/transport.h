/* SPDX-License-Identifier: Apache-2.0
 *
 * The way out: messages in, fates out. A transport never waits for the collector unless it was told to, and then not for long once the run
 * was asked to end.
 */
#ifndef FP_TRANSPORT_H
#define FP_TRANSPORT_H

#include "flowparity/core.h"
#include "meter.h"

struct fp_message {
    const uint8_t *data;
    uint32_t length;
    uint32_t flows;
    uint64_t packets;
};

struct fp_transport;

/* Datagrams and what they carry. */
struct fp_tally {
    uint64_t datagrams, octets, flows, packets;
};

static inline void fp_tally_add(struct fp_tally *t, const struct fp_message *messages, unsigned count)
{
    t->datagrams += count;
    for (unsigned i = 0; i < count; i++) {
        t->octets += messages[i].length;
        t->flows += messages[i].flows;
        t->packets += messages[i].packets;
    }
}

static inline void fp_tally_move(struct fp_tally *to, struct fp_tally *from)
{
    to->datagrams += from->datagrams;
    to->octets += from->octets;
    to->flows += from->flows;
    to->packets += from->packets;
    *from = (struct fp_tally){0};
}

struct fp_transport_ops {
    /* Offers all messages and adds to `sent` and `refused` what has become of these and of those before. The refusal of what left may
     * come back later, so the fate of the last ones is only known at the next call. With no messages it waits no longer for such news:
     * every fate is then known. */
    void (*send)(struct fp_transport *, const struct fp_message *, unsigned count);
    void (*close)(struct fp_transport *);
};

struct fp_transport {
    const struct fp_transport_ops *ops;
    uint16_t overhead;             /* octets that it puts around a message: IP and UDP headers */
    struct fp_own own;             /* the 5-tuple of its datagrams; kind FP_NON_IP = none */
    struct fp_tally sent, refused; /* the stream takes them and sets them to 0 */
};

/* A connected UDP socket. `block`: wait for room in the socket; `pace`: datagrams a second at most, 0 = unlimited. `asked` (atomic, NULL =
 * never) becomes true when the run is asked to end: both then hold for a few seconds more, and what would have to wait after them is
 * refused. -EINVAL: not a numeric address. */
int fp_udp_open(const char *host, uint16_t port, bool block, uint32_t pace, const bool *asked, struct fp_transport **, char *err);

/* Keeps every message. */
int fp_memory_open(struct fp_transport **, char *err);
const uint8_t *fp_memory_message(const struct fp_transport *, size_t index, size_t *length);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The way out: messages in, fates out. A transport never waits for the collector unless it was told to.
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
    bool sent; /* the fate */
};

struct fp_transport;

/* What had seemed sent until the collector's refusal of it came back. */
struct fp_refused {
    uint32_t datagrams, flows;
    uint64_t packets, octets;
};

struct fp_transport_ops {
    /* Offers all messages and sets their fates; adds to `refused` what is now known of those before. With no messages it only looks for
     * such news. */
    void (*send)(struct fp_transport *, struct fp_message *, unsigned count);
    void (*close)(struct fp_transport *);
};

struct fp_transport {
    const struct fp_transport_ops *ops;
    uint16_t overhead;         /* octets that it puts around a message: IP and UDP headers */
    struct fp_own own;         /* the 5-tuple of its datagrams; kind FP_NON_IP = none */
    struct fp_refused refused; /* the stream takes it and sets it to 0 */
};

/* A connected UDP socket. `block`: wait for room in the socket; `pace`: datagrams a second at most, 0 = unlimited. */
int fp_udp_open(const char *host, uint16_t port, bool block, uint32_t pace, struct fp_transport **, char *err);

/* Keeps every message. */
int fp_memory_open(struct fp_transport **, char *err);
const uint8_t *fp_memory_message(const struct fp_transport *, size_t index, size_t *length);

#endif

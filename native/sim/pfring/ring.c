/* SPDX-License-Identifier: Apache-2.0
 *
 * The ordinary interface: pfring_open, pfring_recv and their like.
 */
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHORT_HEADER 24 /* octets that are filled without PFRING_LONG_HEADER */
#define ANY          (-1)
#define WATERMARK    128 /* as the module has it */

struct pfring_ring {
    unsigned index;
    bool enabled;
    int direction;
    uint32_t caplen, flags;
    uint64_t received, dropped;
    struct sim_frame *echo; /* to be given once more, as if it had been sent */
    bool broken;
    uint16_t watermark;        /* packets below which poll sleeps on */
    uint8_t last[SIM_LONGEST]; /* a frame that is lent; poisoned at the next receive */
};

SIM_PUBLIC pfring_ring *pfring_open(const char *name, uint32_t caplen, uint32_t flags)
{
    pthread_mutex_lock(&sim.lock);
    sim_start();
    int index = sim_claim(name, false);
    pthread_mutex_unlock(&sim.lock);
    if (index < 0)
        return NULL;
    pfring_ring *ring = calloc(1, sizeof *ring);
    ring->index = (unsigned)index;
    ring->caplen = caplen > PFRING_LONGEST ? PFRING_LONGEST : caplen;
    ring->flags = flags;
    ring->direction = ANY;
    ring->watermark = WATERMARK;
    return ring;
}

SIM_PUBLIC void pfring_close(pfring_ring *ring)
{
    pthread_mutex_lock(&sim.lock);
    sim_disclaim(ring->index);
    pthread_mutex_unlock(&sim.lock);
    free(ring->echo);
    free(ring);
}

SIM_PUBLIC int pfring_enable_ring(pfring_ring *ring)
{
    ring->enabled = true;
    return 0;
}

SIM_PUBLIC int pfring_set_direction(pfring_ring *ring, int direction)
{
    if (ring->enabled && sim.strict)
        illegal("the direction must be set before enable_ring");
    ring->direction = direction;
    return 0;
}

SIM_PUBLIC int pfring_set_poll_watermark(pfring_ring *ring, uint16_t packets)
{
    ring->watermark = packets == 0 ? 1 : packets;
    return 0;
}

SIM_PUBLIC int pfring_set_bpf_filter(pfring_ring *ring, const char *filter)
{
    (void)ring, (void)filter;
    return -1;
}

/* The next frame of the ring, with whether it is one of this machine's own. */
static struct sim_frame *next(pfring_ring *ring, bool *sent)
{
    struct sim_frame *frame = ring->echo;
    *sent = frame != NULL;
    if (frame != NULL) {
        ring->echo = NULL;
        return frame;
    }
    if (sim_expired())
        return NULL;
    frame = sim_next(ring->index, &ring->dropped);
    if (frame != NULL && sim.traps && ring->direction != PFRING_RX_ONLY_DIRECTION) {
        ring->echo = malloc(sizeof *frame + frame->len);
        memcpy(ring->echo, frame, sizeof *frame + frame->len);
    }
    return frame;
}

static void give(pfring_ring *ring, const struct sim_frame *frame, bool sent, uint8_t **buffer, unsigned len, struct pfring_header *header)
{
    uint32_t caplen = frame->len < ring->caplen ? frame->len : ring->caplen;
    memset(ring->last, SIM_POISON, sizeof ring->last);
    memcpy(ring->last, frame->data, caplen);
    if (len == 0)
        *buffer = ring->last;
    else
        memcpy(*buffer, ring->last, caplen < len ? caplen : len);
    struct pfring_header filled = {
        .ts = {.tv_sec = frame->ns / 1000000000, .tv_usec = frame->ns % 1000000000 / 1000},
        .caplen = caplen, /* as captured, whatever the buffer's length is */
        .len = frame->wirelen,
        .timestamp_ns = (uint64_t)frame->ns,
        .if_index = sim.index != 0 ? (int32_t)sim.index : 7,
        .rx_direction = !sent,
    };
    bool longer = (ring->flags & PFRING_LONG_HEADER) != 0;
    size_t known = offsetof(struct pfring_header, room);
    memcpy(header, &filled, longer ? known : SHORT_HEADER);
    if (!longer && sim.traps) /* nobody said what is there */
        memset((uint8_t *)header + SHORT_HEADER, SIM_POISON, known - SHORT_HEADER);
}

SIM_PUBLIC int pfring_recv(pfring_ring *ring, uint8_t **buffer, unsigned len, struct pfring_header *header, uint8_t wait)
{
    if (!ring->enabled) {
        if (sim.strict)
            illegal("receive before enable_ring");
        return -1;
    }
    __atomic_store_n(&ring->broken, false, __ATOMIC_RELEASE); /* a break before the receive is lost */
    for (;;) {
        bool sent = false;
        pthread_mutex_lock(&sim.lock);
        struct sim_frame *frame = next(ring, &sent);
        if (frame != NULL) {
            give(ring, frame, sent, buffer, len, header);
            ring->received++;
            sim.delivered++;
        }
        pthread_mutex_unlock(&sim.lock);
        free(frame);
        if (frame != NULL)
            return 1;
        if (wait == 0)
            return 0;
        if (__atomic_load_n(&ring->broken, __ATOMIC_ACQUIRE)) {
            errno = EINTR;
            return 0;
        }
        sim_doze();
    }
}

SIM_PUBLIC void pfring_breakloop(pfring_ring *ring)
{
    __atomic_store_n(&ring->broken, true, __ATOMIC_RELEASE);
}

SIM_PUBLIC int pfring_poll(pfring_ring *ring, unsigned wait_ms)
{
    for (unsigned slept = 0;; slept++) {
        pthread_mutex_lock(&sim.lock);
        bool ready = sim_waiting(ring->index) >= ring->watermark, interrupted = wait_ms > 0 && sim.traps && SIM_ROLL(16) == 0;
        pthread_mutex_unlock(&sim.lock);
        if (interrupted) {
            errno = EINTR;
            return -1;
        }
        if (ready || slept >= wait_ms * 5) /* dozes of 200 µs */
            return ready;
        sim_doze();
    }
}

SIM_PUBLIC int pfring_stats(pfring_ring *ring, struct pfring_stat *stats)
{
    *stats = (struct pfring_stat){0};
    if (!ring->enabled)
        return 0;
    pthread_mutex_lock(&sim.lock);
    *stats = (struct pfring_stat){.recv = ring->received + (sim.traps ? ring->dropped : 0), .drop = ring->dropped};
    pthread_mutex_unlock(&sim.lock);
    return 0;
}

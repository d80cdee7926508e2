/* SPDX-License-Identifier: Apache-2.0
 *
 * What a system call does to a ring: slots given back are poisoned, new frames appear up to a new tail, transmitted ones go where the
 * port leads.
 */
#include "sim.h"

#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Microseconds by which ring->ts is wrong under the traps: within the tolerance that fits a ring's time, and nothing that could be taken
 * for a packet's. */
#define LATE      700000
#define UNREAD    8192 /* frames of a live port that wait here; what comes then waits in the kernel, and is lost there */
#define ADDRESSES 64   /* that a switch remembers */
#define MAC       6

uint32_t sim_between(uint32_t from, uint32_t to)
{
    return (to + sim.slots - from) % sim.slots;
}

/* What the real module checks before a sync. Returns false for an illegal head or cur, after putting things right as it would. */
static bool prologue(struct sim_ring *k)
{
    struct netmap_ring *r = sim_shared(k);
    uint32_t owned = sim_between(k->hwcur, k->hwtail);
    bool good = r->head < sim.slots && r->cur < sim.slots && sim_between(k->hwcur, r->head) <= owned &&
                sim_between(k->hwcur, r->cur) <= owned && sim_between(k->hwcur, r->head) <= sim_between(k->hwcur, r->cur);
    if (sim.strict) {
        if (!good)
            illegal("ring %u: head %u and cur %u are not between %u and tail %u", r->ringid, r->head, r->cur, k->hwcur, k->hwtail);
        if (r->tail != k->hwtail)
            illegal("ring %u: tail is the kernel's and was written (%u, was %u)", r->ringid, r->tail, k->hwtail);
        if (r->num_slots != sim.slots || r->nr_buf_size != sim.buf || r->buf_ofs != (int64_t)(sim.buffers - k->offset))
            illegal("ring %u: a constant of the ring was written", r->ringid);
    }
    if (!good && (r->head >= sim.slots || r->cur >= sim.slots || r->tail >= sim.slots))
        r->head = r->cur = k->hwcur;
    r->tail = k->hwtail;
    return good;
}

/* Puts the next piece of the feed into a slot. */
static void publish_piece(struct sim_ring *k)
{
    struct netmap_ring *r = sim_shared(k);
    struct sim_frame *frame = k->feed.first;
    uint32_t left = frame->len - k->done, offset = sim.traps ? (uint32_t)SIM_ROLL(32) * 2 : 0, room = sim.buf - offset;
    if (k->done == 0)
        k->pieces_left = sim.slots - 2 < NETMAP_MAX_FRAGS ? sim.slots - 2 : NETMAP_MAX_FRAGS;
    k->pieces_left--;
    bool spare = (uint64_t)k->pieces_left * (sim.buf - 64) >= left; /* whatever is cut now, the rest has room */
    if (sim.traps && spare && SIM_ROLL(4) == 0 && left > 20)
        room = 1 + (uint32_t)SIM_ROLL(left < room ? left : room); /* cut where it hurts */
    uint32_t part = left < room ? left : room;
    struct netmap_slot *s = &r->slot[k->hwtail];
    uint32_t old = s->buf_idx;
    s->buf_idx = sim_take_buffer();
    sim_give_buffer(old);
    memcpy(sim_buffer(s->buf_idx) + offset, frame->data + k->done, part);
    s->len = (uint16_t)part;
    s->ptr = sim.traps ? (SIM_ROLL(0) & ~UINT64_C(0xFF)) | offset : 0;
    s->flags = (uint16_t)((part < left || frame->more ? NS_MOREFRAG : 0) | (sim.traps ? 0x0301 : 0));
    k->done += part;
    k->hwtail = (k->hwtail + 1) % sim.slots;
    if (k->done < frame->len)
        return;
    k->done = 0;
    free(sim_feed_take(&k->feed));
}

static void feed_live(struct sim_port *port)
{
    struct sim_feed dealt[SIM_MAX_RINGS] = {0};
    unsigned waiting = 0;
    for (unsigned i = 0; i < port->rx_rings; i++)
        for (const struct sim_frame *frame = port->rx[i].feed.first; frame != NULL; frame = frame->next)
            waiting++;
    if (waiting >= UNREAD)
        return;
    sim_live_read(port->live, dealt, port->rx_rings, false);
    for (unsigned i = 0; i < port->rx_rings; i++)
        sim_feed_join(&port->rx[i].feed, &dealt[i]);
}

/* How many slots a sync fills at most. Under the traps now some, now all there are: the tail then stands right behind head; and none for a
 * while, if the frame before is unfinished. */
static uint32_t batch_of(struct sim_ring *k)
{
    if (!sim.traps)
        return sim.slots;
    if (k->stall > 0) {
        k->stall--;
        return 0;
    }
    return SIM_ROLL(4) == 0 ? sim.slots : 1 + (uint32_t)SIM_ROLL(sim.slots);
}

bool sim_sync_receive(struct sim_port *port, unsigned ring)
{
    struct sim_ring *k = &port->rx[ring];
    struct netmap_ring *r = sim_shared(k);
    bool good = prologue(k);
    if (port->live >= 0)
        feed_live(port);
    for (; sim.drop > 0 && k->done == 0 && k->feed.first != NULL; sim.drop--)
        free(sim_feed_take(&k->feed));
    if (good) {
        for (; k->hwcur != r->head; k->hwcur = (k->hwcur + 1) % sim.slots) { /* released: nobody may read them any more */
            memset(sim_buffer(r->slot[k->hwcur].buf_idx), SIM_POISON, sim.buf);
            r->slot[k->hwcur].len = 0;
        }
        k->cur = r->cur;
        for (uint32_t batch = batch_of(k); batch > 0 && k->feed.first != NULL && sim_between(k->hwcur, k->hwtail) < sim.slots - 1; batch--)
            publish_piece(k);
        if (sim.traps && k->done > 0 && k->stall == 0 && SIM_ROLL(4) == 0)
            k->stall = 6; /* long enough for a reader that polls for the rest to be noticed */
        r->tail = k->hwtail;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t us = now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000 - (sim.traps ? LATE : 0);
    r->ts = (struct timeval){.tv_sec = us / 1000000, .tv_usec = us % 1000000};
    return good;
}

/* The port behind which the switch last saw an address as a sender's; NULL if it never did. With `from`, remembers that one. */
static struct sim_port *behind(const uint8_t *address, struct sim_port *from)
{
    static struct {
        uint8_t address[MAC];
        struct sim_port *port;
    } known[ADDRESSES];
    for (unsigned i = 0; i < ADDRESSES; i++) {
        bool fresh = known[i].port == NULL;
        if (!fresh && memcmp(known[i].address, address, MAC) != 0)
            continue;
        if (from != NULL) {
            memcpy(known[i].address, address, MAC);
            known[i].port = from;
        }
        return known[i].port;
    }
    return NULL;
}

static bool same_switch(const struct sim_port *a, const struct sim_port *b)
{
    size_t length = strcspn(a->name, ":") + 1;
    return b->switched && strncmp(a->name, b->name, length) == 0;
}

/* One slot through a learning switch: where the destination was seen to send from, otherwise everywhere but back. */
static void switch_slot(struct sim_port *from, const uint8_t *data, uint16_t len, bool more, bool first)
{
    static struct sim_port *to; /* of the frame that is under way; NULL: everywhere */
    if (first) {
        if (len < 2 * MAC)
            return;
        if ((data[MAC] & 1) == 0)
            behind(data + MAC, from);
        to = (data[0] & 1) != 0 ? NULL : behind(data, NULL);
    }
    for (unsigned i = 1; i < sim.nports; i++) {
        struct sim_port *port = &sim.ports[i];
        if (port != from && port->users > 0 && same_switch(from, port) && (to == NULL || to == port))
            sim_feed_put(&port->rx[0].feed, data, len, len, 0, more);
    }
}

bool sim_sync_transmit(struct sim_port *port, unsigned ring)
{
    struct sim_ring *k = &port->tx[ring];
    struct netmap_ring *r = sim_shared(k);
    if (!prologue(k))
        return false;
    for (bool first = true; k->hwcur != r->head; k->hwcur = (k->hwcur + 1) % sim.slots) {
        const struct netmap_slot *s = &r->slot[k->hwcur];
        bool more = (s->flags & NS_MOREFRAG) != 0;
        if (port->peer != NULL)
            sim_feed_put(&port->peer->rx[0].feed, sim_buffer(s->buf_idx), s->len, s->len, 0, more);
        else if (port->switched)
            switch_slot(port, sim_buffer(s->buf_idx), s->len, more, first);
        first = !more;
    }
    k->hwtail = (k->hwcur + sim.slots - 1) % sim.slots;
    r->tail = k->hwtail;
    return true;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Zero copy: clusters, devices, packet handles.
 */
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC   0x464C4F57u
#define RESERVE 8u /* buffers of the device itself, for each queue */

struct buffer { /* the handle comes first: a handle is a buffer */
    struct pfring_zc_pkt_buff handle;
    uint32_t magic;
    enum { FREE, WITH_USER } state;
    uint8_t *data;
};

struct pfring_zc_cluster {
    uint32_t buffer_len, count, nfree;
    struct buffer *buffers;
    struct buffer **free_list;
    uint8_t *memory;
    unsigned open_devices;
};

struct pfring_zc_queue {
    pfring_zc_cluster *cluster;
    unsigned index;
    uint32_t flags;
    bool broken;
    uint64_t received, dropped;
};

SIM_PUBLIC pfring_zc_cluster *pfring_zc_create_cluster(uint32_t id, uint32_t buffer_len, uint32_t metadata_len, uint32_t buffers,
                                                       int32_t numa_node, const char *hugepages, uint32_t flags)
{
    (void)id, (void)metadata_len, (void)numa_node, (void)hugepages, (void)flags;
    pthread_mutex_lock(&sim.lock);
    sim_start();
    pthread_mutex_unlock(&sim.lock);
    if (sim_failing("ENOBUFS") || sim_failing("EBUSY")) {
        errno = sim_failing("EBUSY") ? EBUSY : ENOBUFS;
        return NULL;
    }
    uint32_t most = (RESERVE + 128) * SIM_MAX_QUEUES;
    if (buffers > most) /* what the devices' descriptors would hold is not needed here */
        buffers = most;
    pfring_zc_cluster *c = calloc(1, sizeof *c);
    *c = (struct pfring_zc_cluster){
        .buffer_len = buffer_len,
        .count = buffers,
        .buffers = calloc(buffers, sizeof *c->buffers),
        .free_list = calloc(buffers, sizeof(struct buffer *)),
        .memory = malloc((size_t)buffers * buffer_len),
    };
    memset(c->memory, SIM_POISON, (size_t)buffers * buffer_len);
    for (uint32_t i = 0; i < buffers; i++) {
        c->buffers[i] =
            (struct buffer){.magic = MAGIC, .data = c->memory + (size_t)(buffers - 1 - i) * buffer_len}; /* far, and in another order */
        c->free_list[c->nfree++] = &c->buffers[i];
    }
    return c;
}

static struct buffer *take_buffer(pfring_zc_cluster *c)
{
    if (c->nfree == 0)
        return NULL;
    uint32_t at = (uint32_t)SIM_ROLL(c->nfree);
    struct buffer *b = c->free_list[at];
    c->free_list[at] = c->free_list[--c->nfree];
    b->state = WITH_USER;
    return b;
}

static struct buffer *buffer_of(const pfring_zc_cluster *c, struct pfring_zc_pkt_buff *handle, const char *what)
{
    struct buffer *b = (struct buffer *)handle;
    if (b < c->buffers || b >= c->buffers + c->count || ((uintptr_t)b - (uintptr_t)c->buffers) % sizeof *b != 0 || b->magic != MAGIC)
        illegal("%s: a handle that is not of this cluster", what);
    return b;
}

static void give_buffer(pfring_zc_cluster *c, struct pfring_zc_pkt_buff *handle, const char *what)
{
    struct buffer *b = buffer_of(c, handle, what);
    if (b->state != WITH_USER)
        illegal("%s: a handle that was given back already", what);
    b->state = FREE;
    memset(b->data, SIM_POISON, c->buffer_len);
    memset(&b->handle, SIM_POISON, sizeof b->handle);
    c->free_list[c->nfree++] = b;
}

SIM_PUBLIC void pfring_zc_destroy_cluster(pfring_zc_cluster *c)
{
    if (c->open_devices > 0)
        illegal("the cluster is destroyed while %u devices are open", c->open_devices);
    if (c->nfree != c->count)
        illegal("%u handles were never released", c->count - c->nfree);
    free(c->memory);
    free(c->free_list);
    free(c->buffers);
    free(c);
}

SIM_PUBLIC pfring_zc_queue *pfring_zc_open_device(pfring_zc_cluster *c, const char *name, int mode, uint32_t flags)
{
    if (mode != PFRING_ZC_RX_ONLY)
        illegal("open_device in mode %d: a meter only receives", mode);
    pthread_mutex_lock(&sim.lock);
    int index = sim_claim(name, true);
    pthread_mutex_unlock(&sim.lock);
    if (index < 0)
        return NULL;
    pfring_zc_queue *queue = calloc(1, sizeof *queue);
    *queue = (struct pfring_zc_queue){.cluster = c, .index = (unsigned)index, .flags = flags};
    c->open_devices++;
    return queue;
}

SIM_PUBLIC void pfring_zc_close_device(pfring_zc_queue *queue)
{
    pthread_mutex_lock(&sim.lock);
    queue->cluster->open_devices--;
    sim_disclaim(queue->index);
    pthread_mutex_unlock(&sim.lock);
    free(queue);
}

/* Handles are few: whoever takes one for each packet and does not offer it again has none soon. */
SIM_PUBLIC struct pfring_zc_pkt_buff *pfring_zc_get_packet_handle(pfring_zc_cluster *c)
{
    pthread_mutex_lock(&sim.lock);
    bool spent = c->count - c->nfree >= sim.pool * sim.queues;
    struct buffer *b = spent ? NULL : take_buffer(c);
    pthread_mutex_unlock(&sim.lock);
    return b == NULL ? NULL : &b->handle;
}

SIM_PUBLIC void pfring_zc_release_packet_handle(pfring_zc_cluster *c, struct pfring_zc_pkt_buff *handle)
{
    pthread_mutex_lock(&sim.lock);
    give_buffer(c, handle, "release_packet_handle");
    pthread_mutex_unlock(&sim.lock);
}

static void fill(const pfring_zc_queue *queue, struct buffer *b, const struct sim_frame *frame)
{
    uint32_t room = queue->cluster->buffer_len, fcs = (queue->flags & PFRING_ZC_DO_NOT_STRIP_FCS) != 0 ? 4 : 0;
    uint32_t len = frame->len > room - fcs ? room - fcs : frame->len;
    memcpy(b->data, frame->data, len);
    memset(b->data + len, 0xFC, fcs);
    b->handle = (struct pfring_zc_pkt_buff){.len = (uint16_t)(len + fcs), .hash = 0x5EED0000u + queue->index};
    if ((queue->flags & (PFRING_ZC_SW_TIMESTAMP | PFRING_ZC_HW_TIMESTAMP)) != 0) {
        b->handle.ts.sec = (uint32_t)(frame->ns / 1000000000);
        b->handle.ts.nsec = (uint32_t)(frame->ns % 1000000000);
    }
}

static int take_burst(pfring_zc_queue *queue, struct pfring_zc_pkt_buff **handles, uint32_t max)
{
    pfring_zc_cluster *c = queue->cluster;
    uint32_t batch = sim.traps ? 1 + (uint32_t)SIM_ROLL(max) : max;
    int count = 0;
    while ((uint32_t)count < batch && !sim_expired()) {
        struct sim_frame *frame = sim_next(queue->index, &queue->dropped);
        if (frame == NULL)
            break;
        struct buffer *fresh = take_buffer(c);
        if (fresh == NULL)
            illegal("the cluster's buffers are used up: handles leak");
        fill(queue, fresh, frame);
        free(frame);
        give_buffer(c, handles[count], "recv_pkt_burst"); /* the caller's handle goes back: its data must not be read any more */
        handles[count++] = &fresh->handle;
        queue->received++;
        sim.delivered++;
    }
    return count;
}

SIM_PUBLIC int pfring_zc_recv_pkt_burst(pfring_zc_queue *queue, struct pfring_zc_pkt_buff **handles, uint32_t max, uint8_t wait)
{
    if (wait != 0 && sim.traps) {
        pthread_mutex_lock(&sim.lock);
        if (SIM_ROLL(2) == 0)
            __atomic_store_n(&queue->broken, false, __ATOMIC_RELEASE);
        pthread_mutex_unlock(&sim.lock);
    }
    for (;;) {
        pthread_mutex_lock(&sim.lock);
        int count = sim_expired() ? -1 : take_burst(queue, handles, max);
        pthread_mutex_unlock(&sim.lock);
        if (count != 0 || wait == 0)
            return count;
        if (__atomic_exchange_n(&queue->broken, false, __ATOMIC_ACQ_REL)) {
            errno = EINTR;
            return -1;
        }
        sim_doze();
    }
}

SIM_PUBLIC void pfring_zc_queue_breakloop(pfring_zc_queue *queue)
{
    __atomic_store_n(&queue->broken, true, __ATOMIC_RELEASE);
}

SIM_PUBLIC uint8_t *pfring_zc_pkt_buff_data(struct pfring_zc_pkt_buff *handle, pfring_zc_queue *queue)
{
    struct buffer *b = buffer_of(queue->cluster, handle, "pkt_buff_data");
    if (b->state != WITH_USER)
        illegal("pkt_buff_data: a handle that is not the caller's");
    return b->data;
}

SIM_PUBLIC int pfring_zc_stats(pfring_zc_queue *queue, struct pfring_zc_stat *stats)
{
    pthread_mutex_lock(&sim.lock);
    *stats = (struct pfring_zc_stat){.recv = queue->received + (sim.traps ? queue->dropped : 0), .drop = queue->dropped};
    pthread_mutex_unlock(&sim.lock);
    return 0;
}

SIM_PUBLIC int pfring_zc_set_bpf_filter(pfring_zc_queue *queue, const char *filter)
{
    (void)queue, (void)filter;
    return -1;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * A stand-in for libpfring.so: the documented calls of PF_RING (1-copy) and PF_RING ZC that the backends use, fed from a capture file.
 * Results over it are of tier `sim`, and no rate of it means anything. Written from the documented interface; nothing of the library is in
 * it.
 *
 * It is stricter than the real thing and aborts on illegal use: handles that are foreign, used twice or leaked, devices closed after their
 * cluster. Its traps are all on: every receive swaps the handles for others, data lies far from its handle and moves, handed-back buffers
 * are full of 0xDB, there is no time without a timestamp flag, the FCS stays in when asked for.
 *
 * Environment: FLOWPARITY_PFRING_SIM="key=value,…"
 *   capture=PATH  classic pcap file (µs or ns)    device=NAME (sim0)   queues=N (1)   seed=N (1)
 *   drop=N        lose the first N frames and count them
 *   fail=WHAT     ENOBUFS, EBUSY at create_cluster; ENOTSOCK, ENODEV, EPERM at open; DEMO: delivery ends after 100 packets
 * A device that is named by an absolute path is the same device with further settings, which are in that file; they and the capture are
 * read anew when nobody has any device open.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "flowparity/pfring_abi.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PUBLIC     __attribute__((visibility("default")))
#define MAX_QUEUES 16
#define POISON     0xDB
#define SPARE      256u /* handles of the library itself, for each queue */
#define MAGIC      0x464C4F57u

PUBLIC const int fp_pfring_sim = 1; /* how a backend knows that it runs over the stand-in */

struct frame {
    struct frame *next;
    int64_t ns;
    uint32_t len;
    uint8_t data[];
};

struct pfring_zc_queue {
    pfring_zc_cluster *cluster;
    unsigned index;
    uint32_t flags;
    bool open;
    uint64_t received, dropped;
};

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

struct pfring_ring {
    unsigned index;
    bool enabled;
    uint32_t caplen;
    uint64_t received, dropped;
    uint8_t last[1 << 18]; /* a frame lent by zero-copy receive; poisoned at the next one */
};

static struct {
    pthread_mutex_t lock;
    bool ready;
    char capture[4096], device[256], fail[32];
    unsigned queues;
    uint64_t random;
    uint64_t drop, delivered;
    struct frame *first[MAX_QUEUES], **last[MAX_QUEUES];
    bool taken[MAX_QUEUES];
} sim = {.lock = PTHREAD_MUTEX_INITIALIZER};

__attribute__((noreturn, format(printf, 1, 2))) static void illegal(const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "PF_RING stand-in: illegal use: %s\n", text);
    abort();
}

static uint64_t roll(uint64_t below)
{ /* SplitMix64 */
    uint64_t z = sim.random += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (z ^ (z >> 31)) % below;
}

/* The queue of a frame, as RSS would choose it: by the addresses behind the tags, alike for both directions, so that no flow is split. */
static unsigned choose_queue(const uint8_t *d, uint32_t len)
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
    return sum % sim.queues;
}

static uint32_t word(const uint8_t *p, bool swap)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return swap ? __builtin_bswap32(v) : v;
}

static void load_capture(void)
{
    FILE *file = fopen(sim.capture, "rb");
    uint8_t header[24], record[16];
    if (file == NULL || fread(header, 24, 1, file) != 1)
        illegal("cannot read the capture %s", sim.capture);
    bool swap = word(header, false) == 0xD4C3B2A1 || word(header, false) == 0x4D3CB2A1;
    bool nano = word(header, swap) == 0xA1B23C4D;
    if (!nano && word(header, swap) != 0xA1B2C3D4)
        illegal("%s is not a classic pcap file", sim.capture);
    while (fread(record, 16, 1, file) == 1) {
        uint32_t len = word(record + 8, swap);
        struct frame *frame = len > 1 << 18 ? NULL : calloc(1, sizeof *frame + len);
        if (frame == NULL || fread(frame->data, 1, len, file) != len)
            illegal("%s ends inside a frame", sim.capture);
        frame->ns = word(record, swap) * INT64_C(1000000000) + word(record + 4, swap) * (nano ? 1 : 1000);
        frame->len = len;
        unsigned q = choose_queue(frame->data, len);
        *sim.last[q] = frame;
        sim.last[q] = &frame->next;
    }
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
        else if (strcmp(pair, "device") == 0)
            snprintf(sim.device, sizeof sim.device, "%s", value);
        else if (strcmp(pair, "fail") == 0)
            snprintf(sim.fail, sizeof sim.fail, "%s", value);
        else if (strcmp(pair, "queues") == 0)
            sim.queues = number >= 1 && number <= MAX_QUEUES ? (unsigned)number : 1;
        else if (strcmp(pair, "seed") == 0)
            sim.random = number;
        else if (strcmp(pair, "drop") == 0)
            sim.drop = number;
    }
}

/* The defaults, what the environment says, and what the file says if the device is named by one; then the capture, from its beginning.
 * Returns false if there is no such file. */
static bool settle(const char *path)
{
    char text[8192];
    for (unsigned q = 0; q < MAX_QUEUES; q++) {
        for (struct frame *frame = sim.first[q], *next; frame != NULL; frame = next) {
            next = frame->next;
            free(frame);
        }
        sim.first[q] = NULL;
        sim.last[q] = &sim.first[q];
    }
    sim.queues = 1, sim.random = 1, sim.drop = sim.delivered = 0;
    sim.capture[0] = sim.fail[0] = '\0';
    strcpy(sim.device, "sim0");
    const char *environment = getenv("FLOWPARITY_PFRING_SIM");
    snprintf(text, sizeof text, "%s", environment == NULL ? "" : environment);
    read_settings(text);
    if (path != NULL) {
        FILE *file = fopen(path, "r");
        if (file == NULL)
            return false;
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
        read_settings(text);
        snprintf(sim.device, sizeof sim.device, "%s", path);
    }
    if (sim.capture[0] != '\0')
        load_capture();
    return true;
}

static void start(void)
{
    if (!sim.ready)
        settle(NULL);
    sim.ready = true;
}

static bool idle(void)
{
    for (unsigned q = 0; q < MAX_QUEUES; q++)
        if (sim.taken[q])
            return false;
    return true;
}

static bool failing(const char *what)
{
    return strcmp(sim.fail, what) == 0;
}

/* Checks a device name ("[zc:]NAME[@queue]") and claims its queue; -1 with errno set. */
static int claim(const char *name, bool zero_copy)
{
    if (failing("EPERM") || failing("ENODEV")) {
        errno = failing("EPERM") ? EPERM : ENODEV;
        return -1;
    }
    bool driver = strncmp(name, "zc:", 3) == 0;
    if (driver && (failing("ENOTSOCK") || !zero_copy)) {
        errno = ENOTSOCK;
        return -1;
    }
    name += driver ? 3 : 0;
    size_t length = strcspn(name, "@");
    if (name[0] == '/' && idle()) {
        char path[256];
        snprintf(path, sizeof path, "%.*s", (int)length, name);
        if (!settle(path)) {
            errno = ENODEV;
            return -1;
        }
    }
    unsigned long queue = name[length] == '@' ? strtoul(name + length + 1, NULL, 10) : 0;
    if (length != strlen(sim.device) || strncmp(name, sim.device, length) != 0 || queue >= sim.queues) {
        errno = ENODEV;
        return -1;
    }
    if (name[length] == '\0' && sim.queues > 1) { /* without @N a device is all its queues; the stand-in joins them at the first */
        for (unsigned q = 1; q < sim.queues; q++) {
            *sim.last[0] = sim.first[q];
            if (sim.first[q] != NULL)
                sim.last[0] = sim.last[q];
            sim.first[q] = NULL;
            sim.last[q] = &sim.first[q];
        }
    }
    if (sim.taken[queue]) {
        errno = EBUSY;
        return -1;
    }
    sim.taken[queue] = true;
    return (int)queue;
}

/* The next frame of a queue, losing those that are to be lost. */
static struct frame *next_frame(unsigned queue, uint64_t *dropped)
{
    for (;;) {
        struct frame *frame = sim.first[queue];
        if (frame == NULL)
            return NULL;
        sim.first[queue] = frame->next;
        if (frame->next == NULL)
            sim.last[queue] = &sim.first[queue];
        if (sim.drop == 0)
            return frame;
        sim.drop--;
        ++*dropped;
        free(frame);
    }
}

static bool expired(void)
{
    return failing("DEMO") && sim.delivered >= 100;
}

/* Zero copy. */

PUBLIC pfring_zc_cluster *pfring_zc_create_cluster(uint32_t id, uint32_t buffer_len, uint32_t metadata_len, uint32_t buffers,
                                                   int32_t numa_node, const char *hugepages, uint32_t flags)
{
    (void)id, (void)metadata_len, (void)numa_node, (void)hugepages, (void)flags;
    pthread_mutex_lock(&sim.lock);
    start();
    pthread_mutex_unlock(&sim.lock);
    if (failing("ENOBUFS") || failing("EBUSY")) {
        errno = failing("EBUSY") ? EBUSY : ENOBUFS;
        return NULL;
    }
    if (buffers > 4096) /* what the devices' descriptors would hold is not needed here */
        buffers = 4096;
    pfring_zc_cluster *c = calloc(1, sizeof *c);
    *c = (struct pfring_zc_cluster){
        .buffer_len = buffer_len,
        .count = buffers,
        .buffers = calloc(buffers, sizeof *c->buffers),
        .free_list = calloc(buffers, sizeof(struct buffer *)),
        .memory = malloc((size_t)buffers * buffer_len),
    };
    memset(c->memory, POISON, (size_t)buffers * buffer_len);
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
    uint32_t at = (uint32_t)roll(c->nfree);
    struct buffer *b = c->free_list[at];
    c->free_list[at] = c->free_list[--c->nfree];
    b->state = WITH_USER;
    return b;
}

static void give_buffer(pfring_zc_cluster *c, struct pfring_zc_pkt_buff *handle, const char *what)
{
    struct buffer *b = (struct buffer *)handle;
    if (b < c->buffers || b >= c->buffers + c->count || ((uintptr_t)b - (uintptr_t)c->buffers) % sizeof *b != 0 || b->magic != MAGIC)
        illegal("%s: a handle that is not of this cluster", what);
    if (b->state != WITH_USER)
        illegal("%s: a handle that was given back already", what);
    b->state = FREE;
    memset(b->data, POISON, c->buffer_len);
    memset(&b->handle, POISON, sizeof b->handle);
    c->free_list[c->nfree++] = b;
}

PUBLIC void pfring_zc_destroy_cluster(pfring_zc_cluster *c)
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

PUBLIC pfring_zc_queue *pfring_zc_open_device(pfring_zc_cluster *c, const char *name, int mode, uint32_t flags)
{
    if (mode != PFRING_ZC_RX_ONLY)
        illegal("open_device in mode %d: a meter only receives", mode);
    pthread_mutex_lock(&sim.lock);
    int index = claim(name, true);
    pthread_mutex_unlock(&sim.lock);
    if (index < 0)
        return NULL;
    pfring_zc_queue *queue = calloc(1, sizeof *queue);
    *queue = (struct pfring_zc_queue){.cluster = c, .index = (unsigned)index, .flags = flags, .open = true};
    c->open_devices++;
    return queue;
}

PUBLIC void pfring_zc_close_device(pfring_zc_queue *queue)
{
    pthread_mutex_lock(&sim.lock);
    queue->cluster->open_devices--;
    sim.taken[queue->index] = false;
    pthread_mutex_unlock(&sim.lock);
    free(queue);
}

PUBLIC struct pfring_zc_pkt_buff *pfring_zc_get_packet_handle(pfring_zc_cluster *c)
{
    pthread_mutex_lock(&sim.lock);
    struct buffer *b = take_buffer(c);
    pthread_mutex_unlock(&sim.lock);
    return b == NULL ? NULL : &b->handle;
}

PUBLIC void pfring_zc_release_packet_handle(pfring_zc_cluster *c, struct pfring_zc_pkt_buff *handle)
{
    pthread_mutex_lock(&sim.lock);
    give_buffer(c, handle, "release_packet_handle");
    pthread_mutex_unlock(&sim.lock);
}

static void fill(const pfring_zc_queue *queue, struct buffer *b, const struct frame *frame)
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

PUBLIC int pfring_zc_recv_pkt_burst(pfring_zc_queue *queue, struct pfring_zc_pkt_buff **handles, uint32_t max, uint8_t wait)
{
    if (wait != 0)
        illegal("the stand-in does not block: nothing would wake it");
    pthread_mutex_lock(&sim.lock);
    pfring_zc_cluster *c = queue->cluster;
    int count = expired() ? -1 : 0;
    uint32_t batch = (uint32_t)roll(max + 1);
    while (count >= 0 && (uint32_t)count < batch && !expired()) {
        struct frame *frame = next_frame(queue->index, &queue->dropped);
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
    pthread_mutex_unlock(&sim.lock);
    return count;
}

PUBLIC uint8_t *pfring_zc_pkt_buff_data(struct pfring_zc_pkt_buff *handle, pfring_zc_queue *queue)
{
    struct buffer *b = (struct buffer *)handle;
    if (b < queue->cluster->buffers || b >= queue->cluster->buffers + queue->cluster->count || b->magic != MAGIC || b->state != WITH_USER)
        illegal("pkt_buff_data: a handle that is not the caller's");
    return b->data;
}

PUBLIC int pfring_zc_stats(pfring_zc_queue *queue, struct pfring_zc_stat *stats)
{
    pthread_mutex_lock(&sim.lock);
    *stats = (struct pfring_zc_stat){.recv = queue->received, .drop = queue->dropped};
    pthread_mutex_unlock(&sim.lock);
    return 0;
}

PUBLIC int pfring_zc_set_bpf_filter(pfring_zc_queue *queue, const char *filter)
{
    (void)queue, (void)filter;
    return -1;
}

/* The ordinary interface. */

PUBLIC pfring_ring *pfring_open(const char *name, uint32_t caplen, uint32_t flags)
{
    (void)flags;
    pthread_mutex_lock(&sim.lock);
    start();
    int index = claim(name, false);
    pthread_mutex_unlock(&sim.lock);
    if (index < 0)
        return NULL;
    pfring_ring *ring = calloc(1, sizeof *ring);
    ring->index = (unsigned)index;
    ring->caplen = caplen;
    return ring;
}

PUBLIC void pfring_close(pfring_ring *ring)
{
    pthread_mutex_lock(&sim.lock);
    sim.taken[ring->index] = false;
    pthread_mutex_unlock(&sim.lock);
    free(ring);
}

PUBLIC int pfring_enable_ring(pfring_ring *ring)
{
    ring->enabled = true;
    return 0;
}

PUBLIC int pfring_set_direction(pfring_ring *ring, int direction)
{
    if (ring->enabled || direction != PFRING_RX_ONLY_DIRECTION)
        illegal("the direction must be receive only, and be set before enable_ring");
    return 0;
}

PUBLIC int pfring_set_bpf_filter(pfring_ring *ring, const char *filter)
{
    (void)ring, (void)filter;
    return -1;
}

PUBLIC int pfring_recv(pfring_ring *ring, uint8_t **buffer, unsigned len, struct pfring_header *header, uint8_t wait)
{
    if (!ring->enabled || wait != 0)
        illegal(ring->enabled ? "the stand-in does not block: nothing would wake it" : "receive before enable_ring");
    pthread_mutex_lock(&sim.lock);
    struct frame *frame = expired() ? NULL : next_frame(ring->index, &ring->dropped);
    pthread_mutex_unlock(&sim.lock);
    if (frame == NULL)
        return 0;
    uint32_t room = len == 0 || len > ring->caplen ? ring->caplen : len, caplen = frame->len < room ? frame->len : room;
    memset(ring->last, POISON, sizeof ring->last);
    memcpy(ring->last, frame->data, caplen);
    if (len == 0)
        *buffer = ring->last;
    else
        memcpy(*buffer, ring->last, caplen);
    *header = (struct pfring_header){
        .ts = {.tv_sec = frame->ns / 1000000000, .tv_usec = frame->ns % 1000000000 / 1000},
        .caplen = caplen,
        .len = frame->len,
        .timestamp_ns = (uint64_t)frame->ns,
        .if_index = 7,
    };
    free(frame);
    ring->received++;
    return 1;
}

PUBLIC int pfring_poll(pfring_ring *ring, unsigned wait_ms)
{
    pthread_mutex_lock(&sim.lock);
    bool ready = sim.first[ring->index] != NULL;
    pthread_mutex_unlock(&sim.lock);
    if (!ready)
        nanosleep(&(struct timespec){.tv_nsec = wait_ms < 5 ? wait_ms * 1000000L : 5000000L}, NULL);
    return ready;
}

PUBLIC int pfring_stats(pfring_ring *ring, struct pfring_stat *stats)
{
    *stats = (struct pfring_stat){.recv = ring->received, .drop = ring->dropped};
    return 0;
}

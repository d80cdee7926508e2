/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames from a buffer of the caller (struct fp_memory, whose address is the input). As many queues as wanted; each frame goes to the queue that the caller assigned or, without an
 * assignment, to the one of its flow hash. Options: none.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flowparity/core.h"

struct queue {
    _Alignas(64) uint64_t next; /* index of the first frame not yet looked at */
};

struct fp_source {
    const struct fp_host *host;
    const struct fp_memory *memory;
    uint16_t queues;
    struct queue queue[];
};

static struct fp_caps memory_caps(uint16_t queues)
{
    return (struct fp_caps){
        .size = sizeof(struct fp_caps),
        .flags = FP_CAP_EXACT_TIME | FP_CAP_WIRE_LENGTH | FP_CAP_DROPS_KNOWN | FP_CAP_STAMPS_SEQUENCE | FP_CAP_INTERFACE | FP_CAP_HOLDS_BURSTS,
        .tier = FP_TIER_SIM,
        .ts_source = FP_TS_CAPTURE,
        .queues = queues,
        .max_frame = UINT32_MAX,
        .ts_resolution = 1,
    };
}

static int probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    (void)host, (void)err;
    *caps = memory_caps(FP_MAX_QUEUES);
    return 0;
}

static int open_source(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    struct fp_source *s;
    void *address;

    if (sscanf(args->input, "%p", &address) != 1 || ((const struct fp_memory *)address)->magic != FP_MEMORY_MAGIC)
        return host->fail(err, -EINVAL, "backend memory: the input is no buffer of this process; it is for callers of the library");
    if (args->noptions)
        return host->fail(err, -EINVAL, "backend memory: unknown option '%s'; it has none", args->options[0].key);
    if (args->filter)
        return host->fail(err, -ENOTSUP, "backend memory: it has no filter");
    s = aligned_alloc(64, sizeof *s + args->queues * sizeof s->queue[0]);
    if (!s)
        return host->fail(err, -ENOMEM, "backend memory: out of memory");
    memset(s, 0, sizeof *s + args->queues * sizeof s->queue[0]);
    s->host = host;
    s->memory = address;
    s->queues = args->queues;
    *caps = memory_caps(args->queues);
    *out = s;
    return 0;
}

static unsigned queue_of(const struct fp_source *s, uint64_t index)
{
    if (s->queues == 1)
        return 0;
    if (s->memory->assignment)
        return s->memory->assignment[index];
    return s->host->flow_hash(&s->memory->packets[index]) % s->queues;
}

static int recv_burst(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns, char *err)
{
    struct queue *q = &s->queue[queue];
    unsigned n = 0;

    (void)wait_ms, (void)err;
    *now_ns = FP_NS_NONE;
    for (; n < max && q->next < s->memory->count; q->next++) {
        if (queue_of(s, q->next) != queue)
            continue;
        packets[n] = s->memory->packets[q->next];
        packets[n++].queue = (uint16_t)queue;
    }
    return n ? (int)n : FP_END;
}

static int stats(struct fp_source *s, struct fp_stats *out)
{
    (void)s;
    *out = (struct fp_stats){.received = UINT64_MAX};
    return 0;
}

static void close_source(struct fp_source *s)
{
    free(s);
}

static const struct fp_backend_ops ops = {
    .abi = FP_ABI,
    .size = sizeof ops,
    .name = "memory",
    .summary = "frames from a buffer in memory",
    .probe = probe,
    .open = open_source,
    .recv = recv_burst,
    .stats = stats,
    .close = close_source,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .backend = &ops};

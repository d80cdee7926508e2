/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames without a network, in two forms. A struct fp_memory, handed over as the open's `object`: frames from a buffer of the caller, an
 * end of input, as many queues as wanted; each frame goes to the queue that the caller assigned or, without an assignment, to the one of
 * its flow hash.
 * `pipe:NAME`: a live source fed by the injector of the same name in the same process; frames are copied into a ring per queue by their
 * flow hash, and a full ring makes the injector wait. Options: none.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flowparity/core.h"

#define PIPES       16u
#define PIPE_QUEUES 8u
#define SLOTS       256u
#define LONGEST     70000u

struct slot {
    struct fp_packet packet;
    uint8_t *data;
};

struct ring {
    struct slot slots[SLOTS];
    unsigned head, tail; /* written, released: counts modulo 2^32 */
    unsigned handed;     /* given to recv, not released */
};

/* Both ends of a pipe hold it; the last one to leave frees it. */
struct pipe {
    char name[32];
    unsigned ends;
    bool has_source, has_injector, stopped, ended;
    unsigned queues;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct ring rings[PIPE_QUEUES];
};

static pthread_mutex_t pipes_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pipe *pipes[PIPES];

struct cursor {
    _Alignas(64) uint64_t next; /* index of the first frame not yet looked at */
};

struct fp_source {
    const struct fp_host *host;
    const struct fp_memory *memory; /* NULL: a pipe */
    struct pipe *pipe;
    uint16_t queues;
    bool stopped; /* a buffer; atomic */
    struct cursor cursors[];
};

struct fp_injector {
    const struct fp_host *host;
    struct pipe *pipe;
    uint64_t sent;
};

static int64_t now(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void wait_changed(struct pipe *p, int wait_ms)
{
    int64_t until = now(CLOCK_MONOTONIC) + (int64_t)wait_ms * 1000000;
    struct timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};

    pthread_cond_timedwait(&p->changed, &p->lock, &t);
}

static struct pipe *new_pipe(const char *name)
{
    struct pipe *p = calloc(1, sizeof *p);
    pthread_condattr_t attributes;

    if (!p)
        return NULL;
    snprintf(p->name, sizeof p->name, "%s", name);
    p->queues = 1;
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return p;
}

/* Takes one end of the pipe `name`, making it if it is not there. NULL: taken already, no memory, or too many pipes. */
static struct pipe *take_end(const char *name, bool source, unsigned queues)
{
    struct pipe *p = NULL;
    unsigned i, vacant = PIPES;

    pthread_mutex_lock(&pipes_lock);
    for (i = 0; i < PIPES; i++) {
        if (!pipes[i])
            vacant = i;
        else if (!strcmp(pipes[i]->name, name))
            break;
    }
    if (i < PIPES)
        p = pipes[i];
    else if (vacant < PIPES)
        p = pipes[vacant] = new_pipe(name);
    if (p) {
        bool *end = source ? &p->has_source : &p->has_injector;
        if (*end) {
            p = NULL;
        } else {
            *end = true;
            p->ends++;
            if (source)
                p->queues = queues;
        }
    }
    pthread_mutex_unlock(&pipes_lock);
    return p;
}

static void leave(struct pipe *p, bool source)
{
    bool last;

    pthread_mutex_lock(&pipes_lock);
    pthread_mutex_lock(&p->lock);
    if (source)
        p->stopped = true;
    else
        p->ended = true;
    last = --p->ends == 0;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; last && i < PIPES; i++)
        if (pipes[i] == p)
            pipes[i] = NULL;
    pthread_mutex_unlock(&pipes_lock);
    if (!last)
        return;
    for (unsigned q = 0; q < PIPE_QUEUES; q++)
        for (unsigned i = 0; i < SLOTS; i++)
            free(p->rings[q].slots[i].data);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static struct fp_caps memory_caps(uint16_t queues, bool live)
{
    return (struct fp_caps){
        .size = sizeof(struct fp_caps),
        .flags = FP_CAP_EXACT_TIME | FP_CAP_WIRE_LENGTH | FP_CAP_DROPS_KNOWN | FP_CAP_STAMPS_SEQUENCE | FP_CAP_INTERFACE |
                 (live ? FP_CAP_LIVE : 0),
        .tier = FP_TIER_FILE, /* captured frames, only not on a disk: it stands in for nothing */
        .ts_source = live ? FP_TS_SENDER : FP_TS_CAPTURE,
        .queues = queues,
        .max_frame = live ? LONGEST : UINT32_MAX,
        .ts_resolution = 1,
    };
}

static int probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    (void)host, (void)err;
    *caps = memory_caps(FP_MAX_QUEUES, true);
    return 0;
}

static int check_args(const struct fp_host *host, const struct fp_open_args *args, char *err)
{
    if (args->noptions)
        return host->fail(err, -EINVAL, "backend memory: unknown option '%s'; it has none", args->options[0].key);
    if (args->filter)
        return host->fail(err, -ENOTSUP, "backend memory: it has no filter");
    return 0;
}

static int open_source(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    bool piped = !args->object;
    struct fp_source *s;
    int rc = check_args(host, args, err);

    if (rc)
        return rc;
    if (piped && strncmp(args->input, "pipe:", 5))
        return host->fail(err, -EINVAL, "backend memory: the input '%s' is not pipe:NAME; frames in a buffer are handed over by a program",
                          args->input);
    if (piped && args->queues > PIPE_QUEUES)
        return host->fail(err, -E2BIG, "backend memory: a pipe has at most %u queues, not %u", PIPE_QUEUES, args->queues);
    s = aligned_alloc(64, (sizeof *s + args->queues * sizeof s->cursors[0] + 63) / 64 * 64);
    if (!s)
        return host->fail(err, -ENOMEM, "backend memory: out of memory");
    *s = (struct fp_source){.host = host, .memory = args->object, .queues = args->queues};
    for (unsigned i = 0; i < args->queues; i++)
        s->cursors[i].next = 0;
    if (piped) {
        s->pipe = take_end(args->input + 5, true, args->queues);
        if (!s->pipe) {
            free(s);
            return host->fail(err, -EBUSY, "backend memory: %s has a reader already, or there are too many pipes", args->input);
        }
    }
    *caps = memory_caps(args->queues, piped);
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

static int recv_buffer(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned max)
{
    struct cursor *c = &s->cursors[queue];
    unsigned n = 0;

    if (__atomic_load_n(&s->stopped, __ATOMIC_RELAXED))
        return FP_END;
    for (; n < max && c->next < s->memory->count; c->next++) {
        if (queue_of(s, c->next) != queue)
            continue;
        packets[n] = s->memory->packets[c->next];
        packets[n++].queue = (uint16_t)queue;
    }
    return n ? (int)n : FP_END;
}

static int recv_pipe(struct pipe *p, unsigned queue, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns)
{
    struct ring *r = &p->rings[queue];
    unsigned n = 0;
    bool end;

    pthread_mutex_lock(&p->lock);
    if (r->head == r->tail && !p->ended && !p->stopped && wait_ms > 0)
        wait_changed(p, wait_ms);
    *now_ns = now(CLOCK_REALTIME); /* under the lock: no frame comes between it and the look into the ring */
    for (; n < max && r->tail + n != r->head; n++)
        packets[n] = r->slots[(r->tail + n) % SLOTS].packet;
    r->handed = n;
    end = n == 0 && (p->ended || p->stopped);
    pthread_mutex_unlock(&p->lock);
    return end ? FP_END : (int)n;
}

static int recv_burst(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns, char *err)
{
    (void)err;
    *now_ns = FP_NS_NONE;
    return s->memory ? recv_buffer(s, queue, packets, max) : recv_pipe(s->pipe, queue, packets, max, wait_ms, now_ns);
}

static void release_burst(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned count)
{
    struct ring *r;

    (void)packets, (void)count;
    if (s->memory)
        return;
    r = &s->pipe->rings[queue];
    pthread_mutex_lock(&s->pipe->lock);
    r->tail += r->handed;
    r->handed = 0;
    pthread_cond_broadcast(&s->pipe->changed);
    pthread_mutex_unlock(&s->pipe->lock);
}

static int stop_source(struct fp_source *s, char *err)
{
    (void)err;
    if (s->memory) {
        __atomic_store_n(&s->stopped, true, __ATOMIC_RELAXED);
        return 0;
    }
    pthread_mutex_lock(&s->pipe->lock);
    s->pipe->stopped = true;
    pthread_cond_broadcast(&s->pipe->changed);
    pthread_mutex_unlock(&s->pipe->lock);
    return 0;
}

static int stats(struct fp_source *s, struct fp_stats *out)
{
    (void)s;
    *out = (struct fp_stats){.received = UINT64_MAX};
    return 0;
}

static void close_source(struct fp_source *s)
{
    if (s->pipe)
        leave(s->pipe, true);
    free(s);
}

static int probe_injector(const struct fp_host *host, struct fp_injector_caps *caps, char *err)
{
    (void)host, (void)err;
    *caps =
        (struct fp_injector_caps){.size = sizeof *caps, .flags = FP_CAP_EXACT_TIME | FP_CAP_WIRE_LENGTH, .queues = 1, .max_frame = LONGEST};
    return 0;
}

static int open_injector(const struct fp_host *host, const struct fp_open_args *args, struct fp_injector **out,
                         struct fp_injector_caps *caps, char *err)
{
    struct fp_injector *i;
    int rc = check_args(host, args, err);

    if (rc)
        return rc;
    if (strncmp(args->input, "pipe:", 5))
        return host->fail(err, -EINVAL, "injector memory: the output '%s' is not pipe:NAME", args->input);
    i = calloc(1, sizeof *i);
    if (!i)
        return host->fail(err, -ENOMEM, "injector memory: out of memory");
    i->host = host;
    i->pipe = take_end(args->input + 5, false, 1);
    if (!i->pipe) {
        free(i);
        return host->fail(err, -EBUSY, "injector memory: %s has a writer already, or there are too many pipes", args->input);
    }
    *out = i;
    return probe_injector(host, caps, err);
}

/* One frame into its queue; 0 = the ring is full. */
static int send_one(struct pipe *p, unsigned queue, const struct fp_packet *f)
{
    struct ring *r = &p->rings[queue];
    struct slot *s = &r->slots[r->head % SLOTS];

    if (f->caplen > LONGEST || f->len != f->caplen)
        return -EMSGSIZE;
    if (r->head - r->tail == SLOTS)
        return 0;
    if (!s->data)
        s->data = malloc(LONGEST);
    if (!s->data)
        return -ENOMEM;
    memcpy(s->data, f->data, f->caplen);
    s->packet = *f;
    s->packet.data = s->data;
    s->packet.queue = (uint16_t)queue;
    s->packet.ts_source = FP_TS_SENDER;
    r->head++;
    return 1;
}

static int send_frames(struct fp_injector *i, unsigned queue, const struct fp_packet *frames, const int64_t *due_ns, unsigned count,
                       char *err)
{
    unsigned n = 0;
    int rc = 1;

    (void)queue, (void)due_ns, (void)err;
    pthread_mutex_lock(&i->pipe->lock);
    if (i->pipe->stopped)
        rc = -EPIPE;
    while (n < count && rc > 0) {
        unsigned to = i->pipe->queues > 1 ? i->host->flow_hash(&frames[n]) % i->pipe->queues : 0;
        rc = send_one(i->pipe, to, &frames[n]);
        n += rc > 0;
    }
    i->sent += n;
    pthread_cond_broadcast(&i->pipe->changed);
    pthread_mutex_unlock(&i->pipe->lock);
    return n ? (int)n : rc > 0 ? 0 : rc;
}

static int inside(const struct pipe *p)
{
    unsigned n = 0;

    for (unsigned q = 0; q < p->queues; q++)
        n += p->rings[q].head - p->rings[q].tail;
    return (int)n;
}

static int drain(struct fp_injector *i, int wait_ms, char *err)
{
    int n;

    (void)err;
    pthread_mutex_lock(&i->pipe->lock);
    if (inside(i->pipe) && !i->pipe->stopped)
        wait_changed(i->pipe, wait_ms);
    n = i->pipe->stopped ? 0 : inside(i->pipe);
    pthread_mutex_unlock(&i->pipe->lock);
    return n;
}

static int injector_stats(struct fp_injector *i, struct fp_stats *out)
{
    *out = (struct fp_stats){.received = i->sent};
    return 0;
}

static void close_injector(struct fp_injector *i)
{
    leave(i->pipe, false);
    free(i);
}

static const struct fp_backend_ops ops = {
    .abi = FP_ABI,
    .size = sizeof ops,
    .name = "memory",
    .summary = "frames from a buffer in memory, or through a pipe between threads",
    .probe = probe,
    .open = open_source,
    .recv = recv_burst,
    .release = release_burst,
    .stop = stop_source,
    .stats = stats,
    .close = close_source,
};

static const struct fp_injector_ops injector = {
    .abi = FP_ABI,
    .size = sizeof injector,
    .name = "memory",
    .summary = "a pipe between threads",
    .probe = probe_injector,
    .open = open_injector,
    .send = send_frames,
    .drain = drain,
    .stats = injector_stats,
    .close = close_injector,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .backend = &ops, .injector = &injector};

/* SPDX-License-Identifier: Apache-2.0
 *
 * The fastest sender: BPF_PROG_RUN with live frames. The kernel runs a program again and again on frames of its own; the program fills each
 * from a table of frames in a map and sends it on. Root only.
 *
 * Options:
 *
 *  - into=peer: out of the named interface by redirection. A veth delivers these only if the other end runs NAPI (a native XDP program, or
 *    GRO); otherwise they are lost, and counted as such by stats.
 *  - into=stack: into the kernel, as if the named interface had received them.
 *  - into=nothing: made and dropped, which shows what the machine can do at most.
 *  - rate=PPS: on an absolute schedule, kept by the program; without it as fast as it goes.
 *  - loop=N: everything is sent N times over.
 *  - encapsulate=0|1: as in the injector af_packet: each frame's own time goes before it, for backend af_xdp with times=sender.
 *
 * Frames are collected until the table is full or drain is called, and leave then. They lie in the table one behind the other, not a page
 * apart: at this speed a frame that is not in the cache costs more than all of the program.
 */
#include <bpf/bpf.h>
#include <endian.h>
#include <sys/mman.h>

#include "../linux_interface.h"
#include "counters.h"
#include "program.h"

#define BATCH       128u
#define NAP_NS      1000000
#define PROGRESS_NS 500000000
#define CHUNK       (1u << 19) /* runs in one call while waiting for the schedule: some 30 ms */

struct fp_injector {
    const struct fp_host *host;
    struct li_interface interface;
    enum into into;
    bool encapsulate;
    unsigned long rate, loop;
    int table_map, state_map, program;
    uint8_t *table;
    struct state *state;
    uint32_t filled, end; /* frames in the table, octets of it in use */
    uint64_t sent, errors_before, transmitted_before;
    bool veth;
    int64_t first_ns, last_ns; /* CLOCK_MONOTONIC around everything that was sent */
};

static struct fp_injector_caps send_caps(bool exact)
{
    return (struct fp_injector_caps){.size = sizeof(struct fp_injector_caps),
                                     .flags = exact ? FP_CAP_EXACT_TIME : 0,
                                     .queues = 1,
                                     .min_frame = 14,
                                     .max_frame = LONGEST,
                                     .rate_pps = 3000000};
}

static int make_map(size_t size)
{
    struct bpf_map_create_opts opts = {.sz = sizeof opts, .map_flags = BPF_F_MMAPABLE};

    return bpf_map_create(BPF_MAP_TYPE_ARRAY, "fp_live", 4, (uint32_t)size, 1, &opts);
}

static int probe(const struct fp_host *host, struct fp_injector_caps *caps, char *err)
{
    int map = make_map(sizeof(struct state));

    *caps = send_caps(false);
    if (map < 0)
        return host->fail(
            err, -EPERM, "injector xdp_live: no privilege to run BPF programs (%s); run as root of the host, or use the injector af_packet",
            strerror(-map));
    close(map);
    return 0;
}

static int into_of(const char *text)
{
    return !strcmp(text, "peer") ? INTO_PEER : !strcmp(text, "stack") ? INTO_STACK : !strcmp(text, "nothing") ? INTO_NOTHING : -1;
}

static int read_options(struct fp_injector *t, const struct fp_open_args *args, char *err)
{
    for (uint32_t i = 0; i < args->noptions; i++) {
        const struct fp_option *o = &args->options[i];
        bool one = !strcmp(o->value, "1");
        int rc = 0;
        if (!strcmp(o->key, "into") && into_of(o->value) >= 0)
            t->into = (enum into)into_of(o->value);
        else if (!strcmp(o->key, "encapsulate") && (one || !strcmp(o->value, "0")))
            t->encapsulate = one;
        else if (!strcmp(o->key, "time") && !strcmp(o->value, "none"))
            continue; /* as the injector af_packet takes it: these frames have no time beside them */
        else if (!strcmp(o->key, "rate"))
            rc = li_number(t->host, "xdp_live", o, 1, 100000000, &t->rate, err);
        else if (!strcmp(o->key, "loop"))
            rc = li_number(t->host, "xdp_live", o, 1, 1000000000, &t->loop, err);
        else
            rc = t->host->fail(
                err, -EINVAL,
                "injector xdp_live: '%s=%s' is none of into=peer, into=stack, into=nothing, rate=PPS, loop=N, encapsulate=0, encapsulate=1",
                o->key, o->value);
        if (rc)
            return rc;
    }
    return 0;
}

static void close_injector(struct fp_injector *t)
{
    if (t->table)
        munmap(t->table, TABLE + PAGE);
    if (t->state)
        munmap(t->state, PAGE);
    for (int i = 0; i < 3; i++) {
        int fd = (int[]){t->table_map, t->state_map, t->program}[i];
        if (fd >= 0)
            close(fd);
    }
    free(t);
}

static int open_maps(struct fp_injector *t, char *err)
{
    void *map;

    t->table_map = make_map(TABLE + PAGE);
    t->state_map = make_map(sizeof(struct state));
    if (t->table_map < 0 || t->state_map < 0)
        return t->host->fail(err, -ENOMEM, "injector xdp_live: no map of %u MiB for the frames", TABLE >> 20);
    map = mmap(NULL, TABLE + PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, t->table_map, 0);
    t->table = map == MAP_FAILED ? NULL : map;
    map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, t->state_map, 0);
    t->state = map == MAP_FAILED ? NULL : map;
    return t->table && t->state ? 0 : t->host->fail(err, -errno, "injector xdp_live: the map cannot be mapped: %s", strerror(errno));
}

static int open_injector(const struct fp_host *host, const struct fp_open_args *args, struct fp_injector **out,
                         struct fp_injector_caps *caps, char *err)
{
    struct fp_injector *t = calloc(1, sizeof *t);
    struct assembly a;
    int rc;

    if (!t)
        return host->fail(err, -ENOMEM, "injector xdp_live: out of memory");
    t->host = host;
    t->interface.name = args->input;
    t->loop = 1;
    t->table_map = t->state_map = t->program = -1;
    rc = read_options(t, args, err);
    if (!rc && args->queues != 1)
        rc = host->fail(err, -E2BIG, "injector xdp_live: it has one queue, not %u", args->queues);
    if (!rc)
        rc = probe(host, caps, err);
    if (!rc)
        rc = li_open(host, &t->interface, err);
    if (!rc)
        rc = open_maps(t, err);
    if (!rc) {
        assemble(&a, &(struct plan){t->into, t->interface.index, t->rate != 0, t->table_map, t->state_map});
        t->program = bpf_prog_load(BPF_PROG_TYPE_XDP, "fp_live", "GPL", a.code, a.n, NULL);
        if (t->program < 0)
            rc = host->fail(err, t->program, "injector xdp_live: the kernel refuses the program (%s); it needs Linux 5.18",
                            strerror(-t->program));
    }
    if (rc) {
        close_injector(t);
        return rc;
    }
    t->veth = is_veth(&t->interface);
    t->errors_before = transmit_errors(&t->interface);
    t->transmitted_before = transmitted(&t->interface);
    t->state->gap = t->rate ? (UINT64_C(1000000000) << 16) / t->rate : 0;
    *caps = send_caps(t->encapsulate);
    *out = t;
    return 0;
}

/* Sends everything in the table, `loop` times. */
static int flush(struct fp_injector *t, char *err)
{
    uint8_t template[LONGEST + ENCAPSULATION] = {0};
    uint32_t length = t->filled ? (uint32_t)((struct slot *)t->table)->len : 0;
    struct xdp_md context = {.data_end = length, .ingress_ifindex = (uint32_t)t->interface.index};
    struct bpf_test_run_opts opts = {.sz = sizeof opts,
                                     .data_in = template,
                                     .data_size_in = length,
                                     .ctx_in = &context,
                                     .ctx_size_in = sizeof context,
                                     .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
                                     .batch_size = BATCH};
    volatile struct state *s = t->state;
    int rc = 0;

    if (!t->filled)
        return 0;
    s->at = 0;
    s->end = t->end;
    s->next = 0;
    s->count = (uint64_t)t->filled * t->loop;
    if (t->rate && !s->start)
        s->start = (uint64_t)li_now(CLOCK_MONOTONIC) + 1000000;
    if (!t->first_ns)
        t->first_ns = t->rate ? (int64_t)s->start : li_now(CLOCK_MONOTONIC);
    while (s->next < s->count) {
        uint64_t left = s->count - s->next;
        opts.repeat = (int)(t->rate || left > CHUNK ? CHUNK : left);
        rc = bpf_prog_test_run_opts(t->program, &opts);
        if (rc == -EINTR)
            continue;
        if (rc)
            break;
    }
    t->last_ns = t->rate ? (int64_t)s->last : li_now(CLOCK_MONOTONIC);
    t->sent += s->next;
    s->before += s->next;
    t->filled = t->end = 0;
    return rc ? t->host->fail(err, rc, "injector xdp_live: the kernel does not run the program: %s", strerror(-rc)) : 0;
}

static int put(struct fp_injector *t, const struct fp_packet *p)
{
    static const uint8_t header[ENCAPSULATION] = {[12] = 0x08, [14] = 0x45, [17] = 20,  [22] = 64, [23] = 253,
                                                  [30] = 'F',  [31] = 'P',  [32] = 't', [33] = 's'};
    struct fp_segment first = {.data = p->data, .len = p->len, .next = p->next};
    struct slot *slot = (struct slot *)(t->table + t->end);
    uint8_t *at = slot->data;

    if (p->caplen > LONGEST)
        return -EMSGSIZE;
    if (p->caplen < 14)
        return -ERANGE;
    if (t->encapsulate) {
        uint64_t ts = htobe64((uint64_t)p->ts_ns);
        uint32_t seq = htobe32((uint32_t)p->seq), flow = htobe32(t->host->flow_hash(p));
        if (p->ts_ns <= 0)
            return -ERANGE;
        memcpy(at, header, sizeof header);
        memcpy(at, &ts, 8);
        memcpy(at + 8, &seq, 4);
        memcpy(at + 26, &flow, 4);
        at += sizeof header;
    }
    for (const struct fp_segment *s = &first; s; s = s->next) {
        memcpy(at, s->data, s->len);
        at += s->len;
    }
    slot->len = (uint64_t)(at - slot->data);
    t->end += (uint32_t)(sizeof *slot + slot->len + 7) & ~7u;
    t->filled++;
    return 0;
}

static int send_burst(struct fp_injector *t, unsigned queue, const struct fp_packet *packets, const int64_t *due_ns, unsigned count,
                      char *err)
{
    (void)queue, (void)due_ns; /* the schedule is the option rate */
    for (unsigned i = 0; i < count; i++) {
        int rc = put(t, &packets[i]);
        if (rc)
            return i ? (int)i : t->host->fail(err, rc, "a frame of %u octets, or its time, cannot be carried", packets[i].caplen);
        rc = t->end > TABLE - PAGE ? flush(t, err) : 0;
        if (rc)
            return rc;
    }
    return (int)count;
}

static int drain(struct fp_injector *t, int wait_ms, char *err)
{
    (void)wait_ms;
    return flush(t, err);
}

/* How many redirected frames a veth's peer did not take. It may be busy with them still: one that makes no progress any more is done. */
static uint64_t not_taken(const struct fp_injector *t)
{
    struct timespec nap = {.tv_nsec = NAP_NS};
    uint64_t taken = 0, before;
    int64_t since = li_now(CLOCK_MONOTONIC);

    for (;;) {
        before = taken;
        taken = transmitted(&t->interface) - t->transmitted_before;
        if (taken >= t->sent)
            return 0;
        if (taken > before)
            since = li_now(CLOCK_MONOTONIC);
        else if (li_now(CLOCK_MONOTONIC) - since > PROGRESS_NS)
            return t->sent - taken;
        nanosleep(&nap, NULL);
    }
}

static int stats(struct fp_injector *t, struct fp_stats *out)
{
    const volatile struct state *s = t->state;
    uint64_t errors = t->into == INTO_PEER ? transmit_errors(&t->interface) - t->errors_before : 0;
    uint64_t gone = t->into == INTO_PEER && t->veth ? not_taken(t) : 0;

    *out = (struct fp_stats){.received = t->sent, .dropped = s->failed + (gone > errors ? gone : errors)};
    return 0;
}

static int departure(struct fp_injector *t, struct fp_departure *out)
{
    const volatile struct state *s = t->state;

    *out = (struct fp_departure){.frames = t->sent, .first_ns = t->first_ns, .last_ns = t->last_ns, .worst_lateness_ns = (int64_t)s->worst};
    return 0;
}

static const struct fp_injector_ops ops = {
    .abi = FP_ABI,
    .size = sizeof ops,
    .name = "xdp_live",
    .summary = "BPF_PROG_RUN with live frames, the fastest into veth and stack; root only",
    .probe = probe,
    .open = open_injector,
    .send = send_burst,
    .drain = drain,
    .stats = stats,
    .close = close_injector,
    .departure = departure,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .injector = &ops};

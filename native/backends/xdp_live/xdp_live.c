/* SPDX-License-Identifier: Apache-2.0
 *
 * The fastest sender: BPF_PROG_RUN with live frames. The kernel runs a program again and again on frames of its own; the program fills each
 * from a table of frames in a map and sends it on. Root only.
 *
 * Options:
 *   into=peer|stack  peer: out of the named interface by redirection. A veth delivers these only if the other end runs NAPI (a native XDP
 * program, or GRO); otherwise they are lost, and counted as such by stats. stack: into the kernel, as if the named interface had received
 * them. rate=PPS         on an absolute schedule, kept by the program; without it as fast as it goes loop=N           everything is sent N
 * times over encapsulate=0|1  as in the injector af_packet: each frame's own time goes before it, for backend af_xdp with times=sender
 *
 * Frames are collected until the table is full or drain is called, and leave then.
 */
#include <bpf/bpf.h>
#include <endian.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>

#include "../linux_interface.h"

#define SLOT          4096u
#define SLOTS         16384u
#define LONGEST       3400u /* a page less headroom and the kernel's own end of a frame */
#define TEMPLATE      64u   /* length of the frame that the program is given */
#define BATCH         64u
#define CHUNK         (1u << 19) /* runs in one call while waiting for the schedule: some 30 ms */
#define ENCAPSULATION 34u

/* What program and user space share; 64-bit words at these places. */
struct state {
    uint64_t next;   /* sent of this flush */
    uint64_t count;  /* to be sent in this flush */
    uint64_t frames; /* in the table */
    uint64_t start;  /* CLOCK_MONOTONIC of the first frame of all; 0 = no schedule */
    uint64_t gap;    /* ns between frames, times 65,536 */
    uint64_t before; /* sent in earlier flushes */
    uint64_t worst;  /* lateness, ns */
    uint64_t failed; /* frames that the program could not make */
};

struct slot {
    uint32_t len;
    uint8_t data[SLOT - 4];
};

struct fp_injector {
    const struct fp_host *host;
    struct li_interface interface;
    bool stack, encapsulate;
    unsigned long rate, loop;
    int frames_map, state_map, program;
    struct slot *slots;
    struct state *state;
    uint32_t filled;
    uint64_t sent, lost, errors_before;
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

static int make_map(size_t size, uint32_t entries)
{
    struct bpf_map_create_opts opts = {.sz = sizeof opts, .map_flags = BPF_F_MMAPABLE};

    return bpf_map_create(BPF_MAP_TYPE_ARRAY, "fp_live", 4, (uint32_t)size, entries, &opts);
}

static int probe(const struct fp_host *host, struct fp_injector_caps *caps, char *err)
{
    int map = make_map(sizeof(struct state), 1);

    *caps = send_caps(false);
    if (map < 0)
        return host->fail(
            err, -EPERM, "injector xdp_live: no privilege to run BPF programs (%s); run as root of the host, or use the injector af_packet",
            strerror(-map));
    close(map);
    return 0;
}

/* The instructions of the program. */
#define INSN(c, d, s, o, i)  ((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (int16_t)(o), .imm = (int32_t)(i)})
#define MOV(d, s)            INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOVI(d, i)           INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ALU(op, d, s)        INSN(BPF_ALU64 | (op) | BPF_X, d, s, 0, 0)
#define ALUI(op, d, i)       INSN(BPF_ALU64 | (op) | BPF_K, d, 0, 0, i)
#define LOAD(size, d, s, o)  INSN(BPF_LDX | BPF_MEM | (size), d, s, o, 0)
#define STORE(size, d, o, s) INSN(BPF_STX | BPF_MEM | (size), d, s, o, 0)
#define CALL(f)              INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define EXIT()               INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define WORD(member)         ((int)offsetof(struct state, member))

struct assembly {
    struct bpf_insn code[96];
    unsigned n;
    unsigned idle[6], nidle;
    unsigned bad[6], nbad;
};

static unsigned emit(struct assembly *a, struct bpf_insn insn)
{
    a->code[a->n] = insn;
    return a->n++;
}

/* Jumps, when the test holds, to where nothing is sent. */
static void idle_if(struct assembly *a, uint8_t test, uint8_t dst, uint8_t src, int imm)
{
    a->idle[a->nidle++] = emit(a, INSN(BPF_JMP | test, dst, src, 0, imm));
}

static void bad_if(struct assembly *a, uint8_t test, uint8_t dst, uint8_t src, int imm)
{
    a->bad[a->nbad++] = emit(a, INSN(BPF_JMP | test, dst, src, 0, imm));
}

/* r0 = the element of the map whose number stands at `key` on the stack. */
static void emit_lookup(struct assembly *a, int map, int key)
{
    emit(a, INSN(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map));
    emit(a, INSN(0, 0, 0, 0, 0));
    emit(a, MOV(BPF_REG_2, BPF_REG_10));
    emit(a, ALUI(BPF_ADD, BPF_REG_2, key));
    emit(a, CALL(BPF_FUNC_map_lookup_elem));
}

/* r6 = context, r7 = state, r8 = next: goes on only when the schedule says so. */
static void emit_schedule(struct assembly *a)
{
    unsigned unscheduled, early, not_worst;

    emit(a, LOAD(BPF_DW, BPF_REG_9, BPF_REG_7, WORD(start)));
    unscheduled = emit(a, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_9, 0, 0, 0));
    emit(a, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, WORD(before)));
    emit(a, ALU(BPF_ADD, BPF_REG_1, BPF_REG_8));
    emit(a, LOAD(BPF_DW, BPF_REG_2, BPF_REG_7, WORD(gap)));
    emit(a, ALU(BPF_MUL, BPF_REG_1, BPF_REG_2));
    emit(a, ALUI(BPF_RSH, BPF_REG_1, 16));
    emit(a, ALU(BPF_ADD, BPF_REG_9, BPF_REG_1)); /* due */
    emit(a, CALL(BPF_FUNC_ktime_get_ns));
    early = emit(a, INSN(BPF_JMP | BPF_JLT | BPF_X, BPF_REG_0, BPF_REG_9, 0, 0));
    a->idle[a->nidle++] = early;
    emit(a, ALU(BPF_SUB, BPF_REG_0, BPF_REG_9));
    emit(a, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, WORD(worst)));
    not_worst = emit(a, INSN(BPF_JMP | BPF_JLE | BPF_X, BPF_REG_0, BPF_REG_1, 0, 0));
    emit(a, STORE(BPF_DW, BPF_REG_7, WORD(worst), BPF_REG_0));
    a->code[not_worst].off = (int16_t)(a->n - not_worst - 1);
    a->code[unscheduled].off = (int16_t)(a->n - unscheduled - 1);
}

static void assemble(struct assembly *a, const struct fp_injector *t)
{
    *a = (struct assembly){.n = 0};
    emit(a, MOV(BPF_REG_6, BPF_REG_1));
    emit(a, INSN(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, -4, 0));
    emit_lookup(a, t->state_map, -4);
    idle_if(a, BPF_JEQ | BPF_K, BPF_REG_0, 0, 0);
    emit(a, MOV(BPF_REG_7, BPF_REG_0));
    emit(a, LOAD(BPF_DW, BPF_REG_8, BPF_REG_7, WORD(next)));
    emit(a, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, WORD(count)));
    idle_if(a, BPF_JGE | BPF_X, BPF_REG_8, BPF_REG_1, 0);
    emit_schedule(a);
    /* The slot of this frame: next modulo frames. */
    emit(a, MOV(BPF_REG_1, BPF_REG_8));
    emit(a, LOAD(BPF_DW, BPF_REG_2, BPF_REG_7, WORD(frames)));
    emit(a, ALU(BPF_MOD, BPF_REG_1, BPF_REG_2));
    emit(a, STORE(BPF_W, BPF_REG_10, -8, BPF_REG_1));
    emit_lookup(a, t->frames_map, -8);
    idle_if(a, BPF_JEQ | BPF_K, BPF_REG_0, 0, 0);
    emit(a, MOV(BPF_REG_9, BPF_REG_0));
    emit(a, ALUI(BPF_ADD, BPF_REG_8, 1));
    emit(a, STORE(BPF_DW, BPF_REG_7, WORD(next), BPF_REG_8));
    /* The frame gets its length and its octets. */
    emit(a, LOAD(BPF_W, BPF_REG_8, BPF_REG_9, 0));
    bad_if(a, BPF_JLT | BPF_K, BPF_REG_8, 0, 14);
    bad_if(a, BPF_JGT | BPF_K, BPF_REG_8, 0, LONGEST + ENCAPSULATION);
    emit(a, MOV(BPF_REG_1, BPF_REG_6));
    emit(a, MOV(BPF_REG_2, BPF_REG_8));
    emit(a, ALUI(BPF_SUB, BPF_REG_2, TEMPLATE));
    emit(a, CALL(BPF_FUNC_xdp_adjust_tail));
    bad_if(a, BPF_JNE | BPF_K, BPF_REG_0, 0, 0);
    emit(a, MOV(BPF_REG_1, BPF_REG_6));
    emit(a, MOVI(BPF_REG_2, 0));
    emit(a, MOV(BPF_REG_3, BPF_REG_9));
    emit(a, ALUI(BPF_ADD, BPF_REG_3, 4));
    emit(a, MOV(BPF_REG_4, BPF_REG_8));
    emit(a, CALL(BPF_FUNC_xdp_store_bytes));
    bad_if(a, BPF_JNE | BPF_K, BPF_REG_0, 0, 0);
    if (t->stack) {
        emit(a, MOVI(BPF_REG_0, XDP_PASS));
    } else {
        emit(a, MOVI(BPF_REG_1, t->interface.index));
        emit(a, MOVI(BPF_REG_2, 0));
        emit(a, CALL(BPF_FUNC_redirect));
    }
    emit(a, EXIT());
    for (unsigned i = 0; i < a->nbad; i++)
        a->code[a->bad[i]].off = (int16_t)(a->n - a->bad[i] - 1);
    emit(a, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, WORD(failed)));
    emit(a, ALUI(BPF_ADD, BPF_REG_1, 1));
    emit(a, STORE(BPF_DW, BPF_REG_7, WORD(failed), BPF_REG_1));
    for (unsigned i = 0; i < a->nidle; i++)
        a->code[a->idle[i]].off = (int16_t)(a->n - a->idle[i] - 1);
    emit(a, MOVI(BPF_REG_0, XDP_DROP));
    emit(a, EXIT());
}

static int read_options(struct fp_injector *t, const struct fp_open_args *args, char *err)
{
    for (uint32_t i = 0; i < args->noptions; i++) {
        const struct fp_option *o = &args->options[i];
        bool one = !strcmp(o->value, "1");
        int rc = 0;
        if (!strcmp(o->key, "into") && (!strcmp(o->value, "peer") || !strcmp(o->value, "stack")))
            t->stack = !strcmp(o->value, "stack");
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
                err, -EINVAL, "injector xdp_live: '%s=%s' is none of into=peer, into=stack, rate=PPS, loop=N, encapsulate=0, encapsulate=1",
                o->key, o->value);
        if (rc)
            return rc;
    }
    return 0;
}

/* The sum of what the interface could not send on: the only place where a redirection into a full or sleeping veth shows. */
static uint64_t transmit_errors(const struct li_interface *i)
{
    struct ethtool_sset_info *set = calloc(1, sizeof *set + 4);
    struct ethtool_gstrings *names = NULL;
    struct ethtool_stats *values = NULL;
    struct ifreq ifr = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint64_t sum = 0;
    uint32_t n;

    if (fd < 0 || !set)
        goto out;
    strcpy(ifr.ifr_name, i->name);
    *set = (struct ethtool_sset_info){.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ull << ETH_SS_STATS};
    ifr.ifr_data = (char *)set;
    if (ioctl(fd, SIOCETHTOOL, &ifr) || !set->sset_mask)
        goto out;
    n = set->data[0];
    names = calloc(1, sizeof *names + (size_t)n * ETH_GSTRING_LEN);
    values = calloc(1, sizeof *values + (size_t)n * sizeof(uint64_t));
    if (!names || !values)
        goto out;
    *names = (struct ethtool_gstrings){.cmd = ETHTOOL_GSTRINGS, .string_set = ETH_SS_STATS, .len = n};
    ifr.ifr_data = (char *)names;
    if (ioctl(fd, SIOCETHTOOL, &ifr))
        goto out;
    *values = (struct ethtool_stats){.cmd = ETHTOOL_GSTATS, .n_stats = n};
    ifr.ifr_data = (char *)values;
    if (ioctl(fd, SIOCETHTOOL, &ifr))
        goto out;
    for (uint32_t k = 0; k < n; k++)
        if (strstr((const char *)names->data + (size_t)k * ETH_GSTRING_LEN, "xdp_xmit_errors"))
            sum += values->data[k];
out:
    free(values);
    free(names);
    free(set);
    if (fd >= 0)
        close(fd);
    return sum;
}

static void close_injector(struct fp_injector *t)
{
    if (t->slots)
        munmap(t->slots, (size_t)SLOTS * SLOT);
    if (t->state)
        munmap(t->state, SLOT);
    for (int i = 0; i < 3; i++) {
        int fd = (int[]){t->frames_map, t->state_map, t->program}[i];
        if (fd >= 0)
            close(fd);
    }
    free(t);
}

static int open_maps(struct fp_injector *t, char *err)
{
    void *map;

    t->frames_map = make_map(SLOT, SLOTS);
    t->state_map = make_map(sizeof(struct state), 1);
    if (t->frames_map < 0 || t->state_map < 0)
        return t->host->fail(err, -ENOMEM, "injector xdp_live: no map of %u MiB for the frames", SLOTS / 1024 * SLOT / 1024);
    map = mmap(NULL, (size_t)SLOTS * SLOT, PROT_READ | PROT_WRITE, MAP_SHARED, t->frames_map, 0);
    t->slots = map == MAP_FAILED ? NULL : map;
    map = mmap(NULL, SLOT, PROT_READ | PROT_WRITE, MAP_SHARED, t->state_map, 0);
    t->state = map == MAP_FAILED ? NULL : map;
    return t->slots && t->state ? 0 : t->host->fail(err, -errno, "injector xdp_live: the map cannot be mapped: %s", strerror(errno));
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
    t->frames_map = t->state_map = t->program = -1;
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
        assemble(&a, t);
        t->program = bpf_prog_load(BPF_PROG_TYPE_XDP, "fp_live", "GPL", a.code, a.n, NULL);
        if (t->program < 0)
            rc = host->fail(err, t->program, "injector xdp_live: the kernel refuses the program (%s); it needs Linux 5.18",
                            strerror(-t->program));
    }
    if (rc) {
        close_injector(t);
        return rc;
    }
    t->errors_before = transmit_errors(&t->interface);
    t->state->gap = t->rate ? (UINT64_C(1000000000) << 16) / t->rate : 0;
    *caps = send_caps(t->encapsulate);
    *out = t;
    return 0;
}

/* Sends everything in the table, `loop` times. */
static int flush(struct fp_injector *t, char *err)
{
    uint8_t template[TEMPLATE] = {0};
    struct xdp_md context = {.data_end = TEMPLATE, .ingress_ifindex = (uint32_t)t->interface.index};
    struct bpf_test_run_opts opts = {.sz = sizeof opts,
                                     .data_in = template,
                                     .data_size_in = TEMPLATE,
                                     .ctx_in = &context,
                                     .ctx_size_in = sizeof context,
                                     .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
                                     .batch_size = BATCH};
    volatile struct state *s = t->state;
    int rc = 0;

    if (!t->filled)
        return 0;
    s->frames = t->filled;
    s->next = 0;
    s->count = (uint64_t)t->filled * t->loop;
    if (t->rate && !s->start)
        s->start = (uint64_t)li_now(CLOCK_MONOTONIC) + 1000000;
    while (s->next < s->count) {
        uint64_t left = s->count - s->next;
        opts.repeat = (int)(t->rate || left > CHUNK ? CHUNK : left);
        rc = bpf_prog_test_run_opts(t->program, &opts);
        if (rc == -EINTR)
            continue;
        if (rc)
            break;
    }
    t->sent += s->next;
    s->before += s->next;
    t->filled = 0;
    return rc ? t->host->fail(err, rc, "injector xdp_live: the kernel does not run the program: %s", strerror(-rc)) : 0;
}

static int put(struct fp_injector *t, const struct fp_packet *p)
{
    static const uint8_t header[ENCAPSULATION] = {[12] = 0x08, [14] = 0x45, [17] = 20,  [22] = 64, [23] = 253,
                                                  [30] = 'F',  [31] = 'P',  [32] = 't', [33] = 's'};
    struct fp_segment first = {.data = p->data, .len = p->len, .next = p->next};
    struct slot *slot = &t->slots[t->filled];
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
    slot->len = (uint32_t)(at - slot->data);
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
        rc = t->filled == SLOTS ? flush(t, err) : 0;
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

static int stats(struct fp_injector *t, struct fp_stats *out)
{
    const volatile struct state *s = t->state;

    *out = (struct fp_stats){.received = t->sent, .dropped = s->failed + transmit_errors(&t->interface) - t->errors_before};
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
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .injector = &ops};

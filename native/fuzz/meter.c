/* SPDX-License-Identifier: Apache-2.0
 *
 * The whole meter over a program of packets, twice: with other batches, another sweep and another hash seed the records are the same (the
 * ruling idea of docs/semantics.md) unless something was evicted or shed; and nothing is ever lost (S-INV-1, S-INV-2). A third time as
 * live: with a flow of our own, judged times and an idle queue.
 *
 * Input: the profile and both ways to run it, then one packet after another: an octet that says what it is and how it is timed, one that
 * names its flow, one of flags; or a length and that many octets of Ethernet frame.
 */
#include "meter.h"

#include <sanitizer/asan_interface.h>
#include <sys/types.h>

#include "clock.h"
#include "hash.h"
#include "input.h"

#define MAX_PACKETS 64u
#define FRAME       96u

static const int64_t gaps[16] = {
    0,
    1,
    FP_MILLISECOND,
    99 * FP_MILLISECOND,
    100 * FP_MILLISECOND,
    101 * FP_MILLISECOND,
    FP_SECOND - 1,
    FP_SECOND,
    2 * FP_SECOND,
    3 * FP_SECOND,
    40 * FP_SECOND,
    -1,
    -FP_MILLISECOND,
    -100 * FP_MILLISECOND,
    -2 * FP_SECOND,
    -40 * FP_SECOND,
};

struct tally {
    uint64_t packets, records, digest;
};

struct program {
    struct fp_packet packets[MAX_PACKETS];
    uint8_t frames[MAX_PACKETS][FRAME];
    unsigned count;
};

static void put(void *context, const struct fp_record *r)
{
    struct tally *t = context;
    const struct fp_body *b = &r->body;
    uint64_t h;

    REQUIRE(r->kind == FP_IPV4 || r->kind == FP_IPV6);
    REQUIRE(r->reason >= FP_IDLE && r->reason <= FP_RESOURCES);
    REQUIRE(b->packets >= 1 && b->octets >= b->packets && b->first <= b->last);
    h = fp_splitmix(r->source[0], r->kind) ^ fp_splitmix(b->ports, 1) ^ fp_splitmix(b->word, 2) ^ fp_splitmix((uint64_t)b->first, 3) ^
        fp_splitmix((uint64_t)b->last, 4) ^ fp_splitmix(b->packets, 5) ^ fp_splitmix(b->octets, 6) ^ fp_splitmix(r->reason, 7) ^
        fp_splitmix(r->label, 8);
    if (r->kind == FP_IPV6)
        h ^= fp_splitmix(r->source[1], 9) ^ fp_splitmix(r->destination[0], 10) ^ fp_splitmix(r->destination[1], 11);
    t->digest += fp_splitmix(h, 0);
    t->packets += b->packets;
    t->records++;
}

static size_t canned(uint8_t *d, unsigned six, unsigned flow, unsigned flags)
{
    static const uint8_t protocols[4] = {6, 17, 1, 132};
    unsigned protocol = protocols[flow >> 6];
    unsigned at = six ? 54 : 34;

    memset(d, 0, FRAME);
    d[12] = six ? 0x86 : 0x08;
    d[13] = six ? 0xDD : 0x00;
    if (six) {
        d[14] = 0x60;
        d[19] = 20;
        d[20] = protocol == 1 ? 58 : (uint8_t)protocol;
        d[37] = flow & 7;
        d[53] = flow >> 3 & 7;
    } else {
        d[14] = 0x45;
        d[17] = 40;
        d[23] = (uint8_t)protocol;
        d[29] = flow & 7;
        d[33] = flow >> 3 & 7;
    }
    d[at + 12] = 0x50;
    d[at + 13] = (uint8_t)flags;
    return at + 20;
}

static void read_program(struct input *in, struct program *p)
{
    int64_t ts = INT64_C(1700000000) * FP_SECOND;
    int64_t largest = ts;

    for (p->count = 0; p->count < MAX_PACKETS && in->left; p->count++) {
        struct fp_packet *packet = &p->packets[p->count];
        unsigned what = (unsigned)take(in, 1);
        size_t length;

        ts = largest + gaps[what & 15];
        largest = fp_max(largest, ts);
        if ((what >> 4 & 3) == 3) {
            length = take(in, 1) % FRAME;
            length = length < in->left ? length : in->left;
            memcpy(p->frames[p->count], in->data, length);
            in->data += length;
            in->left -= length;
        } else {
            unsigned flow = (unsigned)take(in, 1);
            length = canned(p->frames[p->count], (what >> 4 & 3) == 2, flow, (unsigned)take(in, 1));
        }
        *packet = (struct fp_packet){
            .data = p->frames[p->count],
            .len = (uint32_t)length,
            .caplen = (uint32_t)length,
            .wirelen = (uint32_t)length,
            .link = FP_LINK_ETHERNET,
            .ts_ns = ts,
            .segments = what & 0x80 ? UINT16_MAX : 1,
            .seq = p->count,
        };
    }
}

static void read_profile(struct input *in, struct fp_profile *p)
{
    static const int64_t times[4] = {0, FP_SECOND, 2 * FP_SECOND, 3 * FP_SECOND};
    unsigned a = (unsigned)take(in, 1), b = (unsigned)take(in, 1);

    *p = (struct fp_profile){
        .key_classic = a & 1,
        .key_vlan = a & 2,
        .refuse = a & 4,
        .tos_mask = 0xFF,
        .counter_bits = a & 8 ? 32 : 64,
        .sampling = a >> 4 & 3 ? (uint8_t)((a >> 4 & 3) - 1) : 0,
        .sampling_interval = 2,
        .cache_size = a & 0x40 ? 1 + (a >> 7) : 256,
        .idle_timeout = times[b & 3],
        .active_timeout = times[b >> 2 & 3],
        .tcp_end = b & 0x10 ? -1 : times[b >> 5 & 3],
        .reorder = b & 0x80 ? 100 * FP_MILLISECOND : 0,
    };
    if (p->idle_timeout && p->tcp_end > p->idle_timeout)
        p->tcp_end = p->idle_timeout; /* S-PRO-2 */
}

/* Flows of canned(): UDP from 0.0.0.1 to 0.0.0.0, from ::1 to ::, ports 0. */
static const struct fp_own own[2] = {
    {.kind = FP_IPV4, .source = {UINT64_C(1) << 24}},
    {.kind = FP_IPV6, .source = {0, UINT64_C(1) << 56}},
};

static void run(const struct fp_config *config, const struct program *p, struct tally *t, struct fp_account *account)
{
    struct fp_meter m;
    const struct fp_account *a = &m.account;

    *t = (struct tally){0};
    if (fp_meter_init(&m, config, 0, false, (struct fp_sink){put, t}))
        abort();
    if (config->wall) {
        m.own = own;
        m.nown = 2;
    }
    for (unsigned done = 0; done < p->count; done += config->batch) {
        unsigned n = p->count - done < config->batch ? p->count - done : config->batch;
        int64_t now = config->wall && done ? p->packets[done - 1].ts_ns : FP_NS_NONE;
        fp_meter_batch(&m, p->packets + done, n, now);
        ASAN_POISON_MEMORY_REGION(p->frames[done], n * sizeof *p->frames); /* they are released now */
        if (config->wall)
            fp_meter_idle(&m, now);
        REQUIRE(a->metered_packets == t->packets + a->resident_packets);
    }
    fp_meter_idle(&m, FP_NS_NONE); /* what is on its way */
    ASAN_UNPOISON_MEMORY_REGION(p->frames, sizeof p->frames);
    if (m.newest != INT64_MIN)
        fp_meter_finish(&m, m.newest);
    REQUIRE(a->received == p->count);
    REQUIRE(a->received == a->filtered + a->sampled_out + a->non_ip + a->malformed + a->shed + a->metered);
    REQUIRE(a->metered_packets == t->packets && a->resident_packets == 0 && a->resident_records == 0);
    *account = m.account;
    fp_meter_free(&m);
}

/* The tables' memory comes out of here: mapping it for every input would take nearly all the time. */
#define POOL  4u
#define PIECE (64u << 10)
static uint8_t pool[POOL][PIECE] __attribute__((aligned(64)));
static bool taken[POOL];

void *__wrap_mmap(void *, size_t, int, int, int, off_t);
int __wrap_munmap(void *, size_t);

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
    (void)at, (void)protection, (void)flags, (void)file, (void)offset;
    for (unsigned i = 0; i < POOL; i++) {
        if (taken[i])
            continue;
        REQUIRE(size <= PIECE);
        taken[i] = true;
        memset(pool[i], 0, size);
        return pool[i];
    }
    abort();
}

int __wrap_munmap(void *at, size_t size)
{
    (void)size;
    taken[((uint8_t *)at - pool[0]) / PIECE] = false;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct program program;
    struct input in = {data, size};
    struct fp_config config = {.workers = 1};
    struct tally first, second;
    struct fp_account a, b;
    unsigned ways;

    read_profile(&in, &config.profile);
    ways = (unsigned)take(&in, 1);
    read_program(&in, &program);
    config.batch = 1;
    config.sweep_budget = ways & 0x80 ? 3 : 0;
    run(&config, &program, &first, &a);
    config.batch = (uint16_t)(1 + (ways & 0x3F));
    config.sweep_budget = ways >> 6 & 1;
    config.seed = 1 + ways;
    run(&config, &program, &second, &b);
    if (!a.evicted && !b.evicted && !a.shed && !b.shed)
        REQUIRE(first.records == second.records && first.digest == second.digest);
    REQUIRE(a.late == b.late && a.malformed == b.malformed && a.non_ip == b.non_ip && a.sampled_out == b.sampled_out);
    REQUIRE(a.metered + a.shed == b.metered + b.shed);
    config.wall = true;
    config.batch = (uint16_t)(1 + (ways & 7));
    config.profile.max_clock_step = ways & 8 ? 3 * FP_SECOND : 100 * FP_SECOND;
    run(&config, &program, &second, &b);
    if (config.profile.sampling == FP_SAMPLE_ALL) /* else the index of a frame counts those that are not our own */
        REQUIRE(a.malformed == b.malformed && a.non_ip == b.non_ip);
    return 0;
}

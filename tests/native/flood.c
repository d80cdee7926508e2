/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash flooding, counted: `flood` prints how many of 16,384 flows had to leave their two groups for the stash (whose search is linear) and
 * how many slots with a wrong key a look-up compares on average, in thousandths. First for random keys, then for keys that all collide
 * under the seed that the attacker believes in, in a table with another; then in a table with the very seed that was believed.
 *
 * `flood time` measures the same three through the whole meter instead: nanoseconds of processor time for the first packet of a flow and
 * for the others, the least of several rounds that take turns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "hash.h"
#include "meter.h"
#include "table_hot.h"

#define FLOWS  16384u
#define FRAME  64u /* stride; the frame has 60 octets */
#define BATCH  64u
#define ROUNDS 15u
#define PASSES 8u

static void count(void *context, const struct fp_record *r)
{
    (void)r;
    ++*(unsigned *)context;
}

static struct fp_flow flow_of(const struct fp_parser *p, uint64_t number)
{
    struct fp_flow f = {.kind = FP_IPV4, .packets = 1, .octets = 28, .ts = 1, .word = 17u << FP_WORD_PROTOCOL};

    f.source[0] = number * UINT64_C(0x100000001);
    f.ports = number >> 20 & 0xFFFF;
    f.hash = fp_hash4(p->secret, f.source[0], f.ports & p->ports_mask, f.word & p->word_mask);
    return f;
}

static void fill(uint64_t seed, const uint64_t *numbers)
{
    static const struct fp_timeouts never = {.idle = FP_NEVER, .active = FP_NEVER, .tcp_end = FP_NEVER, .limit = UINT64_MAX};
    struct fp_profile profile = {.key_classic = true, .tos_mask = 0xFF};
    struct fp_parser parser;
    struct fp_table t;
    uint64_t compared = 0;
    unsigned handed_over = 0;

    fp_parser_init(&parser, &profile, seed);
    if (fp_table_init(&t, false, FLOWS, &never, &parser, (struct fp_sink){count, &handed_over}, false))
        abort();
    for (unsigned i = 0; i < 2 * FLOWS; i++) {
        struct fp_flow f = flow_of(&parser, numbers[i % FLOWS]);
        if (fp_table_update(&t, &f, 1, 0, false) != FP_STORED)
            abort();
    }
    if (t.resident != FLOWS)
        abort(); /* a record was not found again */
    for (unsigned i = 0; i < FLOWS; i++) {
        struct fp_flow f = flow_of(&parser, numbers[i]);
        for (unsigned which = 0; which < 2; which++) {
            uint32_t group = which ? second_group(&t, f.hash) : first_group(&t, f.hash);
            uint32_t hits = fp_match(t.tags + (size_t)group * FP_GROUP, fp_tag(f.hash));
            for (; hits; hits &= hits - 1)
                compared += !equal(&t, fp_slot(&t, group, (unsigned)__builtin_ctz(hits), false), &f, false);
        }
    }
    printf("%u %u\n", t.stashed, (unsigned)(compared * 1000 / FLOWS));
    fp_table_flush(&t);
    if (handed_over != FLOWS || t.resident)
        abort(); /* a record stayed behind at the end */
    fp_table_free(&t);
}

static int64_t cpu_time(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * FP_SECOND + t.tv_nsec;
}

/* The flows of flow_of() as UDP over IPv4 over Ethernet. */
static void write_frames(uint8_t frames[][FRAME], struct fp_packet *packets, const uint64_t *numbers)
{
    memset(frames, 0, (size_t)FLOWS * FRAME);
    for (unsigned i = 0; i < FLOWS; i++) {
        uint8_t *ip = frames[i] + 14;
        uint32_t address = (uint32_t)numbers[i];
        uint16_t port = (uint16_t)(numbers[i] >> 20);
        frames[i][12] = 0x08;
        ip[0] = 0x45;
        ip[3] = 28;
        ip[9] = 17;
        memcpy(ip + 12, &address, sizeof address);
        memcpy(ip + 16, &address, sizeof address);
        memcpy(ip + 20, &port, sizeof port);
        packets[i] = (struct fp_packet){
            .data = frames[i], .len = 60, .caplen = 60, .wirelen = 60, .link = FP_LINK_ETHERNET, .segments = 1, .ts_ns = FP_SECOND};
    }
}

/* Nanoseconds a packet: [0] for the first of a flow, [1] for the others. */
static void time_meter(uint64_t seed, const struct fp_packet *packets, double least[2])
{
    struct fp_config config = {.workers = 1, .seed = seed, .batch = BATCH};
    struct fp_meter m;
    unsigned handed_over = 0;

    config.profile = (struct fp_profile){
        .key_classic = true, .tos_mask = 0xFF, .counter_bits = 64, .sampling_interval = 1, .cache_size = FLOWS, .tcp_end = -1};
    if (fp_meter_init(&m, &config, 0, false, (struct fp_sink){count, &handed_over}))
        abort();
    for (unsigned pass = 0; pass <= PASSES; pass++) {
        int64_t start = cpu_time();
        double ns;
        for (unsigned i = 0; i < FLOWS; i += BATCH)
            fp_meter_batch(&m, packets + i, BATCH, FP_NS_NONE);
        fp_meter_idle(&m, FP_NS_NONE);
        ns = (double)(cpu_time() - start) / FLOWS;
        least[pass > 0] = ns < least[pass > 0] ? ns : least[pass > 0];
    }
    if (m.table[0].resident != FLOWS || m.account.metered != (uint64_t)FLOWS * (PASSES + 1))
        abort();
    fp_meter_free(&m);
}

static void time_all(const uint64_t *random, const uint64_t *chosen)
{
    static uint8_t frames[2][FLOWS][FRAME];
    static struct fp_packet packets[2][FLOWS];
    double least[3][2] = {{1e9, 1e9}, {1e9, 1e9}, {1e9, 1e9}};

    write_frames(frames[0], packets[0], random);
    write_frames(frames[1], packets[1], chosen);
    for (unsigned round = 0; round < ROUNDS; round++) {
        time_meter(UINT64_C(0x5EED), packets[0], least[0]);
        time_meter(UINT64_C(0x5EED), packets[1], least[1]);
    }
    time_meter(0, packets[1], least[2]);
    for (unsigned i = 0; i < 3; i++)
        printf("%.1f %.1f\n", least[i][0], least[i][1]);
}

int main(int argc, char **argv)
{
    static uint64_t random[FLOWS], chosen[FLOWS];
    struct fp_profile profile = {.key_classic = true, .tos_mask = 0xFF};
    struct fp_parser believed;
    uint64_t number = 0;

    fp_parser_init(&believed, &profile, 0);
    for (unsigned i = 0; i < FLOWS; i++) {
        random[i] = fp_splitmix(7, i);
        /* Both groups in the first sixteenth of the table: sixteen times as many as fit. */
        while (flow_of(&believed, number).hash >> 60 || (flow_of(&believed, number).hash >> 28 & 0xF))
            number++;
        chosen[i] = number++;
    }
    if (argc > 1 && !strcmp(argv[1], "time")) {
        time_all(random, chosen);
        return 0;
    }
    fill(UINT64_C(0x5EED), random);
    fill(UINT64_C(0x5EED), chosen);
    fill(0, chosen);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash flooding, counted: `flood` prints how many of 16,384 flows had to leave their two groups for the stash (whose search is linear) and
 * how many slots with a wrong key a look-up compares on average, in thousandths. First for random keys, then for keys that all collide
 * under the seed that the attacker believes in, in a table with another; then in a table with the very seed that was believed.
 */
#include <stdio.h>
#include <stdlib.h>

#include "hash.h"
#include "table_hot.h"

#define FLOWS 16384u

static void drop(void *context, const struct fp_record *r)
{
    (void)context, (void)r;
}

static struct fp_flow flow_of(const struct fp_parser *p, uint64_t number)
{
    struct fp_flow f = {
        .kind = FP_IPV4, .packets = 1, .octets = 28, .ts = 1, .word = UINT64_C(1) << FP_WORD_USED | 17u << FP_WORD_PROTOCOL};

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

    fp_parser_init(&parser, &profile, seed);
    if (fp_table_init(&t, false, FLOWS, &never, &parser, (struct fp_sink){drop, NULL}, false))
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
    fp_table_free(&t);
}

int main(void)
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
    fill(UINT64_C(0x5EED), random);
    fill(UINT64_C(0x5EED), chosen);
    fill(0, chosen);
    return 0;
}

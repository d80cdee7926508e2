/* SPDX-License-Identifier: Apache-2.0
 *
 * The stash of a table: where records go whose two groups are full, which takes keys that are chosen for the seed. Each check prints
 * "ok NAME" or where it failed.
 */
#include <string.h>

#include "checks.h"
#include "clock.h"
#include "hash.h"
#include "table_hot.h"

#define COLLIDING 48u
#define CACHE     60u
#define OCTETS    100u

/* A table of CACHE records and flows whose keys belong into one group only, whichever way they are looked for. */
struct crowd {
    struct fp_table table;
    struct fp_parser parser;
    struct tally tally;
    struct fp_flow flows[COLLIDING];
    struct fp_flow other; /* into another group */
};

static struct fp_flow flow_of(const struct crowd *c, uint64_t number)
{
    struct fp_flow f = {.kind = c->table.six ? FP_IPV6 : FP_IPV4,
                        .packets = 1,
                        .octets = OCTETS,
                        .ts = FP_SECOND,
                        .ports = number,
                        .source = {number * 7, number + 1},
                        .destination = {3, number * 5},
                        .label = (uint32_t)number & 0xFFFFF,
                        .word = 17u << FP_WORD_PROTOCOL};

    f.hash = c->table.six
                 ? fp_hash6(c->parser.secret, f.source, f.destination, f.ports & c->parser.ports_mask, f.word & c->parser.word_mask)
                 : fp_hash4(c->parser.secret, f.source[0], f.ports & c->parser.ports_mask, f.word & c->parser.word_mask);
    return f;
}

static bool in_group(const struct crowd *c, const struct fp_flow *f, uint32_t group)
{
    return first_group(&c->table, f->hash) == group && second_group(&c->table, f->hash) == group;
}

static bool crowd_init(struct crowd *c, bool six, uint32_t cache_size)
{
    static const struct fp_timeouts timeouts = {
        .idle = 10 * FP_SECOND, .active = 60 * FP_SECOND, .tcp_end = FP_SECOND, .limit = UINT64_MAX};
    struct fp_profile profile = {.key_classic = true, .tos_mask = 0xFF};
    uint64_t number = 0;

    *c = (struct crowd){0};
    fp_parser_init(&c->parser, &profile, 5);
    CHECK(fp_table_init(&c->table, six, cache_size, &timeouts, &c->parser, (struct fp_sink){put, &c->tally}, false) == 0);
    for (unsigned found = 0; found < COLLIDING; number++) {
        struct fp_flow f = flow_of(c, number);
        if (in_group(c, &f, 0))
            c->flows[found++] = f;
    }
    do
        c->other = flow_of(c, number++);
    while (!in_group(c, &c->other, 1));
    return true;
}

static bool fill(struct crowd *c, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        CHECK(fp_table_update(&c->table, &c->flows[i], FP_SECOND, FP_SECOND, false) == FP_STORED);
    return true;
}

/* Every flow has one record, those of the stash too; it says whose it is; they end in time, and what remains ends at the flush. */
static bool stash_keeps_the_table_exact(void)
{
    for (unsigned six = 0; six < 2; six++) {
        for (unsigned way = 0; way < 3; way++) {
            static struct crowd c;
            size_t octets;
            CHECK(crowd_init(&c, six, CACHE));
            octets = fp_table_octets(&c.table);
            CHECK(fill(&c, COLLIDING) && fill(&c, COLLIDING));
            CHECK(c.table.resident == COLLIDING && c.table.stashed == COLLIDING - FP_GROUP && c.tally.records == 0);
            CHECK(fp_table_octets(&c.table) >= octets + c.table.stashed * fp_entry_size(six));
            /* One in the stash goes on for a second more. */
            struct fp_flow again = c.flows[20];
            again.ts += FP_SECOND;
            CHECK(fp_table_update(&c.table, &again, again.ts, again.ts, false) == FP_STORED);
            if (way == 0) {
                fp_table_sweep(&c.table, 11 * FP_SECOND - 1, 10);
                CHECK(c.tally.records == 0);
                fp_table_sweep(&c.table, 11 * FP_SECOND, 10);
            } else if (way == 1) {
                fp_table_sweep_all(&c.table, 11 * FP_SECOND - 1);
                CHECK(c.tally.records == 0);
                fp_table_sweep_all(&c.table, 11 * FP_SECOND);
            } else {
                fp_table_flush(&c.table);
                CHECK(c.tally.records == COLLIDING && c.tally.reasons[FP_FORCED] == COLLIDING);
            }
            if (way < 2) {
                CHECK(c.tally.records == COLLIDING - 1 && c.tally.reasons[FP_IDLE] == COLLIDING - 1);
                CHECK(c.table.resident == 1 && c.table.stashed == 1);
                fp_table_sweep_all(&c.table, 12 * FP_SECOND);
                CHECK(c.tally.last.source[0] == again.source[0] && c.tally.last.body.packets == 3);
                CHECK(c.tally.last.body.octets == 3 * OCTETS && c.tally.last.body.last == 2 * FP_SECOND);
                CHECK(!six || (c.tally.last.destination[1] == again.destination[1] && c.tally.last.label == again.label));
            }
            CHECK(c.table.resident == 0 && c.table.stashed == 0);
            CHECK(c.tally.packets == 2 * COLLIDING + 1 && c.tally.octets == c.tally.packets * OCTETS);
            fp_table_free(&c.table);
        }
    }
    return true;
}

/* A packet that comes after its stashed record's end ends it and begins another. */
static bool stashed_record_ends_before_its_next_packet(void)
{
    static struct crowd c;
    struct fp_flow late;

    CHECK(crowd_init(&c, false, CACHE) && fill(&c, COLLIDING));
    late = c.flows[COLLIDING - 1];
    late.ts = 12 * FP_SECOND;
    CHECK(fp_table_update(&c.table, &late, late.ts, FP_SECOND, false) == FP_STORED);
    CHECK(c.tally.records == 1 && c.tally.last.reason == FP_IDLE && c.tally.last.body.ports == late.ports);
    CHECK(c.table.resident == COLLIDING && c.table.bounds[c.table.regions] == 11 * FP_SECOND - 1);
    fp_table_sweep_all(&c.table, 21 * FP_SECOND);
    CHECK(c.tally.records == COLLIDING && c.table.stashed == 1);
    fp_table_free(&c.table);
    return true;
}

/* A FIN moves a stashed record's end forward, and the sweep finds it there. */
static bool stashed_record_ends_early(void)
{
    static struct crowd c;
    struct fp_flow fin;

    CHECK(crowd_init(&c, false, CACHE) && fill(&c, COLLIDING));
    fin = c.flows[COLLIDING - 1];
    fin.word |= FP_WORD_OF_FLAGS(0x001u);
    CHECK(fp_table_update(&c.table, &fin, fin.ts, fin.ts, false) == FP_STORED);
    fp_table_sweep_all(&c.table, 2 * FP_SECOND - 1);
    CHECK(c.tally.records == 0);
    fp_table_sweep_all(&c.table, 2 * FP_SECOND);
    CHECK(c.tally.records == 1 && c.tally.last.reason == FP_ENDED && c.tally.last.body.packets == 2);
    fp_table_free(&c.table);
    return true;
}

/* S-FUL-2: a full table makes room, first in the stash. */
static bool full_table_evicts_from_the_stash(void)
{
    static struct crowd c;

    CHECK(crowd_init(&c, false, COLLIDING));
    CHECK(fill(&c, COLLIDING));
    CHECK(fp_table_update(&c.table, &c.other, FP_SECOND, FP_SECOND, true) == FP_SHED && c.tally.records == 0);
    CHECK(fp_table_update(&c.table, &c.other, FP_SECOND, FP_SECOND, false) == FP_EVICTED);
    CHECK(c.tally.records == 1 && c.tally.reasons[FP_RESOURCES] == 1);
    CHECK(c.table.resident == COLLIDING && c.table.stashed == COLLIDING - FP_GROUP - 1);
    fp_table_flush(&c.table);
    CHECK(c.tally.packets == COLLIDING + 1);
    fp_table_free(&c.table);
    return true;
}

/* The new key's first group may be empty: the victim comes from the next one in use. */
static bool full_table_evicts_from_another_group(void)
{
    static struct crowd c;

    CHECK(crowd_init(&c, false, FP_GROUP));
    CHECK(fill(&c, FP_GROUP) && c.table.stashed == 0);
    CHECK(fp_table_update(&c.table, &c.other, FP_SECOND, FP_SECOND, false) == FP_EVICTED);
    CHECK(c.table.resident == FP_GROUP && c.tally.reasons[FP_RESOURCES] == 1);
    fp_table_flush(&c.table);
    CHECK(c.tally.packets == FP_GROUP + 1);
    fp_table_free(&c.table);
    return true;
}

/* Both groups full and no memory for a stash: a live record has to go, and no packet is lost. */
static bool no_memory_for_the_stash(void)
{
    static struct crowd c;
    enum fp_fate fate;

    CHECK(crowd_init(&c, false, CACHE) && fill(&c, FP_GROUP));
    no_realloc = true;
    fate = fp_table_update(&c.table, &c.flows[FP_GROUP], FP_SECOND, FP_SECOND, false);
    no_realloc = false;
    CHECK(fate == FP_EVICTED && c.tally.reasons[FP_RESOURCES] == 1 && c.table.resident == FP_GROUP && c.table.stashed == 0);
    fp_table_flush(&c.table);
    CHECK(c.tally.packets == FP_GROUP + 1);
    fp_table_free(&c.table);
    return true;
}

static const struct check checks[] = {
    {"stash-keeps-the-table-exact", stash_keeps_the_table_exact},
    {"stashed-record-ends-before-its-next-packet", stashed_record_ends_before_its_next_packet},
    {"stashed-record-ends-early", stashed_record_ends_early},
    {"full-table-evicts-from-the-stash", full_table_evicts_from_the_stash},
    {"full-table-evicts-from-another-group", full_table_evicts_from_another_group},
    {"no-memory-for-the-stash", no_memory_for_the_stash},
};

int main(void)
{
    return run_checks(checks, sizeof checks / sizeof *checks);
}

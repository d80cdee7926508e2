/* SPDX-License-Identifier: Apache-2.0
 *
 * One export stream at times that are given, over a transport that remembers: how long records wait, what statistics say, which counts
 * move. Each check prints "ok NAME" or where it failed.
 */
#include <string.h>

#include "bytes.h"
#include "checks.h"
#include "clock.h"
#include "stream.h"

#define LONGEST (500 * FP_MILLISECOND)
#define START   (1700000000 * FP_SECOND)

/* A collector. Every so many-th offer is refused, which is told at the next call, as by ICMP. */
struct collector {
    struct fp_transport base;
    unsigned offers, refuse;
    struct fp_tally taken, last;
    bool last_refused;
    unsigned templates; /* datagrams that hold some */
    uint64_t statistics, wrong;
};

static struct fp_account metering;
static struct fp_config config;
static struct fp_face face;
static struct collector collector;
static struct fp_stream stream;

/* exportedOctetTotalCount, -MessageTotalCount and -FlowRecordTotalCount against what was taken before (IPFIX, template 263). */
static void judge_statistics(struct collector *c, const struct fp_message *m)
{
    for (size_t at = fp_get16(m->data) == 10 ? 16 : m->length; at + 4 <= m->length; at += fp_get16(m->data + at + 2)) {
        const uint8_t *record = m->data + at + 4 + 4;
        if (fp_get16(m->data + at) != 263)
            continue;
        c->statistics++;
        c->wrong +=
            fp_get64(record) != c->taken.octets || fp_get64(record + 8) != c->taken.datagrams || fp_get64(record + 16) != c->taken.flows;
    }
}

static void tell(struct collector *c)
{
    fp_tally_move(c->last_refused ? &c->base.refused : &c->base.sent, &c->last);
}

static void take(struct fp_transport *t, const struct fp_message *messages, unsigned count)
{
    struct collector *c = (struct collector *)t;

    tell(c);
    for (unsigned i = 0; i < count; i++) {
        judge_statistics(c, &messages[i]);
        c->templates += fp_get16(messages[i].data + (fp_get16(messages[i].data) == 10 ? 16 : 20)) < 4;
        fp_tally_add(&c->taken, &messages[i], 1);
        fp_tally_add(&c->last, &messages[i], 1);
    }
    c->last_refused = count && c->refuse && ++c->offers % c->refuse == 0;
}

static const struct fp_transport_ops ops = {.send = take};

static bool opened(int format, bool wall, uint16_t mtu)
{
    fp_stream_free(&stream);
    config =
        (struct fp_config){.mtu = mtu, .wall = wall, .profile = {.sampling_interval = 1, .template_packets = 20, .template_seconds = 600}};
    face = (struct fp_face){
        .config = &config, .account = &metering, .interface_name = "eth0", .now = START, .clock = 0, .boot = START / FP_SECOND};
    collector = (struct collector){.base = {.ops = &ops, .overhead = 28}};
    return fp_stream_init(&stream, format, &face, &collector.base) == 0;
}

static void put_one(void)
{
    struct fp_record r = {.kind = FP_IPV4, .reason = FP_IDLE};

    r.body = (struct fp_body){.word = 17u << FP_WORD_PROTOCOL, .first = START, .last = START, .packets = 2, .octets = 80};
    fp_stream_put(&stream, &r);
}

/* Records come one by one, never fast enough to fill 32 datagrams in half a second, and the source is never quiet. None of them waits
 * longer, by the clock for waiting, whatever the export time does: goes on, stands still, goes back (S-END-6). */
static bool nothing_waits_long(void)
{
    static const int formats[] = {FP_V5, FP_V9, FP_IPFIX};
    static const int64_t gaps[] = {FP_MILLISECOND, 10 * FP_MILLISECOND, 90 * FP_MILLISECOND};

    for (unsigned i = 0; i < 3; i++) {
        for (unsigned j = 0; j < 3; j++) {
            for (int by = -1; by <= 1; by++) {
                uint64_t due = 0;
                CHECK(opened(formats[i], true, 576));
                for (uint64_t n = 1; n <= 8000; n++) {
                    face.clock = (int64_t)n * gaps[j];
                    face.now = START + by * face.clock;
                    put_one();
                    fp_stream_tick(&stream, false);
                    while ((int64_t)(due + 1) * gaps[j] <= face.clock - LONGEST)
                        due++;
                    CHECK(collector.taken.flows >= due);
                }
                CHECK(collector.taken.datagrams < 8000 / 4); /* and yet datagrams are filled */
            }
        }
    }
    return true;
}

/* Every statistic says what was handed over before it, also where there is no room for it beside the templates. */
static bool statistics_are_of_what_was_sent(void)
{
    for (uint16_t mtu = 576; mtu <= 1500; mtu += 84) {
        CHECK(opened(FP_IPFIX, false, mtu));
        for (unsigned n = 0; n < 3000; n++)
            put_one();
        fp_stream_finish(&stream);
        CHECK(collector.statistics > 5 && collector.wrong == 0);
    }
    return true;
}

/* No count falls when a refusal comes back, and what is said to be exported was not refused (S-INV-2). */
static bool counts_never_fall(void)
{
    struct fp_stream_account before = {0};

    CHECK(opened(FP_IPFIX, false, 1500));
    collector.refuse = 3;
    for (uint64_t n = 1; n <= 5000; n++) {
        const struct fp_stream_account *a = &stream.account;
        put_one();
        face.clock = face.now += 10 * FP_MILLISECOND;
        fp_stream_tick(&stream, false);
        CHECK(a->exported_packets >= before.exported_packets && a->exported_records >= before.exported_records);
        CHECK(a->datagrams >= before.datagrams && a->datagram_octets >= before.datagram_octets);
        CHECK(a->not_sent_packets >= before.not_sent_packets && a->not_sent_records >= before.not_sent_records);
        CHECK(2 * n == a->exported_packets + a->queued_packets + a->not_sent_packets);
        before = *a;
    }
    fp_stream_finish(&stream);
    CHECK(stream.account.not_sent_records > 1000 && stream.account.exported_records > 1000 && stream.account.queued_records == 0);
    CHECK(stream.account.exported_records + stream.account.not_sent_records == 5000);
    return true;
}

/* What is not refused within a second counts as exported, although nothing else is sent. */
static bool fates_settle(void)
{
    CHECK(opened(FP_IPFIX, true, 1500));
    put_one();
    face.clock = FP_SECOND;
    fp_stream_tick(&stream, true);
    fp_stream_tick(&stream, true);
    CHECK(collector.taken.flows == 1 && stream.account.exported_records == 0 && stream.account.queued_records == 1);
    face.clock = 2 * FP_SECOND;
    fp_stream_tick(&stream, true);
    CHECK(stream.account.exported_records == 1 && stream.account.queued_records == 0);
    return true;
}

/* A collector that comes back gets templates at once and not with the next refresh (S-EXP-3); one that never left gets none. */
static bool a_refusal_brings_templates(void)
{
    static const int formats[] = {FP_V9, FP_IPFIX};

    for (unsigned i = 0; i < 2; i++) {
        CHECK(opened(formats[i], true, 1500));
        for (unsigned n = 0, before = 0; n < 12; n++) {
            collector.refuse = n == 4; /* told with the fifth, so that the sixth knows */
            before = collector.templates;
            put_one();
            face.clock = face.now += 2 * FP_SECOND;
            fp_stream_tick(&stream, true);
            CHECK((collector.templates > before) == (n == 0 || n == 6));
        }
    }
    return true;
}

/* Under the wall clock templates and statistics need no record (S-EXP-7), and are refreshed without one although the export time stands
 * still; under `packet` a worker that received nothing exports nothing (S-TIM-7). */
static bool templates_need_no_record(void)
{
    static const int formats[] = {FP_V5, FP_V9, FP_IPFIX};

    for (unsigned i = 0; i < 3; i++) {
        for (unsigned wall = 0; wall < 2; wall++) {
            uint64_t first;
            CHECK(opened(formats[i], wall, 1500));
            fp_stream_tick(&stream, true);
            first = collector.taken.datagrams;
            CHECK((first > 0) == (wall && formats[i] != FP_V5));
            face.clock = 599 * FP_SECOND;
            fp_stream_tick(&stream, true);
            CHECK(collector.taken.datagrams == first);
            face.clock = 600 * FP_SECOND;
            fp_stream_tick(&stream, true);
            CHECK(collector.taken.datagrams == first + (first > 0));
        }
    }
    return true;
}

/* The first and the last time that there is: templates are not too old the moment that they are written, nor young after all time. */
static bool the_ends_of_time(void)
{
    static const int formats[] = {FP_V9, FP_IPFIX};

    for (unsigned i = 0; i < 2; i++) {
        CHECK(opened(formats[i], false, 576));
        face.now = face.clock = INT64_MIN + 1;
        put_one();
        fp_stream_tick(&stream, true);
        CHECK(collector.taken.flows == 0); /* the datagram is not full */
        face.now = face.clock = INT64_MAX;
        fp_stream_tick(&stream, true);
        CHECK(collector.taken.flows == 1);
        for (unsigned n = 0; n < 100; n++)
            put_one();
        fp_stream_finish(&stream);
        CHECK(collector.taken.flows == 101 && collector.taken.datagrams < 40);
    }
    return true;
}

int main(void)
{
    static const struct check checks[] = {
        {"nothing-waits-long", nothing_waits_long},
        {"statistics-are-of-what-was-sent", statistics_are_of_what_was_sent},
        {"counts-never-fall", counts_never_fall},
        {"fates-settle", fates_settle},
        {"a-refusal-brings-templates", a_refusal_brings_templates},
        {"templates-need-no-record", templates_need_no_record},
        {"the-ends-of-time", the_ends_of_time},
    };
    int status = run_checks(checks, sizeof checks / sizeof *checks);

    fp_stream_free(&stream);
    return status;
}

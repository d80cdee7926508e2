/* SPDX-License-Identifier: Apache-2.0
 *
 * One encoder (FORMAT) with its stream over arbitrary records, export times and refusals: every datagram keeps the limit and is well-formed
 * to its last octet, and every packet is accounted (S-INV-2, S-EXP-1, S-EXP-4).
 *
 * Input: the profile, then steps: a record field by field, the last one again so many times, a step of the clock, an idle tick.
 */
#include <sanitizer/asan_interface.h>

#include "bytes.h"
#include "clock.h"
#include "input.h"
#include "stream.h"

#define MAX_PUTS  160u /* 32 datagrams of the least MTU, with templates in each, wait for the transport */
#define MAX_STEPS 400u

struct collector {
    struct fp_transport base;
    unsigned refuse; /* every so many datagrams; 0 = never */
    uint64_t messages, flows, sent_flows, sent_packets, sent_octets;
    uint32_t expected; /* sequence number */
    size_t limit;
};

static void check_v5(const struct fp_message *m)
{
    unsigned count = fp_get16(m->data + 2);

    REQUIRE(count >= 1 && count <= 30 && m->length == 24 + 48 * count && count == m->flows);
}

/* Sets lie end to end; returns the records that their lengths allow at least. */
static void check_sets(const struct fp_message *m, unsigned header)
{
    size_t at = header;

    while (at < m->length) {
        size_t length;
        REQUIRE(m->length - at >= 4);
        length = fp_get16(m->data + at + 2);
        REQUIRE(length > 4 && length % 4 == 0 && length <= m->length - at);
        REQUIRE(fp_get16(m->data + at) >= 256 || fp_get16(m->data + at) < 4);
        at += length;
    }
    REQUIRE(at == m->length);
}

static void send(struct fp_transport *transport, const struct fp_message *messages, unsigned count)
{
    struct collector *c = (struct collector *)transport;

    for (unsigned i = 0; i < count; i++) {
        const struct fp_message *m = &messages[i];
        uint32_t sequence;
        bool sent;
        REQUIRE(m->length <= c->limit);
        REQUIRE(fp_get16(m->data) == FORMAT);
        if (FORMAT == FP_V5) {
            check_v5(m);
            sequence = fp_get32(m->data + 16);
            REQUIRE(sequence == c->expected);
            c->expected += m->flows;
        } else if (FORMAT == FP_V9) {
            check_sets(m, 20);
            sequence = fp_get32(m->data + 12);
            REQUIRE(sequence == c->expected);
            c->expected++;
        } else {
            check_sets(m, 16);
            REQUIRE(fp_get16(m->data + 2) == m->length);
            sequence = fp_get32(m->data + 8);
            /* Options records count too, so the number may run ahead of the flows, never behind. */
            REQUIRE(sequence - c->expected < 1000);
            c->expected = sequence + m->flows;
        }
        c->messages++;
        c->flows += m->flows;
        sent = !c->refuse || c->messages % c->refuse != 0;
        fp_tally_add(sent ? &transport->sent : &transport->refused, m, 1);
        if (sent) {
            c->sent_flows += m->flows;
            c->sent_packets += m->packets;
            c->sent_octets += m->length;
        }
    }
}

static void nothing(struct fp_transport *t)
{
    (void)t;
}

static const struct fp_transport_ops ops = {.send = send, .close = nothing};

static struct fp_record read_record(struct input *in, int64_t now)
{
    struct fp_record r = {.kind = take(in, 1) & 1 ? FP_IPV6 : FP_IPV4};

    r.body.word = take(in, 8);
    r.body.ports = take(in, 8);
    r.source[0] = take(in, 8);
    r.source[1] = take(in, 4);
    r.body.packets = take(in, 6);
    r.body.octets = take(in, 8);
    r.body.last = now - (int64_t)take(in, 5);
    r.body.first = r.body.last - (int64_t)take(in, 7);
    r.label = take(in, 4) & 0xFFFFF;
    r.reason = (uint8_t)(1 + take(in, 1) % 5);
    return r;
}

static const uint16_t mtus[8] = {576, 577, 579, 1280, 1500, 1503, 9000, 65535};

/* A stream as it was after its initialisation. The room for its datagrams is allocated once: doing so for every input takes most of the
 * time. What lies between the limit and the next datagram is poisoned. */
static struct fp_stream stream_of(unsigned mtu, const struct fp_face *face, struct fp_transport *transport)
{
    static struct fp_stream new[8];

    if (!new[mtu].arena) {
        if (fp_stream_init(&new[mtu], FORMAT, face, transport))
            abort();
        for (unsigned i = 0; i < FP_STREAM_SLOTS; i++)
            ASAN_POISON_MEMORY_REGION(new[mtu].arena + i * FP_DATAGRAM + new[mtu].limit, FP_DATAGRAM - new[mtu].limit);
    }
    struct fp_stream s = new[mtu];
    s.face = face;
    s.transport = transport;
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct fp_config config = {.workers = 1, .ipfix_ns = NANOSECONDS};
    struct fp_account account = {0};
    struct fp_face face = {.config = &config, .account = &account};
    struct collector collector = {.base = {.ops = &ops, .overhead = 28}};
    struct fp_stream stream;
    struct fp_record record = {.kind = FP_IPV4, .reason = FP_IDLE, .body = {.packets = 1, .octets = 20}};
    unsigned bits = (unsigned)take(&in, 1);
    unsigned mtu = (unsigned)take(&in, 1) % 8;
    uint64_t packets = 0, puts = 0;
    struct fp_stream_account *a;
    char name[64] = {0};

    config.mtu = mtus[mtu];
    config.profile.sampling = bits & 3 ? (uint8_t)((bits & 3) - 1) : 0;
    config.profile.interface_source = bits & 4;
    config.profile.sampling_interval = 1 + (uint32_t)take(&in, 4) % (FORMAT == FP_V5 ? 16383 : UINT32_MAX);
    config.profile.input_interface = (uint32_t)take(&in, 4);
    config.profile.template_packets = 1 + (uint32_t)take(&in, 1);
    config.profile.template_seconds = 1 + (uint32_t)take(&in, 1);
    collector.refuse = (unsigned)take(&in, 1) % 8;
    memset(name, 'i', bits >> 3);
    face.interface_name = name;
    face.worker = (uint16_t)take(&in, 1);
    face.boot = (int64_t)take(&in, 4);
    face.clock = face.now = (int64_t)(take(&in, 8) >> 1);
    collector.limit = config.mtu - 28u;
    stream = stream_of(mtu, &face, &collector.base);
    collector.expected = stream.sequence;
    a = &stream.account;
    for (unsigned step = 0; step < MAX_STEPS && in.left; step++) {
        unsigned what = (unsigned)take(&in, 1);
        unsigned times = 1;
        if (what < 224) {
            if (what < 192)
                record = read_record(&in, face.now);
            else
                times = what < 220 ? 1 + what % 8 : 128;
            for (; times && puts < MAX_PUTS; times--, puts++) {
                packets += record.body.packets;
                fp_stream_put(&stream, &record);
            }
        } else if (what < 248) {
            face.clock = face.now = fp_later(face.now, (int64_t)take(&in, 6));
            fp_stream_tick(&stream, false);
        } else {
            fp_stream_tick(&stream, true);
        }
    }
    REQUIRE(packets == a->exported_packets + a->queued_packets + a->not_sent_packets + a->unrepresentable_packets);
    fp_stream_finish(&stream);
    REQUIRE(a->queued_packets == 0 && a->queued_records == 0);
    REQUIRE(packets == a->exported_packets + a->not_sent_packets + a->unrepresentable_packets);
    REQUIRE(puts == a->exported_records + a->not_sent_records + a->unrepresentable_records);
    REQUIRE(collector.flows == puts - a->unrepresentable_records);
    REQUIRE(collector.sent_flows == a->exported_records && collector.sent_packets == a->exported_packets);
    REQUIRE(collector.sent_octets == a->datagram_octets);
    return 0;
}

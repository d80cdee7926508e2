/* SPDX-License-Identifier: Apache-2.0
 *
 * Parts of the parser and the meter that no capture reaches from outside: frames in several segments, the own flow and judged times of a
 * live run, and what follows when there is no memory. Each check prints "ok NAME" or where it failed.
 */
#include <errno.h>
#include <string.h>

#include "checks.h"
#include "clock.h"
#include "meter.h"

/* UDP over IP over Ethernet: the last octet of both addresses, both ports. */
static size_t udp(uint8_t *d, bool six, uint8_t source, uint8_t destination, uint8_t from, uint8_t to)
{
    size_t at = six ? 54 : 34;

    memset(d, 0, 64);
    if (six) {
        memcpy(d + 12, "\x86\xDD\x60", 3);
        d[19] = 8;
        d[20] = 17;
        d[37] = source;
        d[53] = destination;
    } else {
        memcpy(d + 12, "\x08\x00\x45", 3);
        d[17] = 28;
        d[23] = 17;
        d[29] = source;
        d[33] = destination;
    }
    d[at + 1] = from;
    d[at + 3] = to;
    d[at + 5] = 8;
    return at + 8;
}

static struct fp_packet packet_of(const uint8_t *frame, size_t length, int64_t ts)
{
    return (struct fp_packet){.data = frame,
                              .len = (uint32_t)length,
                              .caplen = (uint32_t)length,
                              .wirelen = (uint32_t)length,
                              .link = FP_LINK_ETHERNET,
                              .segments = 1,
                              .ts_ns = ts};
}

static struct fp_config config_of(void)
{
    return (struct fp_config){.workers = 1,
                              .batch = 8,
                              .seed = 5,
                              .profile = {.key_classic = true,
                                          .tos_mask = 0xFF,
                                          .counter_bits = 64,
                                          .sampling_interval = 1,
                                          .cache_size = 60u,
                                          .idle_timeout = 10 * FP_SECOND,
                                          .active_timeout = 60 * FP_SECOND,
                                          .tcp_end = -1,
                                          .max_clock_step = 60 * FP_SECOND}};
}

/* A frame in three pieces is the flow that it is in one; what the last holds beyond the captured length is not the frame's. */
static bool segments_are_one_frame(void)
{
    for (unsigned six = 0; six < 2; six++) {
        uint8_t frame[64];
        size_t length = udp(frame, six, 1, 2, 3, 4);
        struct fp_packet whole = packet_of(frame, length, 0), pieces = whole;
        struct fp_flow expected = {0}, got = {0};
        struct fp_config config = config_of();
        struct fp_parser parser;
        struct fp_segment third = {.data = frame + 20, .len = sizeof frame - 20};
        struct fp_segment second = {.data = frame + 7, .len = 13, .next = &third};
        fp_parser_init(&parser, &config.profile, 1);
        fp_parse(&parser, &whole, &expected);
        pieces.len = 7;
        pieces.next = &second;
        fp_parse(&parser, &pieces, &got);
        CHECK(expected.kind == (six ? FP_IPV6 : FP_IPV4) && got.kind == expected.kind);
        CHECK(got.octets == length - 14 && got.octets == expected.octets && got.packets == 1);
        CHECK(got.ports == expected.ports && got.word == expected.word && got.hash == expected.hash);
        CHECK(!memcmp(got.source, expected.source, six ? 16 : 8));
        fp_parser_free(&parser);
    }
    return true;
}

/* Segments that end before the captured length leave nothing to read. */
static bool segments_too_short(void)
{
    uint8_t frame[64];
    size_t length = udp(frame, false, 1, 2, 3, 4);
    struct fp_packet p = packet_of(frame, length, 0);
    struct fp_segment rest = {.data = frame + 20, .len = (uint32_t)length - 21};
    struct fp_config config = config_of();
    struct fp_parser parser;
    struct fp_flow flow = {0};

    fp_parser_init(&parser, &config.profile, 1);
    p.len = 20;
    p.next = &rest;
    fp_parse(&parser, &p, &flow);
    CHECK(flow.kind == FP_NON_IP);
    rest.len++;
    fp_parse(&parser, &p, &flow);
    CHECK(flow.kind == FP_IPV4);
    fp_parser_free(&parser);
    return true;
}

static bool segments_without_memory(void)
{
    uint8_t frame[64];
    size_t length = udp(frame, false, 1, 2, 3, 4);
    struct fp_packet p = packet_of(frame, length, 0);
    struct fp_segment rest = {.data = frame + 20, .len = (uint32_t)length - 20};
    struct fp_config config = config_of();
    struct fp_parser parser;
    struct fp_flow flow = {0};

    fp_parser_init(&parser, &config.profile, 1);
    p.len = 20;
    p.next = &rest;
    no_realloc = true;
    fp_parse(&parser, &p, &flow);
    no_realloc = false;
    CHECK(flow.kind == FP_NON_IP);
    fp_parse(&parser, &p, &flow);
    CHECK(flow.kind == FP_IPV4);
    fp_parser_free(&parser);
    return true;
}

static bool unknown_link(void)
{
    uint8_t frame[64];
    struct fp_packet p = packet_of(frame, udp(frame, false, 1, 2, 3, 4), 0);
    struct fp_config config = config_of();
    struct fp_parser parser;
    struct fp_flow flow = {0};

    p.link = 999;
    fp_parser_init(&parser, &config.profile, 1);
    fp_parse(&parser, &p, &flow);
    CHECK(flow.kind == FP_NON_IP);
    fp_parser_free(&parser);
    return true;
}

/* S-VER-2 and S-VER-3: our own datagrams are filtered, and the index of sampling passes them over. */
static bool own_datagrams_are_filtered(void)
{
    static const struct fp_own own[2] = {
        {.kind = FP_IPV4, .source = {UINT64_C(1) << 24 | UINT64_C(2) << 56}, .ports = 3u << 8 | 4u << 24},
        {.kind = FP_IPV6, .source = {0, UINT64_C(1) << 56}, .destination = {0, UINT64_C(2) << 56}, .ports = 3u << 8 | 4u << 24},
    };
    for (unsigned six = 0; six < 2; six++) {
        uint8_t frames[6][64];
        struct fp_packet packets[6];
        struct fp_config config = config_of();
        struct tally t = {0};
        struct fp_meter m;
        /* source, destination, from, to: only the first and the fourth are ours. */
        static const uint8_t ends[6][4] = {{1, 2, 3, 4}, {2, 1, 3, 4}, {1, 2, 4, 3}, {1, 2, 3, 4}, {1, 3, 3, 4}, {1, 2, 3, 5}};
        config.profile.sampling = FP_SAMPLE_SYSTEMATIC;
        config.profile.sampling_interval = 2;
        CHECK(fp_meter_init(&m, &config, 0, false, (struct fp_sink){put, &t}) == 0);
        m.own = own;
        m.nown = 2;
        for (unsigned i = 0; i < 6; i++)
            packets[i] = packet_of(frames[i], udp(frames[i], six, ends[i][0], ends[i][1], ends[i][2], ends[i][3]), FP_SECOND);
        fp_meter_batch(&m, packets, 6, FP_NS_NONE);
        fp_meter_idle(&m, FP_NS_NONE);
        CHECK(m.account.received == 6 && m.account.filtered == 2);
        CHECK(m.account.metered == 2 && m.account.sampled_out == 2); /* the 1st and the 3rd of four */
        fp_meter_finish(&m, FP_SECOND);
        CHECK(t.records == 2 && t.packets == 2);
        fp_meter_free(&m);
    }
    return true;
}

/* What has our addresses and ports but is not UDP is not ours. */
static bool own_is_udp(void)
{
    static const struct fp_own own = {.kind = FP_IPV4, .source = {UINT64_C(1) << 24 | UINT64_C(2) << 56}, .ports = 3u << 8 | 4u << 24};
    uint8_t frame[64];
    struct fp_packet p = packet_of(frame, udp(frame, false, 1, 2, 3, 4), FP_SECOND);
    struct fp_config config = config_of();
    struct tally t = {0};
    struct fp_meter m;

    frame[23] = 132; /* SCTP has its ports in the same place */
    CHECK(fp_meter_init(&m, &config, 0, false, (struct fp_sink){put, &t}) == 0);
    m.own = &own;
    m.nown = 1;
    fp_meter_batch(&m, &p, 1, FP_NS_NONE);
    fp_meter_idle(&m, FP_NS_NONE);
    CHECK(m.account.filtered == 0 && m.account.metered == 1);
    fp_meter_free(&m);
    return true;
}

/* max_clock_step: a timestamp too far from the backend's clock, either way, is replaced by it and counted; one that is just near enough
 * stays. Only in live runs. */
static bool times_are_judged(void)
{
    const int64_t now = 1000 * FP_SECOND, step = 60 * FP_SECOND;
    const int64_t times[4] = {now + step + 1, now - step - 1, now + step, now - step};

    for (unsigned i = 0; i < 4; i++) {
        for (unsigned wall = 0; wall < 2; wall++) {
            uint8_t frame[64];
            struct fp_packet p = packet_of(frame, udp(frame, false, 1, 2, 3, 4), times[i]);
            struct fp_config config = config_of();
            struct tally t = {0};
            struct fp_meter m;
            bool replaced = wall && i < 2;
            config.wall = wall;
            CHECK(fp_meter_init(&m, &config, 0, false, (struct fp_sink){put, &t}) == 0);
            fp_meter_batch(&m, &p, 1, now);
            fp_meter_idle(&m, FP_NS_NONE);
            CHECK(m.account.clock_steps == replaced);
            fp_meter_finish(&m, times[i]);
            CHECK(t.records == 1 && t.last.body.first == (replaced ? now : times[i]) && t.last.body.last == t.last.body.first);
            fp_meter_free(&m);
        }
    }
    return true;
}

/* S-TIM-4: under wall an empty queue lets records end at now - reorder; under packet it does not. */
static bool idle_queue_ends_records(void)
{
    for (unsigned wall = 0; wall < 2; wall++) {
        uint8_t frame[64];
        struct fp_packet p = packet_of(frame, udp(frame, false, 1, 2, 3, 4), FP_SECOND);
        struct fp_config config = config_of();
        struct tally t = {0};
        struct fp_meter m;
        int64_t end = 11 * FP_SECOND; /* idle timeout 10 s */
        config.wall = wall;
        config.sweep_budget = 100;
        config.profile.reorder = FP_SECOND;
        CHECK(fp_meter_init(&m, &config, 0, false, (struct fp_sink){put, &t}) == 0);
        fp_meter_idle(&m, FP_NS_NONE);
        fp_meter_batch(&m, &p, 1, FP_SECOND);
        fp_meter_idle(&m, end + FP_SECOND - 1);
        CHECK(t.records == 0 && m.account.resident_records == 1 && m.account.resident_packets == 1);
        fp_meter_idle(&m, end + FP_SECOND);
        CHECK(t.records == wall && t.reasons[FP_IDLE] == wall && m.account.resident_packets == !wall);
        fp_meter_finish(&m, end - 1);
        CHECK(t.records == 1 && t.reasons[FP_FORCED] == !wall);
        fp_meter_free(&m);
    }
    return true;
}

static bool meter_without_memory(void)
{
    struct fp_config config = config_of();
    struct tally t = {0};
    struct fp_meter m;
    int rc;

    no_mmap = true;
    rc = fp_meter_init(&m, &config, 0, false, (struct fp_sink){put, &t});
    no_mmap = false;
    CHECK(rc == -ENOMEM);
    return true;
}

static const struct check checks[] = {
    {"segments-are-one-frame", segments_are_one_frame},
    {"segments-too-short", segments_too_short},
    {"segments-without-memory", segments_without_memory},
    {"unknown-link", unknown_link},
    {"own-datagrams-are-filtered", own_datagrams_are_filtered},
    {"own-is-udp", own_is_udp},
    {"times-are-judged", times_are_judged},
    {"idle-queue-ends-records", idle_queue_ends_records},
    {"meter-without-memory", meter_without_memory},
};

int main(void)
{
    return run_checks(checks, sizeof checks / sizeof *checks);
}

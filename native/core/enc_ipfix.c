/* SPDX-License-Identifier: Apache-2.0
 *
 * IPFIX, RFC 7011. docs/export-fields.md lists the templates. Times are milliseconds (152, 153) or, by a run option, nanoseconds (156,
 * 157).
 */
#include "bytes.h"
#include "clock.h"
#include "mutant.h"
#include "writer.h"

#define HEADER 16u

enum { T_IPV4 = 256, T_IPV6, T_ICMP4, T_ICMP6, T_SYSTEMATIC, T_RANDOM, T_INTERFACE, T_EXPORTED, T_IGNORED, T_LOST };

#define ADDRESSES4                                                                                                                         \
    {8, 4, V_SOURCE4},                                                                                                                     \
    {                                                                                                                                      \
        12, 4, V_DESTINATION4                                                                                                              \
    }
#define ADDRESSES6                                                                                                                         \
    {27, 16, V_SOURCE6}, {28, 16, V_DESTINATION6},                                                                                         \
    {                                                                                                                                      \
        31, 4, V_LABEL                                                                                                                     \
    }
#define MILLISECONDS                                                                                                                       \
    {152, 8, V_FIRST_MS},                                                                                                                  \
    {                                                                                                                                      \
        153, 8, V_LAST_MS                                                                                                                  \
    }
#define NANOSECONDS                                                                                                                        \
    {156, 8, V_FIRST_NTP},                                                                                                                 \
    {                                                                                                                                      \
        157, 8, V_LAST_NTP                                                                                                                 \
    }
/* clang-format off */
#define COMMON \
    {7, 2, V_SOURCE_PORT}, {11, 2, V_DESTINATION_PORT}, {4, 1, V_PROTOCOL}, {5, 1, V_TOS}, {10, 4, V_INTERFACE}, {2, 8, V_PACKETS}, {1, 8, V_OCTETS}, \
    {6, 2, V_FLAGS}, {136, 1, V_REASON}, {192, 1, V_TTL}, {243, 2, V_VLAN}, {245, 2, V_INNER_VLAN}, {60, 1, V_VERSION}
/* clang-format on */

static const struct fp_field ipv4[] = {ADDRESSES4, COMMON, MILLISECONDS};
static const struct fp_field ipv6[] = {ADDRESSES6, COMMON, MILLISECONDS};
static const struct fp_field icmp4[] = {ADDRESSES4, COMMON, MILLISECONDS, {32, 2, V_DESTINATION_PORT}};
static const struct fp_field icmp6[] = {ADDRESSES6, COMMON, MILLISECONDS, {139, 2, V_DESTINATION_PORT}};
static const struct fp_field ipv4_ns[] = {ADDRESSES4, COMMON, NANOSECONDS};
static const struct fp_field ipv6_ns[] = {ADDRESSES6, COMMON, NANOSECONDS};
static const struct fp_field icmp4_ns[] = {ADDRESSES4, COMMON, NANOSECONDS, {32, 2, V_DESTINATION_PORT}};
static const struct fp_field icmp6_ns[] = {ADDRESSES6, COMMON, NANOSECONDS, {139, 2, V_DESTINATION_PORT}};
FP_WRITER(ipv4)
FP_WRITER(ipv6)
FP_WRITER(icmp4)
FP_WRITER(icmp6)
FP_WRITER(ipv4_ns)
FP_WRITER(ipv6_ns)
FP_WRITER(icmp4_ns)
FP_WRITER(icmp6_ns)

static const struct fp_field systematic[] = {{302, 4, V_ONE}, {304, 2, V_SELECTOR}, {305, 4, V_ONE}, {306, 4, V_SPACE}};
static const struct fp_field random[] = {{302, 4, V_ONE}, {304, 2, V_SELECTOR}, {311, 8, V_PROBABILITY}};
static const struct fp_field interface[] = {{10, 4, V_INTERFACE_OPTION}, {82, FP_VARIABLE, V_NAME}};
static const struct fp_field exported[] = {
    {149, 4, V_DOMAIN}, {40, 8, V_OCTETS_EXPORTED}, {41, 8, V_MESSAGES_EXPORTED}, {42, 8, V_FLOWS_EXPORTED}};
static const struct fp_field ignored[] = {{149, 4, V_DOMAIN}, {143, 4, V_DOMAIN}, {164, 8, V_PACKETS_IGNORED}};
static const struct fp_field lost[] = {{144, 4, V_ONE}, {166, 8, V_FLOWS_NOT_SENT}, {167, 8, V_PACKETS_NOT_SENT}};

#define OPTIONS                                                                                                                            \
    {.id = T_SYSTEMATIC, FP_FIELDS(systematic), .scopes = 1}, {.id = T_RANDOM, FP_FIELDS(random), .scopes = 1},                            \
        {.id = T_INTERFACE, FP_FIELDS(interface), .scopes = 1}, {.id = T_EXPORTED, FP_FIELDS(exported), .scopes = 1},                      \
        {.id = T_IGNORED, FP_FIELDS(ignored), .scopes = 2}, {.id = T_LOST, FP_FIELDS(lost), .scopes = 1}

static const struct fp_template milliseconds[] = {
    {.id = T_IPV4, FP_RECORDS(ipv4)},
    {.id = T_IPV6, FP_RECORDS(ipv6)},
    {.id = T_ICMP4, FP_RECORDS(icmp4)},
    {.id = T_ICMP6, FP_RECORDS(icmp6)},
    OPTIONS,
};
static const struct fp_template nanoseconds[] = {
    {.id = T_IPV4, FP_RECORDS(ipv4_ns)},
    {.id = T_IPV6, FP_RECORDS(ipv6_ns)},
    {.id = T_ICMP4, FP_RECORDS(icmp4_ns)},
    {.id = T_ICMP6, FP_RECORDS(icmp6_ns)},
    OPTIONS,
};

static const struct fp_template *choose(const struct fp_stream *s, const struct fp_record *r)
{
    const struct fp_template *t = s->encoder->templates;
    unsigned protocol = fp_protocol(r->body.word);

    if (r->kind == FP_IPV4)
        return &t[FP_MUTANT(83, protocol == 1, false) ? 2 : 0];
    return &t[protocol == 58 ? 3 : 1];
}

static bool applies(const struct fp_stream *s, const struct fp_template *t)
{
    const struct fp_profile *p = &s->face->config->profile;

    switch (t->id) {
    case T_SYSTEMATIC:
        return p->sampling != FP_SAMPLE_RANDOM;
    case T_RANDOM:
        return p->sampling == FP_SAMPLE_RANDOM;
    case T_INTERFACE:
        return !p->interface_source;
    default:
        return true;
    }
}

static void seal(struct fp_stream *s, uint8_t *message, size_t length)
{
    uint8_t *p = message;

    p = fp_put16(p, 10);
    p = fp_put16(p, length - FP_MUTANT(74, 0, HEADER));
    p = fp_put32(p, (uint64_t)fp_floor(s->now, FP_MUTANT(73, FP_SECOND, FP_MILLISECOND)));
    p = fp_put32(p, s->sequence);
    fp_put32(p, s->face->worker + FP_MUTANT(59, 1u, 0u));
    s->sequence += FP_MUTANT(60, s->data_records, s->records);
}

#define ENCODER(table)                                                                                                                     \
    {                                                                                                                                      \
        .format = FP_IPFIX,                                                                                                                \
        .header = HEADER,                                                                                                                  \
        .sets = true,                                                                                                                      \
        .template_set = 2,                                                                                                                 \
        .options_set = 3,                                                                                                                  \
        .templates = table,                                                                                                                \
        .ntemplates = sizeof table / sizeof *table,                                                                                        \
        .choose = choose,                                                                                                                  \
        .applies = applies,                                                                                                                \
        .seal = seal,                                                                                                                      \
    }

const struct fp_encoder fp_encoder_ipfix = ENCODER(milliseconds);
const struct fp_encoder fp_encoder_ipfix_ns = ENCODER(nanoseconds);

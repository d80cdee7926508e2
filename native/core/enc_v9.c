/* SPDX-License-Identifier: Apache-2.0
 *
 * NetFlow v9, RFC 3954. docs/export-fields.md lists the templates.
 */
#include "bytes.h"
#include "clock.h"
#include "mutant.h"
#include "writer.h"

#define HEADER 20u

enum { T_IPV4 = 256, T_IPV6, T_ICMP4, T_ICMP6, T_SAMPLING, T_INTERFACE, T_EXPORTED, T_LOST };

/* Scope types of options, RFC 3954 section 6.1. */
enum { SCOPE_SYSTEM = 1, SCOPE_INTERFACE = 2 };

#define ADDRESSES4                                                                                                                         \
    {8, 4, V_SOURCE4},                                                                                                                     \
    {                                                                                                                                      \
        12, 4, V_DESTINATION4                                                                                                              \
    }
#define ADDRESSES6                                                                                                                         \
    {27, 16, V_SOURCE6}, {28, 16, V_DESTINATION6},                                                                                         \
    {                                                                                                                                      \
        31, 3, V_LABEL                                                                                                                     \
    }
/* clang-format off */
#define COMMON \
    {7, 2, V_SOURCE_PORT}, {11, 2, V_DESTINATION_PORT}, {4, 1, V_PROTOCOL}, {5, 1, V_TOS}, {10, 4, V_INTERFACE}, {2, 8, V_PACKETS}, {1, 8, V_OCTETS}, \
    {22, 4, V_FIRST_UPTIME}, {21, 4, V_LAST_UPTIME}, {6, 1, V_FLAGS}, {136, 1, V_REASON}, {192, 1, V_TTL}, {243, 2, V_VLAN}, {245, 2, V_INNER_VLAN}, {60, 1, V_VERSION}
/* clang-format on */

static const struct fp_field ipv4[] = {ADDRESSES4, COMMON};
static const struct fp_field ipv6[] = {ADDRESSES6, COMMON};
static const struct fp_field icmp4[] = {ADDRESSES4, COMMON, {32, 2, V_DESTINATION_PORT}};
static const struct fp_field icmp6[] = {ADDRESSES6, COMMON, {139, 2, V_DESTINATION_PORT}};
FP_WRITER(ipv4)
FP_WRITER(ipv6)
FP_WRITER(icmp4)
FP_WRITER(icmp6)

static const struct fp_field sampling[] = {{SCOPE_SYSTEM, 4, V_DOMAIN}, {34, 4, V_INTERVAL}, {35, 1, V_V9_ALGORITHM}};
static const struct fp_field interface[] = {{SCOPE_INTERFACE, 4, V_INTERFACE_OPTION}, {82, FP_NAME_LENGTH, V_NAME}};
static const struct fp_field exported[] = {
    {SCOPE_SYSTEM, 4, V_DOMAIN}, {40, 8, V_OCTETS_EXPORTED}, {41, 8, V_MESSAGES_EXPORTED}, {42, 8, V_FLOWS_EXPORTED}};
static const struct fp_field lost[] = {
    {SCOPE_SYSTEM, 4, V_DOMAIN}, {164, 8, V_PACKETS_IGNORED}, {166, 8, V_FLOWS_NOT_SENT}, {167, 8, V_PACKETS_NOT_SENT}};

static const struct fp_template templates[] = {
    {.id = T_IPV4, FP_RECORDS(ipv4)},
    {.id = T_IPV6, FP_RECORDS(ipv6)},
    {.id = T_ICMP4, FP_RECORDS(icmp4)},
    {.id = T_ICMP6, FP_RECORDS(icmp6)},
    {.id = T_SAMPLING, FP_FIELDS(sampling), .scopes = 1},
    {.id = T_INTERFACE, FP_FIELDS(interface), .scopes = 1},
    {.id = T_EXPORTED, FP_FIELDS(exported), .scopes = 1},
    {.id = T_LOST, FP_FIELDS(lost), .scopes = 1},
};

static const struct fp_template *choose(const struct fp_stream *s, const struct fp_record *r)
{
    unsigned protocol = fp_protocol(r->body.word);

    (void)s;
    if (r->kind == FP_IPV4)
        return &templates[FP_MUTANT(83, protocol == 1, false) ? 2 : 0];
    return &templates[protocol == 58 ? 3 : FP_MUTANT(120, 1, 0)];
}

static bool applies(const struct fp_stream *s, const struct fp_template *t)
{
    return t->id != T_INTERFACE || !s->face->config->profile.interface_source;
}

static void seal(struct fp_stream *s, uint8_t *message, size_t length)
{
    uint8_t *p = message;

    (void)length;
    p = fp_put16(p, 9);
    p = fp_put16(p, FP_MUTANT(57, s->records, s->flows));
    p = fp_put32(p, (uint64_t)(fp_floor(s->now, FP_MILLISECOND) - s->face->boot * 1000));
    p = fp_put32(p, (uint64_t)(fp_floor(s->now, FP_SECOND) - FP_MUTANT(72, 0, s->face->boot)));
    p = fp_put32(p, s->sequence);
    fp_put32(p, s->face->worker + FP_MUTANT(70, 1u, 0u));
    s->sequence += FP_MUTANT(58, 1u, s->flows);
}

const struct fp_encoder fp_encoder_v9 = {
    .format = FP_V9,
    .header = HEADER,
    .sets = true,
    .template_set = 0,
    .options_set = 1,
    .lengths_in_octets = true,
    .templates = templates,
    .ntemplates = sizeof templates / sizeof *templates,
    .choose = choose,
    .applies = applies,
    .seal = seal,
};

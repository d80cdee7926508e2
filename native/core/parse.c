/* SPDX-License-Identifier: Apache-2.0 */
#include "parse.h"

#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "hash.h"
#include "mutant.h"
#include "parse_hot.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fp_get and fp_put swap octets");

#define MAX_TAGS    8u
#define MAX_HEADERS 16u

enum ethertype {
    TYPE_IPV4 = 0x0800,
    TYPE_VLAN = 0x8100,
    TYPE_IPV6 = 0x86DD,
    TYPE_MPLS = 0x8847,
    TYPE_MPLS_MULTICAST = 0x8848,
    TYPE_PPPOE = 0x8864,
    TYPE_QINQ = 0x88A8,
    TYPE_QINQ_OLD = 0x9100,
};

enum protocol {
    P_HOPOPT = 0,
    P_ICMP = 1,
    P_TCP = 6,
    P_UDP = 17,
    P_DCCP = 33,
    P_ROUTING = 43,
    P_FRAGMENT = 44,
    P_AH = 51,
    P_ICMPV6 = 58,
    P_DESTINATION = 60,
    P_SCTP = 132,
    P_MOBILITY = 135,
    P_UDPLITE = 136,
    P_HIP = 139,
    P_SHIM6 = 140
};

/* One frame on its way through the layers. Positions are offsets into `data`. */
struct cursor {
    const uint8_t *data;
    size_t captured; /* octets at data */
    size_t wire;
    size_t at;  /* start of the next header */
    size_t end; /* S-LEN-4; valid from the IP header on */
    size_t ip;  /* start of the IP header */
    uint16_t type;
    unsigned tags;
    uint16_t vlan[2];
    uint32_t interface;
    uint16_t segments;
};

static bool is_tag(unsigned type)
{
    return type == TYPE_VLAN || type == TYPE_QINQ || type == FP_MUTANT(1, TYPE_QINQ_OLD, TYPE_QINQ);
}

static bool add_tag(struct cursor *c, uint16_t tci)
{
    if (c->tags < 2)
        c->vlan[c->tags] = tci & FP_MUTANT(2, 0x0FFF, 0x07FF);
    return ++c->tags <= FP_MUTANT(3, MAX_TAGS, MAX_TAGS - 1);
}

static bool link_family(struct cursor *c, bool either_order)
{
    uint32_t family;

    if (c->captured < 4)
        return false;
    family = fp_get32(c->data);
    if (either_order && family > 0xFFFF)
        family = __builtin_bswap32(family);
    c->at = 4;
    if (family == 2)
        c->type = TYPE_IPV4;
    else if (family == 10 || family == 24 || family == 28 || family == FP_MUTANT(4, 30, 28))
        c->type = TYPE_IPV6;
    else
        return false;
    return true;
}

/* Sets `at` behind the link header and `type` to what follows (S-LNK-1, S-LNK-5); raw IP of unknown version has type 0. False: non_ip. */
static bool link_header(struct cursor *c, unsigned link)
{
    switch (link) {
    case FP_LINK_ETHERNET:
        if (c->captured < FP_ETHERNET)
            return false;
        c->type = fp_get16(c->data + 12);
        c->at = FP_ETHERNET;
        return true;
    case FP_LINK_RAW:
        c->type = c->captured && c->data[0] >> 4 == 4 ? TYPE_IPV4 : c->captured && c->data[0] >> 4 == 6 ? TYPE_IPV6 : 0;
        return true;
    case FP_LINK_IPV4:
        c->type = TYPE_IPV4;
        return true;
    case FP_LINK_IPV6:
        c->type = TYPE_IPV6;
        return true;
    case FP_LINK_NULL:
        return link_family(c, true);
    case FP_LINK_LOOP:
        return link_family(c, false);
    case FP_LINK_SLL:
        if (c->captured < 16)
            return false;
        c->type = fp_get16(c->data + 14);
        c->at = 16;
        return true;
    case FP_LINK_SLL2:
        if (c->captured < 20)
            return false;
        c->type = fp_get16(c->data);
        c->interface = fp_get32(c->data + 4);
        c->at = 20;
        return true;
    default:
        return false;
    }
}

/* Tags, first those that were stripped (S-LNK-2). False: non_ip. */
static bool tags(struct cursor *c, const struct fp_packet *p)
{
    for (unsigned i = 0; i < p->ntags && i < 2; i++)
        (void)add_tag(c, p->tags[i].tci); /* two are never too many */
    while (is_tag(c->type)) {
        if (c->captured - c->at < 4)
            return false;
        if (!add_tag(c, fp_get16(c->data + c->at)))
            return false;
        c->type = fp_get16(c->data + c->at + 2);
        c->at += 4;
    }
    return true;
}

static bool pppoe(struct cursor *c)
{
    unsigned ppp;

    if (c->captured - c->at < 8)
        return false;
    if (c->data[c->at] != 0x11 || c->data[c->at + 1] != 0)
        return false;
    ppp = fp_get16(c->data + c->at + 6);
    c->type = ppp == 0x0021 ? TYPE_IPV4 : TYPE_IPV6;
    c->at += 8;
    return ppp == 0x0021 || ppp == FP_MUTANT(5, 0x0057, 0x0021);
}

static bool labels(struct cursor *c)
{
    bool bottom = false;

    while (!bottom) {
        if (c->captured - c->at < 4)
            return false;
        bottom = c->data[c->at + 2] & 1;
        c->at += 4;
    }
    if (c->captured == c->at)
        return false;
    c->type = c->data[c->at] >> 4 == 4 ? TYPE_IPV4 : TYPE_IPV6;
    return c->data[c->at] >> 4 == 4 || c->data[c->at] >> 4 == 6;
}

/* RFC 1071 over a header that was captured whole. */
static bool checksum_right(const uint8_t *header, size_t len)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < len; i += 2)
        sum += fp_get16(header + i);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    return sum == 0xFFFF;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static bool has_ports(unsigned protocol)
{
    return protocol == P_TCP || protocol == P_UDP || protocol == P_UDPLITE || protocol == FP_MUTANT(6, P_SCTP, P_UDP) || protocol == P_DCCP;
}

/* Ports, ICMP type and code, TCP flags (S-PRT-3 to S-PRT-6) and the counts (S-LEN-3, S-SUP-1). `transport` may lie at or behind `end`. */
static void transport(const struct fp_parser *parser, const struct cursor *c, size_t at, unsigned protocol, unsigned icmp,
                      bool later_fragment, size_t ip_length, struct fp_flow *flow)
{
    size_t left = c->end > at ? c->end - at : 0;
    const uint8_t *h = c->data + at;
    uint32_t ports = 0;
    uint16_t flags = 0;
    size_t header = at - c->ip;

    if (!later_fragment || FP_MUTANT(7, false, true)) {
        if (has_ports(protocol) && left >= 4)
            memcpy(&ports, h, 4);
        else if (protocol == icmp && left >= 2)
            memcpy((uint8_t *)&ports + 2, h, 2);
        if (protocol == P_TCP && left >= FP_MUTANT(8, 14, 20))
            flags = fp_get16(h + 12) & FP_MUTANT(9, FP_TCP_FLAG_BITS, 0x3F);
    }
    if (!later_fragment && protocol == P_TCP)
        header += left > 12 && h[12] >> 4 >= 5 ? (size_t)(h[12] >> 4) * 4 : 20;
    else if (!later_fragment && protocol == P_UDP)
        header += 8;
    flow->packets = c->segments > 1 ? c->segments : 1;
    flow->octets = ip_length + (uint64_t)(flow->packets - 1) * FP_MUTANT(10, header, 0);
    flow->ports = ports | ((uint64_t)c->interface << 32 & parser->interface_mask) | parser->interface;
    flow->word |= (uint64_t)protocol << FP_WORD_PROTOCOL | (uint64_t)!protocol << FP_WORD_ZERO | FP_WORD_OF_FLAGS(flags);
}

static void word_start(const struct fp_parser *parser, const struct cursor *c, unsigned tos, unsigned ttl, struct fp_flow *flow)
{
    flow->word = ((uint64_t)tos << FP_WORD_TOS & parser->tos_bits) | (uint64_t)c->vlan[0] << FP_WORD_VLAN |
                 (uint64_t)c->vlan[1] << FP_WORD_INNER | (uint64_t)ttl << FP_WORD_TTL;
}

static enum fp_kind ipv4(const struct fp_parser *parser, struct cursor *c, bool under_label, struct fp_flow *flow)
{
    const uint8_t *h = c->data + c->at;
    size_t wire = c->wire - c->at;
    size_t header, length;
    bool later;

    c->ip = c->at;
    if (c->captured - c->at < 20 || h[0] >> 4 != 4)
        return FP_MALFORMED;
    header = (size_t)(h[0] & 0x0F) * 4;
    length = fp_get16(h + 2);
    if (length == 0)
        length = FP_MUTANT(11, wire, 0) ? wire : 20;
    if (header < 20 || header > length || length > FP_MUTANT(12, wire, SIZE_MAX))
        return FP_MALFORMED;
    if (under_label && (c->captured - c->at < header || !checksum_right(h, header)))
        return FP_NON_IP;
    c->end = smaller(c->captured, FP_MUTANT(13, c->ip + length, SIZE_MAX));
    later = (fp_get16(h + 6) & 0x1FFF) != 0;
    word_start(parser, c, h[1], h[8], flow);
    flow->source[0] = fp_raw64(h + 12);
    transport(parser, c, c->ip + header, h[9], P_ICMP, later, length, flow);
    flow->hash = fp_hash4(parser->secret, flow->source[0], flow->ports & parser->ports_mask, flow->word & parser->word_mask);
    return FP_IPV4;
}

/* S-LEN-2: the value of the first Jumbo Payload option of the hop-by-hop header at `at`; 0 if there is none that counts. */
static size_t jumbo(const struct cursor *c, size_t at)
{
    size_t end, option;

    if (c->captured < at + 2)
        return 0;
    end = smaller(c->captured, at + ((size_t)c->data[at + 1] + 1) * 8);
    for (option = at + 2; option < end;) {
        if (c->data[option] == 0) {
            option++;
            continue;
        }
        if (end - option < 2)
            return 0;
        if (c->data[option] == 0xC2) {
            if (c->data[option + 1] != 4 || end - option < 6)
                return 0;
            return fp_get32(c->data + option + 2);
        }
        option += 2 + (size_t)c->data[option + 1];
    }
    return 0;
}

static size_t ipv6_length(const struct cursor *c, size_t wire)
{
    const uint8_t *h = c->data + c->ip;
    size_t payload = fp_get16(h + 4);

    if (payload)
        return 40 + payload;
    if (h[6] == P_HOPOPT) {
        payload = jumbo(c, c->ip + 40);
        if (payload >= FP_MUTANT(14, 65536, SIZE_MAX))
            return 40 + payload;
    }
    return h[6] == P_TCP || h[6] == P_UDP ? wire : 40;
}

static bool walkable(unsigned header)
{
    switch (header) {
    case P_HOPOPT:
    case P_ROUTING:
    case P_FRAGMENT:
    case P_AH:
    case P_DESTINATION:
    case P_MOBILITY:
    case P_HIP:
    case P_SHIM6:
        return true;
    default:
        return false;
    }
}

/* The octets of a walkable header at `at`, 0 if it does not lie wholly before `end`. */
static size_t extension_length(const struct cursor *c, unsigned header, size_t at)
{
    size_t length;

    if (at > c->end || c->end - at < 2)
        return 0;
    if (header == P_FRAGMENT)
        length = 8;
    else if (header == P_AH)
        length = ((size_t)c->data[at + 1] + 2) * FP_MUTANT(15, 4, 8);
    else
        length = ((size_t)c->data[at + 1] + 1) * 8;
    return length <= c->end - at ? length : 0;
}

static enum fp_kind ipv6(const struct fp_parser *parser, struct cursor *c, struct fp_flow *flow)
{
    const uint8_t *h = c->data + c->at;
    size_t wire = c->wire - c->at;
    size_t at = c->at + 40;
    size_t length;
    unsigned protocol;
    bool later = false;

    c->ip = c->at;
    if (c->captured - c->at < 40 || h[0] >> 4 != 6)
        return FP_MALFORMED;
    length = ipv6_length(c, wire);
    if (length > wire)
        return FP_MALFORMED;
    c->end = smaller(c->captured, c->ip + length);
    protocol = h[6];
    for (unsigned passed = 0; passed < MAX_HEADERS && walkable(protocol) && !later; passed++) {
        size_t step = extension_length(c, protocol, at);
        if (step == 0)
            break;
        if (protocol == P_FRAGMENT)
            later = fp_get16(c->data + at + 2) >> FP_MUTANT(16, 3, 16);
        protocol = c->data[at];
        at += step;
    }
    word_start(parser, c, fp_get16(h) >> 4 & 0xFF, h[7], flow);
    memcpy(flow->source, h + 8, 16);
    memcpy(flow->destination, h + 24, 16);
    flow->label = fp_get32(h) & FP_MUTANT(17, 0xFFFFF, 0xFFFF);
    transport(parser, c, at, protocol, P_ICMPV6, later, length, flow);
    flow->hash =
        fp_hash6(parser->secret, flow->source, flow->destination, flow->ports & parser->ports_mask, flow->word & parser->word_mask);
    return FP_IPV6;
}

static enum fp_kind layers(const struct fp_parser *parser, const struct fp_packet *p, const uint8_t *data, struct fp_flow *flow)
{
    struct cursor c = {
        .data = data,
        .captured = p->caplen,
        .wire = p->wirelen > p->caplen ? p->wirelen : p->caplen,
        .interface = p->interface,
        .segments = p->segments,
    };
    enum fp_kind kind;
    bool under_label = false;

    if (!link_header(&c, p->link) || !tags(&c, p))
        return FP_NON_IP;
    if (c.type == TYPE_PPPOE && !pppoe(&c))
        return FP_NON_IP;
    if (c.type == TYPE_MPLS || c.type == TYPE_MPLS_MULTICAST) {
        under_label = true;
        if (!labels(&c))
            return FP_NON_IP;
    }
    switch (c.type) {
    case TYPE_IPV4:
        kind = ipv4(parser, &c, FP_MUTANT(18, under_label, false), flow);
        break;
    case TYPE_IPV6:
        kind = ipv6(parser, &c, flow);
        break;
    default:
        kind = p->link == FP_LINK_RAW && c.type == 0 ? FP_MALFORMED : FP_NON_IP;
    }
    return under_label && kind == FP_MALFORMED ? FP_NON_IP : kind;
}

/* Copies a frame of several segments into one piece; NULL if there is no memory or the segments are shorter than they say. */
static const uint8_t *linear(struct fp_parser *parser, const struct fp_packet *p)
{
    size_t done = smaller(p->len, p->caplen);
    uint8_t *grown;

    if (parser->scratch_size < p->caplen || !parser->scratch) {
        grown = realloc(parser->scratch, p->caplen ? p->caplen : 1);
        if (!grown)
            return NULL;
        parser->scratch = grown;
        parser->scratch_size = p->caplen;
    }
    if (done)
        memcpy(parser->scratch, p->data, done);
    for (const struct fp_segment *s = p->next; s && done < p->caplen; s = s->next) {
        size_t n = smaller(s->len, p->caplen - done);
        memcpy(parser->scratch + done, s->data, n);
        done += n;
    }
    return done == p->caplen ? parser->scratch : NULL;
}

void fp_parse_slow(struct fp_parser *parser, const struct fp_packet *p, struct fp_flow *flow)
{
    const uint8_t *data = p->data;

    if (p->caplen && (p->next || p->len != p->caplen)) {
        data = linear(parser, p);
        if (!data) {
            flow->kind = FP_NON_IP;
            return;
        }
    }
    flow->kind = (uint8_t)layers(parser, p, data, flow);
}

void fp_parse(struct fp_parser *parser, const struct fp_packet *packet, struct fp_flow *flow)
{
    fp_parse_hot(parser, packet, flow);
}

void fp_parser_init(struct fp_parser *parser, const struct fp_profile *profile, uint64_t seed)
{
    *parser = (struct fp_parser){
        .ports_mask = profile->key_classic ? UINT64_MAX : UINT32_MAX,
        .word_mask = UINT64_C(1) << FP_WORD_ZERO | UINT64_C(0xFF) << FP_WORD_PROTOCOL |
                     (profile->key_classic ? UINT64_C(0xFF) << FP_WORD_TOS : 0) |
                     (profile->key_vlan ? UINT64_C(0xFFFFFF) << FP_WORD_VLAN : 0),
        .interface = profile->interface_source ? 0 : (uint64_t)profile->input_interface << 32,
        .interface_mask = profile->interface_source ? (uint64_t)UINT32_MAX << 32 : 0,
        .tos_bits = (uint64_t)profile->tos_mask << FP_WORD_TOS,
    };
    for (unsigned i = 0; i < 4; i++)
        parser->secret[i] = fp_splitmix(seed, i);
}

void fp_parser_free(struct fp_parser *parser)
{
    free(parser->scratch);
    parser->scratch = NULL;
}

uint32_t fp_flow_hash(const struct fp_packet *packet)
{
    static const uint64_t secret = UINT64_C(0x9E3779B97F4A7C15);
    struct fp_parser parser = {.ports_mask = UINT32_MAX};
    struct fp_flow flow;
    uint64_t a, b, ports, hash;

    fp_parse(&parser, packet, &flow);
    fp_parser_free(&parser);
    if (flow.kind == FP_IPV4) {
        a = flow.source[0] & UINT32_MAX;
        b = flow.source[0] >> 32;
    } else if (flow.kind == FP_IPV6) {
        a = fp_mix(flow.source[0] ^ secret, flow.source[1] + 1);
        b = fp_mix(flow.destination[0] ^ secret, flow.destination[1] + 1);
    } else {
        return 1;
    }
    ports = (flow.ports & 0xFFFF) + (flow.ports >> 16 & 0xFFFF) + FP_MUTANT(123, 0, packet->wirelen);
    hash = fp_mix((a + b) ^ secret, (ports << 8 | fp_protocol(flow.word)) ^ ~secret);
    hash = fp_mix(hash ^ (a ^ b), secret);
    return (uint32_t)(hash >> 32) ? (uint32_t)(hash >> 32) : 1;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The parser of what nearly every frame is, inline: untagged IPv4 over Ethernet without options or fragments, TCP or UDP, headers captured.
 * The rest is in parse.c.
 */
#ifndef FP_PARSE_HOT_H
#define FP_PARSE_HOT_H

#include <string.h>

#include "bytes.h"
#include "hash.h"
#include "mutant.h"
#include "parse.h"

#define FP_ETHERNET      14u
#define FP_TCP_FLAG_BITS 0x0FFFu

_Static_assert(offsetof(struct fp_packet, ntags) == offsetof(struct fp_packet, link) + 3, "link, ts_source and ntags are read as one word");

/* Same result as fp_parse_slow. Fields are taken out of whole words of the frame, which is why `word` has TTL and protocol where the header
 * has them. */
static inline __attribute__((always_inline)) void fp_parse_hot(struct fp_parser *parser, const struct fp_packet *p, struct fp_flow *flow)
{
    const uint8_t *d = p->data;
    uint32_t meta, length, least, protocol, tcp, ports;
    uint64_t a, b, flags;

    memcpy(&meta, &p->link, sizeof meta);
    if (__builtin_expect((meta & 0xFF00FFFF) != FP_LINK_ETHERNET || p->len != p->caplen || p->len < FP_ETHERNET + 34 ||
                             p->wirelen < p->len || p->segments > 1,
                         0)) {
        fp_parse_slow(parser, p, flow);
        return;
    }
    a = fp_raw64(d + 12); /* type, version and header length, ToS, total length, identification */
    b = fp_raw64(d + 20); /* fragment, TTL, protocol, checksum, … */
    protocol = (uint8_t)(b >> 24);
    tcp = protocol == 6;
    least = 24 + tcp * 10; /* ports, or the TCP header up to its flags */
    length = __builtin_bswap16((uint16_t)(a >> 32));
    if (__builtin_expect((a & 0xFFFFFF) != 0x450008 || (b & 0xFF3F) || protocol + tcp * 11 != 17 ||
                             length - least > p->wirelen - FP_ETHERNET - least,
                         0)) {
        fp_parse_slow(parser, p, flow);
        return;
    }
    flags = fp_get16(d + FP_ETHERNET + 32) & FP_TCP_FLAG_BITS & -tcp;
    memcpy(&ports, d + FP_ETHERNET + 20, sizeof ports);
    flow->source[0] = fp_raw64(d + FP_ETHERNET + 12);
    flow->ports = ports | ((uint64_t)p->interface << 32 & parser->interface_mask) | parser->interface;
    flow->word = (uint16_t)(b >> 16) | (a >> (24 - FP_WORD_TOS) & parser->tos_bits) |
                 (flags | UINT64_C(1) << (FP_WORD_USED - FP_WORD_FLAGS)) << FP_WORD_FLAGS;
    flow->octets = FP_MUTANT(19, length, p->wirelen - FP_ETHERNET);
    flow->packets = 1;
    flow->label = 0;
    flow->hash = fp_hash4(parser->secret, flow->source[0], flow->ports & parser->ports_mask, flow->word & parser->word_mask);
    flow->kind = FP_IPV4;
}

#endif

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

#define FP_ETHERNET 14u

_Static_assert(offsetof(struct fp_packet, ntags) == offsetof(struct fp_packet, link) + 3, "link, ts_source and ntags are read as one word");
_Static_assert(FP_WORD_TTL == 0 && FP_WORD_PROTOCOL == 8 && FP_WORD_FLAGS == 48, "as they lie in the headers");

/* The protocols of the fast path: what an IP length leaves of 2^16 at most, 20 octets of IP header and as much of the next one as is read;
 * 0 keeps all others out. */
static const uint32_t fp_plain_spare[256] = {[6] = 0x10000 - (20 + 14), [17] = 0x10000 - (20 + 4)};
/* Where octets 6 to 13 behind the IP header have tcpControlBits. */
static const uint64_t fp_plain_flags[256] = {[6] = FP_WORD_OF_FLAGS(FP_TCP_FLAG_BITS)};

/* Same result as fp_parse_slow, but for the label of IPv4, which is none. Fields are taken in the order in which they lie in the frame,
 * which is why `word` has TTL, protocol and flags as the headers have them. */
static inline __attribute__((always_inline)) void fp_parse_hot(struct fp_parser *parser, const struct fp_packet *p, struct fp_flow *flow)
{
    const uint8_t *ip = p->data + FP_ETHERNET;
    uint32_t meta, start, ports;
    uint16_t fragment, ttl_protocol;
    uint64_t length;
    unsigned protocol;

    memcpy(&meta, &p->link, sizeof meta);
    if (__builtin_expect((meta & 0xFF00FFFF) != FP_LINK_ETHERNET || p->len != p->caplen || p->len < FP_ETHERNET + 34 || p->segments > 1,
                         0)) {
        fp_parse_slow(parser, p, flow);
        return;
    }
    memcpy(&start, ip - 2, sizeof start); /* type, version and header length, ToS */
    memcpy(&fragment, ip + 6, sizeof fragment);
    length = fp_get16(ip + 2);
    protocol = ip[9];
    if (__builtin_expect((start & 0xFFFFFF) != 0x450008 || fragment & 0xFF3F || length + fp_plain_spare[protocol] <= UINT16_MAX ||
                             length + FP_ETHERNET > p->wirelen,
                         0)) {
        fp_parse_slow(parser, p, flow);
        return;
    }
    memcpy(&ttl_protocol, ip + 8, sizeof ttl_protocol);
    memcpy(&ports, ip + 20, sizeof ports);
    flow->source[0] = fp_raw64(ip + 12);
    flow->ports = ports | parser->interface;
    if (parser->interface_mask)
        flow->ports |= (uint64_t)p->interface << 32;
    flow->word = (fp_raw64(ip + 26) & fp_plain_flags[protocol]) | (start >> (24 - FP_WORD_TOS) & parser->tos_bits) | ttl_protocol;
    flow->octets = FP_MUTANT(19, length, p->wirelen - FP_ETHERNET);
    flow->packets = 1;
    flow->hash = fp_hash4(parser->secret, flow->source[0], flow->ports & parser->ports_mask, flow->word & parser->word_mask);
    flow->kind = FP_IPV4;
}

#endif

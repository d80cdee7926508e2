/* SPDX-License-Identifier: Apache-2.0
 *
 * From a frame to a flow key and what the packet adds to its record (semantics: Links, Length, Protocol and ports, Super-packets). No state
 * between frames.
 */
#ifndef FP_PARSE_H
#define FP_PARSE_H

#include "flowparity/core.h"

/* What the parser makes of a frame. The first two are verdicts (S-VER-4, S-VER-5). */
enum fp_kind { FP_NON_IP, FP_MALFORMED, FP_IPV4, FP_IPV6 };

/* `word` of a flow and of a table entry: bits of what is small. */
#define FP_WORD_TTL      0  /* 8 bits; it and the protocol lie as in an IPv4 header */
#define FP_WORD_PROTOCOL 8  /* 8 */
#define FP_WORD_TOS      16 /* 8 */
#define FP_WORD_VLAN     24 /* 12 */
#define FP_WORD_INNER    36 /* 12 */
#define FP_WORD_FLAGS    48 /* 16, tcpControlBits as they lie in a TCP header, which leaves 4 free: */
#define FP_WORD_ZERO     52 /* 1: the protocol is 0; key, so that no flow equals an empty entry, whose word is 0 */

/* tcpControlBits, a number of 12 bits, in a word. */
#define FP_WORD_OF_FLAGS(flags) ((uint64_t)__builtin_bswap16(flags) << FP_WORD_FLAGS)
#define FP_TCP_FLAG_BITS        0x0FFFu

/* One packet's flow. Of the key: addresses, `ports` and `word` under the parser's masks. */
struct fp_flow {
    uint64_t source[2], destination[2]; /* as in the packet; IPv4: source[0] holds both addresses, the rest is undefined */
    uint64_t ports;                     /* source and destination port as in the packet, input interface << 32 */
    uint64_t word;
    uint64_t octets;
    int64_t ts;
    uint64_t hash;
    void *hint; /* the entry that this packet will probably find */
    uint32_t packets;
    uint32_t label; /* of IPv6 */
    uint32_t slot;  /* the table's: the first slot of the group where the key is looked for first */
    uint8_t kind;   /* enum fp_kind */
};

struct fp_parser {
    uint64_t secret[4];
    uint64_t ports_mask, word_mask;     /* which bits are key */
    uint64_t interface, interface_mask; /* as in `ports`: the fixed one, and which bits of the packet's count */
    uint64_t tos_bits;                  /* as in `word`: which bits of the ToS are seen */
    uint8_t *scratch;                   /* for frames in several segments */
    size_t scratch_size;
};

/* Takes key and masks from the profile; the hash secret from `seed`. */
void fp_parser_init(struct fp_parser *, const struct fp_profile *, uint64_t seed);
void fp_parser_free(struct fp_parser *);

/* Fills everything of `flow` but `ts`, `slot` and `hint`. The hash is only there for FP_IPV4 and FP_IPV6. */
void fp_parse(struct fp_parser *, const struct fp_packet *, struct fp_flow *flow);
/* The same for whatever parse_hot.h leaves over. */
void fp_parse_slow(struct fp_parser *, const struct fp_packet *, struct fp_flow *flow);

/* fp_host.flow_hash. */
uint32_t fp_flow_hash(const struct fp_packet *);

static inline unsigned fp_protocol(uint64_t word)
{
    return word >> FP_WORD_PROTOCOL & 0xFF;
}

static inline unsigned fp_tcp_flags(uint64_t word)
{
    return __builtin_bswap16((uint16_t)(word >> FP_WORD_FLAGS)) & FP_TCP_FLAG_BITS;
}

#endif

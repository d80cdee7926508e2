/* SPDX-License-Identifier: Apache-2.0
 *
 * The parser on arbitrary frames: no octet outside the frame is read, the fast path and frames cut into segments give what the whole frame
 * gives, and octets are never beyond the wire.
 */
#include <stdlib.h>
#include <string.h>

#include "parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint16_t links[] = {FP_LINK_ETHERNET, FP_LINK_NULL, FP_LINK_RAW,  FP_LINK_LOOP,
                                 FP_LINK_SLL,      FP_LINK_SLL2, FP_LINK_IPV4, FP_LINK_IPV6};

static void check(bool good)
{
    if (!good)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fp_profile profile = {.key_classic = true, .tos_mask = 0xFF, .input_interface = 1};
    struct fp_parser parser;
    struct fp_flow whole, cut;
    struct fp_packet p;
    struct fp_segment rest;
    uint8_t *exact;
    size_t at;

    if (size < 4)
        return 0;
    exact = malloc(size - 4 ? size - 4 : 1); /* of its own length, so that a read behind it is seen */
    if (!exact)
        return 0;
    memcpy(exact, data + 4, size - 4);
    p = (struct fp_packet){
        .data = exact,
        .len = (uint32_t)(size - 4),
        .caplen = (uint32_t)(size - 4),
        .wirelen = (uint32_t)(size - 4) + data[1],
        .link = links[data[0] % (sizeof links / sizeof *links)],
        .ntags = data[2] % 3,
        .tags = {{0x8100, data[2]}, {0x88A8, data[3]}},
        .segments = data[3] % 4,
    };
    memset(&whole, 0, sizeof whole);
    memset(&cut, 0, sizeof cut);
    fp_parser_init(&parser, &profile, 1);
    fp_parse(&parser, &p, &whole);
    if (whole.kind >= FP_IPV4)
        check(whole.packets >= 1 && (whole.packets > 1 || whole.octets <= p.wirelen) && (uint16_t)(whole.ports >> 32) == 1);
    check(fp_flow_hash(&p) != 0);
    at = p.len ? data[3] % p.len : 0;
    rest = (struct fp_segment){.data = exact + at, .len = p.len - (uint32_t)at};
    p.len = (uint32_t)at;
    p.next = &rest;
    fp_parse(&parser, &p, &cut);
    check(cut.kind == whole.kind);
    if (whole.kind >= FP_IPV4)
        check(cut.word == whole.word && cut.ports == whole.ports && cut.octets == whole.octets && cut.hash == whole.hash &&
              cut.source[0] == whole.source[0]);
    fp_parser_free(&parser);
    free(exact);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The parser over one frame. Beside the sanitizers' findings: what a frame parses to does not depend on how it lies in memory (one piece
 * takes the fast path where it applies, several segments never do), and what it parses to is possible at all.
 *
 * Input: two octets of profile and link, two of tags and segments, four of wire length and cut, then the frame.
 */
#include "parse.h"

#include "input.h"

static const uint16_t links[] = {FP_LINK_ETHERNET, FP_LINK_RAW,  FP_LINK_IPV4, FP_LINK_IPV6,
                                 FP_LINK_NULL,     FP_LINK_LOOP, FP_LINK_SLL,  FP_LINK_SLL2};

static void possible(const struct fp_packet *p, const struct fp_flow *f)
{
    size_t wire = p->wirelen > p->caplen ? p->wirelen : p->caplen;

    REQUIRE(f->kind <= FP_IPV6);
    if (f->kind < FP_IPV4)
        return;
    REQUIRE(f->packets == (p->segments > 1 ? p->segments : 1u));
    REQUIRE(f->octets >= (f->kind == FP_IPV4 ? 20 : 40));
    REQUIRE(f->octets <= (uint64_t)f->packets * (wire + 60)); /* a transport header of 60 octets is taken at its word (S-SUP-1) */
    REQUIRE((f->word >> FP_WORD_ZERO & 1) == !fp_protocol(f->word));
    REQUIRE(f->label <= 0xFFFFF);
    if (fp_protocol(f->word) != 6)
        REQUIRE(fp_tcp_flags(f->word) == 0);
}

static void alike(const struct fp_flow *a, const struct fp_flow *b)
{
    REQUIRE(a->kind == b->kind);
    if (a->kind < FP_IPV4)
        return;
    REQUIRE(a->source[0] == b->source[0] && a->ports == b->ports && a->word == b->word);
    REQUIRE(a->octets == b->octets && a->packets == b->packets && a->label == b->label && a->hash == b->hash);
    if (a->kind == FP_IPV6)
        REQUIRE(a->source[1] == b->source[1] && !memcmp(a->destination, b->destination, sizeof a->destination));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    unsigned profile_bits = (unsigned)take(&in, 1);
    unsigned link = (unsigned)take(&in, 1) % 16;
    struct fp_profile profile = {
        .key_classic = profile_bits & 1,
        .key_vlan = profile_bits & 2,
        .interface_source = profile_bits & 4,
        .tos_mask = profile_bits & 8 ? 0xFC : 0xFF,
        .input_interface = 7,
    };
    struct fp_packet p = {.link = link < 8 ? links[link] : FP_LINK_ETHERNET, .interface = 3};
    struct fp_flow whole = {0}, pieces = {0};
    struct fp_parser parser;
    struct fp_segment segment;
    uint8_t *frame, *tail;
    size_t cut;

    p.ntags = (uint8_t)(take(&in, 1) % 3);
    p.tags[0].tci = 0xE005;
    p.segments = (uint16_t)take(&in, 1);
    p.wirelen = (uint32_t)take(&in, 2);
    cut = (size_t)take(&in, 2);
    cut = cut < in.left ? cut : in.left;
    /* Copies of exactly these octets, so that a read behind them is found. */
    frame = malloc(in.left + 1);
    tail = malloc(in.left - cut + 1);
    if (!frame || !tail)
        abort();
    memcpy(frame + 1, in.data, in.left);
    memcpy(tail + 1, in.data + cut, in.left - cut);
    p.len = p.caplen = (uint32_t)in.left;
    p.wirelen = p.caplen + p.wirelen;
    p.data = frame + 1;
    fp_parser_init(&parser, &profile, 1);
    fp_parse(&parser, &p, &whole);
    possible(&p, &whole);
    (void)fp_flow_hash(&p);
    segment = (struct fp_segment){.data = tail + 1, .len = (uint32_t)(in.left - cut)};
    p.len = (uint32_t)cut;
    p.next = &segment;
    fp_parse(&parser, &p, &pieces);
    alike(&whole, &pieces);
    fp_parser_free(&parser);
    free(frame);
    free(tail);
    return 0;
}

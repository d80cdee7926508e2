/* SPDX-License-Identifier: Apache-2.0 */
#include "trailer.h"

#include <string.h>

#include "bytes.h"

#define VERSION     1u
#define MAGIC_LONG  0x46504C31u /* "FPL1" */
#define MAGIC_SHORT 0x46505331u /* "FPS1" */
#define FCS         4u

/* Copies the `n` octets that end `back` octets before the end of a frame; its segments are walked from the front. */
static bool tail(const struct fp_packet *p, size_t back, size_t n, uint8_t *out)
{
    struct fp_segment first = {.data = p->data, .len = p->len, .next = p->next};
    size_t from, at = 0;

    if (p->caplen < back + n)
        return false;
    from = p->caplen - back - n;
    for (const struct fp_segment *s = &first; s && n; at += s->len, s = s->next) {
        size_t skip = from > at ? from - at : 0;
        if (skip >= s->len)
            continue;
        size_t piece = s->len - skip < n ? s->len - skip : n;
        memcpy(out, s->data + skip, piece);
        out += piece;
        n -= piece;
        from += piece;
    }
    return n == 0;
}

static bool take_long(struct fp_packet *p, size_t back)
{
    uint8_t t[FP_TRAILER_LONG];
    uint32_t wire, captured, stripped = 4u * p->ntags;

    if (!tail(p, back, sizeof t, t) || fp_get32(t + 20) != MAGIC_LONG || fp_get16(t + 18) != VERSION)
        return false;
    wire = fp_get32(t + 12);
    captured = fp_get16(t + 16);
    /* The lengths are of the frame as it was sent; tags that were stripped on the way are no longer among the octets. */
    wire -= stripped < wire ? stripped : wire;
    captured -= stripped < captured ? stripped : captured;
    if (captured > p->caplen - back - sizeof t)
        return false;
    p->ts_ns = (int64_t)fp_get64(t);
    p->seq = fp_get32(t + 8);
    p->caplen = captured;
    p->wirelen = wire > captured ? wire : captured;
    if (!p->next)
        p->len = captured;
    return true;
}

static bool take_short(struct fp_packet *p, size_t back)
{
    uint8_t t[FP_TRAILER_SHORT];

    if (!tail(p, back, sizeof t, t) || fp_get32(t + 12) != MAGIC_SHORT)
        return false;
    p->ts_ns = (int64_t)fp_get64(t);
    p->seq = fp_get32(t + 8);
    p->caplen -= (uint32_t)back;
    p->wirelen -= (uint32_t)back;
    if (!p->next)
        p->len = p->caplen;
    return true;
}

bool fp_trailer_take(struct fp_packet *p)
{
    return take_long(p, 0) || take_short(p, 0) || take_long(p, FCS) || take_short(p, FCS);
}

size_t fp_trailer_put(const struct fp_packet *p, uint32_t sequence, uint8_t *out, size_t room)
{
    size_t frame = p->caplen > FP_TRAILER_PAD ? p->caplen : FP_TRAILER_PAD;
    uint8_t *t = out + frame;

    if (p->caplen > UINT16_MAX || frame + FP_TRAILER_LONG > room)
        return 0;
    memcpy(out, p->data, p->caplen);
    memset(out + p->caplen, 0, frame - p->caplen);
    t = fp_put64(t, (uint64_t)p->ts_ns);
    t = fp_put32(t, sequence);
    t = fp_put32(t, p->wirelen);
    t = fp_put16(t, p->caplen);
    t = fp_put16(t, VERSION);
    fp_put32(t, MAGIC_LONG);
    return frame + FP_TRAILER_LONG;
}

void fp_trailer_stamp(uint8_t *frame, size_t length, int64_t ts_ns, uint32_t sequence)
{
    uint8_t *t = frame + length - FP_TRAILER_SHORT;

    t = fp_put64(t, (uint64_t)ts_ns);
    t = fp_put32(t, sequence);
    fp_put32(t, MAGIC_SHORT);
}

size_t fp_trailer_append(const uint8_t *frame, uint32_t caplen, uint32_t wirelen, int64_t ts_ns, uint32_t sequence, uint8_t *out,
                         size_t room)
{
    struct fp_packet p = {.data = frame, .len = caplen, .caplen = caplen, .wirelen = wirelen, .ts_ns = ts_ns};

    return fp_trailer_put(&p, sequence, out, room);
}

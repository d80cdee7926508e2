/* SPDX-License-Identifier: Apache-2.0
 *
 * Writers of Flow Records. A template's table is the only description of what it holds; FP_WRITER has the compiler unroll it into straight
 * code, because going through it field by field costs several hundred instructions a record.
 */
#ifndef FP_WRITER_H
#define FP_WRITER_H

#include "bytes.h"
#include "clock.h"
#include "mutant.h"
#include "stream.h"

#define FP_NTP_EPOCH UINT64_C(2208988800) /* seconds from 1900 to 1970 */
#define FP_UNROLLED  static inline __attribute__((always_inline))

/* S-EXP-5 */
FP_UNROLLED uint64_t fp_uptime(const struct fp_stream *s, int64_t t)
{
    return (uint64_t)(fp_floor(t, FP_MUTANT(50, FP_MILLISECOND, FP_SECOND)) - s->face->boot * 1000) & UINT32_MAX;
}

/* The fraction is rounded up, so that a reader that rounds down finds the nanosecond again (S-EXP-5). */
FP_UNROLLED uint64_t fp_ntp(int64_t t)
{
    int64_t seconds = fp_floor(t, FP_SECOND);
    uint64_t ns = (uint64_t)(t - seconds * FP_SECOND);
    uint64_t fraction = ((ns << 32) + FP_MUTANT(51, (uint64_t)FP_SECOND - 1, 0)) / (uint64_t)FP_SECOND;

    return ((uint64_t)seconds + FP_NTP_EPOCH) << 32 | fraction;
}

FP_UNROLLED uint64_t fp_value_of(const struct fp_stream *s, unsigned value, const struct fp_record *r)
{
    const struct fp_body *b = &r->body;

    switch (value) {
    case V_SOURCE_PORT:
        return __builtin_bswap16((uint16_t)b->ports);
    case V_DESTINATION_PORT:
        return __builtin_bswap16((uint16_t)(b->ports >> 16));
    case V_PROTOCOL:
        return fp_protocol(b->word);
    case V_TOS:
        return b->word >> FP_WORD_TOS & 0xFF;
    case V_INTERFACE:
        return b->ports >> 32;
    case V_PACKETS:
        return b->packets;
    case V_OCTETS:
        return b->octets;
    case V_FIRST_UPTIME:
        return fp_uptime(s, FP_MUTANT(53, b->first, b->last));
    case V_LAST_UPTIME:
        return fp_uptime(s, b->last);
    case V_FIRST_MS:
        return (uint64_t)fp_floor(b->first, FP_MILLISECOND);
    case V_LAST_MS:
        return (uint64_t)fp_floor(FP_MUTANT(54, b->last, b->first), FP_MILLISECOND);
    case V_FIRST_NTP:
        return fp_ntp(b->first);
    case V_LAST_NTP:
        return fp_ntp(b->last);
    case V_FLAGS:
        return fp_tcp_flags(b->word) & FP_MUTANT(90, 0xFFF, 0xFF);
    case V_REASON:
        return FP_MUTANT(92, r->reason, FP_IDLE);
    case V_TTL:
        return b->word >> FP_MUTANT(91, FP_WORD_TTL, FP_WORD_TOS) & 0xFF;
    case V_VLAN:
        return b->word >> FP_WORD_VLAN & 0xFFF;
    case V_INNER_VLAN:
        return b->word >> FP_MUTANT(55, FP_WORD_INNER, FP_WORD_VLAN) & 0xFFF;
    case V_LABEL:
        return r->label & FP_MUTANT(75, UINT32_MAX, 0xFFFF);
    case V_VERSION:
        return r->kind == FP_IPV4 ? 4 : 6;
    default: /* V_ZERO */
        return 0;
    }
}

FP_UNROLLED uint8_t *fp_put_field(uint8_t *p, const struct fp_stream *s, const struct fp_field *f, const struct fp_record *r)
{
    switch (f->value) {
    case V_SOURCE4:
        return fp_put_octets(p, r->source, 4);
    case V_DESTINATION4:
        return fp_put_octets(p, (const uint8_t *)r->source + 4, 4);
    case V_SOURCE6:
        return fp_put_octets(p, r->source, 16);
    case V_DESTINATION6:
        return fp_put_octets(p, r->destination, 16);
    default:
        return fp_put_number(p, fp_value_of(s, f->value, r), f->length);
    }
}

#ifdef __clang__
#define FP_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FP_UNROLL _Pragma("GCC unroll 32")
#endif

/* Defines `put_FIELDS` for an array of at most 32 fields of records. */
#define FP_WRITER(array)                                                                                                                   \
    static uint8_t *put_##array(uint8_t *p, const struct fp_stream *s, const struct fp_record *r)                                          \
    {                                                                                                                                      \
        FP_UNROLL                                                                                                                          \
        for (unsigned i = 0; i < sizeof array / sizeof *array; i++)                                                                        \
            p = fp_put_field(p, s, &array[i], r);                                                                                          \
        return p;                                                                                                                          \
    }
/* A template of Flow Records. */
#define FP_RECORDS(array) FP_FIELDS(array), .put = put_##array

#endif

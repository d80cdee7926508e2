/* SPDX-License-Identifier: Apache-2.0 */
#include "fields.h"

#include <string.h>

#include "bytes.h"
#include "clock.h"
#include "mutant.h"
#include "stream.h"

#define NTP_EPOCH UINT64_C(2208988800) /* seconds from 1900 to 1970 */

/* S-EXP-5 */
static uint64_t uptime(const struct fp_stream *s, int64_t t)
{
    return (uint64_t)(fp_floor(t, FP_MUTANT(50, FP_MILLISECOND, FP_SECOND)) - s->face->boot * 1000) & UINT32_MAX;
}

/* The fraction is rounded up, so that a reader that rounds down finds the nanosecond again (S-EXP-5). */
static uint64_t ntp(int64_t t)
{
    int64_t seconds = fp_floor(t, FP_SECOND);
    uint64_t ns = (uint64_t)(t - seconds * FP_SECOND);
    uint64_t fraction = ((ns << 32) + FP_MUTANT(51, (uint64_t)FP_SECOND - 1, 0)) / (uint64_t)FP_SECOND;

    return ((uint64_t)seconds + NTP_EPOCH) << 32 | fraction;
}

static uint64_t probability(const struct fp_stream *s)
{
    double p = 1.0 / s->face->config->profile.sampling_interval;
    uint64_t bits;

    memcpy(&bits, &p, sizeof bits);
    return bits;
}

static uint64_t interval(const struct fp_stream *s)
{
    const struct fp_profile *p = &s->face->config->profile;

    return p->sampling == FP_SAMPLE_ALL ? 1 : p->sampling_interval;
}

/* Summed, not received - metered: the frame at hand is received and has no verdict yet, and the count must not fall. */
static uint64_t ignored(const struct fp_account *a)
{
    return a->filtered + a->sampled_out + a->non_ip + a->malformed + a->shed;
}

static uint64_t of_stream(const struct fp_stream *s, unsigned value)
{
    const struct fp_face *face = s->face;
    const struct fp_profile *p = &face->config->profile;

    switch (value) {
    case V_DOMAIN:
        return face->worker + 1u;
    case V_ONE:
        return 1;
    case V_INTERVAL:
        return FP_MUTANT(52, interval(s), 1);
    case V_SPACE:
        return interval(s) - 1;
    case V_V9_ALGORITHM:
        return p->sampling == FP_SAMPLE_RANDOM ? 2 : 1;
    case V_SELECTOR:
        return p->sampling == FP_SAMPLE_RANDOM ? 4 : 1;
    case V_PROBABILITY:
        return probability(s);
    case V_INTERFACE_OPTION:
        return p->input_interface;
    case V_OCTETS_EXPORTED:
        return s->built_octets;
    case V_MESSAGES_EXPORTED:
        return s->built;
    case V_FLOWS_EXPORTED:
        return s->built_flows - s->account.not_sent_records;
    case V_PACKETS_IGNORED:
        return ignored(face->account);
    case V_FLOWS_NOT_SENT:
        return s->account.not_sent_records;
    case V_PACKETS_NOT_SENT:
        return s->account.not_sent_packets;
    case V_BOOT_MS:
        return (uint64_t)face->boot * 1000;
    default:
        return 0;
    }
}

static uint64_t of_record(const struct fp_stream *s, unsigned value, const struct fp_record *r)
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
        return uptime(s, FP_MUTANT(53, b->first, b->last));
    case V_LAST_UPTIME:
        return uptime(s, b->last);
    case V_FIRST_MS:
        return (uint64_t)fp_floor(b->first, FP_MILLISECOND);
    case V_LAST_MS:
        return (uint64_t)fp_floor(FP_MUTANT(54, b->last, b->first), FP_MILLISECOND);
    case V_FIRST_NTP:
        return ntp(b->first);
    case V_LAST_NTP:
        return ntp(b->last);
    case V_FLAGS:
        return b->word >> FP_WORD_FLAGS & 0xFFF;
    case V_REASON:
        return r->reason;
    case V_TTL:
        return b->word >> FP_WORD_TTL & 0xFF;
    case V_VLAN:
        return b->word >> FP_WORD_VLAN & 0xFFF;
    case V_INNER_VLAN:
        return b->word >> FP_MUTANT(55, FP_WORD_INNER, FP_WORD_VLAN) & 0xFFF;
    case V_LABEL:
        return r->label;
    case V_VERSION:
        return r->kind == FP_IPV4 ? 4 : 6;
    default:
        return 0;
    }
}

static uint8_t *put_number(uint8_t *p, uint64_t v, unsigned length)
{
    switch (length) {
    case 1:
        return fp_put8(p, v);
    case 2:
        return fp_put16(p, v);
    case 3:
        return fp_put16(fp_put8(p, v >> 16), v);
    case 4:
        return fp_put32(p, v);
    default:
        return fp_put64(p, v);
    }
}

static uint8_t *put_octets(uint8_t *p, const void *from, size_t length)
{
    memcpy(p, from, length);
    return p + length;
}

static uint8_t *put_name(uint8_t *p, const struct fp_stream *s, unsigned length)
{
    size_t n = strnlen(s->face->interface_name, FP_NAME_LENGTH);

    if (length == FP_VARIABLE) {
        p = fp_put8(p, n);
        return put_octets(p, s->face->interface_name, n);
    }
    memset(p, 0, length);
    memcpy(p, s->face->interface_name, n);
    return p + length;
}

size_t fp_fields_size(const struct fp_stream *s, const struct fp_field *fields, unsigned count)
{
    size_t size = 0;

    for (unsigned i = 0; i < count; i++)
        size += fields[i].length == FP_VARIABLE ? 1 + strnlen(s->face->interface_name, FP_NAME_LENGTH) : fields[i].length;
    return size;
}

uint8_t *fp_fields_put(uint8_t *p, const struct fp_stream *s, const struct fp_field *fields, unsigned count, const struct fp_record *r)
{
    for (const struct fp_field *f = fields; f < fields + count; f++) {
        switch (f->value) {
        case V_SOURCE4:
            p = put_octets(p, r->source, 4);
            break;
        case V_DESTINATION4:
            p = put_octets(p, (const uint8_t *)r->source + 4, 4);
            break;
        case V_SOURCE6:
            p = put_octets(p, r->source, 16);
            break;
        case V_DESTINATION6:
            p = put_octets(p, r->destination, 16);
            break;
        case V_NAME:
            p = put_name(p, s, f->length);
            break;
        default:
            p = put_number(p, f->value >= V_DOMAIN || f->value == V_ZERO ? of_stream(s, f->value) : of_record(s, f->value, r), f->length);
        }
    }
    return p;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "fields.h"

#include <string.h>

#include "bytes.h"
#include "clock.h"
#include "mutant.h"
#include "stream.h"

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
    return a->filtered + a->sampled_out + a->non_ip + a->malformed + FP_MUTANT(88, a->shed, 0);
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
        return interval(s) - FP_MUTANT(87, 1, 0);
    case V_V9_ALGORITHM:
        return p->sampling == FP_MUTANT(86, FP_SAMPLE_RANDOM, FP_SAMPLE_ALL) ? 2 : 1;
    case V_SELECTOR:
        return p->sampling == FP_SAMPLE_RANDOM ? 4 : 1;
    case V_PROBABILITY:
        return probability(s);
    case V_INTERFACE_OPTION:
        return p->input_interface;
    case V_OCTETS_EXPORTED:
        return s->account.datagram_octets + s->unsettled.octets;
    case V_MESSAGES_EXPORTED:
        return s->account.datagrams + s->unsettled.datagrams;
    case V_FLOWS_EXPORTED:
        return s->account.exported_records + s->unsettled.flows;
    case V_PACKETS_IGNORED:
        return ignored(face->account);
    case V_FLOWS_NOT_SENT:
        return FP_MUTANT(89, s->account.not_sent_records, 0);
    default: /* V_PACKETS_NOT_SENT */
        return s->account.not_sent_packets;
    }
}

static uint8_t *put_name(uint8_t *p, const struct fp_stream *s, unsigned length)
{
    size_t n = strnlen(s->face->interface_name, FP_NAME_LENGTH);

    if (length == FP_VARIABLE) {
        p = fp_put8(p, n + FP_MUTANT(85, 0, 1));
        return fp_put_octets(p, s->face->interface_name, n);
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

uint8_t *fp_fields_put(uint8_t *p, const struct fp_stream *s, const struct fp_field *fields, unsigned count)
{
    for (const struct fp_field *f = fields; f < fields + count; f++)
        p = f->value == V_NAME ? put_name(p, s, f->length) : fp_put_number(p, of_stream(s, f->value), f->length);
    return p;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * NetFlow v5: a header of 24 octets and at most 30 records of 48.
 */
#include "bytes.h"
#include "clock.h"
#include "mutant.h"
#include "writer.h"

#define HEADER 24u

static const struct fp_field fields[] = {
    {0, 4, V_SOURCE4},     {0, 4, V_DESTINATION4},     {0, 4, V_ZERO}, /* next hop */
    {0, 2, V_INTERFACE},                                               /* its low 16 bits (S-EXP-6) */
    {0, 2, V_ZERO},                                                    /* output interface */
    {0, 4, V_PACKETS},     {0, 4, V_OCTETS},           {0, 4, V_FIRST_UPTIME}, {0, 4, V_LAST_UPTIME},
    {0, 2, V_SOURCE_PORT}, {0, 2, V_DESTINATION_PORT}, {0, 1, V_ZERO},                         /* pad */
    {0, 1, V_FLAGS},       {0, 1, V_PROTOCOL},         {0, 1, V_TOS},          {0, 4, V_ZERO}, /* source and destination AS */
    {0, 4, V_ZERO},                                                                            /* masks, pad */
};

FP_WRITER(fields)

static const struct fp_template record = {.id = 256, FP_RECORDS(fields)};

static const struct fp_template *choose(const struct fp_stream *s, const struct fp_record *r)
{
    (void)s;
    return r->kind == FP_IPV4 ? &record : NULL;
}

static void seal(struct fp_stream *s, uint8_t *message, size_t length)
{
    const struct fp_profile *profile = &s->face->config->profile;
    int64_t seconds = fp_floor(s->now, FP_SECOND);
    bool sampled = profile->sampling != FP_SAMPLE_ALL && profile->sampling_interval > 1; /* one in one is not sampling */
    uint8_t *p = message;

    (void)length;
    p = fp_put16(p, 5);
    p = fp_put16(p, s->records);
    p = fp_put32(p, (uint64_t)(fp_floor(s->now, FP_MILLISECOND) - s->face->boot * 1000));
    p = fp_put32(p, (uint64_t)seconds);
    p = fp_put32(p, FP_MUTANT(68, (uint64_t)(s->now - seconds * FP_SECOND), 0));
    p = fp_put32(p, s->sequence);
    p = fp_put8(p, 0);
    p = fp_put8(p, s->face->worker + FP_MUTANT(67, 0u, 1u));
    fp_put16(p, sampled ? (unsigned)FP_MUTANT(66, profile->sampling, FP_SAMPLE_SYSTEMATIC) << 14 | profile->sampling_interval : 0);
    s->sequence += FP_MUTANT(56, s->flows, 1u);
}

const struct fp_encoder fp_encoder_v5 = {
    .format = FP_V5, .header = HEADER, .templates = &record, .ntemplates = 1, .choose = choose, .seal = seal};

/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "clock.h"
#include "mutant.h"

#define LATEST              (500 * FP_MILLISECOND) /* a record waits at most this long for its datagram to leave */
#define SETTLED             FP_SECOND              /* a refusal that has not come back by then is no longer waited for */
#define V5_RECORDS          30u
#define NEW_TEMPLATE_COPIES 2u

static size_t padded(size_t length)
{
    return (length + 3) & ~(size_t)3;
}

static uint8_t *message(const struct fp_stream *s)
{
    return s->arena + (size_t)FP_MUTANT(64, s->slot, s->pending) * FP_DATAGRAM;
}

/* `limit` is not negative. The difference of two times may take 64 bits. */
static bool aged(int64_t since, int64_t now, int64_t limit)
{
    return now >= since && (uint64_t)now - (uint64_t)since >= (uint64_t)limit;
}

/* Hands messages to the transport and accounts what it now knows. A record is queued until its fate is certain, so that no count ever falls
 * (S-INV-2, S-EXP-3). */
static void hand_over(struct fp_stream *s, unsigned count)
{
    struct fp_stream_account *a = &s->account;
    struct fp_tally *sent = &s->transport->sent, *refused = &s->transport->refused;

    fp_tally_add(&s->unsettled, s->messages, count);
    s->transport->ops->send(s->transport, s->messages, count);
    s->unsettled.datagrams -= sent->datagrams + refused->datagrams;
    s->unsettled.octets -= sent->octets + refused->octets;
    s->unsettled.flows -= sent->flows + refused->flows;
    s->unsettled.packets -= sent->packets + refused->packets;
    a->queued_packets -= sent->packets + refused->packets;
    a->queued_records -= sent->flows + refused->flows;
    if (FP_MUTANT(61, false, true))
        fp_tally_move(sent, refused);
    a->exported_packets += sent->packets;
    a->exported_records += FP_MUTANT(113, sent->flows, sent->datagrams);
    a->datagrams += sent->datagrams;
    a->datagram_octets += sent->octets;
    a->not_sent_packets += refused->packets;
    a->not_sent_records += refused->flows;
    s->sequence -= (uint32_t)FP_MUTANT(116, 0, refused->datagrams);
    s->unheard |= refused->datagrams != 0;
    *sent = *refused = (struct fp_tally){0};
}

static void offer(struct fp_stream *s)
{
    if (!s->pending)
        return;
    hand_over(s, s->pending);
    s->pending = 0;
    s->offered_at = s->face->clock;
}

static void settle(struct fp_stream *s)
{
    hand_over(s, 0);
}

static void close_set(struct fp_stream *s)
{
    uint8_t *m = message(s);
    size_t length = FP_MUTANT(62, padded(s->length), s->length);

    if (!s->set_at)
        return;
    memset(m + s->length, FP_MUTANT(118, 0, 0xFF), length - s->length);
    s->length = length;
    fp_put16(m + s->set_at + 2, length - s->set_at);
    s->set_at = 0;
}

static void seal(struct fp_stream *s)
{
    struct fp_message *m = &s->messages[s->pending];

    if (!s->open)
        return;
    if (s->encoder->sets)
        close_set(s);
    s->encoder->seal(s, message(s), s->length);
    *m = (struct fp_message){.data = message(s), .length = (uint32_t)s->length, .flows = s->flows, .packets = s->packets};
    if (s->pending == 0)
        s->oldest = s->opened;
    s->since_refresh++;
    s->open = false;
    if (++s->pending == FP_STREAM_BATCH)
        offer(s);
}

static void open_message(struct fp_stream *s);

/* Room for `size` octets in a set `set`, in this datagram or in the next. */
static uint8_t *reserve(struct fp_stream *s, uint16_t set, size_t size);

static void announce_template(struct fp_stream *s, const struct fp_template *t)
{
    const struct fp_encoder *e = s->encoder;
    unsigned unit = FP_MUTANT(71, e->lengths_in_octets, false) ? 4 : 1;
    size_t size = (t->scopes ? 6 : 4) + 4 * (size_t)t->count;
    uint8_t *p = reserve(s, t->scopes ? e->options_set : e->template_set, size);

    p = fp_put16(p, t->id & FP_MUTANT(119, 0xFFFF, 0xFF));
    if (t->scopes && e->lengths_in_octets) {
        p = fp_put16(p, t->scopes * unit);
        p = fp_put16(p, (t->count - t->scopes) * unit);
    } else {
        p = fp_put16(p, t->count);
        if (t->scopes)
            p = fp_put16(p, t->scopes);
    }
    for (unsigned i = 0; i < t->count; i++)
        p = fp_put16(fp_put16(p, t->fields[i].id), t->fields[i].length);
}

/* What waits is offered first, so that the statistics are true when they are said. */
static void put_options(struct fp_stream *s)
{
    const struct fp_encoder *e = s->encoder;
    uint8_t *p;

    for (unsigned i = 0; i < e->ntemplates; i++) {
        const struct fp_template *t = &e->templates[i];
        if (!t->scopes || !e->applies(s, t))
            continue;
        p = reserve(s, t->id, fp_fields_size(s, t->fields, t->count));
        offer(s);
        fp_fields_put(p, s, t->fields, t->count);
        s->data_records++;
    }
}

static void announce(struct fp_stream *s)
{
    const struct fp_encoder *e = s->encoder;

    for (unsigned i = 0; i < e->ntemplates; i++)
        if (!e->templates[i].scopes || (e->applies(s, &e->templates[i]) && FP_MUTANT(114, true, false)))
            announce_template(s, &e->templates[i]);
}

/* Templates, options templates and options records (S-EXP-4, S-EXP-7). IPFIX over UDP sends new templates several times, in messages of
 * their own (RFC 7011 §8.4). */
static void refresh(struct fp_stream *s)
{
    unsigned alone = s->encoder->format == FP_IPFIX && !s->announced ? FP_MUTANT(77, NEW_TEMPLATE_COPIES, 0) : 0;

    s->refreshing = true;
    for (unsigned i = 0; i < alone; i++) {
        announce(s);
        seal(s);
        open_message(s);
    }
    if (!alone)
        announce(s);
    if (FP_MUTANT(115, true, false))
        put_options(s);
    s->refreshing = false;
    s->announced = true;
    s->unheard = false;
    s->fresh = true;
    s->since_refresh = 0;
    s->refreshed = s->now;
    s->refreshed_at = s->face->clock;
}

static bool too_old(const struct fp_stream *s)
{
    int64_t limit = (int64_t)s->face->config->profile.template_seconds * FP_SECOND;

    return FP_MUTANT(76, aged(s->refreshed, s->now, limit) || aged(s->refreshed_at, s->face->clock, limit), false);
}

static bool refresh_due(const struct fp_stream *s)
{
    const struct fp_profile *p = &s->face->config->profile;

    if (!s->encoder->sets || s->refreshing)
        return false;
    return !s->announced || (s->unheard && !s->fresh) ||
           (!FP_MUTANT(65, s->fresh, false) && s->since_refresh >= FP_MUTANT(63, p->template_packets, UINT32_MAX)) || too_old(s);
}

static void open_message(struct fp_stream *s)
{
    s->open = true;
    s->slot = (s->slot + 1) % FP_STREAM_SLOTS;
    s->length = s->encoder->header;
    s->set_id = 0;
    s->set_at = 0;
    s->records = s->data_records = s->flows = 0;
    s->packets = 0;
    s->opened = s->face->clock;
    if (refresh_due(s))
        refresh(s);
}

static uint8_t *reserve(struct fp_stream *s, uint16_t set, size_t size)
{
    uint8_t *p;

    for (;;) {
        if (!s->open)
            open_message(s);
        bool same = !s->encoder->sets || (s->set_at && s->set_id == set);
        size_t length = same ? s->length : padded(s->length) + 4;
        bool room = padded(length + size) <= s->limit && (s->encoder->sets || s->records < FP_MUTANT(69, V5_RECORDS, V5_RECORDS + 1));
        if (room && same)
            break;
        if (room) {
            close_set(s);
            s->set_at = s->length;
            s->set_id = set;
            fp_put16(message(s) + s->length, set);
            s->length += 4;
            break;
        }
        seal(s);
    }
    p = message(s) + s->length;
    s->length += size;
    s->records++;
    return p;
}

/* Follows the face's time. What was being built leaves with the time that it had, if its templates would be too old at the new one. */
static void advance(struct fp_stream *s)
{
    int64_t before = s->now;

    s->now = s->face->now;
    if (s->open && s->encoder->sets && too_old(s)) {
        s->now = before;
        seal(s);
        s->now = s->face->now;
    }
}

void fp_stream_put(struct fp_stream *s, const struct fp_record *r)
{
    const struct fp_template *t = s->encoder->choose(s, r);

    advance(s);
    if (!t) {
        s->account.unrepresentable_packets += r->body.packets;
        s->account.unrepresentable_records++;
        return;
    }
    t->put(reserve(s, t->id, s->sizes[t - s->encoder->templates]), s, r);
    s->fresh = false;
    s->flows++;
    s->data_records++;
    s->packets += r->body.packets;
    s->account.queued_packets += r->body.packets;
    s->account.queued_records++;
}

void fp_stream_tick(struct fp_stream *s, bool idle)
{
    int64_t clock = s->face->clock;

    advance(s);
    if (s->open && aged(s->opened, clock, FP_MUTANT(112, LATEST, INT64_MAX)))
        seal(s);
    if ((s->announced || s->face->config->wall) && !s->open && refresh_due(s)) {
        open_message(s);
        seal(s);
    }
    if (s->pending && (idle || aged(s->oldest, clock, LATEST)))
        offer(s);
    if (s->unsettled.datagrams && aged(s->offered_at, clock, SETTLED))
        settle(s);
}

void fp_stream_finish(struct fp_stream *s)
{
    if (s->face->now == FP_NS_NONE)
        return;
    advance(s);
    seal(s);
    offer(s);
    settle(s); /* a refusal by this machine has come back by now */
    if (s->encoder->sets) {
        open_message(s);
        /* A refresh that was due has just written them. */
        if (s->data_records == 0 && FP_MUTANT(79, true, false))
            put_options(s);
        seal(s);
        offer(s);
    }
    if (FP_MUTANT(93, true, false))
        settle(s);
}

int fp_stream_init(struct fp_stream *s, int format, const struct fp_face *face, struct fp_transport *transport)
{
    const struct fp_config *c = face->config;

    *s = (struct fp_stream){.face = face,
                            .transport = transport,
                            .sequence = c->first_sequence,
                            .limit = (size_t)c->mtu - FP_MUTANT(78, transport->overhead, 0)};
    if (s->limit > FP_DATAGRAM)
        s->limit = FP_DATAGRAM;
    switch (format) {
    case FP_V5:
        s->encoder = &fp_encoder_v5;
        break;
    case FP_V9:
        s->encoder = &fp_encoder_v9;
        break;
    default:
        s->encoder = c->ipfix_ns ? &fp_encoder_ipfix_ns : &fp_encoder_ipfix;
    }
    for (unsigned i = 0; i < s->encoder->ntemplates; i++)
        s->sizes[i] = (uint16_t)fp_fields_size(s, s->encoder->templates[i].fields, s->encoder->templates[i].count);
    s->arena = malloc((size_t)FP_STREAM_SLOTS * FP_DATAGRAM);
    return s->arena ? 0 : -ENOMEM;
}

void fp_stream_free(struct fp_stream *s)
{
    free(s->arena);
    s->arena = NULL;
}

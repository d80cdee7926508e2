/* SPDX-License-Identifier: Apache-2.0
 *
 * One export stream of the native core, step by step, over a transport that refuses what it is told to; for
 * tests/properties/test_stream.py.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "stream.h"

#define MOST 65536u /* datagrams of a session */

enum fate { SENT, REFUSED, REFUSED_LATER };

struct session {
    struct fp_transport transport;
    struct fp_config config;
    struct fp_account account;
    struct fp_face face;
    struct fp_stream stream;
    unsigned refuse, refuse_later; /* so many of the datagrams to come */
    struct fp_tally untold, left;  /* what the next send hears of: refusals, and that there was none */
    unsigned count;
    struct {
        uint8_t *data;
        uint32_t length;
        enum fate fate;
    } messages[MOST];
};

static void offer(struct fp_transport *t, const struct fp_message *messages, unsigned count)
{
    struct session *s = (struct session *)t;

    fp_tally_move(&t->refused, &s->untold);
    fp_tally_move(&t->sent, &s->left);
    for (unsigned i = 0; i < count; i++) {
        const struct fp_message *m = &messages[i];
        enum fate fate = s->refuse ? REFUSED : s->refuse_later ? REFUSED_LATER : SENT;
        if (s->count == MOST)
            abort();
        s->refuse -= fate == REFUSED;
        s->refuse_later -= fate == REFUSED_LATER;
        fp_tally_add(fate == SENT ? &s->left : fate == REFUSED ? &t->refused : &s->untold, m, 1);
        s->messages[s->count].data = malloc(m->length);
        memcpy(s->messages[s->count].data, m->data, m->length);
        s->messages[s->count].length = m->length;
        s->messages[s->count++].fate = fate;
    }
}

static void nothing(struct fp_transport *t)
{
    (void)t;
}

static const struct fp_transport_ops ops = {.send = offer, .close = nothing};

/* `sampling` is an enum fp_sampling; `boot` is seconds. NULL: out of memory. */
struct session *session_open(int format, int ns, unsigned mtu, unsigned packets, unsigned seconds, unsigned sampling, unsigned interval,
                             unsigned worker, int64_t boot, uint32_t sequence)
{
    struct session *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->transport = (struct fp_transport){.ops = &ops, .overhead = 28};
    s->config.mtu = (uint16_t)mtu;
    s->config.ipfix_ns = ns != 0;
    s->config.profile.template_packets = packets;
    s->config.profile.template_seconds = seconds;
    s->config.profile.sampling = (uint8_t)sampling;
    s->config.profile.sampling_interval = interval;
    s->config.profile.input_interface = 7;
    s->config.first_sequence = sequence;
    s->face = (struct fp_face){.config = &s->config,
                               .account = &s->account,
                               .interface_name = "port",
                               .now = FP_NS_NONE,
                               .clock = FP_NS_NONE,
                               .boot = boot,
                               .worker = (uint16_t)worker};
    if (fp_stream_init(&s->stream, format, &s->face, &s->transport)) {
        free(s);
        return NULL;
    }
    return s;
}

void session_put(struct session *s, int64_t now, int six, const uint8_t *source, const uint8_t *destination, uint64_t ports, uint64_t word,
                 unsigned flags, uint32_t label, int reason, int64_t first, int64_t last, uint64_t packets, uint64_t octets)
{
    struct fp_record r = {.kind = six ? FP_IPV6 : FP_IPV4, .reason = (uint8_t)reason, .label = label};
    size_t length = six ? 16 : 4;

    memcpy(r.source, source, length);
    memcpy(six ? (uint8_t *)r.destination : (uint8_t *)r.source + 4, destination, length);
    r.body = (struct fp_body){.ports = ports,
                              .word = word | FP_WORD_OF_FLAGS((uint16_t)flags),
                              .first = first,
                              .last = last,
                              .packets = packets,
                              .octets = octets};
    s->face.now = s->face.clock = now;
    fp_stream_put(&s->stream, &r);
}

void session_tick(struct session *s, int64_t now, int idle)
{
    s->face.now = s->face.clock = now;
    fp_stream_tick(&s->stream, idle != 0);
}

void session_finish(struct session *s, int64_t now)
{
    s->face.now = s->face.clock = now;
    fp_stream_finish(&s->stream);
}

void session_refuse(struct session *s, unsigned now, unsigned later)
{
    s->refuse = now;
    s->refuse_later = later;
}

unsigned session_count(const struct session *s)
{
    return s->count;
}

const uint8_t *session_message(const struct session *s, unsigned i, uint32_t *length, int *fate)
{
    *length = s->messages[i].length;
    *fate = (int)s->messages[i].fate;
    return s->messages[i].data;
}

/* Flows in datagrams whose fate was not told yet. */
unsigned session_untold(const struct session *s)
{
    return (unsigned)(s->untold.flows + s->left.flows);
}

/* Exported, queued, not sent, unrepresentable (packets, records each), datagrams and their octets. */
void session_account(const struct session *s, uint64_t out[10])
{
    memcpy(out, &s->stream.account, sizeof s->stream.account);
}

_Static_assert(sizeof(struct fp_stream_account) == 10 * sizeof(uint64_t), "the account is ten counters");

void session_close(struct session *s)
{
    fp_stream_free(&s->stream);
    for (unsigned i = 0; i < s->count; i++)
        free(s->messages[i].data);
    free(s);
}

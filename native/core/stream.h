/* SPDX-License-Identifier: Apache-2.0
 *
 * One export stream of one worker: records go in, datagrams go to a transport, and what became of each is accounted (semantics: Export).
 */
#ifndef FP_STREAM_H
#define FP_STREAM_H

#include "fields.h"
#include "transport.h"

#define FP_STREAM_BATCH  32u                   /* datagrams offered to the transport at a time */
#define FP_STREAM_SLOTS  (FP_STREAM_BATCH + 1) /* one is being built while all others may wait */
#define FP_MAX_TEMPLATES 10u
#define FP_DATAGRAM      9216u /* the longest that is built */

/* What the streams of a worker see of it. */
struct fp_face {
    const struct fp_config *config;
    const struct fp_account *account;
    const char *interface_name;
    int64_t now;   /* the export time (S-TIM-6) */
    int64_t clock; /* by which waiting is measured: the export time or, as the wall clock may jump, CLOCK_MONOTONIC */
    int64_t boot;  /* seconds (S-TIM-7) */
    uint16_t worker;
};

struct fp_encoder {
    int format;
    uint16_t header; /* octets of the message header */
    bool sets;       /* records lie in sets that templates describe */
    uint16_t template_set, options_set;
    bool lengths_in_octets; /* an options template counts octets (v9) instead of fields */
    const struct fp_template *templates;
    uint16_t ntemplates;
    /* The template of a record, NULL if the format cannot carry it. */
    const struct fp_template *(*choose)(const struct fp_stream *, const struct fp_record *);
    /* Whether an options template applies to this run. */
    bool (*applies)(const struct fp_stream *, const struct fp_template *);
    /* Writes the header of a finished message and advances the sequence. */
    void (*seal)(struct fp_stream *, uint8_t *message, size_t length);
};

extern const struct fp_encoder fp_encoder_v5, fp_encoder_v9, fp_encoder_ipfix, fp_encoder_ipfix_ns;

struct fp_stream {
    const struct fp_encoder *encoder;
    const struct fp_face *face;
    struct fp_transport *transport;
    struct fp_stream_account account;
    uint32_t sequence;
    size_t limit;                     /* octets of a datagram */
    uint16_t sizes[FP_MAX_TEMPLATES]; /* octets of a record of each of the encoder's templates */
    /* The datagram being built. */
    bool open;
    unsigned slot; /* where in the arena */
    bool refreshing;
    size_t length, set_at;
    uint16_t set_id;                       /* 0 = none open */
    uint16_t records, data_records, flows; /* in all; without templates; without options */
    uint64_t packets;
    int64_t opened; /* by the face's `clock`, as are `refreshed_at`, `oldest` and `offered_at` */
    int64_t now;    /* the export time of the datagram being built: the face's when the last record or template was put */
    /* Templates. */
    bool announced;
    bool unheard;           /* something was refused since the last templates: who listens later may not have them */
    bool fresh;             /* no flow since the last templates: it takes more than their own datagrams to need them again */
    uint32_t since_refresh; /* datagrams */
    int64_t refreshed;      /* the export time of the last templates */
    int64_t refreshed_at;
    /* Sealed datagrams that wait for the transport. */
    unsigned pending;
    int64_t oldest; /* when the first of them was opened */
    /* What the transport took, but whose refusal may still come back. */
    struct fp_tally unsettled;
    int64_t offered_at;
    struct fp_message messages[FP_STREAM_BATCH];
    uint8_t *arena; /* FP_STREAM_SLOTS times FP_DATAGRAM */
};

int fp_stream_init(struct fp_stream *, int format, const struct fp_face *, struct fp_transport *);
void fp_stream_free(struct fp_stream *);
void fp_stream_put(struct fp_stream *, const struct fp_record *);
/* Sends what has waited long enough at the face's time: partly filled datagrams, due templates. `idle`: send all that waits for the
 * transport. */
void fp_stream_tick(struct fp_stream *, bool idle);
/* Sends everything, and the last options records. */
void fp_stream_finish(struct fp_stream *);

#endif

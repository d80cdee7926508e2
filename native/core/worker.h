/* SPDX-License-Identifier: Apache-2.0
 *
 * One worker: frames of a queue or a ring through trailer, metering process and export streams. Its state is touched by one thread at a
 * time; what others may read is published under a lock after every batch.
 */
#ifndef FP_WORKER_H
#define FP_WORKER_H

#include <pthread.h>

#include "ending.h"
#include "sequence.h"
#include "stream.h"

struct fp_ring;

struct fp_published {
    struct fp_account account;
    struct fp_stream_account streams[FP_MAX_STREAMS];
};

struct fp_worker {
    const struct fp_config *config;
    struct fp_meter meter;
    struct fp_face face;
    struct fp_stream streams[FP_MAX_STREAMS];
    struct fp_transport *transports[FP_MAX_STREAMS];
    unsigned nstreams;
    /* Where its frames come from. */
    const struct fp_backend_ops *ops;
    struct fp_source *source;
    unsigned queue;
    struct fp_ring *ring; /* NULL: its own queue of the source */
    struct fp_packet *burst, *frames;
    int64_t visibility;
    /* The backend's clock and when it was told, CLOCK_MONOTONIC. */
    int64_t backend_now, told;
    bool started;
    uint64_t *assignment;
    size_t assigned, assignment_capacity;
    uint64_t trailers, strays;
    struct fp_sequences sequences; /* of the trailers */
    uint64_t cpu_ns;
    struct fp_ending *ending; /* the run's */
    int result;               /* 0 or -errno with err */
    char err[FP_ERRLEN];
    pthread_t thread;
    pthread_mutex_t lock;
    struct fp_published published;
};

/* `asked` becomes true when the run is asked to end. */
int fp_worker_init(struct fp_worker *, const struct fp_config *, unsigned index, const char *interface_name, const bool *asked, char *err);
void fp_worker_free(struct fp_worker *);
/* Takes frames until their end, an error or a stop. */
void fp_worker_run(struct fp_worker *);
/* After every worker has run: ends all records at the final clock and exports them. */
void fp_worker_finish(struct fp_worker *, int64_t final_clock);
void fp_worker_published(struct fp_worker *, struct fp_published *);

#endif

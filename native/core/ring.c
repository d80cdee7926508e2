/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mutant.h"

#define CHUNKS 16u
#define ARENA  (128u << 10) /* octets of a chunk to begin with */

struct chunk {
    struct fp_packet frames[FP_RING_CHUNK];
    size_t offsets[FP_RING_CHUNK];
    unsigned count;
    uint8_t *arena;
    size_t used, capacity;
};

struct fp_ring {
    pthread_mutex_t lock;
    pthread_cond_t filled, emptied;
    unsigned head, tail; /* given, taken: counts modulo 2^32 */
    bool end, taking, abandoned;
    int64_t now;
    struct chunk chunks[CHUNKS];
};

struct fp_ring *fp_ring_new(void)
{
    struct fp_ring *r = calloc(1, sizeof *r);
    pthread_condattr_t attributes;

    if (!r)
        return NULL;
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&r->filled, &attributes);
    pthread_cond_init(&r->emptied, &attributes);
    pthread_condattr_destroy(&attributes);
    r->now = FP_NS_NONE;
    return r;
}

void fp_ring_free(struct fp_ring *r)
{
    if (!r)
        return;
    for (unsigned i = 0; i < CHUNKS; i++)
        free(r->chunks[i].arena);
    pthread_cond_destroy(&r->filled);
    pthread_cond_destroy(&r->emptied);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* The chunk that the producer fills; it has it alone until it is given. */
static struct chunk *open_chunk(struct fp_ring *r)
{
    struct chunk *c = &r->chunks[r->head % CHUNKS];

    if (c->count)
        return c;
    pthread_mutex_lock(&r->lock);
    while (r->head - r->tail == CHUNKS - 1 && !r->abandoned)
        pthread_cond_wait(&r->emptied, &r->lock);
    pthread_mutex_unlock(&r->lock);
    return c;
}

static void give(struct fp_ring *r, int64_t now)
{
    struct chunk *c = &r->chunks[r->head % CHUNKS];

    /* The arena may have moved while it grew. */
    for (unsigned i = 0; i < c->count; i++)
        c->frames[i].data = c->arena + FP_MUTANT(98, c->offsets[i], 0);
    pthread_mutex_lock(&r->lock);
    r->now = now;
    if (c->count) {
        if (r->abandoned)
            c->count = 0;
        else
            r->head++;
    }
    pthread_cond_signal(&r->filled);
    pthread_mutex_unlock(&r->lock);
}

bool fp_ring_put(struct fp_ring *r, const struct fp_packet *p)
{
    struct chunk *c = open_chunk(r);
    size_t done = p->len < p->caplen ? p->len : p->caplen;
    struct fp_packet *f;

    if (c->count == 0)
        c->used = 0;
    if (c->capacity - c->used < p->caplen) {
        size_t capacity = c->capacity ? c->capacity : ARENA;
        while (capacity - c->used < p->caplen)
            capacity *= 2;
        uint8_t *grown = realloc(c->arena, capacity);
        if (!grown)
            return false;
        c->arena = grown;
        c->capacity = capacity;
    }
    if (done)
        memcpy(c->arena + c->used, p->data, done);
    for (const struct fp_segment *s = FP_MUTANT(99, p->next, NULL); s && done < p->caplen; s = s->next) {
        size_t n = s->len < p->caplen - done ? s->len : p->caplen - done;
        memcpy(c->arena + c->used + done, s->data, n);
        done += n;
    }
    f = &c->frames[c->count];
    *f = *p;
    f->len = f->caplen = (uint32_t)done;
    f->next = NULL;
    c->offsets[c->count++] = c->used;
    c->used += done;
    if (c->count == FP_RING_CHUNK)
        give(r, FP_NS_NONE);
    return true;
}

void fp_ring_flush(struct fp_ring *r, int64_t now)
{
    give(r, now);
}

void fp_ring_end(struct fp_ring *r)
{
    if (FP_MUTANT(97, true, false))
        give(r, FP_NS_NONE);
    pthread_mutex_lock(&r->lock);
    r->end = true;
    pthread_cond_signal(&r->filled);
    pthread_mutex_unlock(&r->lock);
}

int fp_ring_take(struct fp_ring *r, struct fp_packet **frames, int wait_ms, int64_t *now)
{
    struct timespec until;
    struct chunk *c;
    int n = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&r->lock);
    if (r->taking) {
        r->chunks[r->tail % CHUNKS].count = 0;
        r->tail++;
        r->taking = false;
        pthread_cond_signal(&r->emptied);
    }
    while (r->head == r->tail && !r->end && r->now == FP_NS_NONE)
        if (pthread_cond_timedwait(&r->filled, &r->lock, &until))
            break;
    *now = FP_NS_NONE;
    if (r->head != r->tail) {
        c = &r->chunks[r->tail % CHUNKS];
        r->taking = true;
        *frames = c->frames;
        n = (int)c->count;
    } else if (r->end) {
        n = FP_END;
    } else {
        *now = r->now;
        r->now = FP_NS_NONE;
    }
    pthread_mutex_unlock(&r->lock);
    return n;
}

void fp_ring_abandon(struct fp_ring *r)
{
    pthread_mutex_lock(&r->lock);
    r->abandoned = true;
    pthread_cond_signal(&r->emptied);
    pthread_mutex_unlock(&r->lock);
}

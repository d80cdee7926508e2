/* SPDX-License-Identifier: Apache-2.0
 *
 * The ring between the reader of a source and a worker (ring.c): what is taken is what was put, in order and whole, whether a frame lay in
 * one piece or several and however often a chunk had to grow. Ends with status 1 where it is not.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "ring.h"

#define COUNT 5000u

static uint8_t octet(uint64_t seq, uint32_t at)
{
    return (uint8_t)(seq * 31 + at * 7);
}

/* Frames grow along the way, so that chunks must. */
static uint32_t length_of(uint64_t seq)
{
    return (uint32_t)(seq * 37 % (seq < COUNT / 2 ? 200 : 9000));
}

static void *produce(void *ring)
{
    static uint8_t octets[9000];

    for (uint64_t seq = 0; seq < COUNT; seq++) {
        uint32_t length = length_of(seq);
        uint32_t cut = seq % 3 ? length : length / 3, second = (length - cut) / 2;
        struct fp_segment last = {.data = octets + cut + second, .len = length - cut - second};
        struct fp_segment middle = {.data = octets + cut, .len = second, .next = &last};
        struct fp_packet p = {
            .data = octets, .len = cut, .caplen = length, .wirelen = length + 1, .seq = seq, .next = cut < length ? &middle : NULL};
        for (uint32_t i = 0; i < length; i++)
            octets[i] = octet(seq, i);
        if (!fp_ring_put(ring, &p))
            return "no memory";
        if (seq % 500 == 7)
            fp_ring_flush(ring, FP_NS_NONE);
    }
    fp_ring_end(ring);
    return NULL;
}

static int wrong(const struct fp_packet *p, uint64_t seq)
{
    if (p->seq != seq || p->caplen != length_of(seq) || p->len != p->caplen || p->wirelen != p->caplen + 1 || p->next)
        return 1;
    for (uint32_t i = 0; i < p->len; i++)
        if (p->data[i] != octet(seq, i))
            return 1;
    return 0;
}

int main(void)
{
    struct fp_ring *ring = fp_ring_new();
    struct fp_packet *frames;
    uint64_t seq = 0;
    pthread_t producer;
    int64_t now;
    int n;

    if (!ring || pthread_create(&producer, NULL, produce, ring))
        return 2;
    while ((n = fp_ring_take(ring, &frames, 1000, &now)) != FP_END)
        for (int i = 0; i < n; i++, seq++)
            if (wrong(&frames[i], seq)) {
                printf("frame %llu is not what was put\n", (unsigned long long)seq);
                return 1;
            }
    pthread_join(producer, NULL);
    fp_ring_free(ring);
    if (seq == COUNT)
        return 0;
    printf("%llu of %u frames arrived\n", (unsigned long long)seq, COUNT);
    return 1;
}

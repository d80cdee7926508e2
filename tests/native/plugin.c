/* SPDX-License-Identifier: Apache-2.0
 *
 * A plug-in that takes the contract to its limits, under the name of `socket`; the input says how. See test_plugins.py.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flowparity/backend.h"

#define NS INT64_C(1000000000)

struct fp_source {
    char input[16];
};

/* Longer than the core's, as a newer plug-in's would be. */
struct newer_caps {
    struct fp_caps caps;
    uint8_t more[200];
};

static const uint8_t frame[60] = {2, 2,  2,  2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 0, 0x45, 0, 0, 28, 0, 0, 0,
                                  0, 64, 17, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 1,    0, 2, 0,  8, 0, 0};

static int64_t now(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * NS + t.tv_nsec;
}

static void fill(struct fp_caps *caps, unsigned queues)
{
    struct newer_caps *newer = (struct newer_caps *)caps;

    *newer = (struct newer_caps){.caps = {.size = sizeof *newer,
                                          .flags = FP_CAP_LIVE,
                                          .tier = FP_TIER_SIM,
                                          .queues = (uint16_t)queues,
                                          .max_frame = 60,
                                          .ts_resolution = 1}};
    memset(newer->more, 0xFF, sizeof newer->more);
}

static int probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    (void)host, (void)err;
    fill(caps, FP_MAX_QUEUES);
    return 0;
}

static int open_source(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    struct fp_source *s = calloc(1, sizeof *s);

    if (!s)
        return host->fail(err, -ENOMEM, "out of memory");
    strncpy(s->input, args->input, sizeof s->input - 1);
    fill(caps, args->queues + !strcmp(s->input, "queues"));
    if (!strcmp(s->input, "nosize"))
        caps->size = 0;
    *out = s;
    return 0;
}

static int recv_burst(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns, char *err)
{
    bool endless = !strcmp(s->input, "endless");
    struct timespec nap = {.tv_nsec = 5000000};
    unsigned n = endless ? max : 1;

    (void)err;
    *now_ns = now(CLOCK_REALTIME);
    if (!endless) { /* a trickle: there is always one within the time that recv may wait, never one at once */
        if (!wait_ms)
            return 0;
        nanosleep(&nap, NULL);
    }
    for (unsigned i = 0; i < n; i++)
        packets[i] = (struct fp_packet){
            .data = frame, .len = 60, .caplen = 60, .wirelen = 60, .link = FP_LINK_ETHERNET, .ts_ns = *now_ns, .queue = (uint16_t)queue};
    return (int)n;
}

static int stop(struct fp_source *s, char *err)
{
    (void)s, (void)err;
    return 0;
}

static void close_source(struct fp_source *s)
{
    free(s);
}

static const struct fp_backend_ops ops = {
    .abi = FP_ABI,
    .size = sizeof ops,
    .name = "socket",
    .summary = "takes the contract to its limits",
    .probe = probe,
    .open = open_source,
    .recv = recv_burst,
    .stop = stop,
    .close = close_source,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .backend = &ops};

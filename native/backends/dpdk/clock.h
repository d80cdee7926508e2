/* SPDX-License-Identifier: Apache-2.0
 *
 * From the mbuf's timestamp to nanoseconds since the UNIX epoch.
 *
 * DPDK defines where a receive timestamp stands (a dynamic field) but not its unit: net_pcap gives microseconds until it advertises the
 * offload (from then on nanoseconds), NICs give ticks of a clock of their own. Ticks are calibrated against CLOCK_REALTIME at open and once
 * a second after that, each queue for itself, so that nothing is shared.
 */
#ifndef FP_DPDK_CLOCK_H
#define FP_DPDK_CLOCK_H

#include <stdint.h>
#include <time.h>

enum unit { UNIT_NONE, UNIT_NS, UNIT_US, UNIT_TICKS };

#define CLOCK_PERIOD 1000000000 /* between calibrations, ns */
#define CLOCK_TRIES  8          /* readings, of which the one with the narrowest bracket counts */

static inline int64_t clock_now(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A linear map from ticks to time, right near (tick, ns). `rate` is nanoseconds per tick × 2^32; 0 until known. */
struct ticks {
    uint64_t tick;
    int64_t ns;
    uint64_t rate;
};

/* Reads the device's clock into *tick; 0 or -errno. */
typedef int (*tick_reader)(void *device, uint64_t *tick);

static inline int64_t ticks_to_ns(const struct ticks *t, uint64_t tick)
{
    int64_t delta = (int64_t)(tick - t->tick);

    return t->ns + (int64_t)(((__int128)delta * t->rate) >> 32);
}

/* Takes a new pair of readings and, with the one before, the rate. Call at least twice, some time apart, before ticks_to_ns. 0 or -errno.
 */
static int ticks_calibrate(struct ticks *t, tick_reader read, void *device, int64_t (*now)(clockid_t))
{
    int64_t best = INT64_MAX, ns = 0;
    uint64_t tick = 0;

    for (int i = 0; i < CLOCK_TRIES; i++) {
        uint64_t seen;
        int64_t before = now(CLOCK_REALTIME);
        int rc = read(device, &seen);
        int64_t after = now(CLOCK_REALTIME);
        if (rc < 0)
            return rc;
        if (after >= before && after - before < best) {
            best = after - before;
            ns = before + (after - before) / 2;
            tick = seen;
        }
    }
    if (t->ns && ns > t->ns && tick != t->tick)
        t->rate = (uint64_t)(((unsigned __int128)(uint64_t)(ns - t->ns) << 32) / (tick - t->tick));
    t->tick = tick;
    t->ns = ns;
    return 0;
}

#endif

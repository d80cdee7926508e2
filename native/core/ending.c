/* SPDX-License-Identifier: Apache-2.0 */
#include "ending.h"

#include <time.h>

#include "clock.h"

#define PATIENCE (2 * FP_SECOND) /* for which a source has time to say its end */
#define MOST     (1u << 20)      /* frames that a queue may have accepted before it was told */

static int64_t monotonic(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * FP_SECOND + t.tv_nsec;
}

int fp_ending_before(struct fp_ending *e, struct fp_drain *d, const struct fp_backend_ops *ops, struct fp_source *source, int wait_ms,
                     char *err)
{
    if (!__atomic_load_n(&e->wanted, __ATOMIC_ACQUIRE))
        return wait_ms;
    if (!ops->stop)
        return -1;
    if (!__atomic_exchange_n(&e->told, true, __ATOMIC_ACQ_REL))
        ops->stop(source, err);
    if (!d->since)
        d->since = monotonic();
    return monotonic() - d->since < PATIENCE ? wait_ms : 0;
}

bool fp_ending_after(struct fp_ending *e, struct fp_drain *d, unsigned n)
{
    if (!d->since)
        return false;
    d->frames += n;
    if (monotonic() - d->since < PATIENCE || (n && d->frames < MOST))
        return false;
    __atomic_store_n(&e->cut, true, __ATOMIC_RELAXED);
    return true;
}

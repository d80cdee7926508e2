/* SPDX-License-Identifier: Apache-2.0
 *
 * Arithmetic on nanoseconds that stops at the ends of the range instead of wrapping.
 */
#ifndef FP_CLOCK_H
#define FP_CLOCK_H

#include <stdint.h>

#define FP_SECOND      INT64_C(1000000000)
#define FP_MILLISECOND INT64_C(1000000)

static inline int64_t fp_later(int64_t t, int64_t by)
{
    int64_t sum;

    return __builtin_expect(__builtin_add_overflow(t, by, &sum), 0) ? by > 0 ? INT64_MAX : INT64_MIN : sum;
}

static inline int64_t fp_earlier(int64_t t, int64_t by)
{
    int64_t difference;

    return __builtin_sub_overflow(t, by, &difference) ? by > 0 ? INT64_MIN : INT64_MAX : difference;
}

/* Rounds towards minus infinity. */
static inline int64_t fp_floor(int64_t t, int64_t unit)
{
    int64_t quotient = t / unit;

    return t % unit < 0 ? quotient - 1 : quotient;
}

static inline int64_t fp_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t fp_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Integers in octets, network order, at any alignment.
 */
#ifndef FP_BYTES_H
#define FP_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "mutant.h"

static inline uint16_t fp_get16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof v);
    return __builtin_bswap16(v);
}

static inline uint32_t fp_get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return __builtin_bswap32(v);
}

static inline uint64_t fp_get64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return __builtin_bswap64(v);
}

/* The same octets as a number of no particular order: for keys. */
static inline uint64_t fp_raw64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint8_t *fp_put8(uint8_t *p, uint64_t v)
{
    *p = (uint8_t)v;
    return p + 1;
}

static inline uint8_t *fp_put16(uint8_t *p, uint64_t v)
{
    uint16_t n = __builtin_bswap16((uint16_t)v);

    memcpy(p, &n, sizeof n);
    return p + sizeof n;
}

static inline uint8_t *fp_put32(uint8_t *p, uint64_t v)
{
    uint32_t n = __builtin_bswap32((uint32_t)v);

    memcpy(p, &n, sizeof n);
    return p + sizeof n;
}

static inline uint8_t *fp_put64(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, sizeof v);
    return p + sizeof v;
}

/* The low `length` octets of a number; 1 to 4, or 8. */
static inline uint8_t *fp_put_number(uint8_t *p, uint64_t v, unsigned length)
{
    switch (length) {
    case 1:
        return fp_put8(p, v);
    case 2:
        return fp_put16(p, v);
    case 3:
        return fp_put16(fp_put8(p, FP_MUTANT(84, v >> 16, 0)), v);
    case 4:
        return fp_put32(p, v);
    default:
        return fp_put64(p, v);
    }
}

static inline uint8_t *fp_put_octets(uint8_t *p, const void *from, size_t length)
{
    memcpy(p, from, length);
    return p + length;
}

#endif

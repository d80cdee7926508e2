/* SPDX-License-Identifier: Apache-2.0
 *
 * Keyed multiply-mix. The secrets are random in live runs, so that nobody can choose keys that collide; equality is always decided by the
 * whole key.
 */
#ifndef FP_HASH_H
#define FP_HASH_H

#include <stdint.h>

static inline uint64_t fp_mix(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 u128;
    u128 product = (u128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* SplitMix64: output i of a generator that starts at `state` (S-VER-3). */
static inline uint64_t fp_splitmix(uint64_t state, uint64_t i)
{
    uint64_t z = state + (i + 1) * UINT64_C(0x9E3779B97F4A7C15);

    z ^= z >> 30;
    z *= UINT64_C(0xBF58476D1CE4E5B9);
    z ^= z >> 27;
    z *= UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static inline uint64_t fp_hash4(const uint64_t secret[4], uint64_t addresses, uint64_t ports, uint64_t word)
{
    return fp_mix(fp_mix(addresses ^ secret[0], ports ^ secret[1]) ^ secret[2], word ^ secret[3]);
}

static inline uint64_t fp_hash6(const uint64_t secret[4], const uint64_t source[2], const uint64_t destination[2], uint64_t ports,
                                uint64_t word)
{
    uint64_t a = fp_mix(source[0] ^ secret[0], source[1] ^ secret[1]);
    uint64_t b = fp_mix(destination[0] ^ secret[2], destination[1] ^ secret[3]);

    return fp_mix(fp_mix(a ^ secret[1], ports ^ b) ^ secret[2], word ^ secret[3] ^ (b << 1));
}

#endif

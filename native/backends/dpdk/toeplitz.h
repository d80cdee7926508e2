/* SPDX-License-Identifier: Apache-2.0
 *
 * The hash that NICs spread by, in software: Toeplitz with the symmetric key over IP addresses and, for unfragmented TCP, UDP and SCTP,
 * ports, behind up to two VLAN tags. What a NIC does not look into (MPLS, PPPoE, ARP, IPv6 extension headers' payload) it does not look
 * into either. 0: no hash, queue 0, as on a NIC.
 */
#ifndef FP_DPDK_TOEPLITZ_H
#define FP_DPDK_TOEPLITZ_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static uint32_t toeplitz_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Every 32-bit window of the key 6d5a 6d5a … is one of these 16. */
static uint32_t toeplitz_words(const uint32_t *words, unsigned count)
{
    uint32_t hash = 0;

    for (unsigned w = 0; w < count; w++)
        for (unsigned bit = 0; bit < 32; bit++)
            if (words[w] & 0x80000000u >> bit)
                hash ^= bit % 16 ? 0x6d5a6d5au << bit % 16 | 0x6d5a6d5au >> (32 - bit % 16) : 0x6d5a6d5au;
    return hash;
}

static uint32_t toeplitz_hash(const uint8_t *data, uint32_t len)
{
    uint32_t words[9], at = 12;
    unsigned count;
    uint8_t protocol;
    bool fragment;

    for (int tags = 0; at + 2 <= len && tags < 2; tags++, at += 4)
        if (!((data[at] == 0x81 && data[at + 1] == 0x00) || (data[at] == 0x88 && data[at + 1] == 0xA8)))
            break;
    if (at + 2 > len)
        return 0;
    uint16_t type = (uint16_t)(data[at] << 8 | data[at + 1]);
    at += 2;
    if (type == 0x0800 && at + 20 <= len) {
        count = 2;
        memcpy(words, (const uint32_t[]){toeplitz_u32(data + at + 12), toeplitz_u32(data + at + 16)}, 8);
        protocol = data[at + 9];
        fragment = ((data[at + 6] & 0x3F) | data[at + 7]) != 0;
        at += (data[at] & 15u) * 4;
    } else if (type == 0x86DD && at + 40 <= len) {
        for (count = 0; count < 8; count++)
            words[count] = toeplitz_u32(data + at + 8 + 4 * count);
        protocol = data[at + 6];
        fragment = false;
        at += 40;
    } else {
        return 0;
    }
    if (!fragment && (protocol == 6 || protocol == 17 || protocol == 132) && at + 4 <= len)
        words[count++] = toeplitz_u32(data + at);
    return toeplitz_words(words, count);
}

#endif

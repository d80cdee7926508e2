/* SPDX-License-Identifier: Apache-2.0
 *
 * Turns fuzzer input into a profile and frames, and runs them through a whole run in memory.
 */
#ifndef FP_FUZZ_INPUT_H
#define FP_FUZZ_INPUT_H

#include <stdlib.h>
#include <string.h>

#include "flowparity/core.h"

#define FUZZ_FRAMES 512u
#define FUZZ_SECOND INT64_C(1000000000)

struct fuzz_input {
    struct fp_packet frames[FUZZ_FRAMES];
    uint8_t *copies[FUZZ_FRAMES];
    struct fp_memory memory;
    char address[32];
};

/* A frame of the input: one octet of length, one of time step, then the frame. */
static inline void fuzz_frames(struct fuzz_input *in, const uint8_t *data, size_t size)
{
    int64_t now = FUZZ_SECOND;
    unsigned n = 0;

    while (n < FUZZ_FRAMES && size >= 2 && size - 2 >= data[0]) {
        size_t length = data[0];
        now += (int64_t)(data[1] & 0x7F) * (data[1] & 0x40 ? FUZZ_SECOND / 4 : FUZZ_SECOND / 1000);
        in->copies[n] = malloc(length ? length : 1);
        if (!in->copies[n])
            break;
        memcpy(in->copies[n], data + 2, length);
        in->frames[n] = (struct fp_packet){
            .data = in->copies[n],
            .len = (uint32_t)length,
            .caplen = (uint32_t)length,
            .wirelen = (uint32_t)length,
            .link = FP_LINK_ETHERNET,
            .ts_ns = data[1] & 0x80 ? now - 3 * FUZZ_SECOND : now,
            .seq = n,
        };
        data += 2 + length;
        size -= 2 + length;
        n++;
    }
    in->memory = (struct fp_memory){.magic = FP_MEMORY_MAGIC, .packets = in->frames, .count = n};
    snprintf(in->address, sizeof in->address, "%p", (void *)&in->memory);
}

static inline void fuzz_free(struct fuzz_input *in)
{
    for (unsigned i = 0; i < FUZZ_FRAMES; i++)
        free(in->copies[i]);
}

static inline struct fp_profile fuzz_profile(const uint8_t *c)
{
    return (struct fp_profile){
        .key_classic = c[0] & 1,
        .key_vlan = c[0] & 2,
        .refuse = c[0] & 4,
        .interface_source = c[0] & 8,
        .tos_mask = 0xFF,
        .counter_bits = c[0] & 16 ? 64 : 32,
        .sampling = c[0] >> 5 & 3 ? (c[0] >> 5 & 3) % 3 : 0,
        .sampling_interval = 1 + c[1] % 3,
        .input_interface = 1,
        .cache_size = 1 + c[1] % 40,
        .template_packets = 1 + c[2] % 5,
        .template_seconds = 1,
        .idle_timeout = c[2] % 4 * FUZZ_SECOND,
        .active_timeout = c[3] % 4 * FUZZ_SECOND,
        .tcp_end = c[3] & 16  ? -1
                   : c[2] % 4 ? 0
                              : FUZZ_SECOND / 8,
        .reorder = c[3] >> 5 & 1 ? FUZZ_SECOND : 0,
        .max_clock_step = FUZZ_SECOND,
        .boot = -1,
    };
}

#endif

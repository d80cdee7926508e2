/* SPDX-License-Identifier: Apache-2.0
 *
 * A fuzzer's input as a sequence of numbers; past its end everything is zero.
 */
#ifndef FP_FUZZ_INPUT_H
#define FP_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct input {
    const uint8_t *data;
    size_t left;
};

static inline uint64_t take(struct input *in, unsigned octets)
{
    uint64_t v = 0;
    size_t n = octets < in->left ? octets : in->left;

    if (n) {
        memcpy(&v, in->data, n);
        in->data += n;
        in->left -= n;
    }
    return v;
}

/* What must hold, whatever the input. */
#define REQUIRE(condition)                                                                                                                 \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                                        \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "sequence.h"

#include <stdlib.h>

#define PAGES 65536u
#define WORDS 1024u /* of a page of 65,536 bits */

bool fp_sequences_add(struct fp_sequences *s, uint32_t number)
{
    uint64_t **page;

    if (!s->pages)
        s->pages = calloc(PAGES, sizeof(uint64_t *));
    if (!s->pages)
        return false;
    page = &s->pages[number >> 16];
    if (!*page)
        *page = calloc(WORDS, sizeof(uint64_t));
    if (!*page)
        return false;
    (*page)[number >> 6 & (WORDS - 1)] |= UINT64_C(1) << (number & 63);
    if (number >= s->end)
        s->end = (uint64_t)number + 1;
    return true;
}

uint64_t fp_sequences_united(const struct fp_sequences *const *sets, unsigned count)
{
    uint64_t numbers = 0;

    for (unsigned page = 0; page < PAGES; page++) {
        for (unsigned word = 0; word < WORDS; word++) {
            uint64_t bits = 0;
            bool any = false;
            for (unsigned i = 0; i < count; i++) {
                if (!sets[i]->pages || !sets[i]->pages[page])
                    continue;
                any = true;
                bits |= sets[i]->pages[page][word];
            }
            if (!any)
                break;
            numbers += (unsigned)__builtin_popcountll(bits);
        }
    }
    return numbers;
}

void fp_sequences_free(struct fp_sequences *s)
{
    for (unsigned page = 0; s->pages && page < PAGES; page++)
        free(s->pages[page]);
    free(s->pages);
}

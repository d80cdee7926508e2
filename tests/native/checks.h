/* SPDX-License-Identifier: Apache-2.0
 *
 * What the C programs of these tests share: checks by name, a tally of records, memory that can be refused (link with --wrap=realloc and
 * --wrap=mmap). Each program is one source, so all is static.
 */
#ifndef TESTS_NATIVE_CHECKS_H
#define TESTS_NATIVE_CHECKS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "record.h"

#define CHECK(condition)                                                                                                                   \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            printf("%s:%d: not so: %s\n", __func__, __LINE__, #condition);                                                                 \
            return false;                                                                                                                  \
        }                                                                                                                                  \
    } while (0)

/* Memory that may be refused. */
static bool no_realloc __attribute__((unused)), no_mmap __attribute__((unused));

void *__real_realloc(void *, size_t);
void *__wrap_realloc(void *, size_t);
void *__real_mmap(void *, size_t, int, int, int, off_t);
void *__wrap_mmap(void *, size_t, int, int, int, off_t);

void *__wrap_realloc(void *p, size_t size)
{
    return no_realloc ? NULL : __real_realloc(p, size);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
    return no_mmap ? MAP_FAILED : __real_mmap(at, size, protection, flags, file, offset);
}

/* Records handed over. */
struct tally {
    uint64_t records, packets, octets, reasons[FP_RESOURCES + 1];
    struct fp_record last;
};

static inline void put(void *context, const struct fp_record *r)
{
    struct tally *t = context;

    t->records++;
    t->packets += r->body.packets;
    t->octets += r->body.octets;
    t->reasons[r->reason]++;
    t->last = *r;
}

struct check {
    const char *name;
    bool (*check)(void);
};

static int run_checks(const struct check *checks, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (checks[i].check())
            printf("ok %s\n", checks[i].name);
    return 0;
}

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The transport that keeps every message in memory, for tests.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loader.h"
#include "transport.h"

struct kept {
    struct fp_transport base;
    struct {
        uint8_t *data;
        size_t length;
    } *messages;
    size_t count, capacity;
};

static bool keep(struct kept *k, const struct fp_message *m)
{
    void *grown;
    uint8_t *copy;

    if (k->count == k->capacity) {
        size_t capacity = k->capacity ? k->capacity * 2 : 16;
        grown = realloc(k->messages, capacity * sizeof *k->messages);
        if (!grown)
            return false;
        k->messages = grown;
        k->capacity = capacity;
    }
    copy = malloc(m->length);
    if (!copy)
        return false;
    memcpy(copy, m->data, m->length);
    k->messages[k->count].data = copy;
    k->messages[k->count++].length = m->length;
    return true;
}

static void keep_all(struct fp_transport *t, const struct fp_message *messages, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        fp_tally_add(keep((struct kept *)t, &messages[i]) ? &t->sent : &t->refused, &messages[i], 1);
}

static void forget(struct fp_transport *t)
{
    struct kept *k = (struct kept *)t;

    for (size_t i = 0; i < k->count; i++)
        free(k->messages[i].data);
    free(k->messages);
    free(k);
}

static const struct fp_transport_ops ops = {.send = keep_all, .close = forget};

int fp_memory_open(struct fp_transport **out, char *err)
{
    struct kept *k = calloc(1, sizeof *k);

    if (!k)
        return fp_host.fail(err, -ENOMEM, "out of memory");
    k->base.ops = &ops;
    k->base.overhead = 28;
    *out = &k->base;
    return 0;
}

const uint8_t *fp_memory_message(const struct fp_transport *t, size_t index, size_t *length)
{
    const struct kept *k = (const struct kept *)t;

    if (t->ops != &ops || index >= k->count)
        return NULL;
    *length = k->messages[index].length;
    return k->messages[index].data;
}

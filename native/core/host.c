/* SPDX-License-Identifier: Apache-2.0
 *
 * What the core gives to its backends.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "loader.h"
#include "parse.h"
#include "trailer.h"

static int host_fail(char *err, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(err, FP_ERRLEN, format, args);
    va_end(args);
    return code;
}

static const char *host_option(const struct fp_open_args *args, const char *key)
{
    for (uint32_t i = 0; i < args->noptions; i++)
        if (!strcmp(args->options[i].key, key))
            return args->options[i].value;
    return NULL;
}

/* The trailer, its padding and the lengths that it gives back are not the flow's (S-CMP-2). */
static uint32_t replay_hash(const struct fp_packet *p)
{
    struct fp_packet bare = *p;

    fp_trailer_take(&bare);
    return fp_flow_hash(&bare);
}

const struct fp_host fp_replay_host = {
    .abi = FP_ABI,
    .size = sizeof(struct fp_host),
    .flow_hash = replay_hash,
    .fail = host_fail,
    .option = host_option,
};

const struct fp_host fp_host = {
    .abi = FP_ABI,
    .size = sizeof(struct fp_host),
    .flow_hash = fp_flow_hash,
    .fail = host_fail,
    .option = host_option,
};

/* SPDX-License-Identifier: Apache-2.0
 *
 * Receives and releases, nothing else: what a port and the plug-in cost without the exporter. `bare PLUGIN SECONDS INPUT [KEY=VALUE…]`
 * prints frames, seconds of one queue's thread while frames came, and processor seconds of that thread.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flowparity/backend.h"

static int fail(char *err, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(err, FP_ERRLEN, format, args);
    va_end(args);
    return code;
}

static const char *option(const struct fp_open_args *args, const char *key)
{
    for (uint32_t i = 0; i < args->noptions; i++)
        if (strcmp(args->options[i].key, key) == 0)
            return args->options[i].value;
    return NULL;
}

static uint32_t flow_hash(const struct fp_packet *packet)
{
    (void)packet;
    return 1;
}

static double seconds(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    const struct fp_host host = {FP_ABI, sizeof(host), flow_hash, fail, option};
    struct fp_option options[16];
    struct fp_open_args args = {.size = sizeof(args), .queues = 1, .options = options};
    struct fp_packet packets[32];
    struct fp_source *source;
    struct fp_caps caps = {.size = sizeof(caps)};
    char err[FP_ERRLEN] = "usage: bare PLUGIN SECONDS INPUT [KEY=VALUE...]";
    uint64_t frames = 0;
    double begin = 0, cpu = 0, last = 0, limit;
    int64_t now;
    int n;

    void *library = argc > 3 ? dlopen(argv[1], RTLD_NOW) : NULL;
    const struct fp_plugin *plugin = library ? dlsym(library, "fp_plugin") : NULL;
    for (int i = 4; i < argc && i < 20; i++) {
        char *value = strchr(argv[i], '=');
        *value++ = '\0';
        options[args.noptions++] = (struct fp_option){argv[i], value};
    }
    args.input = argc > 3 ? argv[3] : NULL;
    if (!plugin || plugin->backend->open(&host, &args, &source, &caps, err) < 0) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    limit = atof(argv[2]);
    while ((n = plugin->backend->recv(source, 0, packets, 32, 100, &now, err)) >= 0) {
        plugin->backend->release(source, 0, packets, (unsigned)n);
        if (n && !frames) {
            begin = seconds(CLOCK_MONOTONIC);
            cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
        }
        frames += (unsigned)n;
        if (n && (frames & 0x3FFF) < 32 && (last = seconds(CLOCK_MONOTONIC)) - begin > limit)
            break;
    }
    printf("%llu %.6f %.6f\n", (unsigned long long)frames, seconds(CLOCK_MONOTONIC) - begin, seconds(CLOCK_THREAD_CPUTIME_ID) - cpu);
    plugin->backend->close(source);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "loader.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "flowparity/core.h"

struct registered {
    const char *name;
    enum fp_state state;
    const char *debian;
    const char *summary;
};

static const struct registered registry[] = {
#define FP_REGISTERED(name, state, debian, summary) {#name, state, debian, summary},
#include "registry.inc"
#undef FP_REGISTERED
};

#define REGISTERED (sizeof registry / sizeof *registry)

extern const struct fp_plugin fp_plugin_memory;

static const struct {
    const char *name;
    const struct fp_plugin *plugin;
} builtins[] = {{"memory", &fp_plugin_memory}};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fp_loaded loaded[REGISTERED];
static bool is_loaded[REGISTERED];
static char plugin_dir[4096];

void fp_set_plugin_dir(const char *path)
{
    snprintf(plugin_dir, sizeof plugin_dir, "%s", path);
}

unsigned fp_registry_count(void)
{
    return REGISTERED;
}

struct fp_registry_line fp_registry_line(unsigned index)
{
    const struct registered *r = &registry[index];

    return (struct fp_registry_line){.name = r->name, .debian = r->debian, .summary = r->summary, .built = r->state != FP_NOT_BUILT};
}

static int no_stats(struct fp_source *source, struct fp_stats *stats)
{
    (void)source;
    *stats = (struct fp_stats){.received = UINT64_MAX, .dropped = UINT64_MAX};
    return 0;
}

static int no_xstats(struct fp_source *source, char *text, size_t len)
{
    (void)source, (void)text, (void)len;
    return 0;
}

static int no_drain(struct fp_injector *injector, int wait_ms, char *err)
{
    (void)injector, (void)wait_ms, (void)err;
    return 0;
}

static int no_injector_stats(struct fp_injector *injector, struct fp_stats *stats)
{
    (void)injector;
    *stats = (struct fp_stats){.received = UINT64_MAX, .dropped = UINT64_MAX};
    return 0;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Copies what the plug-in was compiled with; members that it does not know stay NULL and get their default. `release` and `stop` stay NULL:
 * their callers need to know. */
static int adopt(const char *name, const struct fp_plugin *given, struct fp_loaded *out, char *err)
{
    struct fp_plugin plugin = {0};

    if (given->abi != FP_ABI)
        return fp_host.fail(err, -ELIBBAD, "backend %s: it was built for interface %u, this is %u; reinstall flowparity", name, given->abi,
                            FP_ABI);
    memcpy(&plugin, given, smaller(given->size, sizeof plugin));
    memset(out, 0, sizeof *out);
    if (plugin.backend) {
        const struct fp_backend_ops *ops = plugin.backend;
        if (ops->abi != FP_ABI)
            return fp_host.fail(err, -ELIBBAD, "backend %s: its receive side was built for interface %u, this is %u; reinstall flowparity",
                                name, ops->abi, FP_ABI);
        memcpy(&out->backend, ops, smaller(ops->size, sizeof out->backend));
        if (!out->backend.name || strcmp(out->backend.name, name) || !out->backend.probe || !out->backend.open || !out->backend.recv ||
            !out->backend.close)
            return fp_host.fail(err, -ELIBBAD, "backend %s: an op that every backend has is missing, or it calls itself otherwise", name);
        if (!out->backend.stats)
            out->backend.stats = no_stats;
        if (!out->backend.xstats)
            out->backend.xstats = no_xstats;
    }
    if (plugin.injector) {
        const struct fp_injector_ops *ops = plugin.injector;
        if (ops->abi != FP_ABI)
            return fp_host.fail(err, -ELIBBAD, "injector %s: it was built for interface %u, this is %u; reinstall flowparity", name,
                                ops->abi, FP_ABI);
        memcpy(&out->injector, ops, smaller(ops->size, sizeof out->injector));
        if (!out->injector.name || strcmp(out->injector.name, name) || !out->injector.probe || !out->injector.open || !out->injector.send ||
            !out->injector.close)
            return fp_host.fail(err, -ELIBBAD, "injector %s: an op that every injector has is missing, or it calls itself otherwise", name);
        if (!out->injector.drain)
            out->injector.drain = no_drain;
        if (!out->injector.stats)
            out->injector.stats = no_injector_stats;
    }
    return 0;
}

static int load_shared(const struct registered *r, struct fp_loaded *out, char *err)
{
    char path[sizeof plugin_dir + 64];
    const struct fp_plugin *plugin;
    void *handle;
    int rc;

    snprintf(path, sizeof path, "%s/fp_%s.so", plugin_dir, r->name);
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return fp_host.fail(err, -ELIBACC, "backend %s: cannot be loaded: %s%s%s", r->name, dlerror(),
                            *r->debian ? "; apt-get install " : "", r->debian);
    plugin = dlsym(handle, "fp_plugin");
    rc = plugin ? adopt(r->name, plugin, out, err)
                : fp_host.fail(err, -ELIBBAD, "backend %s: %s is no plug-in: it lacks the symbol fp_plugin", r->name, path);
    if (rc)
        dlclose(handle);
    /* A good one stays loaded: several frameworks cannot be unloaded. */
    return rc;
}

static int load(unsigned index, char *err)
{
    const struct registered *r = &registry[index];

    if (r->state == FP_NOT_BUILT)
        return fp_host.fail(err, -ENOPKG,
                            "backend %s: not built, because its headers were missing when flowparity was installed; apt-get install %s, "
                            "then pip install --force-reinstall --no-deps flowparity",
                            r->name, r->debian);
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++)
        if (!strcmp(builtins[i].name, r->name))
            return adopt(r->name, builtins[i].plugin, &loaded[index], err);
    return load_shared(r, &loaded[index], err);
}

const struct fp_loaded *fp_load(const char *name, char *err)
{
    char known[256] = "";
    size_t used = 0;

    for (unsigned i = 0; i < REGISTERED; i++) {
        if (strcmp(registry[i].name, name)) {
            used +=
                (size_t)snprintf(known + used, used < sizeof known ? sizeof known - used : 0, "%s%s", used ? ", " : "", registry[i].name);
            used = smaller(used, sizeof known);
            continue;
        }
        pthread_mutex_lock(&lock);
        int rc = is_loaded[i] ? 0 : load(i, err);
        is_loaded[i] = rc == 0;
        pthread_mutex_unlock(&lock);
        if (rc) {
            errno = -rc;
            return NULL;
        }
        return &loaded[i];
    }
    errno = -fp_host.fail(err, -ENOENT, "backend %s: unknown; known: %s", name, known);
    return NULL;
}

union caps_room {
    struct fp_caps caps;
    uint8_t room[FP_ROOM];
};

union injector_caps_room {
    struct fp_injector_caps caps;
    uint8_t room[FP_ROOM];
};

static int take_caps(const struct fp_loaded *l, const union caps_room *from, struct fp_caps *out, char *err)
{
    *out = (struct fp_caps){0};
    if (!from->caps.size || from->caps.size > sizeof from->room)
        return fp_host.fail(err, -ELIBBAD, "backend %s: its capabilities have no size", l->backend.name);
    memcpy(out, from, smaller(from->caps.size, sizeof *out));
    return 0;
}

static int take_injector_caps(const struct fp_loaded *l, const union injector_caps_room *from, struct fp_injector_caps *out, char *err)
{
    *out = (struct fp_injector_caps){0};
    if (!from->caps.size || from->caps.size > sizeof from->room)
        return fp_host.fail(err, -ELIBBAD, "injector %s: its capabilities have no size", l->injector.name);
    memcpy(out, from, smaller(from->caps.size, sizeof *out));
    return 0;
}

int fp_source_probe(const struct fp_loaded *l, struct fp_caps *caps, char *err)
{
    union caps_room room = {0};
    int rc = l->backend.probe(&fp_host, &room.caps, err);

    return rc ? rc : take_caps(l, &room, caps, err);
}

int fp_source_open(const struct fp_loaded *l, const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out,
                   struct fp_caps *caps, char *err)
{
    union caps_room room = {0};
    int rc = l->backend.open(host, args, out, &room.caps, err);

    if (rc)
        return rc;
    rc = take_caps(l, &room, caps, err);
    if (!rc && caps->queues != args->queues)
        rc = fp_host.fail(err, -ELIBBAD, "backend %s: it opened %u queues, not the %u that were asked for", l->backend.name, caps->queues,
                          args->queues);
    if (rc)
        l->backend.close(*out);
    return rc;
}

int fp_injector_open(const struct fp_loaded *l, const struct fp_host *host, const struct fp_open_args *args, struct fp_injector **out,
                     struct fp_injector_caps *caps, char *err)
{
    union injector_caps_room room = {0};
    int rc = l->injector.open(host, args, out, &room.caps, err);

    if (rc)
        return rc;
    rc = take_injector_caps(l, &room, caps, err);
    if (rc)
        l->injector.close(*out);
    return rc;
}

int fp_backend_probe(const char *name, struct fp_caps *caps, char *err)
{
    const struct fp_loaded *l = fp_load(name, err);

    *caps = (struct fp_caps){0};
    if (!l)
        return -errno;
    if (!l->backend.name)
        return fp_host.fail(err, -EOPNOTSUPP, "backend %s: it only transmits", name);
    return fp_source_probe(l, caps, err);
}

int fp_injector_probe(const char *name, struct fp_injector_caps *caps, char *err)
{
    const struct fp_loaded *l = fp_load(name, err);
    union injector_caps_room room = {0};
    int rc;

    *caps = (struct fp_injector_caps){0};
    if (!l)
        return -errno;
    if (!l->injector.name)
        return fp_host.fail(err, -EOPNOTSUPP, "backend %s: it does not transmit", name);
    rc = l->injector.probe(&fp_host, &room.caps, err);
    return rc ? rc : take_injector_caps(l, &room, caps, err);
}

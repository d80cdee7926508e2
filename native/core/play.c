/* SPDX-License-Identifier: Apache-2.0
 *
 * Plays a source (a capture through the backend pcap, or frames in memory) into an injector: on an absolute schedule, with the replay
 * trailer if asked, and never silently without a frame.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "loader.h"
#include "trailer.h"

#define BURST    32u
#define ROOM     66000u                  /* the longest frame with its trailer */
#define SPIN     (100 * INT64_C(1000))   /* how long before its time a frame is waited for without sleeping, ns */
#define LOOK     (50 * INT64_C(1000000)) /* how often a sleep looks whether the player was stopped, ns */
#define NAP      (50 * FP_MILLISECOND)   /* how late a stop may be seen */
#define STALL_MS 2                       /* pause when the injector takes nothing */
#define REOPENED 64u

struct fp_player {
    const struct fp_loaded *injector, *backend;
    struct fp_injector *out;
    struct fp_source *in;
    struct fp_injector_caps caps;
    struct fp_play_config config;
    uint8_t *arena; /* BURST frames of ROOM octets, with trailers */
    struct fp_not_sent *not_sent;
    size_t capacity;
    int64_t first_ts; /* of the first frame played; FP_NS_NONE before */
    bool stop;
};

static int64_t monotonic(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * FP_SECOND + t.tv_nsec;
}

/* Sleeps, then spins, until `due` or a stop; returns how late it is. */
static int64_t wait_until(const struct fp_player *p, int64_t due)
{
    int64_t now = monotonic();

    while (fp_earlier(due, now) > SPIN && !__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE)) {
        int64_t wake = fp_min(due - SPIN, now + NAP);
        struct timespec t = {.tv_sec = wake / FP_SECOND, .tv_nsec = wake % FP_SECOND};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        now = monotonic();
    }
    while (now < due && !__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE))
        now = monotonic();
    return fp_max(fp_earlier(now, due), 0);
}

static bool give_up(struct fp_player *p, struct fp_play_result *result, uint64_t index, int reason)
{
    if (result->not_sent == p->capacity) {
        size_t capacity = p->capacity ? p->capacity * 2 : REOPENED;
        struct fp_not_sent *grown = realloc(p->not_sent, capacity * sizeof *grown);
        if (!grown)
            return false;
        p->not_sent = grown;
        p->capacity = capacity;
    }
    p->not_sent[result->not_sent++] = (struct fp_not_sent){.index = index, .reason = reason};
    return true;
}

/* Why a frame cannot go over this link at all; 0 if it can. */
static int unfit(const struct fp_player *p, const struct fp_packet *f)
{
    bool whole = p->config.trailer || (p->caps.flags & FP_CAP_WIRE_LENGTH);

    if (f->link != FP_LINK_ETHERNET)
        return EPROTOTYPE;
    if (f->caplen < f->wirelen && !whole)
        return ENODATA;
    if (p->caps.max_frame && f->caplen > p->caps.max_frame)
        return EMSGSIZE;
    if (f->caplen < p->caps.min_frame)
        return ERANGE;
    return 0;
}

/* Prepares a burst: `out` holds what the injector gets, `index` the ordinals. Frames that cannot go are given up. Returns -ENOMEM or the
 * number left. */
static int prepare(struct fp_player *p, const struct fp_packet *frames, unsigned n, struct fp_play_result *result, struct fp_packet *out,
                   uint64_t *index)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++) {
        struct fp_packet f = frames[i];
        int reason = f.link == FP_LINK_ETHERNET ? 0 : EPROTOTYPE;
        if (p->config.trailer && !reason) {
            uint8_t *room = p->arena + (size_t)kept * ROOM;
            f.len = (uint32_t)fp_trailer_put(&frames[i], (uint32_t)frames[i].seq, room, ROOM);
            f.data = room;
            f.caplen = f.wirelen = f.len;
            if (!f.len)
                reason = EMSGSIZE;
        }
        if (!reason)
            reason = unfit(p, &f);
        if (reason) {
            if (!give_up(p, result, frames[i].seq, reason))
                return -ENOMEM;
            continue;
        }
        index[kept] = frames[i].seq;
        out[kept++] = f;
    }
    return (int)kept;
}

/* Sends `n` frames whose time has come. 0 or -errno. */
static int send_now(struct fp_player *p, const struct fp_packet *frames, const uint64_t *index, unsigned n, struct fp_play_result *result,
                    char *err)
{
    const struct fp_injector_ops *ops = &p->injector->injector;
    int64_t stalled = 0;

    for (unsigned done = 0; done < n;) {
        int rc = ops->send(p->out, 0, frames + done, NULL, n - done, err);
        if (rc > 0) {
            result->sent += (unsigned)rc;
            done += (unsigned)rc;
            stalled = 0;
        } else if (rc == 0 || rc == -EAGAIN || rc == -ENOBUFS || rc == -EINTR) {
            int64_t now = monotonic();
            if (__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE))
                return -ECANCELED;
            if (!stalled)
                stalled = now;
            if (now - stalled > p->config.timeout_ms * FP_MILLISECOND)
                return fp_host.fail(err, -ETIMEDOUT, "injector %s: it took no frame for %u ms; is anything reading at the other end?",
                                    p->config.injector, p->config.timeout_ms);
            ops->drain(p->out, STALL_MS, err);
        } else {
            if (!give_up(p, result, index[done], -rc))
                return fp_host.fail(err, -ENOMEM, "out of memory");
            done++;
        }
    }
    return 0;
}

/* The time `ns` nanoseconds behind `start`; what lies beyond the range is its end. */
static int64_t behind(int64_t start, double ns)
{
    if (ns >= 0x1p63)
        return INT64_MAX;
    return ns < -0x1p63 ? INT64_MIN + 1 : fp_later(start, (int64_t)ns);
}

/* When a frame shall leave: by the rate, or by its own time; INT64_MIN = now. */
static int64_t due_of(struct fp_player *p, int64_t start, uint64_t ordinal, const struct fp_packet *f)
{
    if (p->config.rate_pps > 0)
        return behind(start, (double)ordinal * 1e9 / p->config.rate_pps);
    if (p->config.speed <= 0)
        return INT64_MIN;
    if (p->first_ts == FP_NS_NONE)
        p->first_ts = f->ts_ns;
    __extension__ typedef __int128 i128;
    return behind(start, (double)((i128)f->ts_ns - p->first_ts) / p->config.speed);
}

static int play_burst(struct fp_player *p, const struct fp_packet *burst, unsigned n, int64_t start, uint64_t *offered,
                      struct fp_play_result *result, char *err)
{
    struct fp_packet frames[BURST];
    uint64_t index[BURST];
    int kept = prepare(p, burst, n, result, frames, index);

    if (kept < 0)
        return fp_host.fail(err, kept, "out of memory");
    for (unsigned done = 0; done < (unsigned)kept;) {
        int64_t due = due_of(p, start, *offered, &frames[done]);
        unsigned count = 1;
        if (due == INT64_MIN) {
            count = (unsigned)kept - done;
        } else {
            int64_t late = wait_until(p, due);
            if (late > result->worst_lateness_ns)
                result->worst_lateness_ns = late;
            while (done + count < (unsigned)kept && due_of(p, start, *offered + count, &frames[done + count]) <= fp_later(due, late))
                count++;
        }
        if (__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE))
            return -ECANCELED;
        int rc = send_now(p, frames + done, index + done, count, result, err);
        if (rc)
            return rc;
        done += count;
        *offered += count;
    }
    return 0;
}

static int play(struct fp_player *p, struct fp_play_result *result, char *err)
{
    const struct fp_backend_ops *in = &p->backend->backend;
    struct fp_packet burst[BURST];
    int64_t start = monotonic();
    uint64_t offered = 0;
    int rc = 0;

    while (!rc && !__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE)) {
        int64_t now;
        int n = in->recv(p->in, 0, burst, BURST, 0, &now, err);
        if (n < 0) {
            rc = n;
            break;
        }
        result->frames += (unsigned)n;
        rc = play_burst(p, burst, (unsigned)n, start, &offered, result, err);
        if (in->release)
            in->release(p->in, 0, burst, (unsigned)n);
    }
    result->ns = monotonic() - start;
    return rc == FP_END || rc == -ECANCELED ? 0 : rc;
}

int fp_player_play(struct fp_player *p, struct fp_play_result *result, char *err)
{
    const struct fp_injector_ops *ops = &p->injector->injector;
    struct fp_departure left = {0};
    struct fp_stats stats = {0};
    int64_t deadline;
    int rc;

    *result = (struct fp_play_result){0};
    rc = play(p, result, err);
    deadline = monotonic() + p->config.timeout_ms * FP_MILLISECOND;
    do
        result->inside = ops->drain(p->out, 50, err);
    while (result->inside > 0 && monotonic() < deadline && !__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE));
    if (!rc && result->inside < 0)
        rc = result->inside;
    result->lost = ops->stats(p->out, &stats) == 0 ? stats.dropped : UINT64_MAX;
    if (ops->departure && ops->departure(p->out, &left) == 0) {
        result->sent = left.frames;
        result->ns = left.last_ns - left.first_ns;
        result->worst_lateness_ns = left.worst_lateness_ns;
    }
    return rc;
}

void fp_player_stop(struct fp_player *p)
{
    __atomic_store_n(&p->stop, true, __ATOMIC_RELEASE);
}

const struct fp_not_sent *fp_player_not_sent(const struct fp_player *p)
{
    return p->not_sent;
}

void fp_player_stats(struct fp_player *p, struct fp_stats *out)
{
    *out = (struct fp_stats){.received = UINT64_MAX, .dropped = UINT64_MAX};
    p->injector->injector.stats(p->out, out);
}

void fp_player_caps(const struct fp_player *p, struct fp_injector_caps *out)
{
    *out = p->caps;
}

static int open_ends(struct fp_player *p, char *err)
{
    const struct fp_play_config *c = &p->config;
    struct fp_open_args from = {.size = sizeof from, .input = c->input, .queues = 1, .stop = &p->stop, .object = c->memory};
    struct fp_open_args to = {.size = sizeof to, .input = c->output, .queues = 1, .options = c->options, .noptions = c->noptions};
    struct fp_caps caps;
    const struct fp_host *host = c->trailer ? &fp_replay_host : &fp_host;
    int rc = fp_source_open(p->backend, &fp_host, &from, &p->in, &caps, err);

    if (rc)
        return rc;
    rc = fp_injector_open(p->injector, host, &to, &p->out, &p->caps, err);
    if (rc)
        p->backend->backend.close(p->in);
    return rc;
}

int fp_player_open(const struct fp_play_config *config, struct fp_player **out, char *err)
{
    struct fp_player *p = calloc(1, sizeof *p);
    int rc;

    if (!p)
        return fp_host.fail(err, -ENOMEM, "out of memory");
    p->config = *config;
    p->first_ts = FP_NS_NONE;
    p->arena = config->trailer ? malloc((size_t)BURST * ROOM) : NULL;
    if (config->trailer && !p->arena) {
        rc = fp_host.fail(err, -ENOMEM, "out of memory");
        goto out_player;
    }
    p->backend = fp_load(config->backend, err);
    p->injector = p->backend ? fp_load(config->injector, err) : NULL;
    if (!p->injector) {
        rc = -errno;
        goto out_player;
    }
    if (!p->injector->injector.name) {
        rc = fp_host.fail(err, -ENOTSUP, "backend %s: it does not transmit", config->injector);
        goto out_player;
    }
    rc = open_ends(p, err);
    if (rc)
        goto out_player;
    *out = p;
    return 0;

out_player:
    free(p->arena);
    free(p);
    return rc;
}

void fp_player_close(struct fp_player *p)
{
    p->injector->injector.close(p->out);
    p->backend->backend.close(p->in);
    free(p->not_sent);
    free(p->arena);
    free(p);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Capture files through libpcap: pcap and pcapng, microseconds and nanoseconds, every link type of S-LNK-1. Times are exact and the wire
 * length of truncated frames is kept.
 *
 * libpcap reuses its buffer at every read, so a burst is copied into an arena. One queue. Options: none.
 */
#include <pcap/pcap.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "flowparity/backend.h"

#define ARENA (2u << 20) /* octets of frames in one burst; libpcap's longest frame is 256 KiB */

struct fp_source {
    const struct fp_host *host;
    const char *path;
    pcap_t *pcap;
    struct bpf_program filter;
    bool filtered;
    uint16_t link;
    bool classic;  /* pcap; else pcapng, whose times libpcap tells as they are */
    uint16_t unit; /* of a pcap's fractions, nanoseconds */
    uint64_t seq;
    uint8_t *arena;
    /* A frame that was read but did not fit into the last burst. */
    const struct pcap_pkthdr *pending;
    const uint8_t *pending_data;
    uint64_t received;
    int failed; /* what the next recv returns, when a burst was cut short by it */
};

static const struct {
    int dlt;
    uint16_t link;
} links[] = {
    {DLT_NULL, FP_LINK_NULL}, {DLT_EN10MB, FP_LINK_ETHERNET}, {DLT_RAW, FP_LINK_RAW},
    {14, FP_LINK_RAW},        {DLT_LOOP, FP_LINK_LOOP},       {DLT_LINUX_SLL, FP_LINK_SLL},
    {DLT_IPV4, FP_LINK_IPV4}, {DLT_IPV6, FP_LINK_IPV6},       {DLT_LINUX_SLL2, FP_LINK_SLL2},
};

static struct fp_caps file_caps(void)
{
    return (struct fp_caps){
        .size = sizeof(struct fp_caps),
        .flags = FP_CAP_EXACT_TIME | FP_CAP_WIRE_LENGTH | FP_CAP_DROPS_KNOWN | FP_CAP_STAMPS_SEQUENCE,
        .tier = FP_TIER_FILE,
        .ts_source = FP_TS_CAPTURE,
        .queues = 1,
        .max_frame = 262144,
        .ts_resolution = 1,
    };
}

static int probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    (void)host, (void)err;
    *caps = file_caps();
    return 0;
}

/* Which format it is, which libpcap does not tell. What was read is pushed back, as far as the C library's buffer goes: no seek, for it may
 * be a pipe. */
static void look_at_magic(struct fp_source *s, FILE *file)
{
    static const uint8_t nano[2][4] = {{0xA1, 0xB2, 0x3C, 0x4D}, {0x4D, 0x3C, 0xB2, 0xA1}};
    uint8_t magic[4] = {0};
    size_t n = fread(magic, 1, sizeof magic, file);

    s->classic = magic[0] != 0x0A;
    s->unit = memcmp(magic, nano[0], sizeof magic) && memcmp(magic, nano[1], sizeof magic) ? 1000 : 1;
    while (n)
        ungetc(magic[--n], file);
}

static int open_file(struct fp_source *s, char *err)
{
    char reason[PCAP_ERRBUF_SIZE];
    FILE *file = strcmp(s->path, "-") ? fopen(s->path, "rb") : stdin;

    if (!file)
        return s->host->fail(err, -errno, "capture %s: %s", s->path, strerror(errno));
    look_at_magic(s, file);
    s->pcap = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, reason);
    if (!s->pcap) {
        if (file != stdin)
            fclose(file);
        return s->host->fail(err, -EBADMSG, "capture %s: not a capture that libpcap reads: %s", s->path, reason);
    }
    return 0;
}

static int find_link(struct fp_source *s, char *err)
{
    int dlt = pcap_datalink(s->pcap);
    const char *name = pcap_datalink_val_to_name(dlt);

    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        if (links[i].dlt == dlt) {
            s->link = links[i].link;
            return 0;
        }
    }
    return s->host->fail(err, -EPROTONOSUPPORT,
                         "capture %s: link type %s (%d) is not supported; Ethernet, raw IP, null, loopback and Linux cooked are", s->path,
                         name ? name : "unknown", dlt);
}

static int open_source(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    struct fp_source *s;
    int rc;

    if (args->queues != 1)
        return host->fail(err, -E2BIG, "capture %s: a file has one queue, not %u", args->input, args->queues);
    if (args->flags & FP_OPEN_BUSY_POLL)
        return host->fail(err, -EINVAL, "backend pcap: a file needs no polling; leave --busy-poll out");
    if (args->noptions)
        return host->fail(err, -EINVAL, "backend pcap: unknown option '%s'; it has none", args->options[0].key);
    s = calloc(1, sizeof *s);
    if (!s)
        return host->fail(err, -ENOMEM, "backend pcap: out of memory");
    s->host = host;
    s->path = args->input;
    s->arena = malloc(ARENA);
    if (!s->arena) {
        rc = host->fail(err, -ENOMEM, "backend pcap: out of memory");
        goto out_source;
    }
    rc = open_file(s, err);
    if (rc)
        goto out_arena;
    rc = find_link(s, err);
    if (rc)
        goto out_pcap;
    if (args->filter) {
        if (pcap_compile(s->pcap, &s->filter, args->filter, 1, PCAP_NETMASK_UNKNOWN)) {
            rc = host->fail(err, -EINVAL, "filter '%s': %s", args->filter, pcap_geterr(s->pcap));
            goto out_pcap;
        }
        s->filtered = true;
    }
    *caps = file_caps();
    *out = s;
    return 0;

out_pcap:
    pcap_close(s->pcap);
out_arena:
    free(s->arena);
out_source:
    free(s);
    return rc;
}

/* The next frame that the filter lets through: 1, FP_END or -errno. */
static int next_frame(struct fp_source *s, char *err)
{
    struct pcap_pkthdr *header;
    const uint8_t *data;

    if (s->pending)
        return 1;
    for (;;) {
        int rc = pcap_next_ex(s->pcap, &header, &data);
        if (rc == PCAP_ERROR_BREAK)
            return FP_END;
        if (rc != 1)
            return s->host->fail(err, -EBADMSG, "capture %s: damaged or cut after frame %llu: %s", s->path, (unsigned long long)s->seq,
                                 pcap_geterr(s->pcap));
        if (!s->filtered || pcap_offline_filter(&s->filter, header, data))
            break;
        s->seq++;
    }
    s->pending = header;
    s->pending_data = data;
    return 1;
}

/* Both fields of a pcap record are unsigned 32-bit numbers, of which libpcap makes signed ones; a fraction of more than a second counts as
 * what it says. False: a pcapng time that nanoseconds in 64 bits do not reach. */
static bool time_of(const struct fp_source *s, const struct pcap_pkthdr *h, int64_t *ts)
{
    int64_t seconds = h->ts.tv_sec;
    int64_t fraction = h->ts.tv_usec;

    if (s->classic) {
        seconds = (uint32_t)seconds;
        fraction = (int64_t)(uint32_t)(fraction / s->unit) * s->unit;
    }
    return !__builtin_mul_overflow(seconds, 1000000000, ts) && !__builtin_add_overflow(*ts, fraction, ts) && *ts != FP_NS_NONE;
}

static int recv_burst(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns, char *err)
{
    uint32_t used = 0;
    unsigned n = 0;

    (void)queue, (void)wait_ms;
    *now_ns = FP_NS_NONE;
    while (n < max && !s->failed) {
        int rc = next_frame(s, err);
        if (rc < 0) {
            s->failed = rc;
            break;
        }
        const struct pcap_pkthdr *h = s->pending;
        int64_t ts;
        if (!time_of(s, h, &ts)) {
            s->failed = s->host->fail(err, -EBADMSG, "capture %s: the time of frame %llu lies beyond the years 1678 to 2262", s->path,
                                      (unsigned long long)s->seq);
            break;
        }
        if (h->caplen > ARENA - used)
            break;
        memcpy(s->arena + used, s->pending_data, h->caplen);
        packets[n++] = (struct fp_packet){
            .data = s->arena + used,
            .len = h->caplen,
            .caplen = h->caplen,
            .wirelen = h->len < h->caplen ? h->caplen : h->len,
            .link = s->link,
            .ts_source = FP_TS_CAPTURE,
            .ts_ns = ts,
            .seq = s->seq++,
        };
        used += (h->caplen + 63) & ~63u;
        if (used > ARENA)
            used = ARENA;
        s->pending = NULL;
    }
    __atomic_store_n(&s->received, s->received + n, __ATOMIC_RELAXED);
    /* What ended this burst is told with the next one. */
    return n ? (int)n : s->failed;
}

static int stats(struct fp_source *s, struct fp_stats *out)
{
    *out = (struct fp_stats){.received = __atomic_load_n(&s->received, __ATOMIC_RELAXED)};
    return 0;
}

static void close_source(struct fp_source *s)
{
    if (s->filtered)
        pcap_freecode(&s->filter);
    pcap_close(s->pcap);
    free(s->arena);
    free(s);
}

static const struct fp_backend_ops ops = {
    .abi = FP_ABI,
    .size = sizeof ops,
    .name = "pcap",
    .summary = "capture files (pcap, pcapng) through libpcap",
    .probe = probe,
    .open = open_source,
    .recv = recv_burst,
    .stats = stats,
    .close = close_source,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .backend = &ops};

/* SPDX-License-Identifier: Apache-2.0
 *
 * Capture files through libpcap: pcap and pcapng, microseconds and nanoseconds, every link type of S-LNK-1. Times are exact and the wire
 * length of truncated frames is kept.
 *
 * libpcap reuses its buffer at every read, so a burst is copied into an arena. The file may be a pipe: its octets come through a reader of
 * our own, which knows whether any are at hand. One queue. Options: none.
 */
#include <fcntl.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "flowparity/backend.h"

#define ARENA   (2u << 20) /* octets of frames in one burst; libpcap's longest frame is 256 KiB */
#define READ    (64u << 10)
#define LOOK_MS 50 /* between looks whether the run shall end, in the middle of a record */

struct reader {
    int fd;
    bool regular, opened;
    const bool *stop;
    size_t from, to; /* what of the buffer is at hand */
    uint8_t buffer[READ];
};

struct fp_source {
    const struct fp_host *host;
    const char *path;
    pcap_t *pcap;
    struct reader reader;
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

static bool stopped(const struct reader *r)
{
    return r->stop && __atomic_load_n(r->stop, __ATOMIC_ACQUIRE);
}

/* Whether octets are at hand within `wait_ms`. The end of the file counts. */
static bool at_hand(const struct reader *r, int wait_ms)
{
    struct pollfd p = {.fd = r->fd, .events = POLLIN};

    return r->regular || r->from < r->to || poll(&p, 1, wait_ms) > 0;
}

/* Waits for octets and puts them behind those at hand. 0 is the end, of the file or of the run; -1 with errno. */
static ssize_t fill(struct reader *r)
{
    ssize_t n;

    if (r->from == r->to)
        r->from = r->to = 0;
    do {
        while (!at_hand(r, LOOK_MS))
            if (stopped(r))
                return 0;
            else if (errno == EINTR && !r->opened)
                return -1; /* nothing runs yet that could take the signal for a wish */
        n = read(r->fd, r->buffer + r->to, sizeof r->buffer - r->to);
    } while (n < 0 && errno == EINTR && r->opened);
    r->to += n > 0 ? (size_t)n : 0;
    return n;
}

static ssize_t read_some(void *cookie, char *out, size_t size)
{
    struct reader *r = cookie;
    ssize_t n = r->from == r->to ? fill(r) : 1;

    if (n <= 0)
        return n;
    size = size < r->to - r->from ? size : r->to - r->from;
    memcpy(out, r->buffer + r->from, size);
    r->from += size;
    return (ssize_t)size;
}

static int close_reader(void *cookie)
{
    struct reader *r = cookie;

    return r->fd == STDIN_FILENO ? 0 : close(r->fd);
}

/* Which format it is, which libpcap does not tell; 0 or -1 with errno. */
static int look_at_magic(struct fp_source *s)
{
    static const uint8_t nano[2][4] = {{0xA1, 0xB2, 0x3C, 0x4D}, {0x4D, 0x3C, 0xB2, 0xA1}};
    const uint8_t *magic = s->reader.buffer;
    ssize_t n = 1;

    while (n > 0 && s->reader.to < sizeof nano[0])
        n = fill(&s->reader);
    s->classic = magic[0] != 0x0A;
    s->unit = memcmp(magic, nano[0], sizeof nano[0]) && memcmp(magic, nano[1], sizeof nano[0]) ? 1000 : 1;
    return n < 0 ? -1 : 0;
}

static int open_file(struct fp_source *s, const struct fp_open_args *args, char *err)
{
    static const cookie_io_functions_t io = {.read = read_some, .close = close_reader};
    char reason[PCAP_ERRBUF_SIZE];
    struct reader *r = &s->reader;
    struct stat status;
    FILE *file;
    int rc;

    r->stop = args->stop;
    r->fd = strcmp(s->path, "-") ? open(s->path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (r->fd < 0)
        return s->host->fail(err, -errno, "capture %s: %s", s->path, strerror(errno));
    r->regular = fstat(r->fd, &status) == 0 && S_ISREG(status.st_mode);
    file = look_at_magic(s) ? NULL : fopencookie(r, "rb", io);
    if (!file) {
        rc = s->host->fail(err, -errno, "capture %s: %s", s->path, strerror(errno));
        close_reader(r);
        return rc;
    }
    setvbuf(file, NULL, _IONBF, 0); /* the reader has a buffer, and must know what is at hand */
    s->pcap = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, reason);
    if (!s->pcap) {
        fclose(file);
        return s->host->fail(err, -EBADMSG, "capture %s: not a capture that libpcap reads: %s", s->path, reason);
    }
    r->opened = true;
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
    rc = open_file(s, args, err);
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

/* The next frame: 1, FP_END or -errno. */
static int next_frame(struct fp_source *s, char *err)
{
    struct pcap_pkthdr *header;
    const uint8_t *data;
    int rc;

    if (s->pending)
        return 1;
    rc = pcap_next_ex(s->pcap, &header, &data);
    if (rc == PCAP_ERROR_BREAK || (rc != 1 && stopped(&s->reader)))
        return FP_END;
    if (rc != 1)
        return s->host->fail(err, -EBADMSG, "capture %s: damaged or cut after frame %llu: %s", s->path, (unsigned long long)s->seq,
                             pcap_geterr(s->pcap));
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

    (void)queue;
    *now_ns = FP_NS_NONE;
    while (n < max && !s->failed && (s->pending || at_hand(&s->reader, n ? 0 : wait_ms))) {
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
            .rejected = s->filtered && !pcap_offline_filter(&s->filter, h, s->pending_data),
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

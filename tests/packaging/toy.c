/* SPDX-License-Identifier: Apache-2.0
 *
 * The smallest useful backend, and the example of docs/adding-a-backend.md: reads classic pcap files (Ethernet, little-endian, nanoseconds)
 * with stdio.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flowparity/backend.h"

#define MAGIC_NS 0xa1b23c4du
#define ARENA    (1u << 20) /* octets of one burst */
#define LONGEST  65535u

struct fp_source {
    const struct fp_host *host;
    FILE *file;
    uint64_t seq;
    uint8_t arena[ARENA];
};

struct record {
    uint32_t seconds, nanoseconds, caplen, wirelen;
};

static struct fp_caps toy_caps(void)
{
    return (struct fp_caps){
        .size = sizeof(struct fp_caps),
        .flags = FP_CAP_EXACT_TIME | FP_CAP_WIRE_LENGTH | FP_CAP_DROPS_KNOWN | FP_CAP_STAMPS_SEQUENCE,
        .tier = FP_TIER_FILE,
        .ts_source = FP_TS_CAPTURE,
        .queues = 1,
        .max_frame = LONGEST,
        .ts_resolution = 1,
    };
}

static int toy_probe(const struct fp_host *host, struct fp_caps *caps, char *err)
{
    (void)host, (void)err;
    *caps = toy_caps();
    return 0;
}

static void toy_close(struct fp_source *s)
{
    fclose(s->file);
    free(s);
}

static int toy_open(const struct fp_host *host, const struct fp_open_args *args, struct fp_source **out, struct fp_caps *caps, char *err)
{
    struct fp_source *s;
    uint32_t header[6];
    int rc;

    if (args->queues > 1)
        return host->fail(err, -E2BIG, "toy: a file has one queue, not %u; give --workers 1", args->queues);
    if (args->noptions)
        return host->fail(err, -EINVAL, "toy: no option %s; it has none", args->options[0].key);
    if (args->filter)
        return host->fail(err, -ENOTSUP, "toy: no filters; filter the capture with tcpdump -r first");
    s = calloc(1, sizeof *s);
    if (!s)
        return host->fail(err, -ENOMEM, "toy: out of memory");
    s->host = host;
    s->file = fopen(args->input, "rb");
    if (!s->file) {
        rc = host->fail(err, -errno, "toy: %s: %s", args->input, strerror(errno));
        goto out_memory;
    }
    if (fread(header, sizeof header, 1, s->file) != 1 || header[0] != MAGIC_NS || header[5] != FP_LINK_ETHERNET) {
        rc = host->fail(err, -EBADMSG, "toy: %s: not a little-endian Ethernet pcap with nanoseconds; convert it with editcap -F nsecpcap",
                        args->input);
        goto out_file;
    }
    *caps = toy_caps();
    *out = s;
    return 0;

out_file:
    fclose(s->file);
out_memory:
    free(s);
    return rc;
}

static int toy_recv(struct fp_source *s, unsigned queue, struct fp_packet *packets, unsigned max, int wait_ms, int64_t *now_ns, char *err)
{
    size_t used = 0;
    unsigned n = 0;

    (void)wait_ms;
    *now_ns = FP_NS_NONE; /* a file has no present time */
    while (n < max && used + LONGEST <= ARENA) {
        struct record r;
        size_t head = fread(&r, 1, sizeof r, s->file);
        if (head == 0)
            break;
        if (head < sizeof r || r.caplen > LONGEST || fread(s->arena + used, 1, r.caplen, s->file) < r.caplen)
            return n ? (int)n : s->host->fail(err, -EBADMSG, "toy: truncated at frame %llu; capture it again", (unsigned long long)s->seq);
        packets[n++] = (struct fp_packet){
            .data = s->arena + used,
            .len = r.caplen,
            .caplen = r.caplen,
            .wirelen = r.wirelen < r.caplen ? r.caplen : r.wirelen,
            .link = FP_LINK_ETHERNET,
            .ts_source = FP_TS_CAPTURE,
            .ts_ns = (int64_t)r.seconds * 1000000000 + r.nanoseconds,
            .queue = (uint16_t)queue,
            .seq = s->seq++,
        };
        used += r.caplen;
    }
    return n ? (int)n : FP_END;
}

static const struct fp_backend_ops toy_ops = {
    .abi = FP_ABI,
    .size = sizeof(struct fp_backend_ops),
    .name = "toy",
    .summary = "capture files, the example of docs/adding-a-backend.md",
    .probe = toy_probe,
    .open = toy_open,
    .recv = toy_recv,
    .close = toy_close,
};

FP_PLUGIN = {.abi = FP_ABI, .size = sizeof(struct fp_plugin), .backend = &toy_ops};

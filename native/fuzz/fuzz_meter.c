/* SPDX-License-Identifier: Apache-2.0
 *
 * The whole meter on arbitrary frames and profiles, exporting in every format: S-INV-1 and S-INV-2 hold, nothing remains, and the batch
 * changes no account.
 */
#include <stdio.h>

#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good)
        abort();
}

static struct fp_account run(const struct fp_config *config)
{
    struct fp_stream_account streams[FP_MAX_STREAMS];
    struct fp_account a;
    struct fp_run *r;
    char err[FP_ERRLEN];

    check(fp_run_open(config, &r, err) == 0);
    check(fp_run_loop(r, err) == 0);
    fp_run_snapshot(r, 0, &a, streams);
    check(a.received == a.filtered + a.sampled_out + a.non_ip + a.malformed + a.shed + a.metered);
    check(a.resident_packets == 0 && a.resident_records == 0);
    for (unsigned i = 0; i < config->nstreams; i++)
        check(streams[i].exported_packets + streams[i].unrepresentable_packets == a.metered_packets && !streams[i].queued_packets &&
              !streams[i].not_sent_packets);
    fp_run_close(r);
    return a;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fp_stream_config streams[] = {{.format = FP_V5}, {.format = FP_V9}, {.format = FP_IPFIX}};
    static struct fuzz_input in;
    struct fp_config config;
    struct fp_account first, second;

    if (size < 5)
        return 0;
    memset(&in, 0, sizeof in);
    fuzz_frames(&in, data + 5, size - 5);
    config = (struct fp_config){
        .profile = fuzz_profile(data),
        .backend = "memory",
        .input = in.address,
        .streams = streams,
        .nstreams = 3,
        .workers = 1,
        .batch = 32,
        .mtu = data[4] & 1 ? 576 : 1500,
        .ipfix_ns = data[4] & 2,
        .seed = 1,
    };
    first = run(&config);
    config.batch = 1;
    config.sweep_budget = 3;
    second = run(&config);
    /* Which record is evicted may differ, and with it everything after. */
    if (!first.evicted && !second.evicted)
        check(!memcmp(&first, &second, sizeof first));
    fuzz_free(&in);
    return 0;
}

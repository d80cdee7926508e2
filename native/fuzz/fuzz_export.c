/* SPDX-License-Identifier: Apache-2.0
 *
 * Each encoder on arbitrary records: lengths add up, sets are padded to 4, no datagram is above its limit.
 */
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good)
        abort();
}

static void check_sets(const uint8_t *message, size_t length, size_t at)
{
    while (at < length) {
        check(length - at >= 4);
        size_t set = fp_get16(message + at + 2);
        check(set > 4 && set % 4 == 0 && set <= length - at);
        at += set;
    }
}

static void check_message(const uint8_t *message, size_t length, size_t limit)
{
    check(length > 16 && length <= limit);
    switch (fp_get16(message)) {
    case 5:
        check(length == 24 + 48 * (size_t)fp_get16(message + 2));
        break;
    case 9:
        check(fp_get16(message + 2) > 0);
        check_sets(message, length, 20);
        break;
    default:
        check(fp_get16(message) == 10 && fp_get16(message + 2) == length);
        check_sets(message, length, 16);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int formats[] = {FP_V5, FP_V9, FP_IPFIX};
    struct fp_config config = {.profile = {.sampling_interval = 1, .template_packets = 3, .template_seconds = 60}};
    struct fp_account account = {0};
    struct fp_face face = {.config = &config, .account = &account, .interface_name = "fuzz", .now = 1};
    struct fp_transport *transport;
    struct fp_stream stream;
    char err[FP_ERRLEN];
    const uint8_t *message;
    size_t length;

    if (size < 4)
        return 0;
    config.mtu = (uint16_t)(576 + data[0] * 8);
    config.ipfix_ns = data[1] & 1;
    config.profile.sampling = data[1] >> 1 & 3 ? (data[1] >> 1 & 3) % 3 : 0;
    config.profile.interface_source = data[1] & 8;
    check(fp_memory_open(&transport, err) == 0);
    check(fp_stream_init(&stream, formats[data[2] % 3], &face, transport) == 0);
    for (data += 3, size -= 3; size > 0;) {
        struct fp_record record = {0};
        size_t n = size < sizeof record ? size : sizeof record;
        memcpy(&record, data, n);
        record.kind = record.kind & 1 ? FP_IPV6 : FP_IPV4;
        face.now += record.reason * INT64_C(100000000);
        fp_stream_put(&stream, &record);
        fp_stream_tick(&stream, record.reason & 1);
        data += n;
        size -= n;
    }
    fp_stream_finish(&stream);
    check(stream.account.queued_records == 0);
    for (size_t i = 0; (message = fp_memory_message(transport, i, &length)) != NULL; i++)
        check_message(message, length, config.mtu - 28u);
    fp_stream_free(&stream);
    transport->ops->close(transport);
    return 0;
}

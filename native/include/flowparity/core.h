/* SPDX-License-Identifier: Apache-2.0
 *
 * The exporter core as its callers see it: the Python module, the C tests, the fuzz targets and the benchmark. docs/semantics.md says what
 * it does.
 *
 * Functions that can fail return 0 or -errno and put one line into `err` (FP_ERRLEN octets) that says what to do. Times are nanoseconds,
 * lengths octets. What stands between the cdef marks is also read by module/generate.py: declarations only, no preprocessor.
 */
#ifndef FLOWPARITY_CORE_H
#define FLOWPARITY_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "flowparity/backend.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ || UINTPTR_MAX != UINT64_MAX
#error "flowparity: the core is written for 64-bit little-endian machines (x86-64, arm64, riscv64); this compiler makes code for another"
#endif

/* cdef begin */
enum fp_format { FP_V5 = 5, FP_V9 = 9, FP_IPFIX = 10 };
enum fp_sampling { FP_SAMPLE_ALL, FP_SAMPLE_SYSTEMATIC, FP_SAMPLE_RANDOM };

/* The profile of docs/semantics.md; the caller has checked it. */
struct fp_profile {
    bool key_classic;      /* ToS and input interface are key */
    bool key_vlan;         /* both VLAN ids are key */
    bool interface_source; /* input_interface = source */
    bool refuse;           /* on_full = refuse */
    uint8_t tos_mask;
    uint8_t counter_bits;       /* 32 or 64 */
    uint8_t sampling;           /* enum fp_sampling */
    uint32_t sampling_interval; /* >= 1 */
    uint64_t sampling_seed;
    uint32_t input_interface;
    uint32_t cache_size;
    uint32_t template_packets;
    uint32_t template_seconds;
    int64_t idle_timeout;   /* 0 = never */
    int64_t active_timeout; /* 0 = never */
    int64_t tcp_end;        /* -1 = off */
    int64_t reorder;
    int64_t max_clock_step;
    int64_t boot; /* seconds; -1 = by S-TIM-7 */
};

/* One export stream of every worker. */
struct fp_stream_config {
    int format;       /* enum fp_format */
    const char *host; /* a numeric address; NULL = datagrams are kept in memory */
    uint16_t port;
};

struct fp_config {
    struct fp_profile profile;
    const char *backend;
    const char *input;
    const struct fp_memory *memory; /* frames for the backend `memory`; NULL = by `input` */
    const char *filter;             /* NULL = none */
    const struct fp_option *options;
    uint32_t noptions;
    const struct fp_stream_config *streams;
    uint32_t nstreams;      /* <= FP_MAX_STREAMS */
    uint16_t workers;       /* 1 to FP_MAX_QUEUES */
    uint16_t batch;         /* 1 to 256 frames */
    uint16_t mtu;           /* of the export path, IP and UDP headers included; >= 576 */
    bool wall;              /* clock = wall; a source that is not live refuses it */
    bool wall_if_live;      /* wall if the opened source is live and `trailer` is off, else packet, whatever `wall` says */
    bool block_unless_wall; /* `block` under the packet clock and not under wall, whatever `block` says */
    bool seed_by_clock;     /* `seed` is random under wall and a constant under packet, whatever it says */
    bool trailer;           /* frames carry the replay trailer (docs/trailer.md) */
    bool ipfix_ns;
    bool log_assignment;
    bool huge;             /* huge pages for the tables where there are any */
    bool block;            /* wait for room in the socket instead of losing datagrams */
    uint32_t pace;         /* datagrams per second and stream at most; 0 = unlimited */
    uint32_t sweep_budget; /* regions swept per batch at most; 0 = as the clock asks (S-END-6) */
    uint32_t open_flags;   /* FP_OPEN_* */
    uint32_t snaplen;
    uint64_t seed;           /* of the table's hash */
    uint32_t first_sequence; /* of every stream and worker: a test wants to see it wrap */
};

struct fp_account {
    uint64_t received, filtered, sampled_out, non_ip, malformed, shed, metered, metered_packets;
    uint64_t late, clock_steps, evicted, resident_packets, resident_records;
};

struct fp_stream_account {
    uint64_t exported_packets, exported_records, queued_packets, queued_records, not_sent_packets, not_sent_records,
        unrepresentable_packets, unrepresentable_records;
    uint64_t datagrams, datagram_octets;
};

/* Frames for the backend `memory`. */
struct fp_memory {
    const struct fp_packet *packets;
    uint64_t count;
    const uint16_t *assignment; /* queue of each packet; NULL = by flow hash */
};

struct fp_totals {
    uint64_t cpu_ns;   /* of all threads of the run */
    uint64_t trailers; /* frames that carried a trailer */
    uint64_t strays;   /* frames that did not, in a run that expects them: not received, in the words of S-VER-1 */
    uint64_t lost;     /* gaps in the trailers' sequence, up to the largest number that came */
    uint64_t doubled;  /* trailers with a number that had come before */
};

struct fp_run; /* opaque */

/* Opens backend and streams. What `config` points to must outlive the run. */
int fp_run_open(const struct fp_config *, struct fp_run **, char *err);
/* Runs until the source ends or fp_run_stop, then ends all records. Returns 0, or -errno of the source with everything before it exported.
 * Once only. */
int fp_run_loop(struct fp_run *, char *err);
/* Asks a running loop to end in good order. Async-signal-safe; callable from any thread. */
void fp_run_stop(struct fp_run *);
void fp_run_close(struct fp_run *);

/* The accounts of one worker, at any time and from any thread: those of its last batch, consistent in themselves. `streams` has room for
 * all streams. */
void fp_run_snapshot(struct fp_run *, unsigned worker, struct fp_account *, struct fp_stream_account *streams);
/* The source's own counters; UINT64_MAX = unknown. */
void fp_run_source_stats(struct fp_run *, struct fp_stats *);
int fp_run_xstats(struct fp_run *, char *text, size_t len);
void fp_run_caps(const struct fp_run *, struct fp_caps *);
/* One line per call, NULL past the last. */
const char *fp_run_warning(const struct fp_run *, unsigned index);

/* After the loop, until close. The clock at the end (S-TIM-5); FP_NS_NONE if nothing was received. */
int64_t fp_run_final_clock(const struct fp_run *);
void fp_run_totals(const struct fp_run *, struct fp_totals *);
/* The sequence numbers of the frames that a worker received, in its order. */
const uint64_t *fp_run_assignment(const struct fp_run *, unsigned worker, size_t *count);
/* Datagram `index` of a stream in memory, NULL past the last. */
const uint8_t *fp_run_datagram(const struct fp_run *, unsigned worker, unsigned stream, size_t index, size_t *len);

/* Where plug-ins are: the directory of fp_NAME.so. Before anything else. */
void fp_set_plugin_dir(const char *path);
struct fp_registry_line {
    const char *name;
    const char *debian; /* packages that make it buildable; "" if none are needed */
    const char *summary;
    bool built;
};
unsigned fp_registry_count(void);
struct fp_registry_line fp_registry_line(unsigned index);
/* -EOPNOTSUPP: the plug-in has no such side. */
int fp_backend_probe(const char *name, struct fp_caps *, char *err);
int fp_injector_probe(const char *name, struct fp_injector_caps *, char *err);

/* Playing a capture or frames in memory into an injector. */
struct fp_play_config {
    const char *backend; /* pcap or memory: where the frames come from */
    const char *input;
    const struct fp_memory *memory; /* as in struct fp_config */
    const char *injector;
    const char *output; /* an interface, a port */
    const struct fp_option *options;
    uint32_t noptions;
    double rate_pps;     /* on an absolute schedule; 0 = by `speed` */
    double speed;        /* the capture's own gaps, so many times faster; 0 = as fast as it goes */
    uint32_t timeout_ms; /* without any progress */
    bool trailer;        /* append the long trailer (docs/trailer.md) */
};

struct fp_not_sent {
    uint64_t index; /* of the frame in the source */
    int reason; /* errno: EMSGSIZE too long, ERANGE too short, ENODATA truncated in the capture, EPROTOTYPE not Ethernet, or what the system
                   said */
};

struct fp_play_result {
    uint64_t frames, sent, not_sent;
    uint64_t lost;             /* accepted and, as the injector counts, lost; UINT64_MAX = unknown */
    int64_t ns;                /* from the first frame to the last */
    int64_t worst_lateness_ns; /* behind the schedule */
    int inside;                /* accepted, but still not out when the time was over */
};

struct fp_player; /* opaque */

int fp_player_open(const struct fp_play_config *, struct fp_player **, char *err);
/* Plays the whole source; returns 0, or -errno with what was sent until then in the result. */
int fp_player_play(struct fp_player *, struct fp_play_result *, char *err);
/* Ends a running play; async-signal-safe. */
void fp_player_stop(struct fp_player *);
/* The `result.not_sent` frames that were not sent, valid until close. */
const struct fp_not_sent *fp_player_not_sent(const struct fp_player *);
void fp_player_stats(struct fp_player *, struct fp_stats *);
void fp_player_caps(const struct fp_player *, struct fp_injector_caps *);
void fp_player_close(struct fp_player *);

/* The replay trailer for those who write frames themselves. Returns the length, 0 if it is above `room` or the frame above 65,535 octets.
 */
size_t fp_trailer_append(const uint8_t *frame, uint32_t caplen, uint32_t wirelen, int64_t ts_ns, uint32_t sequence, uint8_t *out,
                         size_t room);
/* The short form, into the last 16 octets of a frame with a long enough UDP payload. */
void fp_trailer_stamp(uint8_t *frame, size_t length, int64_t ts_ns, uint32_t sequence);

enum { FP_BENCH_WORKERS = 8 };

/* What is measured. Flows are random, of one probability each or by Zipf's law. */
struct fp_bench_load {
    uint32_t flows;     /* in all; with new flows about as many are alive at a time */
    uint32_t passes;    /* over the frames, a million at least */
    uint32_t new_flows; /* a second of clock at line rate of 10 Gb/s; 14,925,373 and more: every packet */
    uint32_t workers;   /* 1 to FP_BENCH_WORKERS at the same time, each with flows of its own; the first one is told */
    double zipf;        /* the exponent; 0 = uniform */
};

/* ns of processor time per packet over chunks of 65,536 packets. */
struct fp_bench_result {
    double core_p5, core_median;   /* parse, hash, update, sweep, encoding */
    double lines_p5, lines_median; /* a packet's lines of memory, in the same table, and nothing else */
    double latency_median;         /* one dependent random load */
    uint64_t resident, packets, records, evicted, cache_size;
    uint64_t table_octets; /* of the IPv4 table, all of it */
};
int fp_bench_core(const struct fp_bench_load *, struct fp_bench_result *, char *err);
/* cdef end */

#define FP_MAX_STREAMS 16
#define FP_MAX_BATCH   256

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The one contract between the core and a packet framework.
 *
 * A backend is one C file built as one shared object (hidden visibility) that exports one symbol, `fp_plugin`. The core loads it with
 * dlopen only when it is asked for, so a missing framework breaks nothing else. A backend moves packets and nothing more: it holds no flow
 * logic, and parses only to restore what the framework hid (VLAN tags, timestamps). Everything it needs from the core comes through `struct
 * fp_host`; it has no unresolved core symbols.
 *
 * Conventions
 *  - Functions return 0 or a count on success and -errno on failure, with one line in the caller's `err` buffer that says what to do. They
 * never print, never exit, never install signal handlers.
 *  - `abi` and `size` come first in every ops struct; the core refuses another `abi` and treats members beyond `size` as NULL. An op
 * documented as optional may be NULL: the core supplies the default. Use designated initialisers. Structs with a `size` grow only at their
 * end. One that the plug-in fills (caps) is assigned as a whole, with the `size` that the plug-in was built with: there is room for FP_ROOM
 * octets, of which the core takes what it knows. A struct without `size` never changes under one `abi`.
 *  - What fp_open_args points to (input, filter, options, stop, object) stays as it is until close; the struct itself only until open
 * returns.
 *  - Lengths are octets, times are nanoseconds since the UNIX epoch in the clock domain of the packets' timestamps.
 *  - One thread calls `recv` and `release` for a given queue; different queues are called from different threads at the same time. Every
 * recv that gave frames is followed by one release of just these before the next recv of that queue, also when the run fails. `stats`,
 * `xstats` and `stop` may be called from any thread while queues run, `stats` and `xstats` by one thread at a time, `stop` once. `open` and
 * `close` are called from one thread with no queue running.
 */
#ifndef FLOWPARITY_BACKEND_H
#define FLOWPARITY_BACKEND_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FP_ABI        2u
#define FP_END        (-ENODATA) /* recv: the source is at its end; nothing will follow */
#define FP_SEQ_NONE   UINT64_MAX /* fp_packet.seq: the source cannot tell */
#define FP_NS_NONE    INT64_MIN  /* a time that is not known */
#define FP_MAX_QUEUES 64
#define FP_ERRLEN     512
#define FP_ROOM       1024 /* octets for a struct that the plug-in fills and that has a `size` */

enum fp_tier { FP_TIER_FILE, FP_TIER_SIM, FP_TIER_VDEV, FP_TIER_KERNEL, FP_TIER_EMULATED, FP_TIER_HW };

/* Where a packet's timestamp was taken. */
enum fp_ts_source { FP_TS_CAPTURE, FP_TS_HARDWARE, FP_TS_KERNEL, FP_TS_SOFTWARE, FP_TS_SYNC, FP_TS_SENDER };

/* Link layers; the values are those of LINKTYPE_ (tcpdump.org). */
enum fp_link {
    FP_LINK_NULL = 0,
    FP_LINK_ETHERNET = 1,
    FP_LINK_RAW = 101,
    FP_LINK_LOOP = 108,
    FP_LINK_SLL = 113,
    FP_LINK_IPV4 = 228,
    FP_LINK_IPV6 = 229,
    FP_LINK_SLL2 = 276,
};

/* A tag that NIC or kernel took out of the frame, outermost first. */
struct fp_tag {
    uint16_t tpid; /* host byte order, e.g. 0x8100 */
    uint16_t tci;  /* host byte order; 0 is a valid tag */
};

/* One further piece of a frame that is not contiguous in memory. */
struct fp_segment {
    const uint8_t *data;
    uint32_t len;
    const struct fp_segment *next;
};

/* One received frame. Everything it points to stays valid and unchanged until `release`. */
struct fp_packet {
    const uint8_t *data; /* first octet of the link header */
    uint32_t len;        /* octets at `data` */
    uint32_t caplen;     /* captured octets; == len without `next`, else at most what the segments hold together */
    uint32_t wirelen;    /* octets on the wire without FCS, without stripped tags; >= caplen */
    uint16_t link;       /* enum fp_link */
    uint8_t ts_source;   /* enum fp_ts_source */
    uint8_t ntags;       /* 0 to 2 stripped tags in `tags` */
    int64_t ts_ns;       /* FP_NS_NONE: the backend cannot tell, the core takes the burst's now_ns */
    struct fp_tag tags[2];
    uint32_t interface; /* for input_interface = source; 0 if unknown */
    uint32_t rss;       /* the NIC's flow hash, for who looks at a backend alone: the core has its own; 0 if none */
    uint16_t segments;  /* super-packet: number of wire segments coalesced here; 0 and 1 both mean one */
    uint16_t queue;
    bool rejected;                 /* by the user's filter: received and filtered, its time counts (S-VER-2, S-TIM-2) */
    uint64_t seq;                  /* ordinal of the frame in the source from 0, over all queues; FP_SEQ_NONE if unknown */
    const struct fp_segment *next; /* NULL if contiguous */
    void *handle;                  /* the backend's own; the core passes it back to release */
};

#define FP_CAP_EXACT_TIME      (1u << 0) /* ts_ns is exactly the time that the sender or file gave */
#define FP_CAP_WIRE_LENGTH     (1u << 1) /* wirelen survives truncation */
#define FP_CAP_DROPS_KNOWN     (1u << 2) /* stats.dropped counts every frame lost in the framework */
#define FP_CAP_COALESCES       (1u << 3) /* may merge frames without saying so (S-SUP-2) */
#define FP_CAP_SPLITS          (1u << 4) /* packets of one key may reach several queues (S-CMP-2) */
#define FP_CAP_LIVE            (1u << 5) /* no end of input: runs until stopped */
#define FP_CAP_INTERFACE       (1u << 6) /* gives fp_packet.interface */
#define FP_CAP_STAMPS_SEQUENCE (1u << 8) /* gives fp_packet.seq */
#define FP_CAP_LOSES_TAGS      (1u << 9) /* tags that the card or the kernel took out of a frame may not arrive (S-LNK-2) */

struct fp_caps {
    uint32_t size;          /* sizeof(struct fp_caps) of the backend */
    uint32_t flags;         /* FP_CAP_* */
    uint8_t tier;           /* enum fp_tier */
    uint8_t ts_source;      /* what ts_ns usually is */
    uint16_t queues;        /* open: queues opened; probe: the most it can open */
    uint32_t min_frame;     /* shortest frame that arrives as it was sent; 0 = any */
    uint32_t max_frame;     /* longest frame that arrives whole */
    uint32_t ts_resolution; /* nanoseconds per step of ts_ns */
    int64_t ts_tolerance;   /* |ts_ns - true time| is at most this; 0 with FP_CAP_EXACT_TIME; FP_NS_NONE = unbounded */
    int64_t visibility;     /* a packet stamped t is visible to recv by t + visibility (S-TIM-4); 0 for files */
};

struct fp_option {
    const char *key;
    const char *value;
};

#define FP_OPEN_PROMISCUOUS (1u << 0)
#define FP_OPEN_BUSY_POLL   (1u << 1) /* not supported is -EINVAL, never ignored */

struct fp_open_args {
    uint32_t size;      /* sizeof(struct fp_open_args) of the core */
    uint32_t flags;     /* FP_OPEN_* */
    const char *input;  /* what --input or --interface named: a path, an interface, a port */
    uint16_t queues;    /* queues wanted, >= 1; fewer than wanted is -E2BIG, never silently less */
    uint32_t snaplen;   /* octets of a frame that are looked at, 0 = all; what a backend gives beyond it the core cuts off */
    const char *filter; /* a BPF expression or NULL; frames that it rejects come as `rejected` or never; not supported is -ENOTSUP */
    const struct fp_option *options; /* what --backend-option gave; unknown keys are -EINVAL */
    uint32_t noptions;
    const bool *stop;   /* atomic: true once the run was asked to end. For a recv that cannot keep to wait_ms (half a record in a pipe) */
    const void *object; /* what the calling program hands over instead of naming it in `input`; never from a command line, mostly NULL */
};

struct fp_stats {
    uint64_t received; /* frames handed to the core so far */
    uint64_t dropped;  /* frames the framework lost; UINT64_MAX = unknown */
    uint64_t errors;   /* frames the framework received damaged */
};

/* Given to open; outlives the source. */
struct fp_host {
    uint32_t abi, size;
    /* Symmetric hash of addresses, ports and protocol of the frame's flow, the same for both directions; ports are left out of non-first
     * fragments, which are flows of their own (S-PRT-6), so that all packets of a key get one value. For backends that must choose a queue
     * in software. Never 0. */
    uint32_t (*flow_hash)(const struct fp_packet *);
    /* printf into an error buffer of FP_ERRLEN octets; returns `code` so that `return host->fail(err, -EINVAL, "…")` reads well. */
    int (*fail)(char *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
    /* Looks up an option by key; NULL if absent. */
    const char *(*option)(const struct fp_open_args *, const char *key);
};

struct fp_source; /* the backend defines it */

struct fp_backend_ops {
    uint32_t abi, size;
    const char *name;    /* as in --backend NAME */
    const char *summary; /* one line for `flowparity backends` */

    /* Whether the backend can work on this machine at all, and what it could do at best; opens nothing that another process would notice.
     * On failure `err` says what is missing and the command that mends it. */
    int (*probe)(const struct fp_host *, struct fp_caps *, char *err);

    /* Opens the source with all its queues and fills `caps` with what was really obtained. On failure the system is as it was before. */
    int (*open)(const struct fp_host *, const struct fp_open_args *, struct fp_source **, struct fp_caps *caps, char *err);

    /* Takes up to `max` frames of a queue, waiting at most `wait_ms` for the first (0 = do not wait). Returns their number; 0 = none came;
     * FP_END; or -errno with `err`. `*now_ns` is set at every call, with frames too, to the present time in the packets' clock domain
     * (FP_NS_NONE: a file, a replay, or not known this time): with frames for the judgement of their stamps (max_clock_step), which is left
     * out without it; without any such that every frame stamped before now - visibility has been delivered (S-TIM-4), so it is read
     * before the look that found nothing. Errors end the run; what was received is exported. */
    int (*recv)(struct fp_source *, unsigned queue, struct fp_packet *, unsigned max, int wait_ms, int64_t *now_ns, char *err);

    /* Gives the frames of one recv back, all of them, in order. Optional: nothing to give back. */
    void (*release)(struct fp_source *, unsigned queue, struct fp_packet *, unsigned count);

    /* Stops accepting new frames; afterwards recv delivers what had been accepted and then FP_END. A source that says no FP_END for two
     * seconds is then asked without waiting, and left when nothing is at hand, at the latest after 2^20 frames of a queue. Optional for
     * sources that end by themselves (the core then just stops). */
    int (*stop)(struct fp_source *, char *err);

    /* Counters since open, over all queues. Optional: received is counted by the core, dropped is unknown. */
    int (*stats)(struct fp_source *, struct fp_stats *);

    /* Text "name=value\n…" of every counter the framework has, for the accounting, ended by a NUL; returns its octets without that (< len).
     * Optional. */
    int (*xstats)(struct fp_source *, char *text, size_t len);

    void (*close)(struct fp_source *);
};

/* Transmit side: the same frameworks as injectors. `ts_ns` of a packet is the time it must carry; `due_ns` is CLOCK_MONOTONIC, when it
 * shall leave (0 = now); the core's player keeps the schedule itself and gives NULL. */
struct fp_injector; /* the backend defines it */

struct fp_injector_caps {
    uint32_t size;
    uint32_t flags; /* FP_CAP_EXACT_TIME: the packet's own time travels with it */
    uint16_t queues;
    uint32_t min_frame, max_frame;
    uint64_t rate_pps; /* what it is known to reach; 0 = unknown */
};

/* What really left of an injector that collects frames, repeats them, or keeps a schedule by itself. Times are CLOCK_MONOTONIC. */
struct fp_departure {
    uint64_t frames;
    int64_t first_ns, last_ns;
    int64_t worst_lateness_ns; /* behind its schedule; 0 without one */
};

struct fp_injector_ops {
    uint32_t abi, size;
    const char *name;
    const char *summary;
    int (*probe)(const struct fp_host *, struct fp_injector_caps *, char *err);
    int (*open)(const struct fp_host *, const struct fp_open_args *, struct fp_injector **, struct fp_injector_caps *, char *err);
    /* Sends up to `count` frames on a queue; `due_ns` may be NULL. Returns how many were accepted (the caller offers the rest again), or
     * -errno for the first one, which the caller counts as not sent (e.g. -EMSGSIZE). The frames may be reused when it returns. */
    int (*send)(struct fp_injector *, unsigned queue, const struct fp_packet *, const int64_t *due_ns, unsigned count, char *err);
    /* Waits until everything accepted has left, at most `wait_ms`; returns the number still inside. */
    int (*drain)(struct fp_injector *, int wait_ms, char *err);
    int (*stats)(struct fp_injector *, struct fp_stats *); /* received = sent; dropped = accepted but lost */
    void (*close)(struct fp_injector *);
    int (*departure)(struct fp_injector *, struct fp_departure *); /* optional: frames leave as `send` accepts them */
};

struct fp_plugin {
    uint32_t abi, size;
    const struct fp_backend_ops *backend;   /* NULL if it only transmits */
    const struct fp_injector_ops *injector; /* NULL if it only receives */
};

/* The one exported symbol of a plug-in. */
#define FP_PLUGIN __attribute__((visibility("default"))) const struct fp_plugin fp_plugin

#endif

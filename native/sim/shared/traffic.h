/* SPDX-License-Identifier: Apache-2.0
 *
 * What the stand-ins have in common: frames from a capture file or live from a network interface, their distribution over rings or queues,
 * settings of the form "key=value,…", repeatable choices, and the end of a program that used a framework against its rules.
 */
#ifndef FLOWPARITY_SIM_TRAFFIC_H
#define FLOWPARITY_SIM_TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_LONGEST (1u << 18) /* octets of a frame */
#define SIM_POISON  0xDB       /* what fills memory that nobody may read */

struct sim_frame {
    struct sim_frame *next;
    int64_t ns;       /* since the UNIX epoch */
    uint32_t len;     /* octets at `data` */
    uint32_t wirelen; /* octets that the frame had on the wire */
    bool more;        /* netmap between two ports: the sender's NS_MOREFRAG */
    uint8_t data[];
};

/* Frames on their way, first in, first out. All zeros is an empty one. */
struct sim_feed {
    struct sim_frame *first, *last;
};

void sim_feed_put(struct sim_feed *, const uint8_t *data, uint32_t len, uint32_t wirelen, int64_t ns, bool more);
struct sim_frame *sim_feed_take(struct sim_feed *); /* NULL if there is none; the caller frees it */
void sim_feed_clear(struct sim_feed *);
void sim_feed_join(struct sim_feed *to, struct sim_feed *from); /* appends; `from` is empty afterwards */

/* The ring of a frame, as RSS would choose it: by the addresses behind the tags, alike for both directions, so that no flow is split. */
unsigned sim_ring_of(const uint8_t *data, uint32_t len, unsigned rings);

/* Deals the frames of a classic pcap file (µs or ns) to `rings` feeds. Ends the program if the file cannot be read. */
void sim_read_capture(const char *path, struct sim_feed *feeds, unsigned rings);

/* Frames that arrive at a network interface, through a packet socket with a large buffer. */
int sim_live_open(const char *interface); /* a descriptor, or -errno */
uint64_t sim_live_lost(int fd);           /* frames lost since the last call, because nobody read them in time */

/* Deals what is there, without waiting; one thread at a time. A tag that the kernel took out goes back as it was; or, with `as_8021q`, as
 * 0x8100 whatever it was, and not at all if its TCI is 0. */
void sim_live_read(int fd, struct sim_feed *feeds, unsigned rings, bool as_8021q);

/* Calls `set` for each "key=value" of the text, which is changed; they are separated by commas or ends of lines. */
void sim_settings(char *text, void (*set)(const char *key, const char *value, unsigned long number));

/* A number below `below`, or any if that is 0; the same ones again for the same start of `*state` (SplitMix64). */
uint64_t sim_roll(uint64_t *state, uint64_t below);

/* Says on the standard error how a program broke the rules of the framework, and aborts it. */
__attribute__((noreturn, format(printf, 2, 3))) void sim_illegal(const char *framework, const char *format, ...);

#endif

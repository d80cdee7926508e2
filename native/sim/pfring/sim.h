/* SPDX-License-Identifier: Apache-2.0
 *
 * A stand-in for libpfring.so: the documented calls of PF_RING (1-copy) and PF_RING ZC that the backends use. Results over it are of tier
 * `sim`, and no rate of it means anything. Written from the documented interface; nothing of the library is in it.
 *
 * It is stricter than the real thing and aborts on illegal use: handles that are foreign, used twice or leaked, devices closed twice or
 * after their cluster, receive before enable_ring. Its traps are all on: every receive swaps the handles for others, data lies far from its
 * handle and moves, handed-back buffers and lent frames are full of 0xDB afterwards, buffers are few, there is no time without a timestamp
 * flag and no nanosecond without the long header, the FCS stays in when asked for, transmitted frames come too unless the direction says
 * otherwise, a poll may be interrupted, lost frames are counted as received too, a breakloop that finds nobody blocked is now lost, now
 * kept for the next blocking receive.
 *
 * Environment: FLOWPARITY_PFRING_SIM="key=value,…"
 *   capture=PATH  classic pcap file (µs or ns)    device=NAME (sim0)   queues=N (1)   seed=N (1)
 *   drop=N        lose the first N frames and count them
 *   pool=N        handles that a cluster has for its user, for each queue (80)
 *   fail=WHAT     ENOBUFS, EBUSY at create_cluster; EBUSY, ENOTSOCK, ENODEV, EPERM at open; DEMO: delivery ends after 100 packets
 *   traps=0       no traps, only the interface       strict=0  behave as the real library does
 * Names of devices, each with "zc:" before it or not, and with "@N" behind it for one queue:
 *   NAME          as above
 *   /PATH         the same device with further settings, which are in that file
 *   INTERFACE     the same device fed live with what arrives at a network interface (a veth) of this name; without "zc:" tags are as the
 *                 module leaves them: 0x8100 whatever they were, and none whose TCI is 0
 * Settings and capture are read anew when nobody has any device open.
 *
 * The parts: device.c what is behind all devices, ring.c the ordinary interface, zc.c zero copy.
 */
#ifndef FLOWPARITY_SIM_PFRING_H
#define FLOWPARITY_SIM_PFRING_H

#include "../shared/traffic.h"
#include "flowparity/pfring_abi.h"

#include <pthread.h>

#define SIM_PUBLIC     __attribute__((visibility("default")))
#define SIM_MAX_QUEUES 16
#define SIM_ROLL(n)    sim_roll(&sim.random, n)

#define illegal(...) sim_illegal("PF_RING", __VA_ARGS__)

/* Everything there is; `lock` is held by whoever is inside. */
struct sim {
    pthread_mutex_t lock;
    bool ready, strict, traps;
    char capture[4096], device[256], fail[32];
    unsigned queues;
    uint64_t random, drop, delivered, pool;
    struct sim_feed feeds[SIM_MAX_QUEUES];
    bool taken[SIM_MAX_QUEUES];
    int live;    /* the socket that feeds it, or -1 */
    bool driver; /* opened as "zc:…", past the kernel */
    unsigned index;
};
extern struct sim sim;

void sim_start(void); /* reads the settings, once */
bool sim_failing(const char *what);

/* Checks a device name and claims its queue: the queue, or -1 with errno set. */
int sim_claim(const char *name, bool zero_copy);
void sim_disclaim(unsigned queue);

/* The next frame of a queue, or NULL; those that are to be lost are, and counted. The caller frees it. */
struct sim_frame *sim_next(unsigned queue, uint64_t *dropped);
unsigned sim_waiting(unsigned queue); /* how many there are */
bool sim_expired(void);
void sim_doze(void);

#endif

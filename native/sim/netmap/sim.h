/* SPDX-License-Identifier: Apache-2.0
 *
 * A stand-in for the netmap kernel module, in user space: preloaded (LD_PRELOAD), it answers open, ioctl, poll, epoll and close for
 * /dev/netmap; the file descriptor it gives is a memfd, so that mmap works untouched. Written from netmap(4) and from the behaviour of the
 * real module, which the ABI probe compares. Results over it are of tier `sim`, and no rate of it means anything.
 *
 * It is stricter than the real module: where that one restores, reinitialises or lets pass, this one aborts and says why (`strict=1`, the
 * default). Its traps are all on by default: rings that start near their wrap, buffers that change from slot to slot, released and
 * unpublished buffers full of 0xDB, frames cut into fragments, tails in the middle of a frame and as far as a tail can go, offsets with
 * garbage above their mask, flag bits that mean nothing, a far and uninteresting ring time, polls that a signal interrupts.
 *
 * Environment: FLOWPARITY_NETMAP_SIM="key=value,…"
 *   capture=PATH  classic pcap file (µs or ns) whose frames the port NAME receives      port=NAME    its name (sim0)
 *   rings=N       receive rings (1)         slots=N   slots in each ring (64)           buf=N        octets in a buffer (2048)
 *   drop=N        lose the first N frames, which nothing counts
 *   seed=N        of every choice (1)       strict=0  behave as the real module does    traps=0      no traps, only the interface
 *   fail=WHAT     ENOENT, EACCES at open; ENXIO, EBUSY, ENOMEM, EINVAL, ENOTTY, VERSION at NIOCCTRL; ENODEV: the port goes away in use
 * `slots` and `buf` are read once, the others whenever nobody has the port: whoever opens it then gets fresh rings and the capture from its
 * beginning, so that one process can serve many captures. Names of ports:
 *   NAME          as above
 *   /PATH         the same port with further settings, which are in that file
 *   INTERFACE     the same port fed live with what arrives at a network interface (a veth) of this name
 *   X{N and X}N   the two ends of a pipe            valeX:Y   a port of a learning switch
 *
 * The parts: memory.c the shared region and what is in it, ports.c which ports there are and who has them, sync.c what a system call does
 * to a ring, calls.c and epoll.c the functions that take the place of libc's.
 */
#ifndef FLOWPARITY_SIM_NETMAP_H
#define FLOWPARITY_SIM_NETMAP_H

#include "../shared/traffic.h"
#include "flowparity/netmap_abi.h"

#include <pthread.h>

#define SIM_PUBLIC    __attribute__((visibility("default")))
#define SIM_MAX_RINGS 16
#define SIM_MAX_PORTS 12
#define SIM_MAX_FDS   1024
#define SIM_IF_AREA   4096 /* octets for one netmap_if */
#define SIM_ROLL(n)   sim_roll(&sim.random, n)

#define illegal(...) sim_illegal("netmap", __VA_ARGS__)

/* Sets a member that is const for users. */
#define SIM_SET(pointer, type, value) (*(type *)(uintptr_t)(pointer) = (value))

struct sim_ring {  /* the kernel's view of one ring */
    size_t offset; /* from the start of the region */
    uint32_t hwcur, hwtail, cur;
    uint32_t idle_polls;
    struct sim_feed feed; /* receive rings: what has not been published */
    uint32_t done;        /* octets of feed.first that earlier fragments carried */
    uint32_t pieces_left;
    uint32_t stall; /* syncs that publish nothing, while a frame is unfinished */
    int owner;      /* the exclusive owner's descriptor, or -1 */
};

struct sim_port {
    char name[NETMAP_REQ_IFNAMSIZ];
    unsigned tx_rings, rx_rings;
    struct sim_ring tx[SIM_MAX_RINGS + 1], rx[SIM_MAX_RINGS + 1]; /* the last one is the host ring */
    struct sim_port *peer;                                        /* of a pipe */
    bool switched;                                                /* a port of a switch */
    int live;                                                     /* the socket that feeds it, or -1 */
    unsigned users;                                               /* descriptors that are registered on it */
};

struct sim_descriptor {
    bool used, transmit, receive;
    struct sim_port *port;
    unsigned first, count; /* its rings */
};

/* Everything there is; `lock` is held by whoever is inside, and may be taken again by what they call: this library's own close comes by
 * here. */
struct sim {
    pthread_mutex_t lock;
    bool ready, strict, traps;
    char capture[4096], name[NETMAP_REQ_IFNAMSIZ], fail[32];
    unsigned rings, slots, buf;
    uint64_t random, drop;
    int memfd;
    uint8_t *region;
    size_t size, used, buffers; /* octets in all, given to rings, before the first buffer */
    uint32_t nbufs, *free_bufs, nfree;
    struct sim_port ports[SIM_MAX_PORTS]; /* the first is the fed one */
    unsigned nports;
    struct sim_descriptor fds[SIM_MAX_FDS];
};
extern struct sim sim;

/* memory.c */
void sim_memory_start(void); /* the region, by sim.slots and sim.buf */
struct netmap_ring *sim_shared(const struct sim_ring *);
uint8_t *sim_buffer(uint32_t index);
uint32_t sim_take_buffer(void);
void sim_give_buffer(uint32_t index); /* it is poisoned */
void sim_make_ring(struct sim_ring *, unsigned id, bool receive);
void sim_reset_ring(struct sim_ring *, bool receive); /* as it is when nobody has used it yet */

/* ports.c */
void sim_start(void); /* once */
bool sim_failing(const char *what);
int sim_control(int fd, struct nmreq_header *); /* NIOCCTRL: 0 or an errno */
void sim_leave(int fd);                         /* gives back what a descriptor has */

/* sync.c. False: head or cur was illegal. */
bool sim_sync_receive(struct sim_port *, unsigned ring);
bool sim_sync_transmit(struct sim_port *, unsigned ring);
uint32_t sim_between(uint32_t from, uint32_t to); /* slots from `from` up to `to` */

/* calls.c */
bool sim_ours(int fd);
short sim_poll_once(int fd, short events); /* one pass of the module's poll, with the lock held */
void *sim_real(const char *name);
int64_t sim_monotonic_ms(void);
void sim_doze(void); /* between two passes of a poll that waits */

/* epoll.c */
void sim_forget(int fd); /* a descriptor is closed: whoever watched it does so no more */

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of libpfring's documented interface that this project calls, declared here so that building needs no PF_RING: the library is
 * opened at run time. Only what is read or written is named; longer structures end in room that the library may use.
 */
#ifndef FLOWPARITY_PFRING_ABI_H
#define FLOWPARITY_PFRING_ABI_H

#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

/* Zero copy (pfring_zc_*). */

typedef struct pfring_zc_cluster pfring_zc_cluster;
typedef struct pfring_zc_queue pfring_zc_queue;

enum { PFRING_ZC_RX_ONLY = 0 };

#define PFRING_ZC_SW_TIMESTAMP     (1u << 2)
#define PFRING_ZC_HW_TIMESTAMP     (1u << 3)
#define PFRING_ZC_NOT_PROMISC      (1u << 9)
#define PFRING_ZC_DO_NOT_STRIP_FCS (1u << 10)

struct pfring_zc_pkt_buff {
    uint16_t len;
    uint16_t flags;
    uint32_t hash;
    struct {
        uint32_t sec, nsec;
    } ts;
    uint8_t user[];
};

struct pfring_zc_stat {
    uint64_t recv, sent, drop;
};

_Static_assert(sizeof(struct pfring_zc_pkt_buff) == 16, "PF_RING ABI: packet handle");
_Static_assert(offsetof(struct pfring_zc_pkt_buff, ts) == 8, "PF_RING ABI: time in the packet handle");
_Static_assert(sizeof(struct pfring_zc_stat) == 24, "PF_RING ABI: statistics");

/* The ordinary interface (pfring_*). */

typedef struct pfring_ring pfring_ring;

enum { PFRING_RX_ONLY_DIRECTION = 1 };

#define PFRING_LONGEST 65535u /* octets of a frame, at most */

#define PFRING_LONG_HEADER      (1u << 2)
#define PFRING_PROMISC          (1u << 3)
#define PFRING_TIMESTAMP        (1u << 4)
#define PFRING_HW_TIMESTAMP     (1u << 5)
#define PFRING_DO_NOT_STRIP_FCS (1u << 21)

struct __attribute__((packed)) pfring_header {
    struct timeval ts;
    uint32_t caplen, len;
    uint64_t timestamp_ns;
    uint32_t flags;
    uint8_t rx_direction, port_id;
    uint16_t device_id;
    int32_t if_index;
    uint32_t pkt_hash;
    uint8_t room[1024]; /* the parsed part of the long header; never read */
};

struct pfring_stat {
    uint64_t recv, drop, shunt;
};

_Static_assert(offsetof(struct pfring_header, caplen) == 16, "PF_RING ABI: captured length");
_Static_assert(offsetof(struct pfring_header, timestamp_ns) == 24, "PF_RING ABI: nanoseconds");
_Static_assert(offsetof(struct pfring_header, if_index) == 40, "PF_RING ABI: interface");
_Static_assert(offsetof(struct pfring_header, pkt_hash) == 44, "PF_RING ABI: hash");

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of the netmap user interface (API 14, x86-64 and other LP64 systems) that this project uses, declared from its documentation
 * (netmap(4)) for machines where no net/netmap.h is installed. Every size and offset is checked below, and against the installed header
 * where there is one, because the kernel module reads these structures as raw memory.
 */
#ifndef FLOWPARITY_NETMAP_ABI_H
#define FLOWPARITY_NETMAP_ABI_H

#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/types.h>

#if __has_include(<net/netmap.h>)
#include <net/if.h>
#include <net/netmap.h>
#else

#define NETMAP_API          14
#define NETMAP_REQ_IFNAMSIZ 64

struct netmap_slot {
    uint32_t buf_idx;
    uint16_t len;
    uint16_t flags;
    uint64_t ptr;
};

#define NS_BUF_CHANGED   0x0001
#define NS_MOREFRAG      0x0020
#define NETMAP_MAX_FRAGS 64

struct netmap_ring {
    const int64_t buf_ofs;
    const uint32_t num_slots;
    const uint32_t nr_buf_size;
    const uint16_t ringid;
    const uint16_t dir;
    uint32_t head;
    uint32_t cur;
    uint32_t tail;
    uint32_t flags;
    struct timeval ts;
    const uint64_t offset_mask;
    const uint64_t buf_align;
    uint8_t __attribute__((__aligned__(128))) sem[128];
    struct netmap_slot slot[];
};

#define NR_TIMESTAMP 0x0002

struct netmap_if {
    char ni_name[16];
    const uint32_t ni_version;
    const uint32_t ni_flags;
    const uint32_t ni_tx_rings;
    const uint32_t ni_rx_rings;
    uint32_t ni_bufs_head;
    const uint32_t ni_host_tx_rings;
    const uint32_t ni_host_rx_rings;
    uint32_t ni_spare1[3];
    const ssize_t ring_ofs[];
};

struct nmreq_header {
    uint16_t nr_version;
    uint16_t nr_reqtype;
    uint32_t nr_reserved;
    char nr_name[NETMAP_REQ_IFNAMSIZ];
    uint64_t nr_options;
    uint64_t nr_body;
};

enum { NETMAP_REQ_REGISTER = 1, NETMAP_REQ_PORT_INFO_GET = 2 };
enum { NR_REG_ALL_NIC = 1, NR_REG_SW = 2, NR_REG_NIC_SW = 3, NR_REG_ONE_NIC = 4 };

struct nmreq_register {
    uint64_t nr_offset;
    uint64_t nr_memsize;
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_host_tx_rings;
    uint16_t nr_host_rx_rings;
    uint16_t nr_mem_id;
    uint16_t nr_ringid;
    uint32_t nr_mode;
    uint32_t nr_extra_bufs;
    uint64_t nr_flags;
};

#define NR_EXCLUSIVE     0x800
#define NR_RX_RINGS_ONLY 0x2000
#define NR_TX_RINGS_ONLY 0x4000

struct nmreq_port_info_get {
    uint64_t nr_memsize;
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_host_tx_rings;
    uint16_t nr_host_rx_rings;
    uint16_t nr_mem_id;
    uint16_t pad[3];
};

#define NIOCCTRL   _IOWR('i', 151, struct nmreq_header)
#define NIOCTXSYNC _IO('i', 148)
#define NIOCRXSYNC _IO('i', 149)

#endif

#define FP_ABI_AT(type, member, offset) _Static_assert(offsetof(struct type, member) == (offset), "netmap ABI: " #type "." #member)
#define FP_ABI_SIZE(type, size)         _Static_assert(sizeof(struct type) == (size), "netmap ABI: sizeof " #type)

_Static_assert(NETMAP_API == 14, "the installed net/netmap.h has another API version than 14");
FP_ABI_SIZE(netmap_slot, 16);
FP_ABI_AT(netmap_slot, len, 4);
FP_ABI_AT(netmap_slot, flags, 6);
FP_ABI_AT(netmap_slot, ptr, 8);
FP_ABI_SIZE(netmap_ring, 256);
FP_ABI_AT(netmap_ring, num_slots, 8);
FP_ABI_AT(netmap_ring, nr_buf_size, 12);
FP_ABI_AT(netmap_ring, ringid, 16);
FP_ABI_AT(netmap_ring, dir, 18);
FP_ABI_AT(netmap_ring, head, 20);
FP_ABI_AT(netmap_ring, cur, 24);
FP_ABI_AT(netmap_ring, tail, 28);
FP_ABI_AT(netmap_ring, flags, 32);
FP_ABI_AT(netmap_ring, ts, 40);
FP_ABI_AT(netmap_ring, offset_mask, 56);
FP_ABI_AT(netmap_ring, slot, 256);
FP_ABI_SIZE(netmap_if, 56);
FP_ABI_AT(netmap_if, ni_tx_rings, 24);
FP_ABI_AT(netmap_if, ni_rx_rings, 28);
FP_ABI_AT(netmap_if, ni_bufs_head, 32);
FP_ABI_AT(netmap_if, ni_host_tx_rings, 36);
FP_ABI_AT(netmap_if, ni_host_rx_rings, 40);
FP_ABI_AT(netmap_if, ring_ofs, 56);
FP_ABI_SIZE(nmreq_header, 88);
FP_ABI_AT(nmreq_header, nr_reqtype, 2);
FP_ABI_AT(nmreq_header, nr_name, 8);
FP_ABI_AT(nmreq_header, nr_options, 72);
FP_ABI_AT(nmreq_header, nr_body, 80);
FP_ABI_SIZE(nmreq_register, 56);
FP_ABI_AT(nmreq_register, nr_memsize, 8);
FP_ABI_AT(nmreq_register, nr_tx_slots, 16);
FP_ABI_AT(nmreq_register, nr_rx_slots, 20);
FP_ABI_AT(nmreq_register, nr_tx_rings, 24);
FP_ABI_AT(nmreq_register, nr_rx_rings, 26);
FP_ABI_AT(nmreq_register, nr_host_tx_rings, 28);
FP_ABI_AT(nmreq_register, nr_host_rx_rings, 30);
FP_ABI_AT(nmreq_register, nr_mem_id, 32);
FP_ABI_AT(nmreq_register, nr_ringid, 34);
FP_ABI_AT(nmreq_register, nr_mode, 36);
FP_ABI_AT(nmreq_register, nr_extra_bufs, 40);
FP_ABI_AT(nmreq_register, nr_flags, 48);
FP_ABI_SIZE(nmreq_port_info_get, 32);
FP_ABI_AT(nmreq_port_info_get, nr_rx_rings, 18);
_Static_assert(NIOCCTRL == 0xc0586997u, "netmap ABI: NIOCCTRL");
_Static_assert(NIOCTXSYNC == 0x6994u, "netmap ABI: NIOCTXSYNC");
_Static_assert(NIOCRXSYNC == 0x6995u, "netmap ABI: NIOCRXSYNC");

#endif

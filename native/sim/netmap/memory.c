/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory that the stand-in shares with its users: netmap_if structures, rings and buffers in one memfd.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALL_RINGS  (SIM_MAX_PORTS * 2 * (SIM_MAX_RINGS + 1))
#define SPARE_BUFS 4096
#define PAGE       ((size_t)4096)

static size_t ring_size(void)
{
    return (sizeof(struct netmap_ring) + sim.slots * sizeof(struct netmap_slot) + PAGE - 1) & ~(PAGE - 1);
}

void sim_memory_start(void)
{
    sim.used = (size_t)SIM_IF_AREA * SIM_MAX_PORTS * 8;
    sim.buffers = sim.used + ALL_RINGS * ring_size();
    sim.nbufs = ALL_RINGS * sim.slots + SPARE_BUFS;
    sim.size = sim.buffers + (size_t)sim.nbufs * sim.buf;
    sim.memfd = memfd_create("netmap", MFD_CLOEXEC);
    sim.free_bufs = malloc(sim.nbufs * sizeof *sim.free_bufs);
    if (sim.memfd < 0 || sim.free_bufs == NULL || ftruncate(sim.memfd, (off_t)sim.size) != 0)
        illegal("the stand-in cannot get its memory");
    sim.region = mmap(NULL, sim.size, PROT_READ | PROT_WRITE, MAP_SHARED, sim.memfd, 0);
    if (sim.region == MAP_FAILED)
        illegal("the stand-in cannot map its memory");
    for (uint32_t i = 2; i < sim.nbufs; i++) /* 0 and 1 are the module's own */
        sim.free_bufs[sim.nfree++] = i;
}

struct netmap_ring *sim_shared(const struct sim_ring *k)
{
    return (struct netmap_ring *)(sim.region + k->offset);
}

uint8_t *sim_buffer(uint32_t index)
{
    return sim.region + sim.buffers + (size_t)index * sim.buf;
}

uint32_t sim_take_buffer(void)
{
    if (sim.nfree == 0)
        illegal("the stand-in itself ran out of buffers");
    uint32_t at = sim.traps ? (uint32_t)SIM_ROLL(sim.nfree) : sim.nfree - 1, index = sim.free_bufs[at];
    sim.free_bufs[at] = sim.free_bufs[--sim.nfree];
    return index;
}

void sim_give_buffer(uint32_t index)
{
    memset(sim_buffer(index), SIM_POISON, sim.buf);
    sim.free_bufs[sim.nfree++] = index;
}

void sim_reset_ring(struct sim_ring *k, bool receive)
{
    struct netmap_ring *r = sim_shared(k);
    uint32_t start = sim.traps ? sim.slots - 3 : 0; /* the wrap comes with the first frames */
    sim_feed_clear(&k->feed);
    k->owner = -1;
    k->done = k->stall = k->idle_polls = 0;
    k->hwcur = k->cur = start;
    k->hwtail = receive ? start : (start + sim.slots - 1) % sim.slots;
    SIM_SET(&r->offset_mask, uint64_t, sim.traps &&receive ? 0xFF : 0);
    r->head = r->cur = start;
    r->tail = k->hwtail;
    for (uint32_t i = 0; i < sim.slots; i++) {
        memset(sim_buffer(r->slot[i].buf_idx), SIM_POISON, sim.buf);
        r->slot[i] = (struct netmap_slot){.buf_idx = r->slot[i].buf_idx};
    }
}

void sim_make_ring(struct sim_ring *k, unsigned id, bool receive)
{
    k->offset = sim.used;
    sim.used += ring_size();
    struct netmap_ring *r = sim_shared(k);
    SIM_SET(&r->buf_ofs, int64_t, (int64_t)(sim.buffers - k->offset));
    SIM_SET(&r->num_slots, uint32_t, sim.slots);
    SIM_SET(&r->nr_buf_size, uint32_t, sim.buf);
    SIM_SET(&r->ringid, uint16_t, (uint16_t)id);
    SIM_SET(&r->dir, uint16_t, receive ? 1 : 0);
    for (uint32_t i = 0; i < sim.slots; i++)
        r->slot[i] = (struct netmap_slot){.buf_idx = sim_take_buffer()};
    sim_reset_ring(k, receive);
}

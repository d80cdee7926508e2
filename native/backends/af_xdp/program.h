/* SPDX-License-Identifier: Apache-2.0
 *
 * The program on the interface: leaves a frame's time and ordinal before it as metadata and gives the frame to the socket of its queue.
 */
#ifndef FLOWPARITY_AF_XDP_PROGRAM_H
#define FLOWPARITY_AF_XDP_PROGRAM_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>

#include "../bpf_insn.h"

#define META          16 /* octets of metadata: time, ordinal + 1 */
#define ENCAPSULATION 34 /* Ethernet and IPv4 header */

enum times { TIMES_KERNEL, TIMES_SENDER, TIMES_BURST };

struct assembly {
    struct bpf_insn code[64];
    unsigned n;
    unsigned to_fail[4], nfail;
};

static void emit(struct assembly *a, struct bpf_insn insn)
{
    a->code[a->n++] = insn;
}

static void emit_map(struct assembly *a, uint8_t reg, int fd)
{
    emit(a, INSN(BPF_LD | BPF_DW | BPF_IMM, reg, BPF_PSEUDO_MAP_FD, 0, fd));
    emit(a, INSN(0, 0, 0, 0, 0));
}

static void fail_if(struct assembly *a, uint8_t test, uint8_t dst, uint8_t src)
{
    a->to_fail[a->nfail++] = a->n;
    emit(a, INSN(BPF_JMP | test, dst, src, 0, 0));
}

/* r7, r8 = time and ordinal + 1 from the 34 octets before the frame, which go; both 0 if they are not there. */
static void emit_take_times(struct assembly *a)
{
    unsigned too_short, other_type, other_protocol;

    emit(a, MOVI(BPF_REG_7, 0));
    emit(a, MOVI(BPF_REG_8, 0));
    emit(a, LOAD(BPF_W, BPF_REG_2, BPF_REG_6, offsetof(struct xdp_md, data)));
    emit(a, LOAD(BPF_W, BPF_REG_3, BPF_REG_6, offsetof(struct xdp_md, data_end)));
    emit(a, MOV(BPF_REG_4, BPF_REG_2));
    emit(a, ALUI(BPF_ADD, BPF_REG_4, ENCAPSULATION));
    too_short = a->n;
    emit(a, INSN(BPF_JMP | BPF_JGT | BPF_X, BPF_REG_4, BPF_REG_3, 0, 0));
    emit(a, LOAD(BPF_H, BPF_REG_5, BPF_REG_2, 12));
    other_type = a->n;
    emit(a, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_5, 0, 0, htobe16(0x0800)));
    emit(a, LOAD(BPF_W, BPF_REG_5, BPF_REG_2, 30)); /* the destination address; with it, nothing else can be meant */
    other_protocol = a->n;
    emit(a, INSN(BPF_JMP32 | BPF_JNE | BPF_K, BPF_REG_5, 0, 0, htobe32(0x46507473)));
    emit(a, LOAD(BPF_DW, BPF_REG_7, BPF_REG_2, 0));
    emit(a, INSN(BPF_ALU | BPF_END | BPF_TO_BE, BPF_REG_7, 0, 0, 64));
    emit(a, LOAD(BPF_W, BPF_REG_8, BPF_REG_2, 8));
    emit(a, INSN(BPF_ALU | BPF_END | BPF_TO_BE, BPF_REG_8, 0, 0, 32));
    emit(a, ALUI(BPF_ADD, BPF_REG_8, 1));
    emit(a, MOV(BPF_REG_1, BPF_REG_6));
    emit(a, MOVI(BPF_REG_2, ENCAPSULATION));
    emit(a, CALL(BPF_FUNC_xdp_adjust_head));
    fail_if(a, BPF_JNE | BPF_K, BPF_REG_0, 0);
    a->code[too_short].off = (int16_t)(a->n - too_short - 1);
    a->code[other_protocol].off = (int16_t)(a->n - other_protocol - 1);
    a->code[other_type].off = (int16_t)(a->n - other_type - 1);
}

/* Leaves r7 and r8 before the frame, where user space finds them. */
static void emit_leave_times(struct assembly *a)
{
    emit(a, MOV(BPF_REG_1, BPF_REG_6));
    emit(a, MOVI(BPF_REG_2, -META));
    emit(a, CALL(BPF_FUNC_xdp_adjust_meta));
    fail_if(a, BPF_JNE | BPF_K, BPF_REG_0, 0);
    emit(a, LOAD(BPF_W, BPF_REG_2, BPF_REG_6, offsetof(struct xdp_md, data_meta)));
    emit(a, LOAD(BPF_W, BPF_REG_3, BPF_REG_6, offsetof(struct xdp_md, data)));
    emit(a, MOV(BPF_REG_4, BPF_REG_2));
    emit(a, ALUI(BPF_ADD, BPF_REG_4, META));
    fail_if(a, BPF_JGT | BPF_X, BPF_REG_4, BPF_REG_3);
    emit(a, STORE(BPF_DW, BPF_REG_2, 0, BPF_REG_7));
    emit(a, STORE(BPF_DW, BPF_REG_2, 8, BPF_REG_8));
}

static void assemble(struct assembly *a, enum times times, int map, int failures)
{
    unsigned absent;

    *a = (struct assembly){.n = 0};
    emit(a, MOV(BPF_REG_6, BPF_REG_1));
    if (times == TIMES_KERNEL) {
        emit(a, CALL(BPF_FUNC_ktime_get_ns));
        emit(a, MOV(BPF_REG_7, BPF_REG_0));
        emit(a, MOVI(BPF_REG_8, 0));
    } else if (times == TIMES_SENDER) {
        emit_take_times(a);
    }
    if (times != TIMES_BURST)
        emit_leave_times(a);
    emit_map(a, BPF_REG_1, map);
    emit(a, LOAD(BPF_W, BPF_REG_2, BPF_REG_6, offsetof(struct xdp_md, rx_queue_index)));
    emit(a, MOVI(BPF_REG_3, XDP_PASS));
    emit(a, CALL(BPF_FUNC_redirect_map));
    emit(a, EXIT());
    if (!a->nfail)
        return;
    /* The driver has no room for metadata: the frame is lost, and counted. */
    for (unsigned i = 0; i < a->nfail; i++)
        a->code[a->to_fail[i]].off = (int16_t)(a->n - a->to_fail[i] - 1);
    emit(a, INSN(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, -4, 0));
    emit_map(a, BPF_REG_1, failures);
    emit(a, MOV(BPF_REG_2, BPF_REG_10));
    emit(a, ALUI(BPF_ADD, BPF_REG_2, -4));
    emit(a, CALL(BPF_FUNC_map_lookup_elem));
    absent = a->n;
    emit(a, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 0, 0));
    emit(a, MOVI(BPF_REG_1, 1));
    emit(a, INSN(BPF_STX | BPF_ATOMIC | BPF_DW, BPF_REG_0, BPF_REG_1, 0, BPF_ADD));
    a->code[absent].off = (int16_t)(a->n - absent - 1);
    emit(a, MOVI(BPF_REG_0, XDP_DROP));
    emit(a, EXIT());
}

#endif

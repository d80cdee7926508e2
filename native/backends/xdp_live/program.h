/* SPDX-License-Identifier: Apache-2.0
 *
 * The program that the kernel runs on its own frames: fills each from the table of ours and sends it on.
 */
#ifndef FLOWPARITY_XDP_LIVE_PROGRAM_H
#define FLOWPARITY_XDP_LIVE_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../bpf_insn.h"

#define TABLE   (1u << 26) /* octets of frames, a power of two; the map has room for one frame more, so that the verifier sees no end */
#define PAGE    4096u
#define LONGEST 3400u /* a page less headroom and the kernel's own end of a frame */
#define ENCAPSULATION 34u
#define WORD(member)  ((int)offsetof(struct state, member))

/* What program and user space share; 64-bit words at these places. */
struct state {
    uint64_t next;   /* sent of this flush */
    uint64_t count;  /* to be sent in this flush */
    uint64_t at;     /* where in the table the next frame stands */
    uint64_t end;    /* where the last one ends */
    uint64_t start;  /* CLOCK_MONOTONIC of the first frame of all; 0 = no schedule */
    uint64_t gap;    /* ns between frames, times 65,536 */
    uint64_t before; /* sent in earlier flushes */
    uint64_t worst;  /* lateness, ns */
    uint64_t last;   /* CLOCK_MONOTONIC when the last frame left; under a schedule only */
    uint64_t failed; /* frames that the program could not make */
};

/* A frame in the table; the next one begins at the next multiple of 8. */
struct slot {
    uint64_t len;
    uint8_t data[];
};

enum into { INTO_PEER, INTO_STACK, INTO_NOTHING };

/* What a program is to do, with the maps that it uses. */
struct plan {
    enum into into;
    int ifindex; /* INTO_PEER: where it sends */
    bool scheduled;
    int table_map, state_map;
};

struct assembly {
    struct bpf_insn code[96];
    unsigned n;
    unsigned idle[6], nidle;
    unsigned bad[6], nbad;
};

static unsigned emit(struct assembly *a, struct bpf_insn insn)
{
    a->code[a->n] = insn;
    return a->n++;
}

/* Jumps, when the test holds, to where nothing is sent. */
static void idle_if(struct assembly *a, uint8_t test, uint8_t dst, uint8_t src, int imm)
{
    a->idle[a->nidle++] = emit(a, INSN(BPF_JMP | test, dst, src, 0, imm));
}

static void bad_if(struct assembly *a, uint8_t test, uint8_t dst, uint8_t src, int imm)
{
    a->bad[a->nbad++] = emit(a, INSN(BPF_JMP | test, dst, src, 0, imm));
}

/* reg = the address of the map's one element, which needs no look-up. */
static void emit_address(struct assembly *a, uint8_t reg, int map)
{
    emit(a, INSN(BPF_LD | BPF_DW | BPF_IMM, reg, BPF_PSEUDO_MAP_VALUE, 0, map));
    emit(a, INSN(0, 0, 0, 0, 0));
}

/* r6 = context, r7 = state, r8 = next: goes on only when the schedule says so. */
static void emit_schedule(struct assembly *a)
{
    unsigned early, not_worst;

    emit(a, LOAD(BPF_DW, BPF_REG_9, BPF_REG_7, WORD(start)));
    emit(a, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, WORD(before)));
    emit(a, ALU(BPF_ADD, BPF_REG_1, BPF_REG_8));
    emit(a, LOAD(BPF_DW, BPF_REG_2, BPF_REG_7, WORD(gap)));
    emit(a, ALU(BPF_MUL, BPF_REG_1, BPF_REG_2));
    emit(a, ALUI(BPF_RSH, BPF_REG_1, 16));
    emit(a, ALU(BPF_ADD, BPF_REG_9, BPF_REG_1)); /* due */
    emit(a, CALL(BPF_FUNC_ktime_get_ns));
    early = emit(a, INSN(BPF_JMP | BPF_JLT | BPF_X, BPF_REG_0, BPF_REG_9, 0, 0));
    a->idle[a->nidle++] = early;
    emit(a, STORE(BPF_DW, BPF_REG_7, WORD(last), BPF_REG_0));
    emit(a, ALU(BPF_SUB, BPF_REG_0, BPF_REG_9));
    emit(a, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, WORD(worst)));
    not_worst = emit(a, INSN(BPF_JMP | BPF_JLE | BPF_X, BPF_REG_0, BPF_REG_1, 0, 0));
    emit(a, STORE(BPF_DW, BPF_REG_7, WORD(worst), BPF_REG_0));
    a->code[not_worst].off = (int16_t)(a->n - not_worst - 1);
}

/* r9 = the frame that is due, r8 = its length; the state goes on to the one after it. */
static void emit_take_frame(struct assembly *a, const struct plan *p)
{
    unsigned more;

    emit(a, ALUI(BPF_ADD, BPF_REG_8, 1));
    emit(a, STORE(BPF_DW, BPF_REG_7, WORD(next), BPF_REG_8));
    emit(a, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, WORD(at)));
    emit(a, ALUI(BPF_AND, BPF_REG_1, TABLE - 1));
    emit_address(a, BPF_REG_9, p->table_map);
    emit(a, ALU(BPF_ADD, BPF_REG_9, BPF_REG_1));
    emit(a, LOAD(BPF_DW, BPF_REG_8, BPF_REG_9, 0));
    emit(a, ALU(BPF_ADD, BPF_REG_1, BPF_REG_8));
    emit(a, ALUI(BPF_ADD, BPF_REG_1, 8 + 7));
    emit(a, ALUI(BPF_AND, BPF_REG_1, ~7));
    emit(a, LOAD(BPF_DW, BPF_REG_2, BPF_REG_7, WORD(end)));
    more = emit(a, INSN(BPF_JMP | BPF_JLT | BPF_X, BPF_REG_1, BPF_REG_2, 0, 0));
    emit(a, MOVI(BPF_REG_1, 0));
    a->code[more].off = (int16_t)(a->n - more - 1);
    emit(a, STORE(BPF_DW, BPF_REG_7, WORD(at), BPF_REG_1));
    bad_if(a, BPF_JLT | BPF_K, BPF_REG_8, 0, 14);
    bad_if(a, BPF_JGT | BPF_K, BPF_REG_8, 0, LONGEST + ENCAPSULATION);
}

/* The kernel's frame gets the length and the octets of ours. It is one of a batch that goes round, so it often has the length already. */
static void emit_fill_frame(struct assembly *a)
{
    unsigned fits;

    emit(a, LOAD(BPF_W, BPF_REG_1, BPF_REG_6, offsetof(struct xdp_md, data)));
    emit(a, LOAD(BPF_W, BPF_REG_3, BPF_REG_6, offsetof(struct xdp_md, data_end)));
    emit(a, ALU(BPF_SUB, BPF_REG_3, BPF_REG_1));
    emit(a, MOV(BPF_REG_2, BPF_REG_8));
    emit(a, ALU(BPF_SUB, BPF_REG_2, BPF_REG_3));
    fits = emit(a, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_2, 0, 0, 0));
    emit(a, MOV(BPF_REG_1, BPF_REG_6));
    emit(a, CALL(BPF_FUNC_xdp_adjust_tail));
    bad_if(a, BPF_JNE | BPF_K, BPF_REG_0, 0, 0);
    a->code[fits].off = (int16_t)(a->n - fits - 1);
    emit(a, MOV(BPF_REG_1, BPF_REG_6));
    emit(a, MOVI(BPF_REG_2, 0));
    emit(a, MOV(BPF_REG_3, BPF_REG_9));
    emit(a, ALUI(BPF_ADD, BPF_REG_3, offsetof(struct slot, data)));
    emit(a, MOV(BPF_REG_4, BPF_REG_8));
    emit(a, CALL(BPF_FUNC_xdp_store_bytes));
    bad_if(a, BPF_JNE | BPF_K, BPF_REG_0, 0, 0);
}

static void assemble(struct assembly *a, const struct plan *p)
{
    *a = (struct assembly){.n = 0};
    emit(a, MOV(BPF_REG_6, BPF_REG_1));
    emit_address(a, BPF_REG_7, p->state_map);
    emit(a, LOAD(BPF_DW, BPF_REG_8, BPF_REG_7, WORD(next)));
    emit(a, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, WORD(count)));
    idle_if(a, BPF_JGE | BPF_X, BPF_REG_8, BPF_REG_1, 0);
    if (p->scheduled)
        emit_schedule(a);
    emit_take_frame(a, p);
    emit_fill_frame(a);
    if (p->into == INTO_PEER) {
        emit(a, MOVI(BPF_REG_1, p->ifindex));
        emit(a, MOVI(BPF_REG_2, 0));
        emit(a, CALL(BPF_FUNC_redirect));
    } else {
        emit(a, MOVI(BPF_REG_0, p->into == INTO_STACK ? XDP_PASS : XDP_DROP));
    }
    emit(a, EXIT());
    for (unsigned i = 0; i < a->nbad; i++)
        a->code[a->bad[i]].off = (int16_t)(a->n - a->bad[i] - 1);
    emit(a, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, WORD(failed)));
    emit(a, ALUI(BPF_ADD, BPF_REG_1, 1));
    emit(a, STORE(BPF_DW, BPF_REG_7, WORD(failed), BPF_REG_1));
    for (unsigned i = 0; i < a->nidle; i++)
        a->code[a->idle[i]].off = (int16_t)(a->n - a->idle[i] - 1);
    emit(a, MOVI(BPF_REG_0, XDP_DROP));
    emit(a, EXIT());
}

#endif

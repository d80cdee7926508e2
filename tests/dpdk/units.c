/* SPDX-License-Identifier: Apache-2.0
 *
 * The plug-in's arithmetic by itself: the software Toeplitz hash against DPDK's own, and the calibration of a NIC's ticks against a clock
 * that the test turns. Prints one line for each check, `ok NAME` or `not ok NAME: …`, and ends with 1 if one failed.
 */
#define ALLOW_EXPERIMENTAL_API

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_thash.h>

#include "clock.h"
#include "toeplitz.h"

static int failed;

static void check(bool good, const char *name, int64_t got, int64_t want)
{
    if (good)
        printf("ok %s\n", name);
    else
        printf("not ok %s: got %" PRId64 ", want %" PRId64 "\n", name, got, want);
    failed |= !good;
}

static uint32_t theirs(uint32_t *words, unsigned count)
{
    uint8_t key[40];

    for (unsigned i = 0; i < sizeof(key); i++)
        key[i] = i & 1 ? 0x5a : 0x6d;
    return rte_softrss(words, count, key);
}

static void toeplitz_as_dpdk(void)
{
    uint8_t frame[74] = {[12] = 8, [14] = 0x45, [23] = 6};
    uint32_t words[3] = {0};

    srand(5);
    for (int round = 0; round < 1000; round++) {
        for (int i = 26; i < 38; i++)
            frame[i] = (uint8_t)rand();
        for (int w = 0; w < 3; w++)
            words[w] = toeplitz_u32(frame + 26 + 4 * w);
        uint32_t got = toeplitz_hash(frame, 60), want = theirs(words, 3);
        if (got != want || round == 999) {
            check(got == want, "toeplitz-ipv4-tcp", got, want);
            break;
        }
    }
    uint32_t forth = toeplitz_hash(frame, 60);
    for (int i = 0; i < 4; i++) {
        uint8_t swap = frame[26 + i];
        frame[26 + i] = frame[30 + i];
        frame[30 + i] = swap;
    }
    for (int i = 0; i < 2; i++) {
        uint8_t swap = frame[34 + i];
        frame[34 + i] = frame[36 + i];
        frame[36 + i] = swap;
    }
    check(toeplitz_hash(frame, 60) == forth, "toeplitz-symmetric", toeplitz_hash(frame, 60), forth);
    frame[20] = 0x20; /* more fragments: addresses only */
    words[0] = toeplitz_u32(frame + 26);
    words[1] = toeplitz_u32(frame + 30);
    check(toeplitz_hash(frame, 60) == theirs(words, 2), "toeplitz-fragment", toeplitz_hash(frame, 60), theirs(words, 2));
    check(toeplitz_hash(frame, 30) == 0, "toeplitz-cut", toeplitz_hash(frame, 30), 0);

    uint8_t six[78] = {[12] = 0x86, 0xDD, 0x60, [20] = 17};
    uint32_t nine[9];
    for (int i = 22; i < 58; i++)
        six[i] = (uint8_t)rand();
    for (int w = 0; w < 9; w++)
        nine[w] = toeplitz_u32(six + 22 + 4 * w);
    check(toeplitz_hash(six, 78) == theirs(nine, 9), "toeplitz-ipv6-udp", toeplitz_hash(six, 78), theirs(nine, 9));
    uint8_t arp[60] = {[12] = 8, 6};
    check(toeplitz_hash(arp, 60) == 0, "toeplitz-not-ip", toeplitz_hash(arp, 60), 0);
}

/* A device clock of 156.25 MHz that is 40 ppm fast, and the wall clock beside it. */
static int64_t wall = 1700000000000000000;
static const double ticks_per_ns = 0.15625 * 1.00004;

static int64_t turn(clockid_t id)
{
    (void)id;
    return wall;
}

static uint64_t device_at(int64_t ns)
{
    return UINT64_C(123456789) + (uint64_t)((double)(ns - 1700000000000000000) * ticks_per_ns);
}

static int device_read(void *device, uint64_t *tick)
{
    (void)device;
    *tick = device_at(wall);
    wall += 700; /* reading takes a while */
    return 0;
}

static int device_broken(void *device, uint64_t *tick)
{
    (void)device, (void)tick;
    return -95;
}

static void ticks_follow(void)
{
    struct ticks t = {0};
    int64_t worst = 0;

    check(ticks_calibrate(&t, device_broken, NULL, turn) == -95, "ticks-unreadable", 0, -95);
    ticks_calibrate(&t, device_read, NULL, turn);
    wall += 100000000;
    for (int second = 0; second < 60; second++) {
        ticks_calibrate(&t, device_read, NULL, turn);
        for (int64_t later = 0; later <= 1000000000; later += 100000000) {
            int64_t error = ticks_to_ns(&t, device_at(wall + later)) - (wall + later);
            worst = error < 0 ? (-error > worst ? -error : worst) : (error > worst ? error : worst);
        }
        wall += 1000000000;
    }
    check(worst < 2000, "ticks-within-2us-of-the-wall", worst, 2000);
    int64_t before = ticks_to_ns(&t, t.tick - 1000);
    check(before < t.ns && before > t.ns - 10000, "ticks-before-the-reading", before, t.ns);
}

int main(void)
{
    toeplitz_as_dpdk();
    ticks_follow();
    return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sim_illegal(const char *framework, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "%s stand-in: illegal use: %s\n", framework, text);
    abort();
}

uint64_t sim_roll(uint64_t *state, uint64_t below)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return below == 0 ? z : z % below;
}

void sim_feed_put(struct sim_feed *feed, const uint8_t *data, uint32_t len, uint32_t wirelen, int64_t ns, bool more)
{
    struct sim_frame *frame = malloc(sizeof *frame + len);
    if (frame == NULL)
        sim_illegal("the", "it ran out of memory itself");
    *frame = (struct sim_frame){.ns = ns, .len = len, .wirelen = wirelen, .more = more};
    memcpy(frame->data, data, len);
    if (feed->first == NULL)
        feed->first = frame;
    else
        feed->last->next = frame;
    feed->last = frame;
}

struct sim_frame *sim_feed_take(struct sim_feed *feed)
{
    struct sim_frame *frame = feed->first;
    if (frame != NULL)
        feed->first = frame->next;
    return frame;
}

void sim_feed_clear(struct sim_feed *feed)
{
    for (struct sim_frame *frame; (frame = sim_feed_take(feed)) != NULL;)
        free(frame);
}

void sim_feed_join(struct sim_feed *to, struct sim_feed *from)
{
    if (from->first == NULL)
        return;
    if (to->first == NULL)
        to->first = from->first;
    else
        to->last->next = from->first;
    to->last = from->last;
    *from = (struct sim_feed){0};
}

unsigned sim_ring_of(const uint8_t *d, uint32_t len, unsigned rings)
{
    uint32_t at = 12, sum = 0;
    while (at + 4 <= len &&
           ((d[at] == 0x81 && d[at + 1] == 0) || (d[at] == 0x88 && d[at + 1] == 0xA8) || (d[at] == 0x91 && d[at + 1] == 0)))
        at += 4;
    bool four = at + 2 + 20 <= len && d[at] == 8 && d[at + 1] == 0, six = at + 2 + 40 <= len && d[at] == 0x86 && d[at + 1] == 0xDD;
    if (!four && !six)
        return 0;
    const uint8_t *addresses = d + at + 2 + (four ? 12 : 8);
    for (unsigned i = 0; i < (four ? 8u : 32u); i++)
        sum += addresses[i];
    return sum % rings;
}

static uint32_t word(const uint8_t *p, bool swap)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return swap ? __builtin_bswap32(v) : v;
}

void sim_read_capture(const char *path, struct sim_feed *feeds, unsigned rings)
{
    FILE *file = fopen(path, "rb");
    uint8_t header[24], record[16], *data = malloc(SIM_LONGEST);
    if (file == NULL || data == NULL || fread(header, sizeof header, 1, file) != 1)
        sim_illegal("the", "it cannot read the capture %s", path);
    bool swap = word(header, false) == 0xD4C3B2A1 || word(header, false) == 0x4D3CB2A1;
    bool nano = word(header, swap) == 0xA1B23C4D;
    if (!nano && word(header, swap) != 0xA1B2C3D4)
        sim_illegal("the", "%s is not a classic pcap file", path);
    while (fread(record, sizeof record, 1, file) == 1) {
        uint32_t len = word(record + 8, swap);
        if (len > SIM_LONGEST || fread(data, 1, len, file) != len)
            sim_illegal("the", "%s ends inside a frame", path);
        int64_t ns = word(record, swap) * INT64_C(1000000000) + word(record + 4, swap) * (nano ? 1 : 1000);
        sim_feed_put(&feeds[sim_ring_of(data, len, rings)], data, len, word(record + 12, swap), ns, false);
    }
    free(data);
    fclose(file);
}

void sim_settings(char *text, void (*set)(const char *key, const char *value, unsigned long number))
{
    for (char *pair; (pair = strsep(&text, ",\n")) != NULL;) {
        char *value = strchr(pair, '=');
        if (value == NULL)
            continue;
        *value++ = '\0';
        set(pair, value, strtoul(value, NULL, 0));
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The device that all names mean: its settings, its queues and their frames.
 */
#include "sim.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEMO_PACKETS 100
#define USER_HANDLES 80

struct sim sim = {.lock = PTHREAD_MUTEX_INITIALIZER, .live = -1};

SIM_PUBLIC const int fp_pfring_sim = 1; /* how a backend knows that it runs over the stand-in */

bool sim_failing(const char *what)
{
    return strcmp(sim.fail, what) == 0;
}

bool sim_expired(void)
{
    return sim_failing("DEMO") && sim.delivered >= DEMO_PACKETS;
}

void sim_doze(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

static void set(const char *key, const char *value, unsigned long number)
{
    if (strcmp(key, "capture") == 0)
        snprintf(sim.capture, sizeof sim.capture, "%s", value);
    else if (strcmp(key, "device") == 0)
        snprintf(sim.device, sizeof sim.device, "%s", value);
    else if (strcmp(key, "fail") == 0)
        snprintf(sim.fail, sizeof sim.fail, "%s", value);
    else if (strcmp(key, "queues") == 0)
        sim.queues = number >= 1 && number <= SIM_MAX_QUEUES ? (unsigned)number : 1;
    else if (strcmp(key, "seed") == 0)
        sim.random = number;
    else if (strcmp(key, "drop") == 0)
        sim.drop = number;
    else if (strcmp(key, "pool") == 0)
        sim.pool = number;
    else if (strcmp(key, "traps") == 0)
        sim.traps = number != 0;
    else if (strcmp(key, "strict") == 0)
        sim.strict = number != 0;
}

/* The defaults, what the environment says, and what the file says if the device is named by one; then the capture, from its beginning.
 * Returns false if there is no such file. */
static bool settle(const char *path)
{
    char text[8192];
    for (unsigned q = 0; q < SIM_MAX_QUEUES; q++)
        sim_feed_clear(&sim.feeds[q]);
    sim.strict = sim.traps = true;
    sim.queues = 1, sim.random = 1, sim.drop = sim.delivered = 0, sim.pool = USER_HANDLES;
    sim.capture[0] = sim.fail[0] = '\0';
    strcpy(sim.device, "sim0");
    const char *environment = getenv("FLOWPARITY_PFRING_SIM");
    snprintf(text, sizeof text, "%s", environment == NULL ? "" : environment);
    sim_settings(text, set);
    if (path != NULL) {
        FILE *file = fopen(path, "r");
        if (file == NULL)
            return false;
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
        sim_settings(text, set);
        snprintf(sim.device, sizeof sim.device, "%s", path);
    }
    if (sim.capture[0] != '\0')
        sim_read_capture(sim.capture, sim.feeds, sim.queues);
    return true;
}

void sim_start(void)
{
    if (!sim.ready)
        settle(NULL);
    sim.ready = true;
}

static bool idle(void)
{
    for (unsigned q = 0; q < SIM_MAX_QUEUES; q++)
        if (sim.taken[q])
            return false;
    return true;
}

/* Makes the device that of an interface: what arrives there from now on. Returns 0 or an errno. */
static int follow(const char *interface)
{
    settle(NULL);
    for (unsigned q = 0; q < SIM_MAX_QUEUES; q++)
        sim_feed_clear(&sim.feeds[q]);
    snprintf(sim.device, sizeof sim.device, "%s", interface);
    sim.index = if_nametoindex(interface);
    sim.live = sim_live_open(interface);
    return sim.live < 0 ? -sim.live : 0;
}

static int queue_called(const char *name, bool zero_copy)
{
    bool driver = strncmp(name, "zc:", 3) == 0;
    if (sim_failing("EPERM") || sim_failing("ENODEV"))
        return sim_failing("EPERM") ? -EPERM : -ENODEV;
    if (sim_failing("EBUSY")) /* that of a cluster comes before */
        return -EBUSY;
    if (driver && (sim_failing("ENOTSOCK") || !zero_copy))
        return -ENOTSOCK;
    name += driver ? 3 : 0;
    char device[256];
    size_t length = strcspn(name, "@");
    snprintf(device, sizeof device, "%.*s", (int)length, name);
    if (idle() && device[0] == '/' && !settle(device))
        return -ENODEV;
    if (idle())
        sim.driver = driver;
    if (idle() && strcmp(device, sim.device) != 0 && if_nametoindex(device) != 0) {
        int code = follow(device);
        if (code != 0)
            return -code;
    }
    unsigned long queue = name[length] == '@' ? strtoul(name + length + 1, NULL, 10) : 0;
    if (strcmp(device, sim.device) != 0 || queue >= sim.queues)
        return zero_copy ? -ENODEV : -EINVAL; /* so says the module */
    if (sim.taken[queue])
        return -EBUSY;
    if (name[length] == '\0') { /* without @N a device is all its queues */
        for (unsigned q = 1; q < sim.queues; q++)
            sim_feed_join(&sim.feeds[0], &sim.feeds[q]);
        sim.queues = 1;
    }
    return (int)queue;
}

int sim_claim(const char *name, bool zero_copy)
{
    int queue = queue_called(name, zero_copy);
    if (queue < 0) {
        errno = -queue;
        return -1;
    }
    sim.taken[queue] = true;
    return queue;
}

void sim_disclaim(unsigned queue)
{
    if (!sim.taken[queue])
        illegal("queue %u is closed a second time", queue);
    sim.taken[queue] = false;
    if (idle() && sim.live >= 0) {
        close(sim.live);
        sim.live = -1;
        sim.device[0] = '\0';
    }
}

static void feed_live(void)
{
    if (sim.live >= 0)
        sim_live_read(sim.live, sim.feeds, sim.queues, !sim.driver);
}

unsigned sim_waiting(unsigned queue)
{
    unsigned count = 0;
    feed_live();
    for (const struct sim_frame *frame = sim.feeds[queue].first; frame != NULL; frame = frame->next)
        count++;
    return count;
}

struct sim_frame *sim_next(unsigned queue, uint64_t *dropped)
{
    feed_live();
    if (sim.live >= 0)
        *dropped += sim_live_lost(sim.live);
    for (;;) {
        struct sim_frame *frame = sim_feed_take(&sim.feeds[queue]);
        if (frame == NULL || sim.drop == 0)
            return frame;
        sim.drop--;
        ++*dropped;
        free(frame);
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What became of redirected frames. The kernel tells that only in the interface's own counters, and for a peer that does not poll nowhere.
 */
#ifndef FLOWPARITY_XDP_LIVE_COUNTERS_H
#define FLOWPARITY_XDP_LIVE_COUNTERS_H

#include <inttypes.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <stdio.h>

#include "../linux_interface.h"

/* The sum of what the interface could not send on: the only place where a redirection into a full or sleeping veth shows. */
static uint64_t transmit_errors(const struct li_interface *i)
{
    struct ethtool_sset_info *set = calloc(1, sizeof *set + 4);
    struct ethtool_gstrings *names = NULL;
    struct ethtool_stats *values = NULL;
    struct ifreq ifr = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint64_t sum = 0;
    uint32_t n;

    if (fd < 0 || !set)
        goto out;
    strcpy(ifr.ifr_name, i->name);
    *set = (struct ethtool_sset_info){.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ull << ETH_SS_STATS};
    ifr.ifr_data = (char *)set;
    if (ioctl(fd, SIOCETHTOOL, &ifr) || !set->sset_mask)
        goto out;
    n = set->data[0];
    names = calloc(1, sizeof *names + (size_t)n * ETH_GSTRING_LEN);
    values = calloc(1, sizeof *values + (size_t)n * sizeof(uint64_t));
    if (!names || !values)
        goto out;
    *names = (struct ethtool_gstrings){.cmd = ETHTOOL_GSTRINGS, .string_set = ETH_SS_STATS, .len = n};
    ifr.ifr_data = (char *)names;
    if (ioctl(fd, SIOCETHTOOL, &ifr))
        goto out;
    *values = (struct ethtool_stats){.cmd = ETHTOOL_GSTATS, .n_stats = n};
    ifr.ifr_data = (char *)values;
    if (ioctl(fd, SIOCETHTOOL, &ifr))
        goto out;
    for (uint32_t k = 0; k < n; k++)
        if (strstr((const char *)names->data + (size_t)k * ETH_GSTRING_LEN, "xdp_xmit_errors"))
            sum += values->data[k];
out:
    free(values);
    free(names);
    free(set);
    if (fd >= 0)
        close(fd);
    return sum;
}

static bool is_veth(const struct li_interface *i)
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    struct ifreq ifr = {.ifr_data = (char *)&info};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool yes;

    strcpy(ifr.ifr_name, i->name);
    yes = fd >= 0 && ioctl(fd, SIOCETHTOOL, &ifr) == 0 && !strcmp(info.driver, "veth");
    if (fd >= 0)
        close(fd);
    return yes;
}

/* Frames that the interface sent. A veth counts a redirected frame when its peer takes it out of the queue. */
static uint64_t transmitted(const struct li_interface *i)
{
    FILE *f = fopen("/proc/thread-self/net/dev", "re");
    char line[512], name[64];
    uint64_t sent = 0, n;

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, " %63[^:]: %*u %*u %*u %*u %*u %*u %*u %*u %*u %" SCNu64, name, &n) == 2 && !strcmp(name, i->name))
            sent = n;
    if (f)
        fclose(f);
    return sent;
}

#endif

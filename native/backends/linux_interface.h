/* SPDX-License-Identifier: Apache-2.0
 *
 * A network interface as every backend of the live kernel sees it. Static functions only, so that each plug-in stays one object without
 * unresolved symbols.
 */
#ifndef FLOWPARITY_LINUX_INTERFACE_H
#define FLOWPARITY_LINUX_INTERFACE_H

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "flowparity/backend.h"

struct li_interface {
    const char *name;
    int index;
};

static inline int64_t li_now(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The interface must exist, be up and speak Ethernet. */
static inline int li_open(const struct fp_host *host, struct li_interface *i, char *err)
{
    struct ifreq ifr = {0};
    int fd, rc = 0;

    if (!*i->name || strlen(i->name) >= sizeof ifr.ifr_name)
        return host->fail(err, -ENODEV, "interface '%s': no such interface; 'ip link' lists them", i->name);
    strcpy(ifr.ifr_name, i->name);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return host->fail(err, -errno, "interface %s: no socket to look at it: %s", i->name, strerror(errno));
    i->index = (int)if_nametoindex(i->name);
    if (!i->index) {
        rc = host->fail(err, -ENODEV, "interface %s: no such interface; 'ip link' lists them", i->name);
        goto out_fd;
    }
    if (ioctl(fd, SIOCGIFHWADDR, &ifr) == 0 && ifr.ifr_hwaddr.sa_family != 1 /* ARPHRD_ETHER */ &&
        ifr.ifr_hwaddr.sa_family != 772 /* ARPHRD_LOOPBACK */) {
        rc = host->fail(err, -EPROTONOSUPPORT, "interface %s: not Ethernet (hardware type %u); choose another", i->name,
                        ifr.ifr_hwaddr.sa_family);
        goto out_fd;
    }
    if (ioctl(fd, SIOCGIFFLAGS, &ifr) == 0 && !(ifr.ifr_flags & IFF_UP))
        rc = host->fail(err, -ENETDOWN, "interface %s: it is down; 'ip link set %s up'", i->name, i->name);
out_fd:
    close(fd);
    return rc;
}

/* Whether the interface takes VLAN tags out of the frames that it receives and keeps them beside. */
static inline bool li_takes_tags(const struct li_interface *i)
{
    struct ethtool_value flags = {.cmd = ETHTOOL_GFLAGS};
    struct ifreq ifr = {.ifr_data = (char *)&flags};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool takes;

    strcpy(ifr.ifr_name, i->name);
    takes = fd >= 0 && ioctl(fd, SIOCETHTOOL, &ifr) == 0 && flags.data & ETH_FLAG_RXVLAN;
    if (fd >= 0)
        close(fd);
    return takes;
}

/* After an error on a socket: 0 when the interface is still there (it may come up again), else -EIO. */
static inline int li_still_there(const struct fp_host *host, const struct li_interface *i, int fd, char *err)
{
    struct ifreq ifr = {.ifr_ifindex = i->index};
    int pending = 0;
    socklen_t len = sizeof pending;

    getsockopt(fd, SOL_SOCKET, SO_ERROR, &pending, &len);
    if (ioctl(fd, SIOCGIFNAME, &ifr) == 0)
        return 0;
    return host->fail(err, -EIO, "interface %s: it was removed; start again when it is back", i->name);
}

/* An unsigned number within [low, high]; anything else is -EINVAL. */
static inline int li_number(const struct fp_host *host, const char *backend, const struct fp_option *o, unsigned long low,
                            unsigned long high, unsigned long *out, char *err)
{
    char *end;

    errno = 0;
    *out = strtoul(o->value, &end, 10);
    if (errno || end == o->value || *end || o->value[0] == '-' || *out < low || *out > high)
        return host->fail(err, -EINVAL, "backend %s: option %s=%s is not a number from %lu to %lu", backend, o->key, o->value, low, high);
    return 0;
}

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Wakes the thread in which librte_vhost polls its sockets. That thread looks for up to a second at the set of sockets that it knew when it
 * went to sleep: a fresh listening socket accepts late, and a closed connection stays open for the peer. A connection of our own to a
 * socket of our own ends its sleep whenever something is sent on it.
 */
#ifndef FP_DPDK_VHOST_H
#define FP_DPDK_VHOST_H

#include <sys/socket.h>
#include <sys/un.h>

#include <rte_vhost.h>

#include "eal.h"

#define VHOST_USER_ASK 1 /* vhost-user: a harmless request (VHOST_USER_GET_FEATURES), with an answer of 20 octets */

static int vhost_alarm = -1; /* the connection; under eal.lock */

static void vhost_alarm_open(void)
{
    static const struct rte_vhost_device_ops none;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char directory[] = "/tmp/flowparity-vhost-XXXXXX";

    if (vhost_alarm >= 0 || !mkdtemp(directory))
        return;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/alarm", directory);
    if (rte_vhost_driver_register(address.sun_path, 0) == 0) {
        rte_vhost_driver_callback_register(address.sun_path, &none);
        vhost_alarm = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (rte_vhost_driver_start(address.sun_path) < 0 || connect(vhost_alarm, (struct sockaddr *)&address, sizeof(address)) < 0) {
            close(vhost_alarm);
            vhost_alarm = -1;
        }
    }
    unlink(address.sun_path); /* the connection stays */
    rmdir(directory);
}

static void vhost_wake(void)
{
    static const uint32_t request[3] = {VHOST_USER_ASK, 1, 0}; /* request, version, payload size */
    char answer[256];

    if (vhost_alarm < 0)
        return;
    while (recv(vhost_alarm, answer, sizeof(answer), MSG_DONTWAIT) > 0)
        ;
    (void)!send(vhost_alarm, request, sizeof(request), MSG_DONTWAIT | MSG_NOSIGNAL);
}

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Export over a connected UDP socket. Runs of datagrams of one length go out in one call by segmentation offload where the kernel has it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "clock.h"
#include "loader.h"
#include "mutant.h"
#include "transport.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define BATCH      32u
#define GSO_OCTETS 60000u
#define BLOCK_MS   1000

struct udp {
    struct fp_transport base;
    int fd;
    bool block;
    bool gso;
    uint32_t pace;
    int64_t due;            /* CLOCK_MONOTONIC, when the next datagram may leave */
    struct fp_refused last; /* what the last call that sent anything sent */
};

/* A refusal that a call reports is that of what a call before sent; nothing of this one has left. Whether to send again: every refusal is
 * told once, so `tries` only guards against what cannot be. */
static bool refused(struct udp *u, int error, unsigned *tries)
{
    struct fp_refused *r = &u->base.refused;

    if (error != ECONNREFUSED || ++*tries > BATCH)
        return false;
    r->datagrams += u->last.datagrams;
    r->flows += u->last.flows;
    r->packets += u->last.packets;
    r->octets += u->last.octets;
    u->last = (struct fp_refused){0};
    return true;
}

static void note_sent(struct udp *u, struct fp_message *messages, unsigned count)
{
    u->last = (struct fp_refused){.datagrams = count};
    for (unsigned i = 0; i < count; i++) {
        messages[i].sent = true;
        u->last.flows += messages[i].flows;
        u->last.packets += messages[i].packets;
        u->last.octets += messages[i].length;
    }
}

static void pace(struct udp *u, unsigned count)
{
    struct timespec t;
    int64_t now;

    if (!u->pace)
        return;
    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (int64_t)t.tv_sec * FP_SECOND + t.tv_nsec;
    if (u->due < now)
        u->due = now;
    t = (struct timespec){.tv_sec = u->due / FP_SECOND, .tv_nsec = u->due % FP_SECOND};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
    u->due += (int64_t)count * FP_SECOND / u->pace;
}

/* Whether to try again after a send failed with `error`. */
static bool again(const struct udp *u, int error)
{
    struct pollfd p = {.fd = u->fd, .events = POLLOUT};

    if (error == EINTR)
        return true;
    if ((error != EAGAIN && error != ENOBUFS) || !u->block)
        return false;
    return poll(&p, 1, BLOCK_MS) > 0;
}

/* One datagram a call, because sendmmsg swallows the error that ends it early. */
static void send_each(struct udp *u, struct fp_message *messages, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned tries = 0;
        ssize_t n;
        do
            n = send(u->fd, messages[i].data, messages[i].length, MSG_NOSIGNAL);
        while (n < 0 && (refused(u, errno, &tries) || again(u, errno)));
        messages[i].sent = false;
        if (n >= 0)
            note_sent(u, messages + i, 1);
    }
}

/* `count` datagrams of one length, the last one perhaps shorter. An error is the fate of them all. False: the kernel cannot, nothing was
 * sent. */
static bool send_segmented(struct udp *u, struct fp_message *messages, unsigned count)
{
    char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct iovec iov[BATCH];
    struct msghdr header = {.msg_iov = iov, .msg_iovlen = count, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    uint16_t length = (uint16_t)messages[0].length;
    unsigned tries = 0;
    ssize_t n;

    for (unsigned i = 0; i < count; i++)
        iov[i] = (struct iovec){.iov_base = (void *)(uintptr_t)messages[i].data, .iov_len = messages[i].length};
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof length);
    memcpy(CMSG_DATA(c), &length, sizeof length);
    do
        n = sendmsg(u->fd, &header, MSG_NOSIGNAL);
    while (n < 0 && (refused(u, errno, &tries) || again(u, errno)));
    if (n < 0 && (errno == EIO || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOPROTOOPT)) {
        u->gso = false;
        return false;
    }
    if (n < 0 && errno == EMSGSIZE)
        return false;
    for (unsigned i = 0; i < count; i++)
        messages[i].sent = false;
    if (n >= 0)
        note_sent(u, messages, count);
    return true;
}

static unsigned run_length(const struct fp_message *messages, unsigned count)
{
    size_t octets = messages[0].length;
    unsigned n = 1;

    while (n < count && messages[n].length <= messages[0].length && octets + messages[n].length <= GSO_OCTETS) {
        octets += messages[n].length;
        n++;
        if (messages[n - 1].length < messages[0].length)
            break;
    }
    return n;
}

static void udp_send(struct fp_transport *t, struct fp_message *messages, unsigned count)
{
    struct udp *u = (struct udp *)t;
    int error = 0;
    socklen_t length = sizeof error;
    unsigned tries = 0;

    if (!count && getsockopt(u->fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0)
        refused(u, error, &tries);
    while (count) {
        unsigned n = u->gso ? run_length(messages, count) : count < BATCH ? count : BATCH;
        if (u->pace && n > 8)
            n = 8;
        pace(u, n);
        if (n < 2 || !u->gso || !send_segmented(u, messages, n))
            send_each(u, messages, n);
        messages += n;
        count -= n;
    }
}

static void udp_close(struct fp_transport *t)
{
    close(((struct udp *)t)->fd);
    free(t);
}

static void note_own(struct udp *u, const struct sockaddr_storage *local, const struct sockaddr_storage *remote)
{
    struct fp_own *own = &u->base.own;

    if (remote->ss_family == AF_INET) {
        const struct sockaddr_in *from = (const void *)local;
        const struct sockaddr_in *to = (const void *)remote;
        own->kind = FP_IPV4;
        own->source[0] = from->sin_addr.s_addr | (uint64_t)to->sin_addr.s_addr << 32;
        own->ports = from->sin_port | (uint32_t)to->sin_port << 16;
    } else {
        const struct sockaddr_in6 *from = (const void *)local;
        const struct sockaddr_in6 *to = (const void *)remote;
        own->kind = FP_IPV6;
        memcpy(own->source, &from->sin6_addr, 16);
        memcpy(own->destination, &to->sin6_addr, 16);
        own->ports = from->sin6_port | (uint32_t)to->sin6_port << 16;
    }
}

static const struct fp_transport_ops ops = {.send = udp_send, .close = udp_close};

int fp_udp_open(const char *host, uint16_t port, bool block, uint32_t pace_dps, struct fp_transport **out, char *err)
{
    struct sockaddr_storage to = {0}, local = {0};
    socklen_t length;
    struct udp *u;
    int buffer = 8 << 20;
    int rc;

    if (inet_pton(AF_INET, host, &((struct sockaddr_in *)(void *)&to)->sin_addr) == 1) {
        to.ss_family = AF_INET;
        ((struct sockaddr_in *)(void *)&to)->sin_port = htons(port);
        length = sizeof(struct sockaddr_in);
    } else if (inet_pton(AF_INET6, host, &((struct sockaddr_in6 *)(void *)&to)->sin6_addr) == 1) {
        to.ss_family = AF_INET6;
        ((struct sockaddr_in6 *)(void *)&to)->sin6_port = htons(port);
        length = sizeof(struct sockaddr_in6);
    } else {
        return fp_host.fail(err, -EINVAL, "collector %s: not a numeric IPv4 or IPv6 address", host);
    }
    u = calloc(1, sizeof *u);
    if (!u)
        return fp_host.fail(err, -ENOMEM, "collector %s: out of memory", host);
    u->base.ops = &ops;
    u->base.overhead = to.ss_family == AF_INET ? 28 : 48;
    u->block = block;
    u->pace = pace_dps;
    u->gso = true;
    u->fd = socket(to.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (u->fd < 0) {
        rc = fp_host.fail(err, -errno, "collector %s: no socket: %s", host, strerror(errno));
        goto out_memory;
    }
    /* Best effort: what the system grants is what there is. */
    if (setsockopt(u->fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer))
        setsockopt(u->fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    if (connect(u->fd, (struct sockaddr *)&to, length)) {
        rc = fp_host.fail(err, -errno, "collector %s port %u: %s", host, port, strerror(errno));
        goto out_socket;
    }
    if (getsockname(u->fd, (struct sockaddr *)&local, &length) == 0)
        note_own(u, &local, &to);
    *out = &u->base;
    return 0;

out_socket:
    close(u->fd);
out_memory:
    free(u);
    return rc;
}

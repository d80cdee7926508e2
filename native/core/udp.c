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
#define PACED      8u /* datagrams that leave together under a pace */
#define GSO_OCTETS 60000u
#define WAIT_MS    50              /* also how late a wish to end may be seen */
#define GRACE      (5 * FP_SECOND) /* of waiting, once the run was asked to end */

struct udp {
    struct fp_transport base;
    int fd;
    bool block;
    bool gso;
    uint32_t pace;
    const bool *asked;
    int64_t due;          /* CLOCK_MONOTONIC, when the next datagram may leave */
    int64_t until;        /* CLOCK_MONOTONIC, when waiting ends; 0 = it does not */
    struct fp_tally last; /* what the last call that sent anything sent; its refusal may still come back */
};

static int64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * FP_SECOND + t.tv_nsec;
}

/* Whether ICMP may have brought this error back from where an earlier datagram went (icmp(7), RFC 1122 section 4.1.3.3, RFC 4443). */
static bool comes_back(int error)
{
    switch (error) {
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENONET:
    case ENOPROTOOPT:
    case EPROTO:
    case EACCES:
        return true;
    default:
        return false;
    }
}

/* Whether waiting has lasted too long after the run was asked to end. */
static bool overdue(struct udp *u)
{
    if (!u->asked || !__atomic_load_n(u->asked, __ATOMIC_ACQUIRE))
        return false;
    if (!u->until)
        u->until = fp_later(clock_ns(), GRACE);
    return clock_ns() >= u->until;
}

static void sleep_until(int64_t due)
{
    struct timespec t = {.tv_sec = due / FP_SECOND, .tv_nsec = due % FP_SECOND};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* Waits until `count` datagrams may leave; false: there is no time for that any more. */
static bool pace(struct udp *u, unsigned count)
{
    int64_t now = clock_ns();

    if (!u->pace)
        return true;
    if (u->due < now)
        u->due = now;
    for (; now < u->due; now = clock_ns()) {
        if (overdue(u))
            return false;
        sleep_until(fp_min(u->due, now + WAIT_MS * FP_MILLISECOND));
    }
    u->due += (int64_t)count * FP_SECOND / u->pace;
    return true;
}

/* Waits a little for room; false: not to be waited for. */
static bool wait_for_room(struct udp *u, int error)
{
    struct pollfd p = {.fd = u->fd, .events = POLLOUT};

    if ((error != EAGAIN && error != ENOBUFS) || !u->block || overdue(u))
        return false;
    if (error == EAGAIN)
        poll(&p, 1, WAIT_MS); /* whatever it says, the next try tells more */
    else
        sleep_until(clock_ns() + FP_MILLISECOND); /* it is not the socket that is full, so no event says when there is room */
    return true;
}

/* One call with `count` messages: 0, or the errno because of which none of them left. An error that may have come back is told by the call
 * after the one that it is about, once, and nothing has left then; what is true of this call itself is told every time. */
static int deliver(struct udp *u, const struct msghdr *header, const struct fp_message *messages, unsigned count)
{
    unsigned told = 0;
    int error;

    do {
        error = sendmsg(u->fd, header, MSG_NOSIGNAL) < 0 ? errno : 0;
        told += comes_back(error);
    } while (error == EINTR || (comes_back(error) && told <= BATCH) || wait_for_room(u, error));
    if (told && !comes_back(error))
        fp_tally_move(&u->base.refused, &u->last);
    if (error == 0) {
        fp_tally_move(&u->base.sent, &u->last);
        fp_tally_add(&u->last, messages, FP_MUTANT(96, count, 1));
    }
    return error;
}

/* One datagram a call, because sendmmsg swallows the error that ends it early. */
static void send_each(struct udp *u, const struct fp_message *messages, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct iovec iov = {.iov_base = (void *)(uintptr_t)messages[i].data, .iov_len = messages[i].length};
        struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
        if (deliver(u, &header, &messages[i], 1))
            fp_tally_add(&u->base.refused, &messages[i], 1);
    }
}

/* `count` datagrams of one length, the last one perhaps shorter. False: nothing was sent, and one by one some of them may still go. */
static bool send_segmented(struct udp *u, const struct fp_message *messages, unsigned count)
{
    char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct iovec iov[BATCH];
    struct msghdr header = {.msg_iov = iov, .msg_iovlen = count, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    uint16_t length = (uint16_t)messages[0].length;

    for (unsigned i = 0; i < count; i++)
        iov[i] = (struct iovec){.iov_base = (void *)(uintptr_t)messages[i].data, .iov_len = messages[i].length};
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof length);
    memcpy(CMSG_DATA(c), &length, sizeof length);
    switch (deliver(u, &header, messages, count)) {
    case 0:
        return true;
    case EIO:
    case EINVAL:
    case EOPNOTSUPP:
    case ENOPROTOOPT: /* the kernel cannot */
        u->gso = false;
        return false;
    case EMSGSIZE:
    case EAGAIN:
    case ENOBUFS: /* too much at once */
        return false;
    default:
        fp_tally_add(&u->base.refused, messages, count);
        return true;
    }
}

static unsigned run_length(const struct fp_message *messages, unsigned count)
{
    size_t octets = messages[0].length;
    unsigned n = 1;

    while (n < count && FP_MUTANT(94, messages[n].length <= messages[0].length, true) && octets + messages[n].length <= GSO_OCTETS) {
        octets += messages[n].length;
        n++;
        if (FP_MUTANT(95, messages[n - 1].length < messages[0].length, false))
            break;
    }
    return n;
}

static void udp_send(struct fp_transport *t, const struct fp_message *messages, unsigned count)
{
    struct udp *u = (struct udp *)t;
    int error = 0;
    socklen_t length = sizeof error;

    if (!count) {
        if (getsockopt(u->fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && comes_back(error))
            fp_tally_move(&t->refused, &u->last);
        fp_tally_move(&t->sent, &u->last);
    }
    while (count) {
        unsigned most = u->pace ? PACED : BATCH;
        unsigned n = count < most ? count : most;
        if (u->gso)
            n = run_length(messages, n);
        if (!pace(u, n))
            fp_tally_add(&t->refused, messages, n);
        else if (n < 2 || !u->gso || !send_segmented(u, messages, n))
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

/* The addresses that are on the wire: the system chooses ours, and takes its own for a collector's that is none (0.0.0.0, ::). */
static void note_own(struct udp *u)
{
    struct fp_own *own = &u->base.own;
    struct sockaddr_storage local = {0}, remote = {0};
    socklen_t length = sizeof local, remote_length = sizeof remote;

    if (getsockname(u->fd, (struct sockaddr *)&local, &length) || getpeername(u->fd, (struct sockaddr *)&remote, &remote_length))
        return;
    if (remote.ss_family == AF_INET) {
        const struct sockaddr_in *from = (const void *)&local;
        const struct sockaddr_in *to = (const void *)&remote;
        own->kind = FP_IPV4;
        own->source[0] = from->sin_addr.s_addr | (uint64_t)to->sin_addr.s_addr << 32;
        own->ports = from->sin_port | (uint32_t)to->sin_port << 16;
    } else {
        const struct sockaddr_in6 *from = (const void *)&local;
        const struct sockaddr_in6 *to = (const void *)&remote;
        own->kind = FP_IPV6;
        memcpy(own->source, &from->sin6_addr, 16);
        memcpy(own->destination, &to->sin6_addr, 16);
        own->ports = from->sin6_port | (uint32_t)to->sin6_port << 16;
    }
}

/* A numeric address; an IPv4 address in an IPv6 one is that IPv4 address. Returns its length, 0 if it is none. */
static socklen_t address_of(const char *host, uint16_t port, struct sockaddr_storage *out)
{
    struct sockaddr_in *four = (void *)out;
    struct sockaddr_in6 *six = (void *)out;
    struct in6_addr address;
    bool is_six = inet_pton(AF_INET6, host, &address) == 1;

    if (is_six && !IN6_IS_ADDR_V4MAPPED(&address)) {
        *six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = address};
        return sizeof *six;
    }
    *four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    if (is_six)
        memcpy(&four->sin_addr, &address.s6_addr[12], sizeof four->sin_addr);
    else if (inet_pton(AF_INET, host, &four->sin_addr) != 1)
        return 0;
    return sizeof *four;
}

static const struct fp_transport_ops ops = {.send = udp_send, .close = udp_close};

int fp_udp_open(const char *host, uint16_t port, bool block, uint32_t pace_dps, const bool *asked, struct fp_transport **out, char *err)
{
    struct sockaddr_storage to = {0};
    socklen_t length = address_of(host, port, &to);
    struct udp *u;
    int buffer = 8 << 20;
    int rc;

    if (!length)
        return fp_host.fail(err, -EINVAL, "collector %s: not a numeric IPv4 or IPv6 address", host);
    u = calloc(1, sizeof *u);
    if (!u)
        return fp_host.fail(err, -ENOMEM, "collector %s: out of memory", host);
    u->base.ops = &ops;
    u->base.overhead = to.ss_family == AF_INET ? 28 : 48;
    u->block = block;
    u->pace = pace_dps;
    u->asked = asked;
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
    note_own(u);
    *out = &u->base;
    return 0;

out_socket:
    close(u->fd);
out_memory:
    free(u);
    return rc;
}

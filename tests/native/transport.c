/* SPDX-License-Identifier: Apache-2.0
 *
 * The UDP transport over a system that does what a check wants: full sockets, signals, errors that come back, a clock that only moves when
 * somebody waits. Link with --wrap for each system call below. Each check prints "ok NAME" or where it failed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "checks.h"
#include "clock.h"
#include "loader.h"
#include "transport.h"

#define ENDLESS  100000u
#define PLENTY   1000000u
#define MESSAGES 64u

static struct {
    int64_t now;
    unsigned calls, polls, sleeps, taken;
    unsigned room;          /* datagrams */
    unsigned until_room;    /* polls until there is plenty */
    unsigned no_buffers;    /* calls to come that find no memory */
    bool interrupted;       /* polls are, and every second call */
    int came_back, its_own; /* an error told once; the error of every call */
} net;

ssize_t __wrap_sendmsg(int, const struct msghdr *, int);
int __wrap_poll(struct pollfd *, nfds_t, int);
int __wrap_clock_gettime(clockid_t, struct timespec *);
int __wrap_clock_nanosleep(clockid_t, int, const struct timespec *, struct timespec *);
int __wrap_getsockopt(int, int, int, void *, socklen_t *);

static ssize_t fails(int error)
{
    errno = error;
    return -1;
}

ssize_t __wrap_sendmsg(int file, const struct msghdr *m, int flags)
{
    (void)file, (void)flags;
    if (++net.calls > ENDLESS) {
        printf("a call without end\n");
        exit(1);
    }
    if (net.interrupted && net.calls % 2)
        return fails(EINTR);
    if (net.came_back) {
        int error = net.came_back;
        net.came_back = 0;
        return fails(error);
    }
    if (net.its_own)
        return fails(net.its_own);
    if (net.no_buffers) {
        net.no_buffers--;
        return fails(ENOBUFS);
    }
    if (net.room < m->msg_iovlen)
        return fails(EAGAIN);
    net.room -= (unsigned)m->msg_iovlen;
    net.taken += (unsigned)m->msg_iovlen;
    return 1;
}

int __wrap_poll(struct pollfd *files, nfds_t count, int wait_ms)
{
    (void)files, (void)count;
    net.polls++;
    if (net.until_room && --net.until_room == 0)
        net.room = PLENTY;
    if (net.interrupted)
        return (int)fails(EINTR);
    if (net.room >= MESSAGES || net.no_buffers)
        return 1;
    net.now += wait_ms * FP_MILLISECOND;
    return 0;
}

int __wrap_clock_gettime(clockid_t id, struct timespec *t)
{
    (void)id;
    *t = (struct timespec){.tv_sec = net.now / FP_SECOND, .tv_nsec = net.now % FP_SECOND};
    return 0;
}

int __wrap_clock_nanosleep(clockid_t id, int flags, const struct timespec *t, struct timespec *left)
{
    (void)id, (void)flags, (void)left;
    net.sleeps++;
    net.now = fp_max(net.now, t->tv_sec * FP_SECOND + t->tv_nsec);
    return 0;
}

int __wrap_getsockopt(int file, int level, int name, void *value, socklen_t *length)
{
    (void)file, (void)level, (void)length;
    if (name != SO_ERROR)
        return (int)fails(ENOPROTOOPT);
    memcpy(value, &net.came_back, sizeof net.came_back);
    net.came_back = 0;
    return 0;
}

static struct fp_message messages[MESSAGES];
static bool asked;
static char err[FP_ERRLEN];

/* A transport in a system with room for everything. Each message has one flow of two packets. */
static struct fp_transport *opened(bool block, uint32_t pace)
{
    static uint8_t data[100];
    struct fp_transport *t = NULL;

    memset(&net, 0, sizeof net);
    net.now = FP_SECOND;
    net.room = PLENTY;
    asked = false;
    for (unsigned i = 0; i < MESSAGES; i++)
        messages[i] = (struct fp_message){.data = data, .length = sizeof data, .flows = 1, .packets = 2};
    if (fp_udp_open("127.0.0.1", 9, block, pace, &asked, &t, err))
        printf("%s\n", err);
    return t;
}

static void offer(struct fp_transport *t, unsigned count)
{
    t->ops->send(t, messages, count);
}

/* Whether these are all fates, with everything that the datagrams carry. Closes. */
static bool fates(struct fp_transport *t, unsigned sent, unsigned refused)
{
    t->ops->send(t, NULL, 0);
    CHECK(t->sent.datagrams == sent && t->sent.flows == sent && t->sent.packets == 2 * sent && t->sent.octets == 100 * sent);
    CHECK(t->refused.datagrams == refused && t->refused.flows == refused && t->refused.packets == 2 * refused);
    t->ops->close(t);
    return true;
}

/* A socket says that there is room when half of it is free, which takes longer than a second on a slow path. */
static bool waits_for_room(void)
{
    struct fp_transport *t = opened(true, 0);

    net.room = 0;
    net.until_room = 1000;
    offer(t, 64);
    CHECK(net.polls == 1000 && net.now > 10 * FP_SECOND);
    return fates(t, 64, 0);
}

static bool signals_take_no_room(void)
{
    struct fp_transport *t = opened(true, 0);

    net.room = 0;
    net.until_room = 50;
    net.interrupted = true;
    offer(t, 64);
    return fates(t, 64, 0);
}

/* No memory below the socket, which has room itself: each try waits. */
static bool no_spinning(void)
{
    struct fp_transport *t = opened(true, 0);

    net.no_buffers = 1000;
    offer(t, 32);
    CHECK(net.sleeps == 1000 && net.now >= 2 * FP_SECOND);
    return fates(t, 32, 0);
}

static bool without_waiting(void)
{
    struct fp_transport *t = opened(false, 0);

    net.room = 0;
    offer(t, 32);
    net.no_buffers = PLENTY;
    offer(t, 32);
    CHECK(net.polls == 0 && net.sleeps == 0);
    return fates(t, 0, 64);
}

/* What fits goes, although all at once does not fit. */
static bool room_for_some(void)
{
    struct fp_transport *t = opened(false, 0);

    net.room = 10;
    offer(t, 32);
    return fates(t, 10, 22);
}

static bool an_end_is_not_waited_for(void)
{
    struct fp_transport *t = opened(true, 0);

    net.room = 40;
    asked = true;
    offer(t, 64);
    CHECK(net.now > 2 * FP_SECOND && net.now < 10 * FP_SECOND);
    return fates(t, 40, 24);
}

static bool a_pace(void)
{
    struct fp_transport *t = opened(true, 4);

    offer(t, 64);
    CHECK(net.now >= 14 * FP_SECOND && net.now <= 17 * FP_SECOND); /* the last 8 leave after 56 at 4 a second */
    return fates(t, 64, 0);
}

static bool an_end_ends_a_pace(void)
{
    struct fp_transport *t = opened(true, 1);

    asked = true;
    offer(t, 64);
    CHECK(net.now > 2 * FP_SECOND && net.now < 10 * FP_SECOND);
    return fates(t, net.taken, 64 - net.taken) && net.taken < 64;
}

/* RFC 1122 section 4.1.3.3: what ICMP brought back is told by the next call, of which nothing has left then. */
static bool errors_of_earlier_datagrams(void)
{
    static const int errors[] = {ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENONET, ENOPROTOOPT, EPROTO, EACCES};

    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++) {
        struct fp_transport *t = opened(false, 0);
        offer(t, 20);
        offer(t, 5);
        net.came_back = errors[i];
        offer(t, 3);
        CHECK(net.taken == 28);
        CHECK(t->sent.datagrams == 20 && t->refused.datagrams == 5); /* of the 3 it is not known */
        CHECK(fates(t, 23, 5));
    }
    return true;
}

static bool errors_at_the_end(void)
{
    struct fp_transport *t = opened(false, 0);

    offer(t, 20);
    net.came_back = EHOSTUNREACH;
    return fates(t, 0, 20);
}

/* No route: every call says so, of itself. */
static bool an_error_of_its_own(void)
{
    struct fp_transport *t = opened(false, 0);

    offer(t, 20);
    net.its_own = ENETUNREACH;
    offer(t, 7);
    CHECK(net.calls < 100);
    net.its_own = 0;
    offer(t, 1);
    return fates(t, 21, 7);
}

static bool is_ours(const char *host, uint32_t destination)
{
    struct fp_transport *t = NULL;
    bool ours;

    if (fp_udp_open(host, 4739, false, 0, NULL, &t, err))
        return false;
    ours = t->own.kind == FP_IPV4 && t->own.source[0] >> 32 == htonl(destination) && t->own.ports >> 16 == htons(4739);
    ours = ours && t->overhead == 28;
    t->ops->close(t);
    return ours;
}

/* S-VER-2 is about the addresses in the datagrams. */
static bool addresses_on_the_wire(void)
{
    CHECK(is_ours("127.0.0.2", 0x7F000002));
    CHECK(is_ours("0.0.0.0", 0x7F000001));
    CHECK(is_ours("::ffff:127.0.0.2", 0x7F000002));
    CHECK(!is_ours("collector.example", 0));
    return true;
}

int main(void)
{
    static const struct check checks[] = {
        {"waits-for-room", waits_for_room},
        {"signals-take-no-room", signals_take_no_room},
        {"no-spinning", no_spinning},
        {"without-waiting", without_waiting},
        {"room-for-some", room_for_some},
        {"an-end-is-not-waited-for", an_end_is_not_waited_for},
        {"a-pace", a_pace},
        {"an-end-ends-a-pace", an_end_ends_a_pace},
        {"errors-of-earlier-datagrams", errors_of_earlier_datagrams},
        {"errors-at-the-end", errors_at_the_end},
        {"an-error-of-its-own", an_error_of_its_own},
        {"addresses-on-the-wire", addresses_on_the_wire},
    };

    return run_checks(checks, sizeof checks / sizeof *checks);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions of libc that the stand-in takes the place of. Whatever is not about /dev/netmap goes on to the real ones.
 */
#include "sim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define SPIN      4 /* polls in a row that may return at once with nothing new */
#define INTERRUPT 8 /* under the traps one waiting poll in so many is interrupted by a signal */

void *sim_real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

int64_t sim_monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

void sim_doze(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

bool sim_ours(int fd)
{
    return fd >= 0 && fd < SIM_MAX_FDS && sim.fds[fd].used;
}

static int open_device(void)
{
    pthread_mutex_lock(&sim.lock);
    sim_start();
    int fd = -1;
    if (sim_failing("ENOENT"))
        errno = ENOENT;
    else if (sim_failing("EACCES"))
        errno = EACCES;
    else
        fd = fcntl(sim.memfd, F_DUPFD_CLOEXEC, 0);
    if (fd >= SIM_MAX_FDS)
        illegal("more descriptors than the stand-in keeps");
    if (fd >= 0)
        sim.fds[fd] = (struct sim_descriptor){.used = true};
    pthread_mutex_unlock(&sim.lock);
    return fd;
}

#define OPEN(name, ...)                                                                                                                    \
    va_list args;                                                                                                                          \
    va_start(args, flags);                                                                                                                 \
    unsigned mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, unsigned) : 0;                                                     \
    va_end(args);                                                                                                                          \
    if (strcmp(path, "/dev/netmap") == 0)                                                                                                  \
        return open_device();                                                                                                              \
    return ((int (*)(__VA_ARGS__))sim_real(name))

SIM_PUBLIC int open(const char *path, int flags, ...)
{
    OPEN("open", const char *, int, ...)(path, flags, mode);
}

SIM_PUBLIC int open64(const char *path, int flags, ...)
{
    OPEN("open64", const char *, int, ...)(path, flags, mode);
}

SIM_PUBLIC int openat(int directory, const char *path, int flags, ...)
{
    OPEN("openat", int, const char *, int, ...)(directory, path, flags, mode);
}

SIM_PUBLIC int openat64(int directory, const char *path, int flags, ...)
{
    OPEN("openat64", int, const char *, int, ...)(directory, path, flags, mode);
}

static int synchronise(struct sim_descriptor *d, bool receive)
{
    if (d->port == NULL)
        return ENXIO;
    if (sim_failing("ENODEV"))
        return ENODEV;
    for (unsigned i = d->first; i < d->first + d->count; i++) { /* an illegal head does not make a sync fail: only poll tells */
        if (receive && d->receive)
            sim_sync_receive(d->port, i);
        else if (!receive && d->transmit)
            sim_sync_transmit(d->port, i);
    }
    return 0;
}

SIM_PUBLIC int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    void *argument = va_arg(args, void *);
    va_end(args);
    if (!sim_ours(fd))
        return ((int (*)(int, unsigned long, ...))sim_real("ioctl"))(fd, request, argument);
    pthread_mutex_lock(&sim.lock);
    int code = EINVAL;
    if (request == NIOCCTRL)
        code = sim_control(fd, argument);
    else if (request == NIOCRXSYNC || request == NIOCTXSYNC)
        code = synchronise(&sim.fds[fd], request == NIOCRXSYNC);
    pthread_mutex_unlock(&sim.lock);
    errno = code != 0 ? code : errno;
    return code != 0 ? -1 : 0;
}

/* Level-triggered on cur != tail, after a sync of all bound rings. */
short sim_poll_once(int fd, short events)
{
    struct sim_descriptor *d = &sim.fds[fd];
    if (d->port == NULL || sim_failing("ENODEV"))
        return POLLERR;
    short result = 0;
    for (unsigned i = d->first; i < d->first + d->count; i++) {
        if (d->receive && (events & POLLIN) != 0) {
            struct sim_ring *k = &d->port->rx[i];
            uint32_t cur = sim_shared(k)->cur, tail = k->hwtail;
            if (!sim_sync_receive(d->port, i))
                result |= POLLERR;
            bool more = k->hwtail != tail;
            if (k->cur != k->hwtail)
                result |= POLLIN;
            k->idle_polls = !more && cur != tail && k->cur == cur ? k->idle_polls + 1 : 0;
            if (sim.strict && k->idle_polls > SPIN)
                illegal("ring %u: %d polls in a row returned at once with nothing new: cur must say what was seen", i, SPIN);
        }
        if (d->transmit && (events & POLLOUT) != 0) {
            if (!sim_sync_transmit(d->port, i))
                result |= POLLERR;
            if (sim_shared(&d->port->tx[i])->cur != d->port->tx[i].hwtail)
                result |= POLLOUT;
        }
    }
    return result;
}

static bool interrupted(void)
{
    pthread_mutex_lock(&sim.lock);
    bool yes = sim.traps && SIM_ROLL(INTERRUPT) == 0;
    pthread_mutex_unlock(&sim.lock);
    return yes;
}

SIM_PUBLIC int poll(struct pollfd *set, nfds_t count, int timeout)
{
    int (*next)(struct pollfd *, nfds_t, int) = (int (*)(struct pollfd *, nfds_t, int))sim_real("poll");
    bool any = false;
    for (nfds_t i = 0; i < count; i++)
        any |= sim_ours(set[i].fd);
    if (!any)
        return next(set, count, timeout);
    if (timeout != 0 && interrupted()) {
        errno = EINTR;
        return -1;
    }
    int64_t end = sim_monotonic_ms() + timeout;
    for (;;) {
        int ready = 0;
        for (nfds_t i = 0; i < count; i++) {
            if (sim_ours(set[i].fd)) {
                pthread_mutex_lock(&sim.lock);
                set[i].revents = sim_poll_once(set[i].fd, set[i].events);
                pthread_mutex_unlock(&sim.lock);
            } else {
                struct pollfd one = set[i];
                next(&one, 1, 0);
                set[i].revents = one.revents;
            }
            ready += set[i].revents != 0;
        }
        if (ready > 0 || (timeout >= 0 && sim_monotonic_ms() >= end))
            return ready;
        sim_doze();
    }
}

SIM_PUBLIC int __poll_chk(struct pollfd *set, nfds_t count, int timeout, size_t size)
{
    if (size / sizeof *set < count)
        abort();
    return poll(set, count, timeout);
}

SIM_PUBLIC int ppoll(struct pollfd *set, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    for (nfds_t i = 0; i < count; i++)
        if (sim_ours(set[i].fd))
            return poll(set, count, timeout == NULL ? -1 : (int)(timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000));
    return ((int (*)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))sim_real("ppoll"))(set, count, timeout, mask);
}

/* The descriptor is a file's, which select would call ready for ever. */
static void refuse(int count, const fd_set *a, const fd_set *b, const fd_set *c)
{
    for (int fd = 0; fd < count && fd < FD_SETSIZE; fd++)
        if (sim_ours(fd) && ((a != NULL && FD_ISSET(fd, a)) || (b != NULL && FD_ISSET(fd, b)) || (c != NULL && FD_ISSET(fd, c))))
            illegal("select on a netmap descriptor is not answered here: use poll or epoll");
}

SIM_PUBLIC int select(int count, fd_set *a, fd_set *b, fd_set *c, struct timeval *timeout)
{
    refuse(count, a, b, c);
    return ((int (*)(int, fd_set *, fd_set *, fd_set *, struct timeval *))sim_real("select"))(count, a, b, c, timeout);
}

SIM_PUBLIC int pselect(int count, fd_set *a, fd_set *b, fd_set *c, const struct timespec *timeout, const sigset_t *mask)
{
    refuse(count, a, b, c);
    return ((int (*)(int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *))sim_real("pselect"))(count, a, b, c,
                                                                                                                        timeout, mask);
}

SIM_PUBLIC int close(int fd)
{
    sim_forget(fd);
    if (sim_ours(fd)) {
        pthread_mutex_lock(&sim.lock);
        sim_leave(fd);
        pthread_mutex_unlock(&sim.lock);
    }
    return ((int (*)(int))sim_real("close"))(fd);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * epoll on descriptors of /dev/netmap: the kernel would refuse the file behind them, so they are watched here, level-triggered.
 */
#include "sim.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <time.h>

#define MAX_WATCHES 64

static struct watch {
    bool used;
    int set, fd;
    uint32_t events;
    epoll_data_t data;
} watches[MAX_WATCHES];

static struct watch *find(int set, int fd)
{
    for (unsigned i = 0; i < MAX_WATCHES; i++)
        if (watches[i].used && watches[i].set == set && watches[i].fd == fd)
            return &watches[i];
    return NULL;
}

static int change(int set, int operation, int fd, const struct epoll_event *event)
{
    struct watch *watch = find(set, fd);
    if ((watch == NULL) != (operation == EPOLL_CTL_ADD))
        return watch == NULL ? ENOENT : EEXIST;
    if (operation == EPOLL_CTL_DEL) {
        watch->used = false;
        return 0;
    }
    if ((event->events & (EPOLLET | EPOLLONESHOT)) != 0)
        illegal("an epoll that is not level-triggered sleeps over frames that a sync left behind cur");
    for (unsigned i = 0; watch == NULL && i < MAX_WATCHES; i++)
        if (!watches[i].used)
            watch = &watches[i];
    if (watch == NULL)
        return ENOSPC;
    *watch = (struct watch){.used = true, .set = set, .fd = fd, .events = event->events, .data = event->data};
    return 0;
}

SIM_PUBLIC int epoll_ctl(int set, int operation, int fd, struct epoll_event *event)
{
    if (!sim_ours(fd))
        return ((int (*)(int, int, int, struct epoll_event *))sim_real("epoll_ctl"))(set, operation, fd, event);
    pthread_mutex_lock(&sim.lock);
    int code = change(set, operation, fd, event);
    pthread_mutex_unlock(&sim.lock);
    errno = code != 0 ? code : errno;
    return code != 0 ? -1 : 0;
}

/* Every close of the program comes by here, those of a child just forked too, where nobody would ever give the lock back: it is taken only
 * for what is watched. */
void sim_forget(int fd)
{
    for (unsigned i = 0; i < MAX_WATCHES; i++) {
        struct watch *watch = &watches[i];
        if (!__atomic_load_n(&watch->used, __ATOMIC_ACQUIRE) || (watch->fd != fd && watch->set != fd))
            continue;
        pthread_mutex_lock(&sim.lock);
        if (watch->fd == fd || watch->set == fd)
            watch->used = false;
        pthread_mutex_unlock(&sim.lock);
    }
}

/* Adds what is ready among the descriptors of /dev/netmap in a set. Returns how many events there are then; *any: whether there are such
 * descriptors at all. */
static int look(int set, struct epoll_event *events, int count, int most, bool *any)
{
    pthread_mutex_lock(&sim.lock);
    for (unsigned i = 0; i < MAX_WATCHES; i++) {
        struct watch *watch = &watches[i];
        if (!watch->used || watch->set != set)
            continue;
        *any = true;
        if (count >= most)
            break;
        short asked = (short)(((watch->events & EPOLLIN) != 0 ? POLLIN : 0) | ((watch->events & EPOLLOUT) != 0 ? POLLOUT : 0));
        short ready = sim_poll_once(watch->fd, asked);
        if (ready != 0)
            events[count++] =
                (struct epoll_event){.events = (uint32_t)(((ready & POLLIN) != 0 ? EPOLLIN : 0) | ((ready & POLLOUT) != 0 ? EPOLLOUT : 0) |
                                                          ((ready & POLLERR) != 0 ? EPOLLERR : 0)),
                                     .data = watch->data};
    }
    pthread_mutex_unlock(&sim.lock);
    return count;
}

SIM_PUBLIC int epoll_pwait(int set, struct epoll_event *events, int most, int timeout, const sigset_t *mask)
{
    int (*next)(int, struct epoll_event *, int, int, const sigset_t *) =
        (int (*)(int, struct epoll_event *, int, int, const sigset_t *))sim_real("epoll_pwait");
    int64_t end = sim_monotonic_ms() + timeout;
    for (;;) {
        bool any = false;
        int ours = look(set, events, 0, most, &any);
        if (!any)
            return next(set, events, most, timeout, mask);
        int others = ours < most ? next(set, events + ours, most - ours, 0, mask) : 0;
        if (others < 0)
            return others;
        if (ours + others > 0 || (timeout >= 0 && sim_monotonic_ms() >= end))
            return ours + others;
        sim_doze();
    }
}

SIM_PUBLIC int epoll_wait(int set, struct epoll_event *events, int most, int timeout)
{
    return epoll_pwait(set, events, most, timeout, NULL);
}

SIM_PUBLIC int epoll_pwait2(int set, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *mask)
{
    return epoll_pwait(set, events, most, timeout == NULL ? -1 : (int)(timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000), mask);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * A small user of netmap that waits in the way it is told to and counts the frames of the port sim0 until none has come for a while.
 */
#include "flowparity/netmap_abi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <unistd.h>

#define QUIET_MS 100
#define SYNCS    400

static int fd, set;
static struct netmap_ring *rx;

static const char *error_name(int result)
{
    return result == 0 ? "0" : errno == EEXIST ? "EEXIST" : errno == ENOENT ? "ENOENT" : "another error";
}

static int watch(int operation, uint32_t events, int what)
{
    struct epoll_event event = {.events = events, .data.u32 = 7};
    return epoll_ctl(set, operation, what, &event);
}

static void open_port(void)
{
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_flags = NR_EXCLUSIVE | NR_RX_RINGS_ONLY};
    struct nmreq_header header = {
        .nr_version = NETMAP_API, .nr_reqtype = NETMAP_REQ_REGISTER, .nr_name = "sim0", .nr_body = (uintptr_t)&reg};
    fd = open("/dev/netmap", O_RDWR);
    if (fd < 0 || ioctl(fd, NIOCCTRL, &header) != 0) {
        perror("sim0");
        exit(3);
    }
    char *memory = mmap(NULL, reg.nr_memsize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct netmap_if *nifp = (struct netmap_if *)(memory + reg.nr_offset);
    rx = (struct netmap_ring *)((char *)nifp + nifp->ring_ofs[nifp->ni_tx_rings + nifp->ni_host_tx_rings]);
}

/* Waits in one of the ways; false after a quiet while. */
static bool wait_for_frames(const char *how)
{
    for (;;) {
        struct epoll_event event = {0};
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        const struct timespec quiet = {.tv_nsec = QUIET_MS * 1000000L};
        struct timeval soon = {.tv_usec = QUIET_MS * 1000L};
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(fd, &readable);
        int ready = strcmp(how, "poll") == 0 || strcmp(how, "idle") == 0 ? poll(&wanted, 1, QUIET_MS)
                    : strcmp(how, "ppoll") == 0                          ? ppoll(&wanted, 1, &quiet, NULL)
                    : strcmp(how, "epoll-pwait") == 0                    ? epoll_pwait(set, &event, 1, QUIET_MS, NULL)
                    : strcmp(how, "select") == 0                         ? select(fd + 1, &readable, NULL, NULL, &soon)
                                                                         : epoll_wait(set, &event, 1, QUIET_MS);
        if (ready >= 0)
            return ready > 0;
        if (errno != EINTR) {
            perror(how);
            exit(1);
        }
    }
}

static unsigned take(void)
{
    unsigned frames = 0;
    uint32_t slot = rx->head, whole = rx->head;
    while (slot != rx->tail) {
        bool last = (rx->slot[slot].flags & NS_MOREFRAG) == 0;
        slot = slot + 1 == rx->num_slots ? 0 : slot + 1;
        if (last) {
            frames++;
            whole = slot;
        }
    }
    rx->head = whole;
    rx->cur = rx->tail;
    return frames;
}

static void count_tails(void)
{
    unsigned full = 0, cut = 0, wrapped = 0, interrupted = 0;
    for (unsigned i = 0; i < SYNCS; i++) {
        uint32_t head = rx->head, tail = rx->tail;
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        interrupted += poll(&wanted, 1, 1) < 0 && errno == EINTR;
        wrapped += rx->tail < tail;
        full += (rx->tail + 1) % rx->num_slots == head;
        take();
        cut += rx->head != rx->tail;
    }
    printf("full %u\ncut %u\nwrapped %u\ninterrupted %u\n", full, cut, wrapped, interrupted);
}

static void provoke(void)
{
    printf("%s ", error_name(watch(EPOLL_CTL_ADD, EPOLLIN, fd)));
    printf("%s ", error_name(watch(EPOLL_CTL_DEL, 0, fd) == 0 ? watch(EPOLL_CTL_DEL, 0, fd) : 0));
    printf("%s ", error_name(watch(EPOLL_CTL_MOD, EPOLLIN, fd)));
    printf("%s ", error_name(watch(EPOLL_CTL_ADD, EPOLLIN, fd)));
    close(fd);
    struct epoll_event event;
    printf("%d\n", epoll_wait(set, &event, 1, 10)); /* nothing is watched any more */
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "poll";
    unsigned frames = 0;
    open_port();
    set = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD, strcmp(how, "edge") == 0 ? EPOLLIN | EPOLLET : EPOLLIN, fd);
    if (strcmp(how, "epoll-with-a-pipe") == 0) {
        int ends[2];
        if (pipe(ends) != 0 || watch(EPOLL_CTL_ADD, EPOLLIN, ends[0]) != 0)
            return 1;
    }
    if (strcmp(how, "tails") == 0) {
        count_tails();
        return 0;
    }
    if (strcmp(how, "epoll-errors") == 0) {
        provoke();
        return 0;
    }
    while (wait_for_frames(how))
        if (strcmp(how, "idle") != 0) /* it never says what it has seen */
            frames += take();
    printf("%u frames\n", frames);
    return 0;
}

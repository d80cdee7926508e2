/* SPDX-License-Identifier: Apache-2.0
 *
 * DPDK's Environment Abstraction Layer, once a process: options, memory, silence, and the state after a failure.
 *
 * EAL can be initialised once in the life of a process and cannot be taken down for another start. So everything that can be checked is
 * checked before, a failure is remembered and repeated as the answer of every later open, and a success serves every later port by
 * hot-plug. Nothing of it stays in any file system.
 *
 * DPDK prints: its log goes to a stream of ours from the start, and what PMDs and their libraries (libxdp, libbpf, EAL's usage text) write
 * to the descriptors 1 and 2 during control calls is caught. The first line of what was said becomes part of the error message; option
 * log=FILE keeps all of it.
 */
#ifndef FP_DPDK_EAL_H
#define FP_DPDK_EAL_H

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_version.h>

#include "flowparity/backend.h"

#define EAL_MAX_ARGS     64
#define EAL_LOG_TEXT     8192
#define EAL_HUGE_MIB     "64"        /* reserved in hugepages */
#define EAL_HUGE_NEEDED  (64u << 20) /* octets of free hugepages below which ordinary memory is taken */
#define EAL_ORDINARY_MIB "512"       /* reserved, not touched until used */

static struct {
    pthread_mutex_t lock; /* serialises every control call of this plug-in */
    int state;            /* 0 never tried, 1 running, -errno failed for good */
    bool pci, huge;
    char why[FP_ERRLEN];
    char options[512]; /* what `eal=` gave */
    FILE *stream;      /* DPDK's log */
    FILE *file;        /* log=FILE */
    pthread_mutex_t log_lock;
    size_t used;
    char text[EAL_LOG_TEXT]; /* what was said since quiet_begin */
} eal = {.lock = PTHREAD_MUTEX_INITIALIZER, .log_lock = PTHREAD_MUTEX_INITIALIZER};

static ssize_t eal_log_write(void *cookie, const char *data, size_t len)
{
    (void)cookie;
    pthread_mutex_lock(&eal.log_lock);
    size_t room = sizeof(eal.text) - 1 - eal.used, take = len < room ? len : room;
    memcpy(eal.text + eal.used, data, take);
    eal.used += take;
    eal.text[eal.used] = '\0';
    if (eal.file) {
        fwrite(data, 1, len, eal.file);
        fflush(eal.file);
    }
    pthread_mutex_unlock(&eal.log_lock);
    return (ssize_t)len;
}

/* Catches what is written to the descriptors 1 and 2, and SIGPIPE, for the time of one control call. */
struct quiet {
    int saved[2];
    int caught;
    sigset_t mask;
};

static void quiet_begin(struct quiet *q)
{
    sigset_t pipe;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &q->mask);
    pthread_mutex_lock(&eal.log_lock);
    eal.used = 0;
    eal.text[0] = '\0';
    pthread_mutex_unlock(&eal.log_lock);
    fflush(stdout);
    fflush(stderr);
    q->caught = memfd_create("dpdk-says", MFD_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        q->saved[i] = q->caught < 0 ? -1 : fcntl(i + 1, F_DUPFD_CLOEXEC, 3);
        if (q->saved[i] >= 0)
            dup2(q->caught, i + 1);
    }
}

static void quiet_end(struct quiet *q)
{
    const struct timespec none = {0};
    char text[2048];
    sigset_t pipe;
    ssize_t got;

    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        if (q->saved[i] >= 0) {
            dup2(q->saved[i], i + 1);
            close(q->saved[i]);
        }
    }
    if (q->caught >= 0) {
        lseek(q->caught, 0, SEEK_SET);
        while ((got = read(q->caught, text, sizeof(text))) > 0)
            eal_log_write(NULL, text, (size_t)got);
        close(q->caught);
    }
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    if (!sigismember(&q->mask, SIGPIPE))
        while (sigtimedwait(&pipe, NULL, &none) == SIGPIPE)
            ;
    pthread_sigmask(SIG_SETMASK, &q->mask, NULL);
}

/* The first line of what DPDK said since quiet_begin that says something, without its prefix; "" if nothing. */
static const char *eal_said(void)
{
    static const char *const noise[] = {"No free 2048", "No free 1048576", "Detected ", "VFIO",
                                        "No available", "Probing",         "telemetry", "TELEMETRY"};
    static char line[256];
    const char *at = eal.text;

    line[0] = '\0';
    while (*at) {
        size_t len = strcspn(at, "\n");
        bool skip = len == 0;
        for (size_t i = 0; i < sizeof(noise) / sizeof(*noise) && !skip; i++)
            skip = memmem(at, len, noise[i], strlen(noise[i])) != NULL;
        if (!skip) {
            const char *colon = memmem(at, len, "(): ", 4);
            const char *from = colon ? colon + 4 : at;
            snprintf(line, sizeof(line), "%.*s", (int)(len - (size_t)(from - at)), from);
            break;
        }
        at += len + (at[len] == '\n');
    }
    return line;
}

/* Free octets in hugepages of every size, and whether any are configured at all. */
static uint64_t eal_huge_free(bool *configured)
{
    static const char root[] = "/sys/kernel/mm/hugepages";
    uint64_t total = 0;
    DIR *dir = opendir(root);

    *configured = false;
    if (!dir)
        return 0;
    for (struct dirent *e; (e = readdir(dir));) {
        static const char *const names[] = {"nr_hugepages", "free_hugepages"};
        unsigned long long kib, pages[2] = {0};
        if (sscanf(e->d_name, "hugepages-%llukB", &kib) != 1)
            continue;
        for (int i = 0; i < 2; i++) {
            char path[512];
            snprintf(path, sizeof(path), "%s/%s/%s", root, e->d_name, names[i]);
            FILE *f = fopen(path, "re");
            if (!f)
                continue;
            if (fscanf(f, "%llu", &pages[i]) != 1)
                pages[i] = 0;
            fclose(f);
        }
        *configured |= pages[0] > 0;
        total += pages[1] * kib * 1024;
    }
    closedir(dir);
    return total;
}

/* "0@(0,1,…)": one lcore that floats over every CPU that the caller may use, so that the caller stays unpinned. */
static void eal_lcores(char *text, size_t len)
{
    cpu_set_t set;
    size_t used = (size_t)snprintf(text, len, "0@(");

    if (sched_getaffinity(0, sizeof(set), &set) < 0) {
        CPU_ZERO(&set);
        CPU_SET(0, &set);
    }
    for (int cpu = 0, first = 1; cpu < CPU_SETSIZE && used + 8 < len; cpu++) {
        if (CPU_ISSET(cpu, &set)) {
            used += (size_t)snprintf(text + used, len - used, first ? "%d" : ",%d", cpu);
            first = 0;
        }
    }
    snprintf(text + used, len - used, ")");
}

/* Decides on hugepages by option huge=auto|on|off. Returns 1 for hugepages, 0 for ordinary memory. */
static int eal_memory(const struct fp_host *host, const struct fp_open_args *args, char *err)
{
    const char *huge = host->option(args, "huge");
    bool configured;
    uint64_t available = eal_huge_free(&configured);

    if (!huge || strcmp(huge, "auto") == 0)
        return available >= EAL_HUGE_NEEDED;
    if (strcmp(huge, "off") == 0)
        return 0;
    if (strcmp(huge, "on") != 0)
        return host->fail(err, -EINVAL, "dpdk: option huge=%s is none of auto, on, off", huge);
    if (available >= EAL_HUGE_NEEDED)
        return 1;
    return host->fail(err, -ENODEV, "dpdk: %s hugepages, %u MiB are needed; run 'sysctl vm.nr_hugepages=512', or give huge=off",
                      configured ? "not enough free" : "no", EAL_HUGE_NEEDED >> 20);
}

static int eal_start_in_turn(const struct fp_host *host, const struct fp_open_args *args, const char *pci, char *err)
{
    static char lcores[1024], words[512];
    char *argv[EAL_MAX_ARGS + 1];
    const char *extra = host->option(args, "eal"), *log = host->option(args, "log");
    int argc = 0;

    if (eal.state < 0)
        return host->fail(err, eal.state, "%.400s; start a new process, DPDK cannot be started twice in one", eal.why);
    if (log && !eal.file && !(eal.file = fopen(log, "ae")))
        return host->fail(err, -errno, "dpdk: log=%s cannot be written: %s", log, strerror(errno));
    if (eal.state > 0) {
        if (extra && strcmp(extra, eal.options) != 0)
            return host->fail(err, -EBUSY, "dpdk: DPDK already runs in this process with eal='%s'; start a new process for eal='%s'",
                              eal.options, extra);
        if (pci && !eal.pci)
            return host->fail(err, -EBUSY, "dpdk: DPDK already runs in this process without PCI; start a new process for port %s", pci);
        return 0;
    }
    if (extra && strlen(extra) >= sizeof(eal.options))
        return host->fail(err, -EINVAL, "dpdk: option eal is longer than %zu octets", sizeof(eal.options) - 1);
    int huge = eal_memory(host, args, err);
    if (huge < 0)
        return huge;

    eal_lcores(lcores, sizeof(lcores));
    static char base[][24] = {"flowparity", "--no-telemetry", "--no-shconf", "--lcores"};
    for (size_t i = 0; i < sizeof(base) / sizeof(*base); i++)
        argv[argc++] = base[i];
    argv[argc++] = lcores;
    static char in_memory[] = "--in-memory", single[] = "--single-file-segments", off[] = "--no-huge", m[] = "-m",
                reserved[] = EAL_HUGE_MIB, mib[] = EAL_ORDINARY_MIB, prefix[48];
    snprintf(prefix, sizeof(prefix), "--file-prefix=flowparity-%d", (int)getpid());
    argv[argc++] = prefix;
    if (huge) { /* -m: what was seen to be free stays ours, so that a later open does not fail for want of it */
        argv[argc++] = m;
        argv[argc++] = reserved;
        argv[argc++] = in_memory;
        argv[argc++] = single;
    } else { /* excludes --in-memory */
        argv[argc++] = off;
        argv[argc++] = m;
        argv[argc++] = mib;
    }
    static char allow[] = "-a", no_pci[] = "--no-pci", va[] = "--iova-mode=va", device[256];
    if (pci) {
        snprintf(device, sizeof(device), "%s", pci);
        argv[argc++] = allow;
        argv[argc++] = device;
    } else {
        argv[argc++] = no_pci;
        argv[argc++] = va;
    }
    if (extra) {
        char *rest = words;
        snprintf(words, sizeof(words), "%s", extra);
        for (char *word; (word = strsep(&rest, " \t")) && argc < EAL_MAX_ARGS;)
            if (*word)
                argv[argc++] = word;
    }
    argv[argc] = NULL;

    cookie_io_functions_t io = {.write = eal_log_write};
    if (!eal.stream && !(eal.stream = fopencookie(NULL, "w", io)))
        return host->fail(err, -ENOMEM, "dpdk: no memory for the log");
    setvbuf(eal.stream, NULL, _IOLBF, 0);
    rte_openlog_stream(eal.stream);
    rte_log_set_global_level(eal.file ? RTE_LOG_DEBUG : RTE_LOG_WARNING);

    struct quiet q;
    sigset_t all, before;
    sigfillset(&all);
    quiet_begin(&q);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* inherited by EAL's own threads, which must take no signal of the process */
    int rc = rte_eal_init(argc, argv), why = rte_errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    quiet_end(&q);
    rmdir(rte_eal_get_runtime_dir()); /* made in every mode; empty without shared configuration */
    if (rc < 0) {
        const char *said = eal_said();
        host->fail(eal.why, 0, "dpdk: DPDK did not start (%s)%s%s", strerror(why ? why : EIO), *said ? ": " : "", said);
        eal.state = why > 0 ? -why : -EIO;
        return host->fail(err, eal.state, "%.380s; check eal='%.100s'", eal.why, extra ? extra : "");
    }
    snprintf(eal.options, sizeof(eal.options), "%s", extra ? extra : "");
    eal.pci = pci != NULL;
    eal.huge = huge;
    eal.state = 1;
    return 0;
}

/* Starts EAL if this process has not done so yet. `pci` is the PCI device with its arguments that the first port needs, or NULL. One
 * process of this machine at a time: between the look at the free hugepages and their reservation no other exporter may take them. */
static int eal_start(const struct fp_host *host, const struct fp_open_args *args, const char *pci, char *err)
{
    int turn = eal.state == 0 ? open("/sys/kernel/mm/hugepages", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    while (turn >= 0 && flock(turn, LOCK_EX) < 0 && errno == EINTR)
        continue;
    int status = eal_start_in_turn(host, args, pci, err);
    if (turn >= 0)
        close(turn);
    return status;
}

/* Makes a thread of the core known to DPDK (its mempool caches need that) until the thread ends. */
static pthread_key_t eal_thread_key;
static pthread_once_t eal_thread_once = PTHREAD_ONCE_INIT;

static void eal_thread_leave(void *registered)
{
    if (registered)
        rte_thread_unregister();
}

static void eal_thread_init(void)
{
    pthread_key_create(&eal_thread_key, eal_thread_leave);
}

static void eal_thread_enter(void)
{
    static __thread bool known;

    if (known)
        return;
    known = true;
    if (rte_lcore_id() != LCORE_ID_ANY)
        return;
    pthread_once(&eal_thread_once, eal_thread_init);
    if (rte_thread_register() == 0)
        pthread_setspecific(eal_thread_key, &eal);
}

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The ports of the stand-in: the one with a capture or an interface behind it, pipes, ports of a switch; and their registration.
 */
#include "sim.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sim sim = {.lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP, .memfd = -1};

SIM_PUBLIC const int fp_netmap_sim = 1; /* how a backend knows that it runs over the stand-in */

bool sim_failing(const char *what)
{
    return strcmp(sim.fail, what) == 0;
}

static void set(const char *key, const char *value, unsigned long number)
{
    if (strcmp(key, "capture") == 0)
        snprintf(sim.capture, sizeof sim.capture, "%s", value);
    else if (strcmp(key, "port") == 0)
        snprintf(sim.name, sizeof sim.name, "%s", value);
    else if (strcmp(key, "fail") == 0)
        snprintf(sim.fail, sizeof sim.fail, "%s", value);
    else if (strcmp(key, "rings") == 0)
        sim.rings = number >= 1 && number <= SIM_MAX_RINGS ? (unsigned)number : 1;
    else if (strcmp(key, "slots") == 0 && !sim.ready)
        sim.slots = number >= 8 ? (unsigned)number : 8;
    else if (strcmp(key, "buf") == 0 && !sim.ready)
        sim.buf = number >= 512 ? (unsigned)number : 512;
    else if (strcmp(key, "seed") == 0)
        sim.random = number;
    else if (strcmp(key, "drop") == 0)
        sim.drop = number;
    else if (strcmp(key, "strict") == 0)
        sim.strict = number != 0;
    else if (strcmp(key, "traps") == 0)
        sim.traps = number != 0;
}

/* The defaults, what the environment says, and what the file says if the port is named by one. Returns false if there is no such file. */
static bool settle(const char *path)
{
    char text[8192];
    sim.strict = sim.traps = true;
    sim.rings = 1, sim.random = 1, sim.drop = 0;
    sim.capture[0] = sim.fail[0] = '\0';
    strcpy(sim.name, "sim0");
    const char *environment = getenv("FLOWPARITY_NETMAP_SIM");
    snprintf(text, sizeof text, "%s", environment == NULL ? "" : environment);
    sim_settings(text, set);
    if (path == NULL)
        return true;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    sim_settings(text, set);
    return true;
}

static struct sim_port *make_port(const char *name, unsigned rings)
{
    if (sim.nports == SIM_MAX_PORTS)
        return NULL;
    struct sim_port *port = &sim.ports[sim.nports++];
    memcpy(port->name, name, strlen(name) + 1);
    port->live = -1;
    port->tx_rings = port->rx_rings = rings;
    for (unsigned i = 0; i <= rings; i++)
        sim_make_ring(&port->tx[i], i, false);
    for (unsigned i = 0; i <= rings; i++)
        sim_make_ring(&port->rx[i], i, true);
    return port;
}

void sim_start(void)
{
    if (sim.ready)
        return;
    sim.slots = 64, sim.buf = 2048;
    settle(NULL);
    sim.ready = true;
    sim_memory_start();
    make_port(sim.name, SIM_MAX_RINGS);
}

/* The fed port, anew if nobody has it; with `load` its frames too. Returns NULL with *code 0 if the name is another port's. */
static struct sim_port *fed_port(const char *name, bool load, int *code)
{
    struct sim_port *port = &sim.ports[0];
    *code = 0;
    if (port->users > 0)
        return strcmp(port->name, name) == 0 ? port : NULL;
    bool file = name[0] == '/', named = strcmp(name, sim.name) == 0, interface = !file && !named && if_nametoindex(name) != 0;
    if ((!file && !named && !interface) || !settle(file ? name : NULL))
        return NULL;
    memcpy(port->name, name, strlen(name) + 1);
    port->tx_rings = port->rx_rings = sim.rings;
    for (unsigned i = 0; i <= SIM_MAX_RINGS; i++) {
        sim_reset_ring(&port->tx[i], false);
        sim_reset_ring(&port->rx[i], true);
    }
    if (load && interface) {
        port->live = sim_live_open(name);
        if (port->live < 0) {
            *code = -port->live;
            return NULL;
        }
    } else if (load && sim.capture[0] != '\0') {
        struct sim_feed dealt[SIM_MAX_RINGS] = {0};
        sim_read_capture(sim.capture, dealt, port->rx_rings);
        for (unsigned i = 0; i < port->rx_rings; i++)
            port->rx[i].feed = dealt[i];
    }
    return port;
}

/* Both ends of a pipe come into being when one is named. */
static struct sim_port *pipe_port(const char *name)
{
    char other[NETMAP_REQ_IFNAMSIZ];
    memcpy(other, name, strlen(name) + 1);
    char *mark = strpbrk(other, "{}");
    if (mark == NULL)
        return NULL;
    *mark = *mark == '{' ? '}' : '{';
    struct sim_port *a = make_port(name, 1), *b = a == NULL ? NULL : make_port(other, 1);
    if (b == NULL)
        return NULL;
    a->peer = b;
    b->peer = a;
    return a;
}

static struct sim_port *port_called(const char *name, bool load, int *code)
{
    struct sim_port *port = fed_port(name, load, code);
    if (port != NULL || *code != 0)
        return port;
    for (unsigned i = 1; i < sim.nports; i++)
        if (strcmp(sim.ports[i].name, name) == 0)
            return &sim.ports[i];
    port = pipe_port(name);
    if (port == NULL && strncmp(name, "vale", 4) == 0 && strchr(name, ':') != NULL && (port = make_port(name, 1)) != NULL)
        port->switched = true;
    *code = port == NULL ? ENXIO : 0;
    return port;
}

static int enter(int fd, struct nmreq_header *header)
{
    struct nmreq_register *reg = (struct nmreq_register *)(uintptr_t)header->nr_body;
    struct sim_descriptor *d = &sim.fds[fd];
    int code = 0;
    if (d->port != NULL)
        return EBUSY;
    struct sim_port *port = port_called(header->nr_name, true, &code);
    if (port == NULL)
        return code;
    if (reg->nr_mode != NR_REG_ALL_NIC && reg->nr_mode != NR_REG_ONE_NIC) {
        if (sim.strict)
            illegal("registration mode %u takes rings that belong to the host", reg->nr_mode);
        return EINVAL;
    }
    if (reg->nr_mode == NR_REG_ONE_NIC && reg->nr_ringid >= port->rx_rings)
        return EINVAL;
    bool receive = (reg->nr_flags & NR_TX_RINGS_ONLY) == 0, transmit = (reg->nr_flags & NR_RX_RINGS_ONLY) == 0;
    unsigned first = reg->nr_mode == NR_REG_ALL_NIC ? 0 : reg->nr_ringid, count = reg->nr_mode == NR_REG_ALL_NIC ? port->rx_rings : 1;
    for (unsigned i = first; i < first + count; i++)
        if ((receive && port->rx[i].owner >= 0) || (transmit && port->tx[i].owner >= 0))
            return EBUSY;
    if ((reg->nr_flags & NR_EXCLUSIVE) == 0 && sim.strict)
        illegal("a registration that is not exclusive shares head and cur with whoever opens next");
    if ((reg->nr_flags & NR_EXCLUSIVE) != 0)
        for (unsigned i = first; i < first + count; i++) {
            if (receive)
                port->rx[i].owner = fd;
            if (transmit)
                port->tx[i].owner = fd;
        }
    port->users++;
    d->port = port, d->first = first, d->count = count, d->receive = receive, d->transmit = transmit;
    size_t at = (size_t)SIM_IF_AREA * ((unsigned)fd % (SIM_MAX_PORTS * 8));
    struct netmap_if *nifp = (struct netmap_if *)(sim.region + at);
    memset(nifp, 0, SIM_IF_AREA);
    memcpy(nifp->ni_name, port->name, 15);
    SIM_SET(&nifp->ni_tx_rings, uint32_t, port->tx_rings);
    SIM_SET(&nifp->ni_rx_rings, uint32_t, port->rx_rings);
    SIM_SET(&nifp->ni_host_tx_rings, uint32_t, 1);
    SIM_SET(&nifp->ni_host_rx_rings, uint32_t, 1);
    ssize_t *offsets = (ssize_t *)(uintptr_t)nifp->ring_ofs;
    for (unsigned i = 0; i < count; i++) { /* rings that were not asked for keep offset 0 */
        if (transmit)
            offsets[first + i] = (ssize_t)(port->tx[first + i].offset - at);
        if (receive)
            offsets[port->tx_rings + 1 + first + i] = (ssize_t)(port->rx[first + i].offset - at);
    }
    reg->nr_offset = at;
    reg->nr_memsize = sim.size;
    reg->nr_tx_rings = (uint16_t)port->tx_rings, reg->nr_rx_rings = (uint16_t)port->rx_rings;
    reg->nr_host_tx_rings = reg->nr_host_rx_rings = 1;
    reg->nr_tx_slots = reg->nr_rx_slots = sim.slots;
    reg->nr_mem_id = 1;
    return 0;
}

void sim_leave(int fd)
{
    struct sim_port *port = sim.fds[fd].port;
    if (port != NULL) {
        for (unsigned i = 0; i <= SIM_MAX_RINGS; i++) {
            if (port->rx[i].owner == fd)
                port->rx[i].owner = -1;
            if (port->tx[i].owner == fd)
                port->tx[i].owner = -1;
        }
        if (--port->users == 0 && port->live >= 0) {
            close(port->live);
            port->live = -1;
        }
    }
    sim.fds[fd] = (struct sim_descriptor){0};
}

int sim_control(int fd, struct nmreq_header *header)
{
    static const struct {
        const char *name;
        int code;
    } failures[] = {{"ENXIO", ENXIO}, {"EBUSY", EBUSY}, {"ENOMEM", ENOMEM}, {"EINVAL", EINVAL}, {"ENOTTY", ENOTTY}};
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
        if (sim_failing(failures[i].name))
            return failures[i].code;
    if (sim_failing("VERSION")) {
        header->nr_version = 13;
        return EINVAL;
    }
    if (header->nr_version != NETMAP_API)
        return EINVAL;
    if (header->nr_reqtype == NETMAP_REQ_REGISTER)
        return enter(fd, header);
    if (header->nr_reqtype != NETMAP_REQ_PORT_INFO_GET)
        return EINVAL;
    int code = 0;
    struct sim_port *port = port_called(header->nr_name, false, &code);
    if (port == NULL)
        return code;
    *(struct nmreq_port_info_get *)(uintptr_t)header->nr_body = (struct nmreq_port_info_get){
        .nr_memsize = sim.size,
        .nr_tx_slots = sim.slots,
        .nr_rx_slots = sim.slots,
        .nr_tx_rings = (uint16_t)port->tx_rings,
        .nr_rx_rings = (uint16_t)port->rx_rings,
        .nr_host_tx_rings = 1,
        .nr_host_rx_rings = 1,
        .nr_mem_id = 1,
    };
    return 0;
}

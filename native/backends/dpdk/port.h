/* SPDX-License-Identifier: Apache-2.0
 *
 * A DPDK port from its name to started queues, for backend and injector alike: a PCI address or a vdev, both with arguments; and back to
 * nothing.
 */
#ifndef FP_DPDK_PORT_H
#define FP_DPDK_PORT_H

#include <ctype.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "eal.h"

#define PORT_DESCRIPTORS 512   /* wanted; adjusted to what the PMD takes */
#define PORT_POOL_MAX    16383 /* mbufs of one port, all queues together */
#define PORT_POOL_LARGE  8191  /* per queue: af_xdp, whose pool is the UMEM and fills two rings; and frames dealt out in software */
#define PORT_POOL        4095  /* per queue */
#define PORT_POOL_LEAST  511   /* per queue that takes no frame from it */
#define PORT_XDP_ROOM    256   /* of each buffer, kept by the kernel (XDP_PACKET_HEADROOM) */
#define PORT_LINK_WAIT   9000  /* ms */

struct port {
    uint16_t id;
    bool vdev, made, known, configured, started;
    char name[RTE_DEV_NAME_MAX_LEN]; /* of the device, as DPDK knows it */
    char interface[IFNAMSIZ];        /* of the kernel, under a vdev with iface=; "" if none */
    const char *driver;
    struct rte_eth_dev_info info;
    uint16_t nrx, ntx, mtu, descriptors;
    uint64_t rx_offloads;
    bool hashed; /* the PMD spreads by RSS */
    struct rte_mempool *pools[FP_MAX_QUEUES];
};

/* One key byte pair for any hash length makes Toeplitz symmetric in addresses and ports (Woo, Park: Scalable TCP session monitoring with
 * symmetric RSS). */
static uint8_t port_symmetric_key[64];

static const char *port_said(char *text, size_t len)
{
    const char *said = eal_said();

    snprintf(text, len, "%s%s", *said ? ": " : "", said);
    return text;
}

static bool port_is_pci(const char *input)
{
    unsigned domain, bus, device, function;
    int used = 0;

    if (sscanf(input, "%4x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &used) == 4 && (input[used] == '\0' || input[used] == ','))
        return true;
    used = 0;
    return sscanf(input, "%2x:%2x.%1x%n", &bus, &device, &function, &used) == 3 && (input[used] == '\0' || input[used] == ',');
}

/* Options of every port, each followed by a space. */
#define PORT_OPTIONS "eal log huge mtu mbuf mbufs descriptors "

/* Refuses options that are not among `known`. */
static int port_check_options(const struct fp_host *host, const struct fp_open_args *args, const char *known, char *err)
{
    for (uint32_t i = 0; i < args->noptions; i++) {
        const char *key = args->options[i].key, *at = known;
        size_t len = strlen(key);
        while (*at && !(strncmp(at, key, len) == 0 && at[len] == ' '))
            at += strcspn(at, " ") + 1;
        if (!*at)
            return host->fail(err, -EINVAL, "dpdk: unknown option %s; known: %.*s", key, (int)strlen(known) - 1, known);
    }
    return 0;
}

/* An unsigned option within [low, high]; `fallback` if absent; negative on error. */
static int64_t port_number(const struct fp_host *host, const struct fp_open_args *args, const char *key, int64_t fallback, int64_t low,
                           int64_t high, char *err)
{
    const char *text = host->option(args, key);
    char *end;

    if (!text)
        return fallback;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < low || value > high)
        return host->fail(err, -EINVAL, "dpdk: option %s=%s is not a number from %lld to %lld", key, text, (long long)low, (long long)high);
    return value;
}

/* Refuses a PCI device that is absent or in the kernel's hands, before EAL is started for it. `name` receives the full address. */
static int port_check_pci(const struct fp_host *host, const char *input, char *name, size_t len, char *err)
{
    static const char *const user[] = {"vfio-pci", "uio_pci_generic", "igb_uio"}, *const shared[] = {"mlx4_core", "mlx5_core", "mana"};
    char path[256], target[256] = "";
    size_t digits = strcspn(input, ",");

    snprintf(name, len, "%s%.*s", strchr(input, ':') == strrchr(input, ':') ? "0000:" : "", (int)digits, input);
    for (char *c = name; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", name);
    if (access(path, F_OK) < 0)
        return host->fail(err, -ENODEV, "dpdk: there is no PCI device %s; 'dpdk-devbind.py --status-dev net' lists those that are", name);
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", name);
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    const char *driver = n > 0 ? (target[n] = '\0', strrchr(target, '/') ? strrchr(target, '/') + 1 : target) : NULL;
    for (size_t i = 0; driver && i < sizeof(user) / sizeof(*user); i++)
        if (strcmp(driver, user[i]) == 0)
            return 0;
    for (size_t i = 0; driver && i < sizeof(shared) / sizeof(*shared); i++)
        if (strcmp(driver, shared[i]) == 0)
            return 0;
    return host->fail(err, -ENODEV,
                      "dpdk: port %s is bound to %s%s; run 'dpdk-devbind.py -b vfio-pci %s' (its kernel interface disappears)", name,
                      driver ? "the kernel driver " : "no driver", driver ? driver : "", name);
}

/* Brings the device that `input` names into this process as an ethdev port. */
static int port_attach(const struct fp_host *host, const struct fp_open_args *args, const char *input, struct port *p, char *err)
{
    const char *comma = strchr(input, ',');
    char said[300];
    int rc;

    if (port_is_pci(input)) {
        char device[256];
        if ((rc = port_check_pci(host, input, p->name, sizeof(p->name), err)) < 0)
            return rc;
        snprintf(device, sizeof(device), "%s%s", p->name, comma ? comma : "");
        if ((rc = eal_start(host, args, device, err)) < 0)
            return rc;
        if (rte_eth_dev_get_port_by_name(p->name, &p->id) == 0)
            return 0;
        struct quiet q;
        quiet_begin(&q);
        rc = rte_eal_hotplug_add("pci", p->name, comma ? comma + 1 : "");
        quiet_end(&q);
        if (rc < 0 || rte_eth_dev_get_port_by_name(p->name, &p->id) < 0)
            return host->fail(err, -ENODEV, "dpdk: no PMD took port %s%s; see 'dpdk-devbind.py --status' and the driver list of DPDK %s",
                              p->name, port_said(said, sizeof(said)), rte_version());
        p->made = true;
        return 0;
    }
    size_t len = comma ? (size_t)(comma - input) : strlen(input);
    if (strncmp(input, "net_", 4) != 0 && strncmp(input, "eth_", 4) != 0)
        return host->fail(
            err, -EINVAL,
            "dpdk: '%s' is neither a PCI address (0000:01:00.0), a vdev (net_pcap0,rx_pcap=FILE), feed:FILE nor a file that exists", input);
    if (len >= sizeof(p->name))
        return host->fail(err, -ENAMETOOLONG, "dpdk: the vdev name '%.*s' is longer than %zu octets", (int)len, input, sizeof(p->name) - 1);
    memcpy(p->name, input, len);
    if ((rc = eal_start(host, args, NULL, err)) < 0)
        return rc;
    if (rte_eth_dev_get_port_by_name(p->name, &p->id) == 0)
        return host->fail(err, -EEXIST, "dpdk: a port %s is open in this process already; give it another number", p->name);
    p->vdev = true;
    const char *interface = strstr(input, "iface=");
    if (interface && (strncmp(input, "net_af_", 7) == 0 || strncmp(input, "net_pcap", 8) == 0))
        snprintf(p->interface, sizeof(p->interface), "%.*s", (int)strcspn(interface + 6, ","), interface + 6);
    struct quiet q;
    quiet_begin(&q);
    rc = rte_eal_hotplug_add("vdev", p->name, comma ? comma + 1 : "");
    quiet_end(&q);
    if (rc == 0 && rte_eth_dev_get_port_by_name(p->name, &p->id) == 0) {
        p->made = true;
        return 0;
    }
    if (rc == 0)
        rte_eal_hotplug_remove("vdev", p->name);
    if (strstr(eal.text, "failed to parse device") || !*eal_said())
        return host->fail(
            err, -ENODEV,
            "dpdk: no PMD takes '%s' (its directory is %s); correct the name, or install the driver (apt-cache search librte-net)", p->name,
            RTE_EAL_PMD_PATH);
    rc = strstr(input, "rx_pcap=") ? -EBADMSG : rc < -1 ? rc : -ENODEV; /* many PMDs fail with a bare -1 */
    if (strstr(eal.text, "connect error"))
        return host->fail(err, rc, "dpdk: port %s cannot be opened%s; start the vhost side at '%s' first", p->name,
                          port_said(said, sizeof(said)), comma ? comma + 1 : "");
    return host->fail(err, rc, "dpdk: port %s cannot be opened%s; check its arguments '%s'", p->name, port_said(said, sizeof(said)),
                      comma ? comma + 1 : "");
}

static void port_detach(struct port *p)
{
    struct quiet q;

    quiet_begin(&q);
    if (p->started)
        rte_eth_dev_stop(p->id);
    if (p->configured)
        rte_eth_dev_close(p->id);
    if (p->made)
        rte_eal_hotplug_remove(p->vdev ? "vdev" : "pci", p->name);
    for (int i = 0; i < FP_MAX_QUEUES; i++)
        rte_mempool_free(p->pools[i]);
    quiet_end(&q);
    memset(p, 0, sizeof(*p));
}

/* NUMA node of the port, or any. */
static int port_node(const struct port *p)
{
    int node = p->known ? rte_eth_dev_socket_id(p->id) : -1;

    return node < 0 ? SOCKET_ID_ANY : node;
}

static struct rte_mempool *port_pool(const struct port *p, unsigned queue, unsigned count, unsigned room, unsigned private_size)
{
    static unsigned serial;
    char name[RTE_MEMPOOL_NAMESIZE];

    snprintf(name, sizeof(name), "fp%u_q%u", serial++, queue);
    return rte_pktmbuf_pool_create(name, count, 256, (uint16_t)private_size, (uint16_t)(room + RTE_PKTMBUF_HEADROOM), port_node(p));
}

/* Configures and starts `nrx` receive and `ntx` transmit queues. `private_size` octets of every mbuf belong to the caller. */
static int port_start(const struct fp_host *host, const struct fp_open_args *args, struct port *p, uint16_t nrx, uint16_t ntx,
                      unsigned private_size, char *err)
{
    struct rte_eth_conf conf = {0};
    char said[300];
    struct quiet q;
    int rc;
    int64_t mtu = port_number(host, args, "mtu", 0, 68, 65535, err), room = port_number(host, args, "mbuf", 0, 512, 65000, err),
            descriptors = port_number(host, args, "descriptors", PORT_DESCRIPTORS, 32, 32768, err),
            mbufs = port_number(host, args, "mbufs", 0, 512, PORT_POOL_MAX, err);

    if (mtu < 0 || room < 0 || descriptors < 0 || mbufs < 0)
        return -EINVAL;
    if ((rc = rte_eth_dev_info_get(p->id, &p->info)) < 0)
        return host->fail(err, rc, "dpdk: port %s does not describe itself: %s", p->name, strerror(-rc));
    p->known = true;
    p->driver = p->info.driver_name;
    if (!room)
        room = RTE_MBUF_DEFAULT_DATAROOM + (strcmp(p->driver, "net_af_xdp") == 0 ? PORT_XDP_ROOM : 0);
    if (nrx > p->info.max_rx_queues)
        return host->fail(err, -E2BIG,
                          "dpdk: port %s has %u receive queue%s, not %u; use %u worker%s, or give it more queues (vdevs: queues=, qpairs=, "
                          "queue_count=, rx_pcap= again)",
                          p->name, p->info.max_rx_queues, p->info.max_rx_queues == 1 ? "" : "s", nrx, p->info.max_rx_queues,
                          p->info.max_rx_queues == 1 ? "" : "s");
    if (ntx > p->info.max_tx_queues)
        ntx = p->info.max_tx_queues;

    uint64_t wanted = RTE_ETH_RX_OFFLOAD_TIMESTAMP | RTE_ETH_RX_OFFLOAD_RSS_HASH | RTE_ETH_RX_OFFLOAD_SCATTER;
    conf.rxmode.offloads = wanted & p->info.rx_offload_capa;
    conf.txmode.offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS & p->info.tx_offload_capa;
    if (mtu) {
        conf.rxmode.mtu = (uint32_t)mtu;
        p->mtu = (uint16_t)mtu;
    }
    const char *rss = host->option(args, "rss");
    if (rss && strcmp(rss, "ip") != 0 && strcmp(rss, "ports") != 0 && strcmp(rss, "symmetric") != 0)
        return host->fail(err, -EINVAL, "dpdk: option rss=%s is none of ip, ports, symmetric", rss);
    if (nrx > 1 && p->info.flow_type_rss_offloads) {
        uint64_t fields = RTE_ETH_RSS_IP;
        if (!rss || strcmp(rss, "ip") != 0)
            fields |= RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP;
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = fields & p->info.flow_type_rss_offloads;
        if (rss && strcmp(rss, "symmetric") == 0) {
            for (size_t i = 0; i < sizeof(port_symmetric_key); i++)
                port_symmetric_key[i] = i & 1 ? 0x5a : 0x6d;
            conf.rx_adv_conf.rss_conf.rss_key = port_symmetric_key;
            conf.rx_adv_conf.rss_conf.rss_key_len = p->info.hash_key_size ? p->info.hash_key_size : 40;
            if (conf.rx_adv_conf.rss_conf.rss_key_len > sizeof(port_symmetric_key))
                return host->fail(err, -ENOTSUP, "dpdk: port %s wants an RSS key of %u octets", p->name,
                                  conf.rx_adv_conf.rss_conf.rss_key_len);
        }
        p->hashed = conf.rx_adv_conf.rss_conf.rss_hf != 0;
        if (!p->hashed)
            conf.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE;
    }
    if (rss && strcmp(rss, "symmetric") == 0 && nrx > 1 && !p->hashed)
        return host->fail(err, -ENOTSUP, "dpdk: port %s (%s) has no RSS, so no symmetric key; leave rss out", p->name, p->driver);
    if (nrx > 1 && !p->hashed && !p->vdev)
        return host->fail(err, -ENOTSUP, "dpdk: port %s (%s) has no RSS to fill %u queues; use one worker", p->name, p->driver, nrx);

    unsigned count = strcmp(p->driver, "net_af_xdp") == 0 || host->option(args, "spread") ? PORT_POOL_LARGE : PORT_POOL,
             queues = nrx ? nrx : 1;
    if (strcmp(p->driver, "net_ring") == 0)
        count = PORT_POOL_LEAST; /* its frames are in the feeder's */
    if (mbufs)
        count = (unsigned)mbufs;
    if (count * queues > PORT_POOL_MAX)
        count = PORT_POOL_MAX / queues;
    for (unsigned i = 0; i < queues; i++) {
        if (!(p->pools[i] = port_pool(p, i, count, (unsigned)room, private_size)))
            return host->fail(err, -rte_errno,
                              "dpdk: no memory for %u packet buffers (%s); free hugepages or run 'sysctl vm.nr_hugepages=512'", count,
                              rte_strerror(rte_errno));
    }

    quiet_begin(&q);
    rc = rte_eth_dev_configure(p->id, nrx, ntx, &conf);
    if (rc == -ENOTSUP && p->hashed && p->vdev) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE;
        memset(&conf.rx_adv_conf, 0, sizeof(conf.rx_adv_conf));
        p->hashed = false;
        rc = rte_eth_dev_configure(p->id, nrx, ntx, &conf);
    }
    p->configured = rc == 0;
    uint16_t nrxd = (uint16_t)descriptors, ntxd = (uint16_t)descriptors;
    if (rc == 0)
        rc = rte_eth_dev_adjust_nb_rx_tx_desc(p->id, &nrxd, &ntxd);
    for (uint16_t i = 0; rc == 0 && i < nrx; i++)
        rc = rte_eth_rx_queue_setup(p->id, i, nrxd, (unsigned)port_node(p), NULL, p->pools[i]);
    for (uint16_t i = 0; rc == 0 && i < ntx; i++)
        rc = rte_eth_tx_queue_setup(p->id, i, ntxd, (unsigned)port_node(p), NULL);
    if (rc == 0 && args->flags & FP_OPEN_PROMISCUOUS)
        rte_eth_promiscuous_enable(p->id);
    if (rc == 0)
        rc = rte_eth_dev_start(p->id);
    quiet_end(&q);
    if (rc < 0)
        return host->fail(err, rc, "dpdk: port %s (%s) does not start with %u receive and %u transmit queues: %s%s", p->name, p->driver,
                          nrx, ntx, strerror(-rc), port_said(said, sizeof(said)));
    p->started = true;
    p->nrx = nrx;
    p->descriptors = nrxd;
    p->ntx = ntx;
    p->rx_offloads = conf.rxmode.offloads;
    if (!p->mtu)
        rte_eth_dev_get_mtu(p->id, &p->mtu);
    return 0;
}

/* Asks the kernel about the interface under the port. */
static int port_ask_kernel(const struct port *p, unsigned long what, struct ifreq *request)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = -1;

    if (fd >= 0) {
        memcpy(request->ifr_name, p->interface, sizeof(request->ifr_name));
        rc = ioctl(fd, what, request);
        close(fd);
    }
    return rc;
}

/* The longest frame that goes through whole. The PMDs over kernel interfaces say 1500 whatever the interface says, and af_packet drops what
 * exceeds the slots of its ring. */
static uint32_t port_max_frame(const struct port *p, const char *input)
{
    const char *slot = strstr(input, "framesz=");
    struct ifreq request = {0};

    if (strcmp(p->driver, "net_vhost") == 0 || strncmp(p->driver, "net_virtio_user", 15) == 0)
        return 65535;
    if (!p->interface[0])
        return p->mtu + 14u;
    uint32_t room = rte_pktmbuf_data_room_size(p->pools[0]) - RTE_PKTMBUF_HEADROOM;
    if (strcmp(p->driver, "net_af_xdp") == 0)
        room -= PORT_XDP_ROOM;
    else if (strcmp(p->driver, "net_af_packet") == 0)
        room = RTE_MIN(room, (uint32_t)(slot ? strtoul(slot + strlen("framesz="), NULL, 10) : 2048) - 96);
    return RTE_MIN(room, port_ask_kernel(p, SIOCGIFMTU, &request) == 0 ? (uint32_t)request.ifr_mtu + 14 : p->mtu + 14u);
}

/* Whether the link is up. The PMDs over kernel interfaces say so always: there the kernel is asked. */
static bool port_up(const struct port *p)
{
    struct rte_eth_link link = {0};
    struct ifreq request = {0};

    if (p->interface[0])
        return port_ask_kernel(p, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) && (request.ifr_flags & IFF_RUNNING);
    return rte_eth_link_get_nowait(p->id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

/* Waits for the link, at most option link_wait=MS (0: does not look). */
static int port_wait_link(const struct fp_host *host, const struct fp_open_args *args, struct port *p, char *err)
{
    const struct timespec nap = {.tv_nsec = 5000000};
    int64_t wait = port_number(host, args, "link_wait", PORT_LINK_WAIT, 0, 3600000, err), begin = clock_now(CLOCK_MONOTONIC);

    if (wait <= 0)
        return (int)wait;
    while (!port_up(p)) {
        if (clock_now(CLOCK_MONOTONIC) - begin > wait * 1000000)
            return host->fail(
                err, -ENETDOWN,
                "dpdk: port %s (%s) has no link after %lld ms; check cable, peer or interface, or give link_wait=0 to start without",
                p->name, p->driver, (long long)wait);
        nanosleep(&nap, NULL);
    }
    return 0;
}

#endif

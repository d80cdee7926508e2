# SPDX-License-Identifier: Apache-2.0
"""What can be missing or wrong: one line that says what to do, and status 2 or 3."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowparity.harness.rigs.sims import stand_in
from tests.sims.left_out import ROOT

DNS = ROOT / "fixtures/recorded/dns.pcap"
NETMAP = {"LD_PRELOAD": str(stand_in("netmap"))}
PFRING = {"FLOWPARITY_PFRING_LIBRARY": str(stand_in("pfring"))}


def _export(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    argv = [sys.executable, "-m", "flowparity", "export", "--collector", "127.0.0.1:9", *arguments]
    done = subprocess.run(argv, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False)
    lines = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


@pytest.mark.parametrize(
    ("fail", "port", "status", "said"),
    [
        ("ENOENT", "sim0", 3, "load it with `modprobe netmap`"),
        ("EACCES", "sim0", 3, "run as root"),
        ("VERSION", "sim0", 3, "speaks API 13 and this build speaks 14: load the module that matches"),
        ("ENOTTY", "sim0", 3, "too old: it has no NIOCCTRL (API 14): update it"),
        ("EINVAL", "sim0", 3, "older than API 14 (update it), or this is no name of a port"),
        ("EBUSY", "sim0", 3, "in use by another program: close that one first"),
        ("ENXIO", "sim0", 3, "name an interface that `ip link` shows"),
        ("ENOMEM", "sim0", 3, "raise /sys/module/netmap/parameters"),
        ("", "sim0^", 2, "host rings (^ and *) are left to the kernel"),
        ("", "x" * 80, 2, "longer than 63 octets"),
    ],
)
def test_netmap(fail: str, port: str, status: int, said: str) -> None:
    code, line = _export({**NETMAP, "FLOWPARITY_NETMAP_SIM": f"fail={fail}"}, "--backend", "netmap", "-i", f"netmap:{port}")
    assert said in line
    assert code == status, line


def test_no_netmap_module() -> None:
    if Path("/dev/netmap").exists():
        pytest.skip("a netmap module is loaded")
    code, line = _export({}, "--backend", "netmap", "-i", "netmap:eth0")
    assert "no /dev/netmap" in line
    assert "docs/netmap.md" in line
    assert code == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workers", "3"), "has 2 receive rings and every ring needs its worker: ask for 1 or 2 workers"),
        (("-o", "mode=fast"), "neither poll nor busy"),
        (("-o", "speed=1"), "unknown option 'speed'"),
        (("--filter", "udp"), "leave --filter out"),
    ],
)
def test_netmap_usage(arguments: tuple[str, ...], said: str) -> None:
    code, line = _export({**NETMAP, "FLOWPARITY_NETMAP_SIM": "rings=2"}, "--backend", "netmap", "-i", "sim0", *arguments)
    assert said in line
    assert code == 2, line


@pytest.mark.parametrize("backend", ["pfring", "pfring_zc"])
def test_no_libpfring(backend: str) -> None:
    code, line = _export({"FLOWPARITY_PFRING_LIBRARY": "/nowhere/libpfring.so"}, "--backend", backend, "-i", "eth0")
    assert "docs/pf_ring.md" in line
    assert "FLOWPARITY_PFRING_LIBRARY" in line
    assert code == 3, line


@pytest.mark.parametrize("backend", ["pfring", "pfring_zc"])
def test_another_library(backend: str) -> None:
    """A file that is a library, but not this one."""
    code, line = _export({"FLOWPARITY_PFRING_LIBRARY": str(stand_in("netmap"))}, "--backend", backend, "-i", "eth0")
    assert "has no pfring_" in line
    assert code == 3, line


@pytest.mark.parametrize(
    ("backend", "fail", "device", "status", "said"),
    [
        ("pfring", "EPERM", "sim0", 3, "run as root"),
        ("pfring", "EBUSY", "sim0", 3, "in use by another program: close that one first"),
        ("pfring", "ENODEV", "sim0", 3, "name an interface that `ip link` shows"),
        ("pfring_zc", "ENOBUFS", "sim0", 3, "no hugepages for the buffers: `echo 1024 > /proc/sys/vm/nr_hugepages`"),
        ("pfring_zc", "EBUSY", "sim0", 3, "choose another with cluster=ID"),
        ("pfring_zc", "ENOTSOCK", "zc:sim0", 2, "load ntop's driver for this card, or leave out 'zc:'"),
        ("pfring_zc", "ENODEV", "sim0", 3, "name an interface that `ip link` shows"),
        ("pfring_zc", "EPERM", "sim0", 3, "run as root"),
    ],
)
def test_pf_ring(backend: str, fail: str, device: str, status: int, said: str) -> None:
    code, line = _export({**PFRING, "FLOWPARITY_PFRING_SIM": f"fail={fail}"}, "--backend", backend, "-i", device)
    assert said in line
    assert code == status, line


@pytest.mark.parametrize("backend", ["pfring", "pfring_zc"])
def test_more_workers_than_queues(backend: str) -> None:
    code, line = _export({**PFRING, "FLOWPARITY_PFRING_SIM": "queues=2"}, "--backend", backend, "-i", "sim0", "--workers", "3")
    assert "sim0@2" in line
    assert code == 3, line


def test_an_expired_demo_ends_the_run_and_keeps_what_was_metered() -> None:
    """After 100 packets the device gives no more; what came is exported, and the last line says why it ended."""
    argv = [sys.executable, "-m", "flowparity", "export", "--collector", "127.0.0.1:9", "--backend", "pfring_zc", "-i", "zc:sim0"]
    many = ROOT / "fixtures/recorded/iperf3-tcp.pcap"
    environment = os.environ | PFRING | {"FLOWPARITY_PFRING_SIM": f"capture={many},fail=DEMO"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "without a licence a 'zc:' device ends after five minutes" in done.stderr
    assert "Traceback" not in done.stderr
    assert "received 100 = " in done.stderr
    assert done.returncode == 3, done.stderr


def test_a_pool_without_handles() -> None:
    """A cluster that has fewer buffers than a burst needs."""
    code, line = _export({**PFRING, "FLOWPARITY_PFRING_SIM": "pool=10"}, "--backend", "pfring_zc", "-i", "sim0")
    assert "the cluster's buffers are used up: raise the hugepages or ask for fewer workers" in line
    assert code == 3, line


@pytest.mark.parametrize("option", ["wait=often", "buffer=1", "time=never", "speed=1"])
def test_pf_ring_usage(option: str) -> None:
    code, line = _export(PFRING, "--backend", "pfring_zc", "-i", "sim0", "-o", option)
    assert "pfring_zc: " in line
    assert code == 2, line

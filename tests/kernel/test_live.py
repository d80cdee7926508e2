# SPDX-License-Identifier: Apache-2.0
"""`flowparity export` as a service on a live interface: signals, metrics, lost interfaces and collectors, steps of the clock, least privileges."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from flowparity.decode import DecodedFlow, Decoder, Normaliser
from flowparity.harness.rigs.veth import VethLink, VethRig
from tests.kernel.bench import ROOT
from tests.kernel.nobody import as_nobody

BACKENDS = (("af_packet",), ("socket", "-o", "mode=tuned"), ("af_xdp",))
PATIENCE = 120  # seconds until a test gives up; nothing is expected to take so long
_SO_TXTIME = 61
_NS = 1_000_000_000
_YEAR_2106 = 4_294_967_295 * _NS

Rigs = Callable[[str], VethRig]


def frame(port: int) -> bytes:
    """A UDP packet of the flow that its source port names."""
    udp = struct.pack("!HHHH", port, 53, 9, 0) + b"x"
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))
    return bytes.fromhex("020000000001020000000002") + b"\x08\x00" + ip + udp


class Service:
    """A running exporter, its collector and its metrics, all inside the rig's namespace."""

    def __init__(self, rig: VethRig, interface: str, *arguments: str, prefix: tuple[str, ...] = ()) -> None:
        self.rig = rig
        self.collector = rig.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.collector.bind(("127.0.0.1", 0))
        self.port = self.collector.getsockname()[1]
        with rig.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as free:
            free.bind(("127.0.0.1", 0))
            self.metrics_port = free.getsockname()[1]
        argv = [*rig.namespace.prefix, *prefix, sys.executable, "-m", "flowparity", "export", "--interface", interface, "--version", "ipfix"]
        argv += ["--collector", f"127.0.0.1:{self.port}", "--metrics", f"127.0.0.1:{self.metrics_port}", "--backend", *arguments]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._wait_until_it_serves()

    def _wait_until_it_serves(self) -> None:
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < end:
            try:
                self.metrics()
                return
            except ConnectionError:
                time.sleep(0.02)
        pytest.fail(f"the exporter does not start: {self.process.communicate()[1]}")

    def metrics(self) -> dict[str, float]:
        """The metrics of this moment, by name with labels."""
        with self.rig.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(PATIENCE)
            client.connect(("127.0.0.1", self.metrics_port))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            page = b"".join(iter(lambda: client.recv(65536), b""))
        lines = page.partition(b"\r\n\r\n")[2].decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    def wait_for(self, metric: str, value: float) -> None:
        """Waits until a metric has reached a value."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if sum(v for k, v in self.metrics().items() if k.partition("{")[0] == metric or k == metric) >= value:
                return
            time.sleep(0.02)
        pytest.fail(f"{metric} does not reach {value}: {self.metrics()}")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Ends it with a signal; its status and what it said."""
        self.process.send_signal(number)
        errors = self.process.communicate(timeout=PATIENCE)[1]
        return self.process.returncode, errors

    def flows(self) -> list[DecodedFlow]:
        """The flows that the collector has received."""
        decoder, normaliser, out = Decoder(), Normaliser(), []
        self.collector.setblocking(False)
        while True:
            try:
                data, source = self.collector.recvfrom(65536)
            except BlockingIOError:
                return out
            out += normaliser.flows(decoder.feed(data, source, 0))

    def close(self) -> None:
        """Leaves nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.collector.close()


@contextmanager
def service(rig: VethRig, interface: str, *arguments: str, prefix: tuple[str, ...] = ()) -> Iterator[Service]:
    """A service that does not outlive the block."""
    it = Service(rig, interface, *arguments, prefix=prefix)
    try:
        yield it
    finally:
        it.close()


@contextmanager
def sender(rig: VethRig, link: VethLink) -> Iterator[socket.socket]:
    """A packet socket on the link's transmit end."""
    assert link.transmit is not None
    with rig.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW) as mouth:
        mouth.bind((link.transmit, 0))
        yield mouth


@pytest.fixture
def rig(rigs: Rigs) -> VethRig:
    """Plain links: the kernel's own time."""
    return rigs("none")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("backend", [*BACKENDS, ("af_packet", "-o", "tov=400")], ids=lambda b: "-".join(b))
def test_a_signal_ends_it_with_everything_exported(rig: VethRig, backend: tuple[str, ...], number: int) -> None:
    """Frames sent just before the signal are in the export, those of a block that is still open too; the status is 0 (ROB-EXP-07, FLOW-EXP-10)."""
    with rig.bare_link() as link, service(rig, link.receive, *backend) as it, sender(rig, link) as mouth:
        for port in range(1000, 1200):
            mouth.send(frame(port))
        status, said = it.end(number)
        assert status == 0, said
        assert sorted(flow.source_port or 0 for flow in it.flows()) == list(range(1000, 1200))
        assert {flow.end_reason for flow in it.flows()} <= {4}
        assert "invariants hold" in said


_SIGNALLED_AT_ONCE = """
import os, signal, sys
from flowparity import native
from flowparity.cli import main

class Exporter(native.Exporter):
    def __init__(self, config):
        super().__init__(config)
        for number in (signal.SIGUSR1, signal.SIGTERM):
            os.kill(os.getpid(), number)

native.Exporter = Exporter
sys.exit(main())
"""


def test_a_signal_that_comes_while_it_starts(rig: VethRig) -> None:
    """What its source has received by then is not lost: it ends in good order."""
    with rig.bare_link() as link:
        argv = [*rig.namespace.prefix, sys.executable, "-c", _SIGNALLED_AT_ONCE, "export", "--backend", "af_packet", "-i", link.receive]
        done = subprocess.run([*argv, "--collector", "127.0.0.1:9"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("invariants hold") == 2


def test_it_tells_its_accounting_when_asked(rig: VethRig) -> None:
    """SIGUSR1, and Prometheus metrics on request."""
    with rig.bare_link() as link, service(rig, link.receive, "af_packet") as it, sender(rig, link) as mouth:
        for _ in range(7):
            mouth.send(frame(1))
        it.wait_for("flowparity_frames_received_total", 7)
        it.process.send_signal(signal.SIGUSR1)
        assert it.process.stderr is not None
        line = it.process.stderr.readline()
        while "received" not in line:
            line = it.process.stderr.readline()
        assert re.search(r"received 7 = .* metered 7", line)
        metrics = it.metrics()
        assert metrics['flowparity_frames_total{worker="0",verdict="metered"}'] == 7
        assert metrics["flowparity_frames_dropped_total"] == 0
        assert metrics['flowparity_packets_resident{worker="0"}'] == 7
        assert metrics["flowparity_invariants_broken"] == 0


def _promiscuity(rig: VethRig, name: str) -> int:
    shown = subprocess.run([*rig.namespace.prefix, "ip", "-d", "link", "show", name], capture_output=True, text=True, check=True).stdout
    return int(shown.partition("promiscuity ")[2].split()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b[0])
def test_promiscuous_mode_ends_with_it(rig: VethRig, backend: tuple[str, ...], number: int) -> None:
    """However it ends."""
    with rig.bare_link() as link:
        with service(rig, link.receive, *backend, "--promiscuous") as it:
            assert _promiscuity(rig, link.receive) == 1
            it.process.send_signal(number)
            it.process.wait(PATIENCE)
        assert _promiscuity(rig, link.receive) == 0


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b[0])
def test_the_interface_goes_down_and_comes_up(rig: VethRig, backend: tuple[str, ...]) -> None:
    """Metering goes on when the interface is back."""
    with rig.bare_link() as link, service(rig, link.receive, *backend) as it, sender(rig, link) as mouth:
        mouth.send(frame(1))
        it.wait_for("flowparity_frames_received_total", 1)
        rig.namespace.ask("state", name=link.receive, up=False)
        rig.namespace.ask("state", name=link.receive, up=True)
        end = time.monotonic() + PATIENCE
        while it.metrics()['flowparity_frames_received_total{worker="0"}'] < 2:
            assert time.monotonic() < end, "nothing is received any more"
            with suppress(OSError):  # the sending end notices a little later that its peer is back
                mouth.send(frame(2))
            time.sleep(0.05)
        assert it.end()[0] == 0
        assert sorted(flow.source_port or 0 for flow in it.flows()) == [1, 2]


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b[0])
def test_the_interface_is_removed(rig: VethRig, backend: tuple[str, ...]) -> None:
    """One line, status 4, and what was metered is exported (ROB-CAP-02)."""
    with rig.bare_link() as link, service(rig, link.receive, *backend) as it, sender(rig, link) as mouth:
        mouth.send(frame(1))
        it.wait_for("flowparity_frames_received_total", 1)
        rig.namespace.ask("remove", name=link.receive)
        said = it.process.communicate(timeout=PATIENCE)[1]
        assert it.process.returncode == 4
        assert [line for line in said.splitlines() if line.startswith("flowparity:")] == [
            f"flowparity: interface {link.receive}: it was removed; start again when it is back"
        ]
        assert [flow.source_port for flow in it.flows()] == [1]


def test_the_collector_dies_and_comes_back(rig: VethRig) -> None:
    """Loss is counted, templates come again, metering never stops (ROB-COL-02, ROB-COL-03)."""
    fast = ("--idle-timeout", "0.2", "--tcp-end", "0", "--reorder", "0", "--template-refresh", "1,1")
    with rig.bare_link() as link, service(rig, link.receive, "af_packet", *fast) as it, sender(rig, link) as mouth:
        exported = 'flowparity_stream_exported_records_total{worker="0",stream="ipfix"}'
        mouth.send(frame(1))
        it.wait_for(exported, 1)
        it.collector.close()
        port, end = 2, time.monotonic() + 20
        while it.metrics()['flowparity_stream_not_sent_records_total{worker="0",stream="ipfix"}'] < 1:
            assert time.monotonic() < end, "the loss is not counted"
            mouth.send(frame(port))
            port += 1
            time.sleep(0.1)
        it.collector = rig.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        it.collector.bind(("127.0.0.1", it.port))
        for port in range(60_000, 60_003):  # the templates of the first may have left while nobody listened
            before = it.metrics()[exported]
            mouth.send(frame(port))
            it.wait_for(exported, before + 1)
        assert it.end()[0] == 0
        assert it.flows()


@pytest.mark.parametrize("backend", BACKENDS[:2], ids=lambda b: b[0])
def test_one_frame_from_2106(rigs: Rigs, backend: tuple[str, ...]) -> None:
    """A timestamp beyond max_clock_step is replaced and counted; flows that live go on."""
    rig = rigs("txtime")
    with rig.bare_link() as link, service(rig, link.receive, *backend) as it, sender(rig, link) as mouth:
        mouth.send(frame(1))
        mouth.setsockopt(socket.SOL_SOCKET, _SO_TXTIME, struct.pack("iI", time.CLOCK_REALTIME, 0))
        mouth.sendmsg([frame(2)], [(socket.SOL_SOCKET, _SO_TXTIME, struct.pack("Q", _YEAR_2106))])
        it.wait_for("flowparity_timestamps_replaced_total", 1)
        mouth.sendmsg([frame(1)], [(socket.SOL_SOCKET, _SO_TXTIME, struct.pack("Q", time.time_ns()))])
        it.wait_for("flowparity_frames_received_total", 3)
        assert it.end()[0] == 0
        flows = {flow.source_port: flow for flow in it.flows()}
        assert flows[1].packets == 2
        assert abs((flows[2].first_ns or 0) - time.time_ns()) < 60 * _NS


_STEPPED_CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long *step; /* seconds; what the file STEP holds */

__attribute__((constructor)) static void open_step(void)
{
    int fd = open(getenv("STEP"), O_RDONLY);
    step = mmap(NULL, sizeof *step, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, t);
    if (rc == 0 && clock == CLOCK_REALTIME && step)
        t->tv_sec += *step;
    return rc;
}
"""


class SteppedClock:
    """A real-time clock for one process that can be set: a library that comes before the C library's clock."""

    def __init__(self, directory: Path) -> None:
        source, library, self._step = directory / "clock.c", directory / "clock.so", directory / "step"
        source.write_text(_STEPPED_CLOCK, encoding="ascii")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        self.set(0)
        self.prefix = ("env", f"LD_PRELOAD={library}", f"STEP={self._step}")

    def set(self, seconds: int) -> None:
        """How far it is ahead of the machine's."""
        self.seconds = seconds
        with self._step.open("r+b" if self._step.exists() else "wb") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))

    def now(self) -> int:
        """Nanoseconds."""
        return time.time_ns() + self.seconds * _NS


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b[0])
def test_the_clock_steps(rigs: Rigs, backend: tuple[str, ...], tmp_path: Path) -> None:
    """An hour ahead and back: clock and stamps step together, so none is replaced. What comes too late by the worker's clock leaves by itself (S-TIM-3)."""
    rig, clock = rigs("txtime"), SteppedClock(tmp_path)
    with rig.bare_link() as link, service(rig, link.receive, *backend, prefix=clock.prefix) as it, sender(rig, link) as mouth:
        mouth.setsockopt(socket.SOL_SOCKET, _SO_TXTIME, struct.pack("iI", time.CLOCK_REALTIME, 0))
        for received, seconds in enumerate((0, 3600, 0, 3600), 1):
            clock.set(seconds)
            mouth.sendmsg([frame(1)], [(socket.SOL_SOCKET, _SO_TXTIME, struct.pack("Q", clock.now()))])
            it.wait_for("flowparity_frames_received_total", received)
        metrics = it.metrics()
        assert metrics['flowparity_timestamps_replaced_total{worker="0"}'] == 0
        assert metrics['flowparity_packets_late_total{worker="0"}'] == 1
        status, said = it.end()
        assert status == 0, said
        assert "invariants hold" in said
        flows = sorted(it.flows(), key=lambda flow: (flow.packets or 0, flow.first_ns or 0))
        assert [(flow.packets, flow.end_reason) for flow in flows] == [(1, 1), (1, 1), (2, 4)]
        assert (flows[2].first_ns or 0) - (flows[1].last_ns or 0) > 3000 * _NS


def test_it_never_meters_its_own_export(rig: VethRig) -> None:
    """On the loopback everything that it sends comes back to it (S-VER-2)."""
    fast = ("--idle-timeout", "0.1", "--tcp-end", "0", "--reorder", "0")
    with service(rig, "lo", "af_packet", *fast) as it, rig.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        for _ in range(3):
            other.sendto(b"x", ("127.0.0.1", it.port))
            time.sleep(0.3)
        it.wait_for('flowparity_frames_total{worker="0",verdict="filtered"}', 1)
        assert it.end()[0] == 0
        ours = other.getsockname()[1]
        udp = [flow for flow in it.flows() if flow.protocol == 17]
        assert {flow.source_port for flow in udp} == {ours}


UNIT = ROOT / "contrib/systemd/flowparity@.service"


def _of_the_unit(setting: str) -> str:
    return next(line.partition("=")[2] for line in UNIT.read_text(encoding="utf-8").splitlines() if line.startswith(f"{setting}="))


@pytest.mark.parametrize("backend", ["af_packet", "socket", "af_xdp"])
def test_an_ordinary_user_with_capabilities(rig: VethRig, tmp_path: Path, backend: str) -> None:
    """The capabilities of the unit are enough, and its first for the backends that need no other. The limit of locked memory stays: few buffers."""
    capabilities = [name.lower().removeprefix("cap_") for name in _of_the_unit("AmbientCapabilities").split()]
    assert capabilities[0] == "net_raw"
    nobody = as_nobody(tmp_path, *(capabilities if backend == "af_xdp" else capabilities[:1]))
    few = ("-o", "frames=1024") if backend == "af_xdp" else ()
    with rig.bare_link() as link, service(rig, link.receive, backend, *few, prefix=nobody) as it, sender(rig, link) as mouth:
        mouth.send(frame(1))
        it.wait_for("flowparity_frames_received_total", 1)
        assert it.end()[0] == 0


def test_the_unit_is_well_formed(tmp_path: Path) -> None:
    """As systemd itself reads it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing: the unit is not checked")
    unit = tmp_path / "flowparity@eth0.service"
    unit.write_bytes(UNIT.read_bytes())
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False, env=os.environ | {"SYSTEMD_LOG_LEVEL": "info"})
    assert (done.returncode, done.stderr) == (0, "")

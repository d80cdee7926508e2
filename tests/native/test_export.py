# SPDX-License-Identifier: Apache-2.0
"""Export of live runs seen from the collector: what is our own, header times, templates, and what may be asked of an exporter when."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowparity.decode import Decoder, Normaliser
from flowparity.errors import SystemFault, UsageError
from flowparity.frame import Frame
from flowparity.live import MetricsServer
from flowparity.native import Exporter, Player, RunConfig, RunResult
from flowparity.profile import Profile

SECOND = 10**9
PATIENCE = 60  # seconds after which a test gives up what must come


def frame(ts: int, destination: int, *, tcp_flags: int | None = None, source: int = 0x0A000001, ports: tuple[int, int] = (1000, 53)) -> Frame:
    """UDP, or TCP with these flags."""
    protocol, transport = 17, struct.pack(">HHHH", *ports, 8, 0)
    if tcp_flags is not None:
        protocol, transport = 6, struct.pack(">HHIIHHHH", *ports, 0, 0, 5 << 12 | tcp_flags, 0, 0, 0)
    head = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(transport), 0, 0, 64, protocol, 0, source, destination)
    data = bytes(12) + b"\x08\0" + head + transport
    return Frame(ts, data, len(data))


@pytest.fixture
def collector() -> Iterator[socket.socket]:
    """A collector on the loopback with room for everything that these tests export."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        s.bind(("127.0.0.1", 0))
        s.settimeout(PATIENCE)
        yield s


def exporter_to(collector: socket.socket, pipe: str, profile: Profile, *, version: str = "ipfix", **more: object) -> Exporter:
    config = RunConfig("memory", f"pipe:{pipe}", profile, ((version, "127.0.0.1", collector.getsockname()[1]),), **more)  # type: ignore[arg-type]
    return Exporter(config)


@contextmanager
def running(exporter: Exporter) -> Iterator[list[RunResult]]:
    """The exporter at work; its result is there behind the block, which is stopped if it is still running."""
    results: list[RunResult] = []
    thread = threading.Thread(target=lambda: results.append(exporter.run()))
    thread.start()
    try:
        yield results
    finally:
        exporter.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def sources_to(port: int) -> list[int]:
    """The ports of this process's UDP sockets that are connected to this one."""
    mine = set()
    for fd in Path("/proc/self/fd").iterdir():
        try:
            mine.add(str(fd.readlink()))
        except OSError:
            continue
    lines = [line.split() for line in Path("/proc/self/net/udp").read_text(encoding="ascii").splitlines()[1:]]
    return [int(line[1].partition(":")[2], 16) for line in lines if f"socket:[{line[9]}]" in mine and int(line[2].partition(":")[2], 16) == port]


def test_what_any_worker_exports_is_our_own(collector: socket.socket) -> None:
    """S-VER-2, with every worker's datagrams dealt out by flow hash and so mostly to another worker than that which sent them."""
    port = collector.getsockname()[1]
    loopback = 0x7F000001
    with exporter_to(collector, "own", Profile(), workers=8) as exporter:
        sources = sources_to(port)
        assert len(sources) == 8
        frames = [frame(SECOND, loopback, source=loopback, ports=(source, port)) for source in sources]
        frames += [frame(SECOND, loopback, source=loopback, ports=(port, source)) for source in sources]
        with running(exporter) as results:
            Player("memory", "pipe:own").play(frames)
    assert (results[0].accounting.filtered, results[0].accounting.metered) == (8, 8)


@pytest.mark.parametrize("version", ["9", "ipfix"])
def test_no_header_lies_before_its_records(collector: socket.socket, version: str) -> None:
    """S-TIM-6, with stamps half a minute ahead of the system's clock, and so many records in the first burst that datagrams leave in the midst of it.

    Whoever plays them gives up, because nobody reads yet: all frames lie ready when the exporter starts.
    """
    start = time.time_ns() + 30 * SECOND
    frames = [frame(start + 2 * i + j, 0x0B000000 + i, tcp_flags=(0x01, 0x10)[j]) for i in range(120) for j in range(2)]
    with exporter_to(collector, "ahead", Profile(tcp_end=0, reorder=0), version=version, clock="wall", batch=256) as exporter:
        with pytest.raises(SystemFault):
            Player("memory", "pipe:ahead").play(frames, timeout=0.1)
        account = exporter.run().accounting.streams[version]
    assert account.exported_records == 240
    decoder, normaliser = Decoder(), Normaliser()
    flows = 0
    for _ in range(account.datagrams):
        data, source = collector.recvfrom(65536)
        header = struct.unpack_from(">I", data, 4 if version == "ipfix" else 8)[0]
        for flow in normaliser.flows(decoder.feed(data, source, 0)):
            assert flow.last_ns is not None
            assert start // 10**6 * 10**6 <= flow.last_ns < (header + 1) * SECOND
            flows += 1
    assert flows == 240


def test_stamps_far_ahead_do_not_hold_up_records(collector: socket.socket) -> None:
    """S-END-6: a FIN, and a packet 0.2 s later that closes its record, both stamped a day ahead; the third is not played before the test is over.

    The record leaves, although the export time stands still for a day.
    """
    ahead = time.time_ns() + 86_400 * SECOND
    frames = [frame(ahead, 1, tcp_flags=0x01), frame(ahead + SECOND // 5, 1, tcp_flags=0x10), frame(ahead + 86_400 * SECOND, 2)]
    player = Player("memory", "pipe:frozen")
    with exporter_to(collector, "frozen", Profile(tcp_end=0, max_clock_step=10**6 * SECOND), clock="wall") as exporter, running(exporter):
        feeder = threading.Thread(target=lambda: player.play(frames, speed=1.0))
        feeder.start()
        try:
            decoder, normaliser = Decoder(), Normaliser()
            reasons: list[object] = []
            while not reasons:
                data, source = collector.recvfrom(65536)
                reasons += [flow.end_reason for flow in normaliser.flows(decoder.feed(data, source, 0))]
            assert reasons == [3]
        finally:
            player.stop()
            feeder.join(PATIENCE)


def test_a_live_worker_without_a_packet_exports_templates_and_statistics(collector: socket.socket) -> None:
    """S-EXP-7 for every observation domain; only `packet` excuses it (S-TIM-7)."""
    with exporter_to(collector, "quiet-workers", Profile(), version="9", clock="wall", workers=3) as exporter, running(exporter):
        decoder = Decoder()
        said: set[int] = set()
        while len(said) < 3:
            data, source = collector.recvfrom(65536)
            if decoder.feed(data, source, 0).options:
                said.add(struct.unpack_from(">I", data, 16)[0])
        assert said == {1, 2, 3}
    with exporter_to(collector, "quiet-replay", Profile(), workers=3) as exporter, running(exporter) as results:
        pass
    assert results[0].accounting.streams["ipfix"].datagrams == 0


def test_closing_waits_for_whoever_reads_the_accounts(collector: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a metrics request may, while the exporter ends."""
    reading, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []
    exporter = exporter_to(collector, "closing", Profile())
    collect = Exporter._xstats

    def slowly(self: Exporter) -> dict[str, int]:
        reading.set()
        assert go_on.wait(PATIENCE)
        order.append("read")
        return collect(self)

    def close() -> None:
        exporter.close()
        order.append("closed")
        closed.set()

    monkeypatch.setattr(Exporter, "_xstats", slowly)
    reader = threading.Thread(target=exporter.snapshot)
    reader.start()
    assert reading.wait(PATIENCE)
    closer = threading.Thread(target=close)
    closer.start()
    assert not closed.wait(0.2)
    go_on.set()
    reader.join(PATIENCE)
    closer.join(PATIENCE)
    assert order == ["read", "closed"]
    with pytest.raises(UsageError, match="closed"):
        exporter.snapshot()
    exporter.stop()  # as a signal handler may, however late


def test_metrics_of_a_closed_exporter_are_unavailable(collector: socket.socket) -> None:
    exporter = exporter_to(collector, "gone", Profile())
    exporter.close()
    with MetricsServer("127.0.0.1", 0, exporter.snapshot) as server, socket.create_connection(server.address) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert client.makefile("rb").read().startswith(b"HTTP/1.0 503 ")

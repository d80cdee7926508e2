# SPDX-License-Identifier: Apache-2.0
"""S-VER-2: a live exporter that sees its own export does not meter it, wherever in a program its datagrams lie, and meters what only looks like them."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from flowparity.frame import Frame
from flowparity.native import Exporter, Player, RunConfig, RunResult
from flowparity.profile import Profile
from flowparity.reference import ReferenceExporter
from tests.properties.differential import VERDICTS, native_records, row
from tests.properties.frames import ETHERNET, Step, build
from tests.properties.programs import START, steps

LOOPBACK = bytes((127, 0, 0, 1))


def datagram(source_port: int, destination_port: int, ts_ns: int, index: int) -> Frame:
    """A UDP datagram of 29 octets over loopback, in Ethernet."""
    ports = source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
    packet = bytes.fromhex("4500001d0000000040110000") + LOOPBACK * 2 + ports + bytes.fromhex("0009000000")
    data = bytes(12) + b"\x08\0" + packet
    return Frame(ts_ns, data, len(data), ETHERNET, 0, index)


def local_port(collector: int) -> int:
    """The port of the UDP socket of this process that is connected to the collector."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        local, remote = line.split()[1:3]
        if int(remote.rpartition(":")[2], 16) == collector:
            return int(local.rpartition(":")[2], 16)
    raise AssertionError("the exporter has no socket")


Marked = list[tuple[Step, str]]


def test_own_export() -> None:
    examples: list[int] = []

    @settings(max_examples=max(12, settings().max_examples // 20))
    @given(st.lists(st.tuples(steps(), st.sampled_from(["", "", "own", "back", "other"])), min_size=4, max_size=20))
    def filtered(program: Marked) -> None:
        examples.append(run(program))

    filtered()
    assert sum(count > 0 for count in examples) * 100 >= len(examples), "the verdict `filtered` is too rare"


def run(program: Marked) -> int:
    """One example; how many frames were filtered."""
    profile = Profile()
    results: list[RunResult] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(5)
        port = collector.getsockname()[1]
        config = RunConfig("memory", "pipe:own", profile, (("ipfix", "127.0.0.1", port),), trailer=True, ipfix_ns=True)
        with Exporter(config) as exporter:
            own = local_port(port)
            frames, now = [], START
            for index, (step, kind) in enumerate(program):
                now += max(0, step.delta)
                made = build(replace(step, cut=0, tags=(), segments=1, interface=0), ETHERNET, now, index)
                ends = {"own": (own, port), "back": (port, own), "other": (own, port ^ 1)}
                frames.append(datagram(*ends[kind], now, index) if kind else made)
            thread = threading.Thread(target=lambda: results.append(exporter.run()))
            thread.start()
            Player("memory", "pipe:own").play(frames, trailer=True)
            thread.join(30)
        account = results[0].accounting
        arrived = [collector.recv(65536) for _ in range(account.streams["ipfix"].datagrams)]
    ours = {frame.index for frame, (_, kind) in zip(frames, program, strict=True) if kind == "own"}
    reference = ReferenceExporter(profile, is_filtered=lambda frame: frame.index in ours)
    closed = [each for frame in frames for each in reference.feed(frame)] + reference.flush()
    assert account.filtered == len(ours)
    assert {name: getattr(account, name) for name in VERDICTS} == {name: getattr(reference.accounting(), name) for name in VERDICTS}
    assert native_records(arrived) == Counter(row(each.record) for each in closed)
    return len(ours)

# SPDX-License-Identifier: Apache-2.0
"""The native Exporting Process where only a whole run shows it: when records leave, what the last headers say, datagrams as UDP carries them."""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flowparity.capture import write_capture
from flowparity.decode import Decoder, Normaliser
from flowparity.frame import Frame
from flowparity.native import Exporter, RunConfig, meter
from flowparity.profile import Profile, Sampling

from .test_core import SECOND, START, listener, played, udp, udp6

MILLI = SECOND // 1000


def icmp(index: int, kind: int, code: int, *, six: bool) -> Frame:
    """An ICMP message of either family."""
    if six:
        head = struct.pack(">IHBB16s16s", 6 << 28, 8, 58, 64, bytes(16), bytes(16))
        return Frame(START, bytes(12) + b"\x86\xdd" + head + bytes([kind, code]) + bytes(6), 62, index=index)
    head = struct.pack(">BBHHHBBHII", 0x45, 0, 28, 0, 0, 64, 1, 0, 1, 2)
    return Frame(START, bytes(12) + b"\x08\0" + head + bytes([kind, code]) + bytes(6), 42, index=index)


@pytest.mark.parametrize("step", [10 * MILLI, 100 * MILLI])
def test_records_leave_within_a_second_of_their_deadline(step: int) -> None:
    """S-END-6, in both families: a v9 header tells when a record left to the millisecond. Other flows carry the clock on, a packet a batch."""
    profile = Profile(idle_timeout=2 * SECOND, tcp_end=None, reorder=100 * MILLI, boot=START // SECOND)
    frames = [udp(i, START + i * step, sport=i // 20) for i in range(20 * SECOND // step)]
    frames += [udp(0, START + i * SECOND // 3, source=i, sport=9999) for i in range(30)] + [udp6(0, START + i * SECOND // 3, i) for i in range(30)]
    frames = [replace(frame, index=i) for i, frame in enumerate(sorted(frames, key=lambda frame: frame.ts_ns))]
    datagrams, result = meter(frames, profile, ("9",), batch=1)
    decoder = Decoder()
    flows = Normaliser(profile.boot).flow_stream(decoder.feed(datagram) for datagram in datagrams["9"])
    idle = [flow for flow in flows if flow.end_reason == 1 and (flow.header_ns or 0) < (result.final_clock_ns or 0) // MILLI * MILLI]
    assert {flow.ip_version for flow in idle} == {4, 6}
    latest = max((flow.header_ns or 0) - (flow.last_ns or 0) for flow in idle)
    assert latest <= profile.idle_timeout + profile.reorder + SECOND


@pytest.mark.parametrize("form", ["5", "9"])
def test_the_last_datagrams_bear_the_final_clock(form: str) -> None:
    """S-TIM-6: also those of a worker whose own last packet was earlier."""
    frames = [udp(0, START), udp(1, START + 7 * SECOND + 250 * MILLI, sport=1), udp(2, START + SECOND, sport=2)]
    datagrams, result = meter(frames, Profile(counter_bits=32, boot=START // SECOND), (form,), 2, assignment=[0, 1, 0])
    assert result.final_clock_ns == frames[1].ts_ns
    last = {struct.unpack_from(">BB" if form == "5" else ">I", each, 20 if form == "5" else 16): each for each in datagrams[form]}
    assert len(last) == 2
    for each in last.values():
        assert struct.unpack_from(">II", each, 4) == (7250, START // SECOND + 7)


@pytest.mark.parametrize("form", ["9", "ipfix"])
def test_icmp_type_and_code_have_an_element(form: str) -> None:
    """S-PRT-4: the element of its family, and none in what is not ICMP."""
    datagrams, _ = meter([icmp(0, 3, 1, six=False), icmp(1, 129, 2, six=True), udp(2)], Profile(), (form,))
    decoder = Decoder()
    records = [record for datagram in datagrams[form] for record in decoder.feed(datagram).flows]
    seen = {(record.get("protocolIdentifier"), record.get("icmpTypeCodeIPv4"), record.get("icmpTypeCodeIPv6")) for record in records}
    assert seen == {(1, 0x301, None), (58, None, 0x8102), (17, None, None)}


def through(collector: socket.socket, path: Path, form: str, profile: Profile, **how: int) -> list[bytes]:
    """The datagrams of an export as they arrive."""
    collectors = ((form, "127.0.0.1", collector.getsockname()[1]),)
    with Exporter(RunConfig("pcap", str(path), profile, collectors, **how)) as exporter:  # type: ignore[arg-type]
        account = exporter.run().accounting
    assert account.broken() == []
    return [collector.recv(65536) for _ in range(account.streams[form].datagrams)]


@pytest.mark.parametrize("pace", [0, 5000])
@pytest.mark.parametrize("form", ["5", "9", "ipfix"])
def test_datagrams_arrive_as_they_were_built(tmp_path: Path, form: str, pace: int) -> None:
    """Whatever goes out in one call: many of one length, shorter and longer ones behind each other."""
    frames = []
    for i in range(3000):
        at = START + i * SECOND // 50
        frames.append(udp6(i, at, i) if i // 7 % 3 == 1 else udp(i, at, sport=i % 997))
    profile = Profile(counter_bits=32, idle_timeout=SECOND, tcp_end=None, template_packets=3)
    path = tmp_path / "memory"  # the name of the interface in both exports
    write_capture(path, frames)
    built = {n: meter(frames, profile, (form,), mtu=n)[0][form] for n in (700, 1500)}
    with listener() as collector:
        for mtu, expected in built.items():
            assert len({len(each) for each in expected}) >= 2
            assert through(collector, path, form, profile, mtu=mtu, pace=pace) == expected


def test_a_stamp_far_from_the_wall_clock_is_counted_and_replaced() -> None:
    """max_clock_step, live only."""
    now = time.time_ns()
    hour = 3600 * SECOND
    frames = [udp(i, now + at, sport=i) for i, at in enumerate([0, hour, -hour])]
    with listener() as collector:
        config = RunConfig("memory", "pipe:steps", Profile(), (("9", "127.0.0.1", collector.getsockname()[1]),), clock="wall", trailer=True)
        account = played(frames, config, trailer=True, rate_pps=4).accounting
        decoder = Decoder()
        flows = Normaliser().flow_stream(decoder.feed(collector.recv(65536)) for _ in range(account.streams["9"].datagrams))
    assert account.metered == len(flows) == 3
    assert account.clock_steps == 2
    assert all(abs((flow.first_ns or 0) - now) < hour // 2 for flow in flows)


@pytest.mark.parametrize("form", ["9", "ipfix"])
def test_the_last_options_account_for_every_frame(form: str) -> None:
    """S-EXP-7: frames without a flow are those ignored; all others are in the flows exported."""
    frames = [udp(i, START + i, sport=i) for i in range(20)] + [Frame(START, bytes(13), 13, index=20), Frame(START, bytes(60), 60, index=21)]
    frames.append(Frame(START, bytes(12) + b"\x08\0" + bytes(40), 54, index=22))
    datagrams, result = meter(frames, Profile(cache_size=4, on_full="refuse", sampling=Sampling("systematic", 2)), (form,))
    decoder = Decoder()
    said = {element.name: value for datagram in datagrams[form] for record in decoder.feed(datagram).options for element, value in record.values}
    account = result.accounting
    assert min(account.shed, account.sampled_out, account.non_ip, account.malformed) > 0
    assert said["ignoredPacketTotalCount"] == account.received - account.metered
    assert said["exportedFlowRecordTotalCount"] == account.streams[form].exported_records

# SPDX-License-Identifier: Apache-2.0
"""Whole runs: accounts, streams that fail, workers, assignments, and input that ends early (S-INV, S-EXP-3, S-CMP-2)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flowparity.errors import InputError, SystemFault, UsageError
from flowparity.export import run_reference, worker_of
from flowparity.frame import Frame
from flowparity.profile import SECOND, Profile
from flowparity.reference import ClosedRecord
from flowparity.transport import ExportStream, Fate, IpfixFileStream, MemoryStream, UdpStream

from .build import A4, B4, EPOCH, ethernet, frame, ipv4, ipv6, udp, udp_frame

PROFILE = Profile(counter_bits=32)


def traffic(count: int = 400) -> list[Frame]:
    """One-packet flows, every fourth of IPv6, every tenth frame not IP."""
    out = []
    for i in range(count):
        payload = udp(source=i + 1)
        data = ethernet(ipv6(payload), 0x86DD) if i % 4 == 0 else ethernet(ipv4(payload))
        out.append(frame(ethernet(b"", 0x0806) if i % 10 == 9 else data, i / 10, index=i))
    return out


def streams(**rest: MemoryStream) -> dict[str, ExportStream]:
    return {"5": MemoryStream(), "9": MemoryStream(), "ipfix": MemoryStream(), **{key.removeprefix("f"): value for key, value in rest.items()}}


def test_every_packet_is_accounted_for() -> None:
    """S-INV-1 to S-INV-3, in sum and per worker."""
    outcome = run_reference(traffic(), PROFILE, streams(), workers=3)
    for account in (outcome.accounting, *outcome.workers):
        assert account.broken() == []
    account = outcome.accounting
    assert (account.received, account.non_ip, account.metered) == (400, 40, 360)
    assert account.streams["5"].unrepresentable_packets == 100
    assert account.streams["9"].exported_packets == account.streams["ipfix"].exported_packets == 360
    assert any("S-INV-3" in line for line in outcome.warnings)
    assert outcome.final_clock_ns == EPOCH + 399 * SECOND // 10


def test_refused_messages_are_a_counted_loss_that_the_sequence_shows() -> None:
    """S-EXP-3, ROB-EXP-01."""
    lossy = MemoryStream(refuses=lambda ordinal: ordinal in (5, 6, 11))
    whole = MemoryStream()
    outcome = run_reference(traffic(), PROFILE, {"9": lossy})
    run_reference(traffic(), PROFILE, {"9": whole})
    assert outcome.accounting.broken() == []
    lost = outcome.accounting.streams["9"]
    assert lost.not_sent_packets == lost.not_sent_records > 0
    assert any("not sent: refused by the test" in line for line in outcome.warnings)
    numbers = [struct.unpack_from("!I", each, 12)[0] for each in lossy.messages]
    assert sorted(set(range(len(whole.messages))) - set(numbers)) == [5, 6, 11]
    assert lost.datagrams == len(lossy.messages)
    assert lost.datagram_octets == sum(map(len, lossy.messages))


@pytest.mark.parametrize(("name", "header", "set_id"), [("9", 20, 0), ("ipfix", 16, 2)])
def test_templates_come_again_after_a_refusal(name: str, header: int, set_id: int) -> None:
    """S-EXP-3: whoever listens by then may not have had them; without a refusal they do not."""

    def templates(stream: MemoryStream) -> list[int]:
        return [at for at, each in enumerate(stream.messages) if struct.unpack_from("!H", each, header)[0] == set_id]

    whole, lossy = MemoryStream(), MemoryStream()
    run_reference(traffic(), PROFILE, {name: whole})
    data = next(at for at, each in enumerate(whole.messages) if at > 4 and at not in templates(whole) and struct.unpack_from("!H", each, header)[0] < 512)
    lossy = MemoryStream(refuses=lambda ordinal: ordinal == data)
    run_reference(traffic(), PROFILE, {name: lossy})
    assert data in templates(lossy)  # the next one that arrives has taken its place in the list
    assert data not in templates(whole)


def test_the_collector_can_account_for_every_packet() -> None:
    """S-EXP-7: the last options record of IPFIX says what was metered, sent and lost."""
    stream = MemoryStream(refuses=lambda ordinal: ordinal in (5, 6, 11))
    account = run_reference(traffic(), PROFILE, {"ipfix": stream}).accounting
    last = stream.messages[-1]
    sets, at = {}, 16
    while at < len(last):
        number, size = struct.unpack_from("!HH", last, at)
        sets[number], at = last[at + 4 : at + size], at + size
    _, messages, records, octets, received, packets, _ = struct.unpack_from("!I6Q", sets[512])
    _, not_sent, not_sent_packets, _, first, final = struct.unpack_from("!I5Q", sets[514])
    sent = account.streams["ipfix"]
    assert (received, packets) == (400, 360)
    assert (messages, records, octets) == (sent.datagrams - 1, sent.exported_records, sent.datagram_octets - len(last))
    assert (not_sent, not_sent_packets) == (sent.not_sent_records, sent.not_sent_packets)
    assert sent.exported_packets + not_sent_packets == packets
    assert EPOCH <= first * 10**6 <= final * 10**6 <= EPOCH + 40 * SECOND


def test_records_do_not_wait_for_a_full_datagram() -> None:
    """S-END-6: within a second of clock, though the run goes on."""
    stream = MemoryStream()
    seen = []

    def frames() -> Iterator[Frame]:
        for i in range(100):
            seen.append(len(stream.messages))
            yield udp_frame(i / 2, i, port=1 if i else 2)

    run_reference(frames(), PROFILE, {"5": stream})
    assert seen[34] == 1  # idle at 15 s + reorder, sweep and flush each within 1 s: 17 s is frame 34
    assert seen[30] == 0


def test_export_times_never_precede_what_they_carry() -> None:
    """S-TIM-6, FLOW-TIME-02."""
    stream = MemoryStream()
    run_reference(traffic(), PROFILE, {"5": stream})
    for each in stream.messages:
        secs, ns = struct.unpack_from("!II", each, 8)
        uptime = struct.unpack_from("!I", each, 4)[0]
        assert all(struct.unpack_from("!I", each, at + 28)[0] <= uptime for at in range(24, len(each), 48))
        assert EPOCH <= secs * SECOND + ns <= EPOCH + 40 * SECOND


def test_assignment() -> None:
    """S-CMP-2: each worker gets its frames in its order; what is left out was never received."""
    frames = [udp_frame(i / 10, i, port=1) for i in range(6)]
    closed: list[ClosedRecord] = []
    outcome = run_reference(frames, PROFILE, {}, assignment=[[0, 2, 4], [3, 1]], trace=True, on_closed=closed.append)
    assert {one.record.worker: one.indices for one in closed} == {0: (0, 2, 4), 1: (3, 1)}
    assert outcome.accounting.received == 5
    with pytest.raises(UsageError, match="frame 1"):
        run_reference(frames, PROFILE, {}, assignment=[[0, 1], [1]])


def test_worker_of_keeps_directions_and_fragments_together() -> None:
    """S-CMP-2."""
    there, back = ethernet(ipv4(udp())), ethernet(ipv4(udp(), source=B4, destination=A4))
    fragment = ethernet(ipv4(bytes(30), fragment=9))
    assert len({worker_of(frame(each), 7) for each in (there, back, fragment)}) == 1
    assert len({worker_of(frame(ethernet(ipv4(udp(), source=bytes((10, 0, 0, i))))), 7) for i in range(100)}) == 7
    assert worker_of(frame(b""), 7) == 0


def test_input_that_ends_early_loses_nothing() -> None:
    """Bad input: what came before the cut is metered and exported, the error is in the outcome."""

    def cut() -> Iterator[Frame]:
        yield from traffic(50)
        raise InputError("file: truncated at frame 50")

    stream = MemoryStream()
    outcome = run_reference(cut(), PROFILE, {"9": stream})
    assert outcome.error is not None
    assert outcome.accounting.streams["9"].exported_packets == outcome.accounting.metered == 45


def test_no_frames_no_messages() -> None:
    stream = MemoryStream()
    outcome = run_reference([], PROFILE, {"ipfix": stream})
    assert stream.messages == []
    assert outcome.final_clock_ns is None
    assert outcome.accounting.broken() == []


def test_formats_are_checked_at_start() -> None:
    """S-PRO-3, and an MTU that holds no record."""
    with pytest.raises(UsageError, match="S-PRO-3"):
        run_reference([], Profile(), {"5": MemoryStream()})
    with pytest.raises(UsageError, match="MTU"):
        run_reference([], PROFILE, {"9": MemoryStream(100)})


def test_udp_arrives() -> None:
    """V5-TX-01: one source address and port for all workers."""
    frames = [frame(ethernet(ipv4(udp(), source=bytes((10, 0, 0, i)))), i, index=i) for i in range(20)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(5)
        with UdpStream("127.0.0.1", collector.getsockname()[1]) as stream:
            assert (stream.max_message, stream.reliable) == (1472, False)
            local = stream.local
            outcome = run_reference(frames, PROFILE, {"5": stream}, workers=2)
        got = [collector.recvfrom(65536) for _ in range(outcome.accounting.streams["5"].datagrams)]
    assert {address for _, address in got} == {local}
    assert {each[21] for each, _ in got} == {0, 1}


def test_a_dead_collector_is_a_counted_loss() -> None:
    """ROB-COL: nobody listens, so the kernel refuses what follows the first datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with UdpStream("127.0.0.1", port) as stream:
        fates = [stream.send(b"x") for _ in range(10)]
        assert fates[0] is Fate.SENT
        assert Fate.REFUSED in fates
        assert "refused" in stream.last_error.lower()


def test_a_message_beyond_what_udp_takes_is_refused() -> None:
    with UdpStream("127.0.0.1", 9, mtu=70_000) as stream:
        assert stream.max_message == 65535 - 28
        assert stream.send(bytes(65_536)) is Fate.REFUSED


@pytest.mark.parametrize(("host", "port", "mtu"), [("127.0.0.1", 0, 1500), ("127.0.0.1", 70_000, 1500), ("host.invalid.", 2055, 1500), ("::1", 2055, 48)])
def test_impossible_collectors(host: str, port: int, mtu: int) -> None:
    with pytest.raises(UsageError):
        UdpStream(host, port, mtu=mtu)


def test_ipv6_leaves_less_room() -> None:
    """IPFIX-UDP-02."""
    with UdpStream("::1", 4739) as stream:
        assert stream.max_message == 1452


def test_an_ipfix_file_is_messages_in_a_row(tmp_path: Path) -> None:
    """IPFIX-FILE-01 to -03: templates once and first, export times ascend."""
    path = tmp_path / "flows.ipfix"
    with IpfixFileStream(path) as stream:
        outcome = run_reference(traffic(), PROFILE, {"ipfix": stream})
    data, at, times, firsts = path.read_bytes(), 0, [], []
    while at < len(data):
        version, length, time = struct.unpack_from("!HHI", data, at)
        assert version == 10
        times.append(time)
        firsts.append(struct.unpack_from("!H", data, at + 16)[0])
        at += length
    assert at == len(data) == outcome.accounting.streams["ipfix"].datagram_octets
    assert times == sorted(times)
    assert [i for i, first in enumerate(firsts) if first == 2] == [0]


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        IpfixFileStream(tmp_path / "no" / "file")


def test_a_full_disk_is_one_line() -> None:
    with IpfixFileStream("/dev/full") as stream, pytest.raises(SystemFault, match="No space left"):
        stream.send(bytes(16))


def test_interface_names_and_filter_reach_the_run() -> None:
    """S-EXP-7, S-VER-2."""
    stream = MemoryStream()
    outcome = run_reference(traffic(20), replace(PROFILE, input_interface=5), {"ipfix": stream}, interfaces={5: "wan"}, is_filtered=lambda f: f.index < 5)
    assert outcome.accounting.filtered == 5
    assert any(b"\x00\x00\x00\x05\x03wan" in each for each in stream.messages)

# SPDX-License-Identifier: Apache-2.0
"""What fixtures do not show of the native core: the full table, the wire headers, transports, live runs and their end."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from flowparity.capture import write_capture
from flowparity.decode import Decoder
from flowparity.errors import InputError, UnavailableError, UsageError
from flowparity.frame import Frame
from flowparity.native import Exporter, Player, RunConfig, RunResult, append_trailer, backends, injectors, meter
from flowparity.profile import Profile, Sampling

from .ipfix import flow_records

SECOND = 10**9
START = 1_700_000_000 * SECOND


def udp(index: int, ts: int = START, source: int = 0x0A000001, sport: int = 0) -> Frame:
    head = struct.pack(">BBHHHBBHII", 0x45, 0, 28, 0, 0, 64, 17, 0, source, 0x0B000001)
    return Frame(ts, bytes(12) + b"\x08\0" + head + struct.pack(">HHHH", sport, 53, 8, 0) + bytes(18), 60, index=index)


def udp6(index: int, ts: int, destination: int) -> Frame:
    head = struct.pack(">IHBB16s16s", 6 << 28, 8, 17, 64, bytes(16), destination.to_bytes(16, "big"))
    return Frame(ts, bytes(12) + b"\x86\xdd" + head + struct.pack(">HHHH", 1, 2, 8, 0), 62, index=index)


def test_keys_that_share_a_tag() -> None:
    """So many flows that some share group and tag: only the whole key tells them apart (two packets each, so that every flow is looked up)."""
    count = 60_000
    frames = [udp6(i, START + i, destination=i % count) for i in range(2 * count)]
    datagrams, result = meter(frames, Profile(cache_size=count), ("ipfix",))
    records = flow_records(datagrams["ipfix"])
    assert Counter(r.packets for r in records) == {2: count}
    assert len({r.destination_address for r in records}) == count
    assert result.accounting.evicted == 0


def test_evicted_records_say_so() -> None:
    frames = [udp(i, START + i, sport=i) for i in range(100)]
    datagrams, result = meter(frames, Profile(cache_size=10), ("ipfix",))
    reasons = Counter(r.end_reason for r in flow_records(datagrams["ipfix"]))
    assert reasons == {5: 90, 4: 10}
    assert result.accounting.evicted == 90
    assert result.accounting.broken() == []


def test_ended_records_make_room_before_any_is_evicted() -> None:
    """S-FUL-1, with the clock beyond every deadline and no sweep in between (one batch)."""
    frames = [udp(i, START, sport=i) for i in range(10)] + [udp(i, START + 20 * SECOND, sport=i) for i in range(10, 20)]
    datagrams, result = meter(frames, Profile(cache_size=10), ("ipfix",), batch=256)
    assert Counter(r.end_reason for r in flow_records(datagrams["ipfix"])) == {1: 10, 4: 10}
    assert result.accounting.evicted == 0


def headers(datagrams: Sequence[bytes], form: str) -> list[tuple[int, ...]]:
    return [struct.unpack_from(form, datagram) for datagram in datagrams]


def test_v5_headers_and_records() -> None:
    frames = [udp(i, START + SECOND + i * 10**6, sport=i) for i in range(70)]
    profile = Profile(counter_bits=32, sampling=Sampling("systematic", 1), reorder=0)
    datagrams, _ = meter(frames, profile, ("5",))
    seen = headers(datagrams["5"], ">HHIIIIBBH")
    assert [h[:2] for h in seen] == [(5, 30), (5, 30), (5, 10)]
    assert [h[5] for h in seen] == [0, 30, 60]
    assert {h[2:5] for h in seen} == {(69, START // SECOND + 1, 69 * 10**6)}
    assert {h[6:] for h in seen} == {(0, 0, 0)}  # one in one is not sampling
    assert [len(d) for d in datagrams["5"]] == [24 + 48 * 30, 24 + 48 * 30, 24 + 48 * 10]
    first, last = struct.unpack_from(">II", datagrams["5"][0], 24 + 24)
    assert first == last <= 69


def test_v5_first_and_last() -> None:
    frames = [udp(0, START + 7 * 10**6), udp(1, START + 9 * 10**6)]
    datagrams, _ = meter(frames, Profile(counter_bits=32, boot=START // SECOND - 1), ("5",))
    assert struct.unpack_from(">IIII", datagrams["5"][0], 24 + 16) == (2, 56, 1007, 1009)


def walk_v9(datagram: bytes) -> tuple[int, list[tuple[int, int]]]:
    """The sum of record counts that templates allow to know, and (set id, length) of every set."""
    sets, at = [], 20
    while at < len(datagram):
        kind, length = struct.unpack_from(">HH", datagram, at)
        assert length >= 4
        assert length % 4 == 0
        sets.append((kind, length))
        at += length
    assert at == len(datagram)
    return struct.unpack_from(">H", datagram, 2)[0], sets


def test_v9_counts_records_and_numbers_datagrams() -> None:
    frames = [udp(i, START + i, sport=i) for i in range(200)]
    datagrams, _ = meter(frames, Profile(template_packets=2), ("9",))
    sizes = {256: 52 - 2, 260: 9, 261: 36, 262: 28, 263: 28}
    templates_seen = 0
    for number, datagram in enumerate(datagrams["9"]):
        version, _, _, _, sequence, domain = struct.unpack_from(">HHIIII", datagram)
        assert (version, sequence, domain) == (9, number, 1)
        count, sets = walk_v9(datagram)
        data = sum((length - 4) // sizes[kind] for kind, length in sets if kind >= 256)
        templates = 8 if any(kind == 0 for kind, _ in sets) else 0
        templates_seen += templates > 0
        assert count == data + templates
    assert templates_seen == (len(datagrams["9"]) + 1) // 2


def test_ipfix_sequence_counts_data_records() -> None:
    frames = [udp(i, START + i, sport=i) for i in range(200)]
    datagrams, _ = meter(frames, Profile(template_packets=2), ("ipfix",))
    sizes = {256: 59, 260: 14, 262: 4 + 3 + len("memory"), 263: 28, 264: 16, 265: 20}
    expected = 0
    for datagram in datagrams["ipfix"]:
        version, length, _, sequence, domain = struct.unpack_from(">HHIII", datagram)
        assert (version, length, domain) == (10, len(datagram), 1)
        assert sequence == expected
        at = 16
        while at < len(datagram):
            kind, size = struct.unpack_from(">HH", datagram, at)
            assert size % 4 == 0
            if kind == 262:
                expected += 1
            elif kind >= 256:
                expected += (size - 4) // sizes[kind]
            at += size


@pytest.mark.parametrize("mtu", [576, 1280, 1500])
def test_datagrams_fit_the_mtu(mtu: int) -> None:
    frames = [udp(i, START + i, sport=i) for i in range(500)] + [udp6(500 + i, START + 500 + i, i) for i in range(500)]
    datagrams, _ = meter(frames, Profile(counter_bits=32), ("5", "9", "ipfix"), mtu=mtu, ipfix_ns=True)
    assert max(len(d) for each in datagrams.values() for d in each) <= mtu - 28
    assert len(flow_records(datagrams["ipfix"])) == 1000


def test_sampling_is_announced() -> None:
    frames = [udp(i, START + i, sport=i) for i in range(10)]
    profile = Profile(counter_bits=32, sampling=Sampling("random", 3, 9))
    datagrams, _ = meter(frames, profile, ("5", "9"))
    assert struct.unpack_from(">H", datagrams["5"][0], 22)[0] == 2 << 14 | 3
    assert struct.pack(">IIB", 1, 3, 2) in datagrams["9"][0]
    datagrams, _ = meter(frames, replace(profile, sampling=Sampling("systematic", 3)), ("5", "9", "ipfix"))
    assert struct.unpack_from(">H", datagrams["5"][0], 22)[0] == 1 << 14 | 3
    assert struct.pack(">IIB", 1, 3, 1) in datagrams["9"][0]
    assert any(struct.pack(">IHII", 1, 1, 1, 2) in datagram for datagram in datagrams["ipfix"])  # one taken, two left


def test_eight_workers_by_assignment_and_by_hash() -> None:
    frames = [udp(i, START + i * 1000, sport=i % 97) for i in range(5000)]
    for assignment in (None, [i % 97 % 8 for i in range(5000)]):
        datagrams, result = meter(frames, Profile(), ("ipfix",), 8, ipfix_ns=True, assignment=assignment)
        assert sorted(i for log in result.assignment or () for i in log) == list(range(5000))
        records = flow_records(datagrams["ipfix"])
        assert Counter(r.packets for r in records) == Counter(Counter(i % 97 for i in range(5000)).values())
        assert result.accounting.broken() == []


def export(path: Path, collectors: tuple[tuple[str, str, int], ...], **more: object) -> RunResult:
    with Exporter(RunConfig("pcap", str(path), Profile(counter_bits=32), collectors, **more)) as exporter:  # type: ignore[arg-type]
        return exporter.run()


def capture(path: Path, count: int = 3000) -> Path:
    write_capture(path, [udp(i, START + i * 1000, sport=i % 600) for i in range(count)])
    return path


def listener() -> socket.socket:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    s.bind(("127.0.0.1", 0))
    s.settimeout(5)
    return s


@pytest.mark.parametrize("workers", [1, 3])
def test_capture_over_udp_in_three_formats(tmp_path: Path, workers: int) -> None:
    path = capture(tmp_path / "a.pcap")
    sockets = {version: listener() for version in ("5", "9", "ipfix")}
    collectors = tuple((version, "127.0.0.1", s.getsockname()[1]) for version, s in sockets.items())
    result = export(path, collectors, workers=workers, ipfix_ns=True)
    assert result.error is None
    assert result.accounting.broken() == []
    assert result.accounting.received == 3000
    for version, s in sockets.items():
        account = result.accounting.streams[version]
        received = [s.recv(65536) for _ in range(account.datagrams)]
        assert sum(map(len, received)) == account.datagram_octets
        assert account.exported_packets == 3000
        if version == "ipfix":
            assert Counter(r.packets for r in flow_records(received)) == {5: 600}
        s.close()


def test_one_key_stays_with_one_worker(tmp_path: Path) -> None:
    result = export(capture(tmp_path / "a.pcap"), (), workers=4, log_assignment=True)
    logs = result.assignment or ()
    assert sum(map(len, logs)) == 3000
    assert sum(len({i % 600 for i in log}) for log in logs) == 600


def test_a_collector_that_refuses_is_counted(tmp_path: Path) -> None:
    s = listener()
    port = s.getsockname()[1]
    s.close()
    account = export(capture(tmp_path / "a.pcap"), (("ipfix", "127.0.0.1", port),)).accounting
    stream = account.streams["ipfix"]
    assert (stream.not_sent_packets, stream.not_sent_records) == (3000, 600)
    assert stream.exported_packets == stream.exported_records == stream.datagrams == stream.datagram_octets == 0
    assert account.broken() == []


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_cut_capture_loses_nothing_before_the_cut(tmp_path: Path, cut: int) -> None:
    path = capture(tmp_path / "a.pcap", 100)
    path.write_bytes(path.read_bytes()[:-cut])
    result = export(path, ())
    assert isinstance(result.error, InputError)
    assert "after frame 99" in str(result.error)
    assert result.accounting.metered == 99
    assert result.accounting.resident_packets == 0


@pytest.mark.parametrize(("content", "text"), [(b"", "not a capture"), (b"hello, world, this is no capture", "not a capture"), (None, "No such file")])
def test_what_is_no_capture_is_refused(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "x.pcap"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=text):
        Exporter(RunConfig("pcap", str(path)))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
@pytest.mark.parametrize(("seconds", "fraction"), [(2**31 - 1, 999_999), (2**31, 0), (2**32 - 1, 128), (1, 2_500_000), (1, 2**32 - 1)])
def test_times_of_a_pcap_are_unsigned_and_their_fractions_what_they_say(tmp_path: Path, order: str, magic: int, unit: int, seconds: int, fraction: int) -> None:
    """Also in a pipe, where nothing can be read twice (the backend looks at the magic itself)."""
    path = tmp_path / "a.pcap"
    head = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    path.write_bytes(head + struct.pack(f"{order}IIII", seconds, fraction, 60, 60) + udp(0).data)
    assert export(path, ()).final_clock_ns == seconds * SECOND + fraction * unit


def test_a_time_beyond_64_bits_of_nanoseconds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    write_capture(path, [udp(0, 2**63 - 1), udp(1, 2**63)])
    result = export(path, ())
    assert result.accounting.metered == 1
    assert result.final_clock_ns == 2**63 - 1
    assert isinstance(result.error, InputError)
    assert "time of frame 1" in str(result.error)


def test_an_unknown_link_type_is_refused_by_name_and_number(tmp_path: Path) -> None:
    path = tmp_path / "wifi.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 105))
    with pytest.raises(InputError, match=r"IEEE802_11 \(105\)"):
        Exporter(RunConfig("pcap", str(path)))


def test_impossible_runs_are_refused(tmp_path: Path) -> None:
    path = str(capture(tmp_path / "a.pcap", 1))
    with pytest.raises(UsageError, match="wall"):
        Exporter(RunConfig("pcap", path, clock="wall"))
    with pytest.raises(UsageError, match="mtu"):
        Exporter(RunConfig("pcap", path, mtu=100))
    with pytest.raises(UsageError, match="option"):
        Exporter(RunConfig("pcap", path, options={"nonsense": "1"}))
    with pytest.raises(UsageError, match="workers"):
        Exporter(RunConfig("pcap", path, workers=0))
    with pytest.raises(UsageError, match="numeric"):
        Exporter(RunConfig("pcap", path, collectors=(("9", "collector.example", 1),)))
    with pytest.raises((InputError, UnavailableError), match="unknown"):
        Exporter(RunConfig("nonesuch", path))


def test_filter(tmp_path: Path) -> None:
    result = export(capture(tmp_path / "a.pcap", 100), (), filter="udp src port 7", log_assignment=True)
    account = result.accounting
    assert (account.received, account.filtered, account.metered) == (100, 99, 1)
    assert result.assignment == (tuple(range(100)),)
    assert result.final_clock_ns == START + 99_000
    with pytest.raises(UsageError, match="filter"):
        export(capture(tmp_path / "b.pcap", 1), (), filter="no such expression")


def played(frames: Sequence[Frame], config: RunConfig, **how: object) -> RunResult:
    """A live run over a pipe in this process."""
    results: list[RunResult] = []
    with Exporter(config) as exporter:
        thread = threading.Thread(target=lambda: results.append(exporter.run()))
        thread.start()
        Player("memory", config.input).play(frames, **how)  # type: ignore[arg-type]
        thread.join(30)
        assert not thread.is_alive()
    return results[0]


@pytest.mark.parametrize("workers", [1, 8])
def test_replay_with_the_trailer_restores_everything(workers: int) -> None:
    frames = [Frame(START + i * 12_345, udp(i, sport=i % 50).data[: 30 + i % 31], 60 + i % 7, index=i) for i in range(3000)]
    result = played(frames, RunConfig("memory", "pipe:trailer", workers=workers, trailer=True, log_assignment=True), trailer=True)
    _, direct = meter(frames, Profile(), ())
    assert result.counters["lost"] == result.counters["strays"] == 0
    assert sorted(i for log in result.assignment or () for i in log) == list(range(3000))
    assert result.final_clock_ns == direct.final_clock_ns
    assert result.accounting.malformed == direct.accounting.malformed > 0
    assert result.accounting.metered == direct.accounting.metered > 0


def test_frames_without_a_trailer_are_strays_and_gaps_are_losses() -> None:
    frames = [udp(i, START + i, sport=i) for i in range(10)]
    mixed = [Frame(1, append_trailer(f.data, f.wirelen, f.ts_ns, f.index), 84) if f.index % 2 else f for f in frames]
    result = played(mixed, RunConfig("memory", "pipe:strays", trailer=True, log_assignment=True))
    assert result.counters == {"trailers": 5, "strays": 5, "lost": 5, "doubled": 0}
    assert result.assignment == ((1, 3, 5, 7, 9),)
    assert result.final_clock_ns == START + 9


@pytest.mark.parametrize("workers", [1, 4])
def test_a_doubled_trailer_hides_no_lost_one(workers: int) -> None:
    sequences = [0, 1, 1, 3, 70_000, 70_000, 70_000, 131_073]
    frames = [Frame(1, append_trailer(udp(s).data, 60, START + s, s), 84, index=i) for i, s in enumerate(sequences)]
    result = played(frames, RunConfig("memory", "pipe:doubled", trailer=True, workers=workers))
    assert result.counters == {"trailers": 8, "strays": 0, "lost": 131_074 - 5, "doubled": 3}


def test_the_fcs_behind_a_trailer_goes_too() -> None:
    frame = udp(3, START + 5)
    with_fcs = Frame(1, append_trailer(frame.data, 70, frame.ts_ns, 3) + b"\1\2\3\4", 88)
    result = played([with_fcs], RunConfig("memory", "pipe:fcs", trailer=True, log_assignment=True))
    assert result.assignment == ((3,),)
    assert result.final_clock_ns == START + 5


def test_a_quiet_link_between_records_damages_no_datagram() -> None:
    """Whenever the pipe runs dry (every 125 ms, longer than the exporter waits), what waits for the transport leaves while another datagram is being filled."""
    s = listener()
    profile = Profile(idle_timeout=SECOND // 100, tcp_end=None, reorder=0, template_packets=1)
    frames = [udp(i, START + i * SECOND, sport=i) for i in range(8)]
    config = RunConfig("memory", "pipe:quiet", profile, (("ipfix", "127.0.0.1", s.getsockname()[1]),), ipfix_ns=True, mtu=700)
    account = played(frames, config, rate_pps=8).accounting.streams["ipfix"]
    datagrams = [s.recv(65536) for _ in range(account.datagrams)]
    s.close()
    assert account.datagrams > 8
    assert sorted(r.source_port for r in flow_records(datagrams)) == list(range(8))


@pytest.mark.parametrize(("workers", "batch"), [(2, 128), (1, 128), (1, 1)])
def test_stop_ends_a_live_run_in_good_order(workers: int, batch: int) -> None:
    """The source never ends by itself here: its injector is held open by a schedule of one frame an hour.

    Batches of one frame are full, so that the meter holds theirs back until the queue is found empty.
    """
    results: list[RunResult] = []
    with Exporter(RunConfig("memory", "pipe:stop", workers=workers, batch=batch)) as exporter:
        thread = threading.Thread(target=lambda: results.append(exporter.run()))
        thread.start()
        player = Player("memory", "pipe:stop")
        feeder = threading.Thread(target=lambda: player.play([udp(i, START + i, sport=i) for i in range(3)], rate_pps=1 / 3600))
        feeder.start()
        for _ in range(3000):
            if seen := exporter.snapshot().accounting.metered:
                break
            thread.join(0.01)
        exporter.stop()
        thread.join(10)
        assert not thread.is_alive()
        player.stop()
        feeder.join(10)
        assert not feeder.is_alive()
    assert seen == 1
    assert results[0].accounting.metered == 1
    assert results[0].accounting.resident_packets == 0


def test_player_reports_what_cannot_go() -> None:
    frames = [udp(0), Frame(START, bytes(80_000), 80_000, index=1), Frame(START, b"\x45", 1, link=101, index=2)]
    with Exporter(RunConfig("memory", "pipe:unfit")) as exporter:
        thread = threading.Thread(target=exporter.run)
        thread.start()
        injection = Player("memory", "pipe:unfit").play(frames)
        thread.join(10)
    assert injection.sent == 1
    assert injection.not_sent == {"longer than the link takes": (1,), "not Ethernet": (2,)}


def test_backends_and_injectors_are_listed() -> None:
    known = {b.name: b for b in backends()}
    assert known["memory"].available
    assert known["pcap"].available
    assert all(b.available or b.reason for b in known.values())
    assert "memory" in {i.name for i in injectors()}


def test_what_waits_is_sent_while_a_datagram_is_being_built() -> None:
    """The second packet ends the first flow, and the source is quiet.

    Its record lies in a datagram that is not full, behind templates that are ready to go.
    """
    frames = [udp(i, START + i * 100 * SECOND, sport=i) for i in range(3)]
    with listener() as receiver:
        config = RunConfig("memory", "pipe:quiet", collectors=(("ipfix", "127.0.0.1", receiver.getsockname()[1]),), trailer=True, ipfix_ns=True)
        result = played(frames, config, trailer=True, speed=300.0)
        datagrams = [receiver.recv(65535) for _ in range(result.accounting.streams["ipfix"].datagrams)]
    decoder = Decoder()
    messages = [decoder.feed(datagram) for datagram in datagrams]
    assert not [problem for message in messages for problem in message.problems]
    assert sum(len(message.flows) for message in messages) == 3


def test_a_refresh_after_every_datagram_ends() -> None:
    """Where no record fits behind the templates, they are not due again before one was sent."""
    profile = Profile(template_packets=1)
    frames = [udp(i, START + i, sport=i) for i in range(40)]
    for mtu in range(576, 800, 4):
        datagrams, result = meter(frames, profile, ("9", "ipfix"), mtu=mtu)
        assert result.accounting.streams["9"].exported_records == result.accounting.streams["ipfix"].exported_records == 40
        assert len(datagrams["9"]) < 200


def test_truncated_frames_of_a_replay_stay_with_their_key() -> None:
    """The lengths are in the trailer: without them a truncated frame looks malformed and hashes as no flow does."""
    for port in range(8):
        short = udp(1, START + 1, sport=port)
        longer = short.data[:16] + struct.pack(">H", 446) + short.data[18:]
        config = RunConfig("memory", f"pipe:truncated{port}", workers=4, trailer=True, log_assignment=True)
        result = played([Frame(START, longer, 460, index=0), short], config, trailer=True)
        assert sorted(map(len, result.assignment or ())) == [0, 0, 0, 2]


LAST = 2**63 - 1


@pytest.mark.parametrize(
    ("times", "timeouts", "reasons"),
    [
        ((-9_200_000_000 * SECOND, START), (0, 0, None), {4: 1}),
        ((-9_200_000_000 * SECOND, -1, 0, START), (0, 0, None), {4: 1}),
        ((LAST, LAST), (0, 0, None), {4: 1}),
        ((LAST, LAST), (SECOND, 0, None), {4: 1}),
        ((LAST, LAST), (0, SECOND, None), {4: 1}),
        ((LAST - SECOND, LAST), (SECOND, 0, None), {1: 1, 4: 1}),
        ((LAST - SECOND, LAST), (0, SECOND, None), {2: 1, 4: 1}),
        ((LAST - SECOND + 1, LAST), (SECOND, SECOND, None), {4: 1}),
        ((-(2**63) + 1, -(2**62)), (2**62 - 1, 0, None), {1: 1, 4: 1}),
        ((-(2**63) + 1, -(2**63) + 1), (0, 0, 0), {4: 1}),
    ],
)
def test_never_and_the_ends_of_time(times: tuple[int, ...], timeouts: tuple[int, int, int | None], reasons: dict[int, int]) -> None:
    """A timeout of 0 has no deadline, before 1970 neither; a deadline beyond the last time never comes; the last time is one like others."""
    idle, active, end = timeouts
    profile = Profile(idle_timeout=idle, active_timeout=active, tcp_end=end, reorder=0)
    datagrams, result = meter([udp(i, ts) for i, ts in enumerate(times)], profile, ("ipfix",))
    assert Counter(r.end_reason for r in flow_records(datagrams["ipfix"])) == reasons
    assert result.accounting.late == 0


@pytest.mark.parametrize("trailer", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_snap_length_is_honoured_whatever_the_backend_makes_of_it(workers: int, trailer: bool) -> None:
    """The core cuts, behind the trailer that the frame had."""
    frames = [udp(i, START + i, sport=i) for i in range(20)]

    def config(snaplen: int) -> RunConfig:
        return RunConfig("memory", f"pipe:snap{snaplen}", snaplen=snaplen, workers=workers, trailer=trailer)

    assert played(frames, config(33), trailer=trailer).accounting.malformed == 20
    assert played(frames, config(34), trailer=trailer).accounting.metered == 20
    assert played(frames, config(13), trailer=trailer).accounting.non_ip == 20


@pytest.mark.parametrize("workers", [1, 2])
def test_a_snap_length_cuts_captures(tmp_path: Path, workers: int) -> None:
    assert export(capture(tmp_path / "a.pcap", 100), (), snaplen=20, workers=workers).accounting.malformed == 100


@pytest.mark.parametrize("how", [{"speed": 1e300}, {"speed": 1e-300}, {"rate_pps": 1e-300}])
def test_a_schedule_beyond_all_time(how: dict[str, float]) -> None:
    """What is due behind the last nanosecond is waited for, not sent at once, and a stop ends it; what was due before the first is overdue."""
    frames = [udp(0, LAST), udp(1, -LAST)] if "speed" in how else [udp(0), udp(1)]
    if how == {"speed": 1e-300}:
        frames.reverse()
    with Exporter(RunConfig("memory", "pipe:schedule")) as exporter:
        thread = threading.Thread(target=exporter.run)
        thread.start()
        player = Player("memory", "pipe:schedule")
        sent: list[int] = []
        feeder = threading.Thread(target=lambda: sent.append(player.play(frames, **how).sent))
        feeder.start()
        while exporter.snapshot().accounting.received == 0:
            thread.join(0.01)
        if how != {"speed": 1e300}:
            feeder.join(0.1)
            player.stop()
        feeder.join(30)
        thread.join(30)
    assert sent == [2 if how == {"speed": 1e300} else 1]

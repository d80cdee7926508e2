# SPDX-License-Identifier: Apache-2.0
"""One case over one link: injector, native exporter, collector and decoder inside a private namespace, and the reference's opinion of the same frames."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from flowparity.capture import read_capture, write_capture
from flowparity.collector import Collector
from flowparity.decode import DecodedFlow, Decoder, Normaliser
from flowparity.fixtures import Fixture, load_fixtures
from flowparity.flow import FlowRecord
from flowparity.frame import Frame
from flowparity.harness.interfaces import Injection
from flowparity.harness.rigs.namespace import Namespace
from flowparity.harness.rigs.veth import VethLink, VethRig
from flowparity.native import Exporter, Player, RunConfig, RunResult
from flowparity.profile import Profile
from flowparity.reference import ReferenceExporter
from flowparity.view import UPTIME_SPAN

ROOT = Path(__file__).resolve().parents[2]
FORMATS = ("5", "9", "ipfix")
_FIELDS = (
    *("source_address", "destination_address", "source_port", "destination_port", "protocol", "tos", "input_interface", "packets", "octets", "first_ns"),
    *("last_ns", "tcp_flags", "end_reason", "ttl", "vlan", "inner_vlan", "flow_label", "worker"),
)
_MILLISECOND = 1_000_000
_UPTIME = 2**32  # milliseconds
_CLONE_NEWNET = 0x4000_0000
_OVERHEAD = 1024  # octets
_PATIENCE = 120  # seconds until a test gives up; nothing is expected to take so long
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """A backend with its options, and how packets' own times reach it over a veth."""

    name: str
    backend: str
    carrier: str = "txtime"
    options: Mapping[str, str] = field(default_factory=dict)
    window: int | None = None  # octets of frames that it holds unread, where that is less than a capture


ROWS = (
    Row("af_packet", "af_packet"),
    Row("socket-default", "socket", options={"mode": "default"}, window=96_000),
    Row("socket-tuned", "socket", options={"mode": "tuned"}),
    Row("af_xdp-native", "af_xdp", "metadata", {"mode": "native"}),
    Row("af_xdp-generic", "af_xdp", "metadata", {"mode": "generic"}),
)


@dataclass(frozen=True, slots=True)
class Case:
    """Frames with their profile; `fixture` is None for recorded captures."""

    name: str
    capture: Path
    profile: Profile
    fixture: Fixture | None = None

    @property
    def formats(self) -> tuple[str, ...]:
        """All three, but where the fixture is about counters that v5 does not have."""
        return FORMATS if self.profile.counter_bits == 32 else FORMATS[1:]

    @property
    def frames(self) -> list[Frame]:
        """The frames, with stripped tags where the fixture has them."""
        return self.fixture.frames() if self.fixture is not None else list(read_capture(self.capture))


def all_cases() -> list[Case]:
    """Every fixture and every recorded capture; not those that are about a run which is refused before any link matters."""
    out = [Case(f.name, f.capture_path, f.profile, f) for f in load_fixtures(ROOT / "fixtures") if not f.expected.refused]
    out += [Case(f"recorded/{p.name}", p, Profile(counter_bits=32)) for p in sorted((ROOT / "fixtures/recorded").glob("*.pcap*"))]
    return out


def why_left_out(case: Case, row: Row) -> str:
    """Why the case cannot run over this row's link; empty if it can. Everything here is a property of the link or the backend, not of the case's outcome."""
    frames, run = case.frames, case.fixture.run if case.fixture is not None else {}
    if any(frame.link != 1 for frame in frames):
        return "not Ethernet"
    if any(frame.segments > 1 for frame in frames):
        return "a capture cannot say how many segments a frame has"
    if case.profile.input_interface is None:
        return "one link has one interface"
    if run.get("filter") and row.backend == "af_xdp":
        return "no filter"
    return ""


def inside(namespace: Namespace, work: Callable[[], T]) -> T:
    """Runs `work` in a thread that lives in the namespace; threads that it starts live there too."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def enter() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = os.open(namespace.path, os.O_RDONLY)
            try:
                if libc.setns(descriptor, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(descriptor)
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a run."""

    result: RunResult
    injection: Injection
    flows: Mapping[str, list[DecodedFlow]]  # by format
    problems: list[str]


def in_band(frames: Sequence[Frame]) -> list[Frame]:
    """Frames with their stripped tags back in place: the link strips them again."""
    out = []
    for frame in frames:
        tags = b"".join(tpid.to_bytes(2, "big") + tci.to_bytes(2, "big") for tpid, tci in frame.tags)
        out.append(replace(frame, data=frame.data[:12] + tags + frame.data[12:], wirelen=frame.wirelen + len(tags), tags=()))
    return out


def _caught_up(exporter: Exporter, count: int) -> None:
    """Waits until the exporter has received so many packets; a super-packet is as many as it has segments."""
    end = time.monotonic() + _PATIENCE
    while (account := exporter.snapshot().accounting).received - account.metered + account.metered_packets < count:
        assert time.monotonic() < end, f"{account.received} frames of {count} were received"
        time.sleep(0.002)


def windows(frames: Sequence[Frame], octets: int) -> Iterator[list[Frame]]:
    """The frames in pieces of at most so many octets, with what the kernel adds to each."""
    piece: list[Frame] = []
    for frame in frames:
        if piece and sum(len(each.data) + _OVERHEAD for each in (*piece, frame)) > octets:
            yield piece
            piece = []
        piece.append(frame)
    yield piece


def _inject(link: VethLink, frames: Sequence[Frame], exporter: Exporter, window: int | None) -> Injection:
    assert link.transmit is not None
    player = Player("af_packet", link.transmit, link.injector_options)
    if window is None:
        return player.play(frames, trailer=link.trailer, timeout=20)
    sent, not_sent = 0, dict[str, tuple[int, ...]]()
    for piece in windows(frames, window):
        done = player.play(piece, trailer=link.trailer, timeout=20)
        sent += done.sent
        for reason, indices in done.not_sent.items():
            not_sent[reason] = not_sent.get(reason, ()) + indices
        _caught_up(exporter, sent)
    return Injection(sent, not_sent)


def play(
    link: VethLink,
    namespace: Namespace,
    config: RunConfig,
    frames: Sequence[Frame],
    *,
    formats: Sequence[str] = FORMATS,
    window: int | None = None,
    act: Callable[[Callable[[int], None]], object] | None = None,
) -> Played:
    """Runs the exporter on the link's receiving end while the frames are played into the other, never more than `window` octets ahead of it.

    `act` is called then; what it gets waits until so many packets in all were received. The link is entered already.
    """

    def work() -> Played:
        collectors = {name: Collector() for name in formats}
        try:
            streams = tuple((name, "127.0.0.1", each.address[1]) for name, each in collectors.items())
            options = {**config.options, **link.subject_options}
            with Exporter(replace(config, input=link.receive, collectors=streams, trailer=link.trailer, options=options)) as exporter:
                results: list[RunResult] = []
                thread = threading.Thread(target=lambda: results.append(exporter.run()))
                thread.start()
                try:
                    injection = _inject(link, frames, exporter, window)
                    if act is not None:
                        act(lambda count: _caught_up(exporter, count))
                finally:
                    exporter.stop()
                    thread.join()
        finally:
            datagrams = {name: each.stop() for name, each in collectors.items()}
        boot = config.profile.boot if link.times == "none" else _boots(config.profile, frames, results[0])
        decoder, normaliser = Decoder(), Normaliser(boot)
        flows: dict[str, list[DecodedFlow]] = {name: [] for name in formats}
        problems = []
        for name, several in datagrams.items():
            for each in several:
                message = decoder.feed(each.payload, each.source, each.arrival_ns)
                problems += [f"{name}: {p.rule_id}: {p.text}" for p in message.problems]
                flows[name] += list(normaliser.flows(message))
        return Played(results[0], injection, flows, problems)

    return inside(namespace, work)


def _boots(profile: Profile, frames: Sequence[Frame], result: RunResult) -> int | Mapping[int, int] | None:
    """The seconds of boot that a decoder must be told, by observation domain, where uptimes wrap within the run (S-EXP-5, S-TIM-7)."""
    times = {frame.index: frame.ts_ns for frame in frames}
    if profile.boot is not None or max(times.values(), default=0) - min(times.values(), default=0) < UPTIME_SPAN:
        return profile.boot
    received = result.assignment if len(result.workers) > 1 and result.assignment is not None else [list(times)]
    return {worker + 1: times[indices[0]] // 10**9 for worker, indices in enumerate(received) if indices}


def reference_records(frames: Sequence[Frame], profile: Profile, assignment: Sequence[Sequence[int]] | None = None) -> list[FlowRecord]:
    """What the reference makes of the frames, given to workers as the assignment says."""
    workers = len(assignment) if assignment else 1
    reference = ReferenceExporter(profile, workers)
    by_index = {frame.index: frame for frame in frames}
    closed = []
    for worker, indices in enumerate(assignment or [[frame.index for frame in frames]]):
        for index in indices:
            closed += reference.feed(by_index[index], worker)
    closed += reference.flush()
    return [each.record for each in closed]


def differences(expected: Sequence[FlowRecord], flows: Sequence[DecodedFlow], version: str) -> list[str]:
    """How the decoded records of a format differ from the reference's, as multisets of all that the format carries."""
    fields = [name for name in _FIELDS if all(getattr(flow, name) is not None for flow in flows)]
    coarse = {flow.time_resolution for flow in flows} == {_MILLISECOND}

    def seen(record: FlowRecord | DecodedFlow) -> tuple[Any, ...]:
        values = {name: getattr(record, name) for name in fields}
        for name in ("first_ns", "last_ns"):
            if coarse:
                values[name] //= _MILLISECOND
            if version != "ipfix":
                values[name] %= _UPTIME  # all that a 32-bit uptime can say of a time (S-EXP-5)
        if version != "ipfix" and "tcp_flags" in values:
            values["tcp_flags"] &= 0xFF
        if version == "5":
            values["input_interface"] &= 0xFFFF
        return tuple(values.values())

    carried = [record for record in expected if version != "5" or record.ip_version == 4]
    want, got = Counter(map(seen, carried)), Counter(map(seen, flows))
    named = [f"missing {dict(zip(fields, values, strict=True))}" for values in (want - got).elements()]
    return named + [f"extra {dict(zip(fields, values, strict=True))}" for values in (got - want).elements()]


def verdict(case: Case, frames: Sequence[Frame], played: Played) -> list[str]:
    """Everything that is wrong with a run at `records`; empty when all is right."""
    result = played.result
    out = list(result.accounting.broken()) + played.problems
    if result.error is not None:
        out.append(str(result.error))
    if played.injection.not_sent:
        out.append(f"not sent: {dict(played.injection.not_sent)}")
    if "filter" not in (case.fixture.run if case.fixture is not None else {}) and result.accounting.received != len(frames):
        out.append(f"received {result.accounting.received} of {len(frames)} frames")
    workers = len(result.workers)
    expected = reference_records(frames, case.profile, result.assignment if workers > 1 else None)
    for name, flows in played.flows.items():
        out += [f"{name}: {each}" for each in differences(expected, flows, name)]
    return out


def save(frames: Sequence[Frame], path: Path) -> Path:
    """A capture of the frames."""
    write_capture(path, frames)
    return path


def run_case(rig: VethRig, row: Row, case: Case, *, workers: int = 1, options: Mapping[str, str] | None = None) -> list[str]:
    """Plays a case over a fresh link of the rig and gives the verdict."""
    frames = case.frames
    queues = workers if row.backend == "af_xdp" else 1
    config = RunConfig(
        row.backend,
        "",
        case.profile,
        workers=workers,
        options={**row.options, **(options or {})},
        log_assignment=workers > 1,
        huge_pages=False,
        filter=case.fixture.run.get("filter") if case.fixture is not None else None,
    )
    with rig.link(case.capture, queues=queues, ordinals=workers > 1) as link:
        return verdict(case, frames, play(link, rig.namespace, config, in_band(frames), formats=case.formats, window=None if config.filter else row.window))

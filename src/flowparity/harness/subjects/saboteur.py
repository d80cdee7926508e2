# SPDX-License-Identifier: Apache-2.0
"""The saboteur: the reference with one named fault, so that every check is seen to fail.

Faults are data (conformance/saboteur/faults.toml): what each does is one of the few operations of this module with parameters.
"""

from __future__ import annotations

import struct
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from flowparity.errors import InputError, UsageError
from flowparity.export import StreamExport, assigned
from flowparity.frame import Frame
from flowparity.harness.data import data_directory
from flowparity.harness.interfaces import Job, Outcome
from flowparity.harness.subjects.reference import FileSubject, assignment_of, frames_with
from flowparity.links import Payload, find_ip
from flowparity.packet import Packet, parse
from flowparity.profile import profile_from
from flowparity.reference import ClosedRecord, ReferenceExporter, add_accounts
from flowparity.transport import DEFAULT_MTU, ExportStream, Fate, UdpStream

_VERSION = {"5": 5, "9": 9, "ipfix": 10}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `check` is the field or rule id of the problem that must appear, `case` the fixture or capture on which it must, `formats` where."""

    name: str
    does: str
    rule: str
    level: str
    check: str
    case: str
    op: str
    with_: Mapping[str, Any] = field(default_factory=dict)
    formats: tuple[str, ...] = ("5", "9", "ipfix")
    seen: str = ""  # the exporter that had it


@cache
def faults() -> dict[str, Fault]:
    """Every fault by name; InputError if the data is wrong."""
    directory = data_directory("saboteur")
    path = (directory or Path()) / "faults.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        out = {}
        for entry in table["fault"]:
            values: dict[str, Any] = {("with_" if key == "with" else key): tuple(value) if key == "formats" else value for key, value in entry.items()}
            fault = Fault(**values)
            if fault.op not in OPERATIONS or fault.name in out:
                raise ValueError(f"{fault.name}: operation {fault.op} is unknown, or the name is taken")
            out[fault.name] = fault
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"saboteur {path}: {error}") from None
    return out


def find_fault(name: str) -> Fault:
    """A fault by its name (UsageError)."""
    if name not in faults():
        raise UsageError(f"no fault {name!r}; known: {', '.join(faults())}")
    return faults()[name]


@dataclass(slots=True)
class Hooks:
    """Where an operation changes the reference. All default to doing nothing."""

    packet: Callable[[Frame, Packet, int], tuple[Packet, int] | None] | None = None  # the packet and its time; None: lost without a word
    record: Callable[[ClosedRecord, list[tuple[Frame, Packet]]], list[ClosedRecord]] | None = None
    datagram: Callable[[bytes, int], list[bytes]] | None = None  # the datagram and its ordinal


class SaboteurSubject(FileSubject):
    """The reference with one fault."""

    def __init__(self, fault: Fault) -> None:
        self.name = f"saboteur:{fault.name}"
        self.fault = fault

    def run(self, job: Job) -> Outcome:
        """Meters and exports, wrongly."""
        hooks = Hooks()
        profile = job.profile
        if self.fault.op == "profile":
            changed = profile_from({"counter_bits": profile.counter_bits, **self.fault.with_})
            profile = replace(profile, **{name: getattr(changed, name) for name in self.fault.with_})
        else:
            OPERATIONS[self.fault.op](hooks, **self.fault.with_)
        frames = frames_with(Path(job.source), job.metadata)
        assignment = assignment_of(job, frames)
        exporter = _Sabotaged(profile, len(assignment), frames, hooks)
        mtu = int(job.run.get("mtu", DEFAULT_MTU))
        with ExitStack() as stack:
            exports = []
            for name, (host, port) in job.collectors.items():
                stream: ExportStream = stack.enter_context(UdpStream(host, port, mtu=mtu))
                if name in self.fault.formats and hooks.datagram is not None:
                    stream = _Rewriting(stream, hooks.datagram)
                exports.append(StreamExport(name, stream, exporter))
            for worker, frame in assigned(frames, len(assignment), assignment):
                closed = exporter.altered(exporter.feed(frame, worker))
                for export in exports:
                    export.add(worker, closed)
                    export.flush(worker)
            for each in exporter.flush():
                closed = exporter.altered([each])
                for export in exports:
                    export.add(each.record.worker, closed)
            for export in exports:
                export.finish()
            workers = tuple(
                replace(exporter.accounting(worker), streams={export.name: export.account(worker) for export in exports}) for worker in range(len(assignment))
            )
            total = replace(add_accounts(list(workers)), streams={export.name: export.account() for export in exports})
        if self.fault.op == "account":
            total = replace(total, **{name: getattr(total, name) + value for name, value in self.fault.with_.items()})
        return Outcome(total, workers, tuple(map(tuple, assignment)), exporter.final_clock_ns)


class _Sabotaged(ReferenceExporter):
    """A reference whose packets and records pass through hooks."""

    def __init__(self, profile: Any, workers: int, frames: Iterable[Frame], hooks: Hooks) -> None:
        super().__init__(profile, workers, trace=True)
        self._hooks = hooks
        self._frames = {frame.index: frame for frame in frames}
        for worker in self._workers:
            worker.meter = self._wrapped(worker.meter)  # type: ignore[assignment]

    def _wrapped(self, meter: Callable[[Packet, int, int], Any]) -> Callable[[Packet, int, int], Any]:
        change = self._hooks.packet
        if change is None:
            return meter

        def wrapped(packet: Packet, t: int, index: int) -> Any:
            changed = change(self._frames[index], packet, t)
            return None if changed is None else meter(*changed, index)

        return wrapped

    def altered(self, closed: Iterable[ClosedRecord]) -> list[ClosedRecord]:
        """The records after the fault."""
        if self._hooks.record is None:
            return list(closed)
        out = []
        for each in closed:
            frames = [self._frames[index] for index in each.indices or ()]
            packets = [(frame, packet) for frame in frames if isinstance(packet := parse(frame), Packet)]
            out += self._hooks.record(each, packets)
        return out


class _Rewriting(ExportStream):
    """A stream that sends something else than it was given."""

    reliable = False

    def __init__(self, inner: ExportStream, change: Callable[[bytes, int], list[bytes]]) -> None:
        self._inner = inner
        self._change = change
        self._ordinal = 0
        self.max_message = inner.max_message

    def send(self, message: bytes) -> Fate:
        """Sends what the change makes of the message."""
        fate = Fate.SENT
        for each in self._change(message, self._ordinal):
            fate = self._inner.send(each)
        self._ordinal += 1
        return fate

    def close(self) -> None:
        """Closes the stream."""
        self._inner.close()


def _length(hooks: Hooks, of: str) -> None:
    """Octets by another length: `frame` whole, `l2` frame less 14, `padding` to the end of the frame, `captured`, or `zero` where the IP length is 0."""

    def change(frame: Frame, packet: Packet, t: int) -> tuple[Packet, int]:
        payload = find_ip(frame)
        start = payload.offset if isinstance(payload, Payload) else 0
        wire = max(frame.wirelen, len(frame.data))
        octets = {
            "frame": wire,
            "l2": wire - 14,
            "padding": wire - start,
            "captured": min(packet.octets, len(frame.data) - start),
            "payload": packet.octets - (40 if len(packet.source) == 16 else 0),
        }[of]
        return packet._replace(octets=octets), t

    hooks.packet = change


def _field(hooks: Hooks, name: str, operation: str, value: int = 0, protocols: list[int] | None = None) -> None:
    """A field of every packet: `set`, `add`, `and`, `swap` (octets of 16 bits), for some protocols or all."""

    def change(frame: Frame, packet: Packet, t: int) -> tuple[Packet, int]:
        if protocols is not None and packet.protocol not in protocols:
            return packet, t
        old = getattr(packet, name)
        new = {"set": value, "add": old + value, "and": old & value, "swap": (old & 0xFF) << 8 | old >> 8 & 0xFF}[operation]
        return packet._replace(**{name: new}), t

    hooks.packet = change


def _lose(hooks: Hooks, which: str) -> None:
    """Packets that are never counted: of frames with `tags` 2, `mpls`, `fragments` after the first, `ipv6` extension headers, or `seventh` of all."""
    seen = 0

    def change(frame: Frame, packet: Packet, t: int) -> tuple[Packet, int] | None:
        nonlocal seen
        seen += 1
        payload = find_ip(frame)
        start = payload.offset if isinstance(payload, Payload) else 0
        is4 = len(packet.source) == 4
        lost = {
            "double_tags": packet.inner_vlan != 0,
            "mpls": isinstance(payload, Payload) and payload.mpls,
            "fragments": is4 and int.from_bytes(frame.data[start + 6 : start + 8], "big") & 0x1FFF != 0,
            "extension_headers": not is4 and frame.data[start + 6] != packet.protocol,
            "third": seen % 3 == 0,
        }[which]
        return None if lost else (packet, t)

    hooks.packet = change


def _later_ports(hooks: Hooks) -> None:
    """Ports read out of later fragments."""

    def change(frame: Frame, packet: Packet, t: int) -> tuple[Packet, int]:
        payload = find_ip(frame)
        start = payload.offset if isinstance(payload, Payload) else 0
        if len(packet.source) == 4 and int.from_bytes(frame.data[start + 6 : start + 8], "big") & 0x1FFF:
            at = start + (frame.data[start] & 15) * 4
            return packet._replace(source_port=int.from_bytes(frame.data[at : at + 2], "big"), destination_port=7), t
        return packet, t

    hooks.packet = change


def _one_time(hooks: Hooks, step: int) -> None:
    """Times known only to `step` nanoseconds: one stamp for a whole ring."""
    hooks.packet = lambda frame, packet, t: (packet, t // step * step)


def _of_last(hooks: Hooks, name: str) -> None:
    """A field of the last packet instead of the first's (pmacctd's ToS)."""
    hooks.record = lambda closed, packets: [closed._replace(record=replace(closed.record, **{name: getattr(packets[-1][1], name)}))]


def _record(hooks: Hooks, name: str, operation: str, value: int = 0) -> None:
    """A field of every record: `set`, `add`, `and`."""

    def change(closed: ClosedRecord, packets: list[tuple[Frame, Packet]]) -> list[ClosedRecord]:
        old = getattr(closed.record, name)
        return [closed._replace(record=replace(closed.record, **{name: {"set": value, "add": old + value, "and": old & value}[operation]}))]

    hooks.record = change


def _swap_times(hooks: Hooks) -> None:
    """First and last exchanged."""
    hooks.record = lambda closed, packets: [closed._replace(record=replace(closed.record, first_ns=closed.record.last_ns, last_ns=closed.record.first_ns))]


def _drop_records(hooks: Hooks, every: int) -> None:
    """Every n-th record is never exported."""
    seen = 0

    def change(closed: ClosedRecord, packets: list[tuple[Frame, Packet]]) -> list[ClosedRecord]:
        nonlocal seen
        seen += 1
        return [] if seen % every == 0 else [closed]

    hooks.record = change


def _leak_flags(hooks: Hooks) -> None:
    """TCP flags of the record before are still there (a reused entry)."""
    before = 0

    def change(closed: ClosedRecord, packets: list[tuple[Frame, Packet]]) -> list[ClosedRecord]:
        nonlocal before
        flags = closed.record.tcp_flags | before
        before = closed.record.tcp_flags
        return [closed._replace(record=replace(closed.record, tcp_flags=flags))]

    hooks.record = change


_WIDTHS = {1: "!B", 2: "!H", 4: "!I"}


def _header(hooks: Hooks, offset: int, width: int, operation: str, value: int = 0, first: int = 0) -> None:
    """A number in the header of every datagram from the `first` on: `add`, `set`, `swap` its octets, `ramp` (adds the ordinal)."""

    def change(message: bytes, ordinal: int) -> list[bytes]:
        if ordinal < first:
            return [message]
        code = _WIDTHS[width]
        old = struct.unpack_from(code, message, offset)[0]
        swapped = int.from_bytes(old.to_bytes(width, "little"), "big")
        new = {"add": old + value, "set": value, "swap": swapped, "ramp": old + value * (ordinal + 1)}[operation]
        changed = bytearray(message)
        struct.pack_into(code, changed, offset, new % (1 << 8 * width))
        return [bytes(changed)]

    hooks.datagram = change


def _skip(hooks: Hooks, count: int) -> None:
    """The first datagrams are never sent."""
    hooks.datagram = lambda message, ordinal: [] if ordinal < count else [message]


def _twice(hooks: Hooks) -> None:
    """Every datagram is sent twice."""
    hooks.datagram = lambda message, ordinal: [message, message]


def _tail(hooks: Hooks, octets: int) -> None:
    """Octets behind the last set (positive), or the last octets cut off (negative)."""
    hooks.datagram = lambda message, ordinal: [message + bytes(octets) if octets > 0 else message[:octets]]


def _replace_octets(hooks: Hooks, old: str, new: str) -> None:
    """Octets of every datagram replaced, both in hexadecimal."""
    hooks.datagram = lambda message, ordinal: [message.replace(bytes.fromhex(old), bytes.fromhex(new))]


def _nothing(hooks: Hooks, **_: Any) -> None:
    """Applied elsewhere: `profile` and `account`."""


OPERATIONS: dict[str, Callable[..., None]] = {
    "length": _length,
    "field": _field,
    "lose": _lose,
    "later_ports": _later_ports,
    "one_time": _one_time,
    "of_last": _of_last,
    "record": _record,
    "swap_times": _swap_times,
    "drop_records": _drop_records,
    "leak_flags": _leak_flags,
    "header": _header,
    "skip": _skip,
    "twice": _twice,
    "tail": _tail,
    "replace": _replace_octets,
    "profile": _nothing,
    "account": _nothing,
}

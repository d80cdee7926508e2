# SPDX-License-Identifier: Apache-2.0
"""The saboteur: the reference with one named fault, so that every check is seen to fail.

Faults are data (conformance/saboteur/faults.toml): what each does is one of the operations of sabotage.py and sabotage_wire.py with parameters.
"""

from __future__ import annotations

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
from flowparity.harness.subjects.sabotage import OPERATIONS
from flowparity.harness.subjects.sabotage_wire import Hooks
from flowparity.packet import Packet, parse
from flowparity.profile import profile_from
from flowparity.reference import ClosedRecord, ReferenceExporter, add_accounts
from flowparity.transport import DEFAULT_MTU, ExportStream, Fate, UdpStream


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
                exports.append(StreamExport(name, stream, exporter, nanoseconds="ipfix_ns" in job.run, first_sequence=int(job.run.get("first_sequence", 0))))
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

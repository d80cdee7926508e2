# SPDX-License-Identifier: Apache-2.0
"""The reference at work for the comparison: one metering of a case for each profile and assignment of frames to workers, remembered while the case lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowparity.accounting import Accounting
from flowparity.diff import Traced
from flowparity.export import assigned
from flowparity.frame import Frame
from flowparity.profile import Profile
from flowparity.reference import ReferenceExporter


@dataclass(frozen=True, slots=True)
class Truth:
    """What the reference says of a case."""

    records: tuple[Traced, ...]
    accounting: Accounting
    workers: tuple[Accounting, ...]
    final_clock_ns: int | None
    boots: Mapping[int, int]  # S-TIM-7: seconds, by worker; a worker that received nothing has none


class Oracle:
    """Meters, and remembers the last few."""

    _KEPT = 8

    def __init__(self) -> None:
        self._known: dict[object, Truth] = {}

    def truth(self, case: str, frames: Sequence[Frame], profile: Profile, workers: int, assignment: tuple[tuple[int, ...], ...] | None) -> Truth:
        """The records and accounts for these frames; `case` tells captures apart."""
        key = (case, profile, workers, assignment)
        if key not in self._known:
            if len(self._known) >= self._KEPT:
                del self._known[next(iter(self._known))]
            self._known[key] = meter(frames, profile, workers, assignment)
        return self._known[key]


def meter(frames: Sequence[Frame], profile: Profile, workers: int = 1, assignment: tuple[tuple[int, ...], ...] | None = None) -> Truth:
    """The reference over frames, with the indices of the frames of each record."""
    workers = len(assignment) if assignment is not None else workers
    exporter = ReferenceExporter(profile, workers, trace=True)
    records: list[Traced] = []
    for worker, frame in assigned(frames, workers, assignment):
        records += [(closed.record, closed.indices or ()) for closed in exporter.feed(frame, worker)]
    records += [(closed.record, closed.indices or ()) for closed in exporter.flush()]
    boots = {worker: exporter.boot(worker) for worker in range(workers) if exporter.has_received(worker)}
    return Truth(tuple(records), exporter.accounting(), tuple(exporter.accounting(worker) for worker in range(workers)), exporter.final_clock_ns, boots)

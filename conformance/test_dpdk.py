# SPDX-License-Identifier: Apache-2.0
"""Every fixture and recorded capture through DPDK's ports without a NIC: every vdev a row, all formats in one run, workers against their own assignment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from conformance.conftest import ROOT, Suite
from flowparity.errors import InputError
from flowparity.harness.cases import Case, cases_of
from flowparity.harness.engine import Bench, Place, Settings
from flowparity.harness.interfaces import Capabilities, Tier
from flowparity.harness.needs import needs_of, unmet
from flowparity.harness.results import Cell, Status
from flowparity.harness.rigs.dpdk import AfPacketPmdRig, AfXdpPmdRig, DpdkInjector, DpdkRig, PcapRig, RingRig, VirtioRig
from flowparity.harness.subjects.remote import WorkerSubject
from flowparity.profile import Profile

WORKER = (sys.executable, "-m", "flowparity.worker")
CASES = cases_of([ROOT / "fixtures"])
SHARE = 0.85
"""Of the Ethernet cases, this many must run on each row."""


@dataclass(frozen=True, slots=True)
class Row:
    """One way into the backend."""

    rig: Callable[[], DpdkRig]
    workers: int
    tier: Tier

    @property
    def name(self) -> str:
        """The rig's name and the number of workers."""
        return f"{self.rig.name}-{self.workers}"  # type: ignore[attr-defined]


ROWS = [
    *(Row(rig, workers, Tier.VDEV) for rig in (RingRig, PcapRig, VirtioRig) for workers in (1, 4)),
    Row(AfPacketPmdRig, 1, Tier.KERNEL),
    Row(AfXdpPmdRig, 1, Tier.KERNEL),
]


class Rows:
    """The rig and the bench of the row in hand: one row at a time, because each holds hugepages."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held: dict[str, tuple[DpdkRig, Bench]] = {}

    def bench(self, row: Row) -> Bench:
        """The bench of a row."""
        if row.name not in self._held:
            self.close()
            rig = row.rig()
            injector = None if isinstance(rig, (RingRig, PcapRig)) else DpdkInjector()
            bench = Bench(["dpdk"], {"dpdk": Place(rig, injector)})
            self._held[row.name] = rig, bench
            available = rig.probe()
            if available.ok and row.tier is Tier.KERNEL:
                inside = rig.veth().namespace.prefix  # type: ignore[attr-defined]
                bench.subjects["dpdk"].close()  # type: ignore[attr-defined]
                bench.subjects["dpdk"] = WorkerSubject("native:dpdk", shown="dpdk", argv=(*inside, *WORKER))
        return self._held[row.name][1]

    def run(self, row: Row, case: Case) -> list[Cell]:
        """All cells of a case, under the row's name."""
        settings = replace(self._settings, workers=row.workers)
        return [replace(cell, subject=row.name) for cell in self.bench(row).run(case, "dpdk", settings)]

    def close(self) -> None:
        """Ends everything."""
        for rig, bench in self._held.values():
            bench.close()
            rig.close()
        self._held.clear()


@pytest.fixture(scope="module")
def rows(suite: Suite) -> Iterator[Rows]:
    kept = Rows(suite.settings)
    yield kept
    kept.close()


def ethernet(case: Case) -> bool:
    """Whether DPDK has anything to do with a case: a run with frames, all Ethernet."""
    if case.refused:
        return False
    try:
        frames = case.frames()
    except InputError:
        return False
    return all(frame.link == 1 for frame in frames)


@pytest.mark.parametrize("case", [case for case in CASES if ethernet(case)], ids=lambda case: case.name)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)  # the outer loop: changing the row costs a second
def test_dpdk(suite: Suite, rows: Rows, case: Case, row: Row) -> None:
    cells = rows.run(row, case)
    suite.add(cells)
    failed = [cell for cell in cells if cell.status in (Status.FAIL, Status.ERROR, Status.UNAVAILABLE)]
    assert not failed, "\n" + "\n".join(line for cell in failed for line in (*cell.lines(), cell.reason))
    assert all(cell.tier is row.tier for cell in cells)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_enough_runs(rows: Rows, row: Row) -> None:
    """What a row leaves out has a reason, and at least 85 % of the Ethernet cases run on it."""
    cases = [case for case in CASES if ethernet(case)]
    subject, rig = rows.bench(row).subjects["dpdk"], rows.bench(row).place("dpdk").rig
    can = rig.restrict(subject.capabilities())
    left = {case.name: reasons for case in cases if (reasons := why_left_out(case, can))}
    assert len(cases) - len(left) >= SHARE * len(cases), left


def why_left_out(case: Case, can: Capabilities) -> list[str]:
    """The reasons for which the engine leaves a case out."""
    reasons = unmet(needs_of(case.frames()), can, case.profile or Profile(counter_bits=32))
    reasons += [f"run parameter {each}" for each in case.run if each not in can.run]
    if case.assignment and not can.assignment:
        reasons.append("chosen workers")
    return reasons

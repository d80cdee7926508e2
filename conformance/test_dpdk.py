# SPDX-License-Identifier: Apache-2.0
"""Every fixture and recorded capture through DPDK's ports without a NIC: every vdev a row, all formats in one run, workers against their own assignment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from conformance.conftest import ROOT, Suite
from flowparity.errors import InputError
from flowparity.harness.cases import Case, cases_of
from flowparity.harness.engine import Bench, Settings
from flowparity.harness.interfaces import Capabilities
from flowparity.harness.live import live_places
from flowparity.harness.needs import needs_of, unmet
from flowparity.harness.results import Cell, Status
from flowparity.harness.rigs.dpdk import ROWS, Row
from flowparity.profile import Profile

CASES = cases_of([ROOT / "fixtures"])
SHARE = 0.85
"""Of the Ethernet cases, this many must run on each row."""


class Rows:
    """The bench of the row in hand: one row at a time, because each holds hugepages."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._held: dict[str, Bench] = {}

    def bench(self, row: Row) -> Bench:
        """The bench of a row."""
        if row.name not in self._held:
            self.close()
            self._held[row.name] = self._stack.enter_context(Bench([row.name], self._stack.enter_context(live_places([row.name]))))
        return self._held[row.name]

    def run(self, row: Row, case: Case) -> list[Cell]:
        """All cells of a case."""
        return self.bench(row).run(case, row.name, self._settings)

    def close(self) -> None:
        """Ends everything."""
        self._held.clear()
        self._stack.close()


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
    subject, rig = rows.bench(row).subjects[row.name], rows.bench(row).place(row.name).rig
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

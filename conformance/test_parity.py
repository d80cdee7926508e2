# SPDX-License-Identifier: Apache-2.0
"""Every fixture and recorded capture by every subject that reads files, in all formats, at every level."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance.conftest import FILE_SUBJECTS, ROOT, Suite
from flowparity.capture import write_capture
from flowparity.generate.spec import TrafficSpec
from flowparity.generate.traffic import Traffic
from flowparity.harness.cases import Case, cases_of
from flowparity.harness.engine import Bench, Settings
from flowparity.harness.results import Status

CASES = cases_of([ROOT / "fixtures"])


@pytest.mark.parametrize("subject", FILE_SUBJECTS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_parity(suite: Suite, case: Case, subject: str) -> None:
    cells = suite.run(case, subject)
    failed = [cell for cell in cells if cell.status in (Status.FAIL, Status.ERROR, Status.UNAVAILABLE)]
    assert not failed, "\n" + "\n".join(line for cell in failed for line in cell.lines())
    assert cells, "no format was compared"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_memory_backend_leaves_nothing_out(suite: Suite, case: Case) -> None:
    """What no other backend can be given, it can: so nothing is left out everywhere."""
    left = [cell.reason for cell in suite.run(case, "memory") if cell.status is Status.LEFT_OUT]
    assert not [reason for reason in left if "run parameter" not in reason and "refused" not in reason]


@pytest.mark.parametrize("subject", FILE_SUBJECTS)
def test_sixty_days_by_four_workers(subject: str, tmp_path: Path) -> None:
    """Uptimes wrap after 49.7 days (S-EXP-5), and each worker's began in another second (S-TIM-7)."""
    path = tmp_path / "weeks.pcap"
    spread = 60 * 86_400 * 10**9 // 400
    write_capture(path, [replace(frame, ts_ns=frame.ts_ns + frame.index * spread) for frame in Traffic(TrafficSpec(flows=40, packets=400, tcp=0.5)).frames()])
    with Bench([subject]) as bench:
        cells = bench.run(Case("weeks", "", path), subject, Settings(workers=4))
    assert [cell.status for cell in cells] == [Status.PASS] * 3, "\n".join(line for cell in cells for line in cell.lines())

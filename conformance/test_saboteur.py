# SPDX-License-Identifier: Apache-2.0
"""Checks that can fail: every fault of the saboteur is caught by the check that its entry names, and the reference without it passes."""

from __future__ import annotations

from collections import Counter

import pytest

from conformance.conftest import ROOT, Suite
from flowparity import catalogue
from flowparity.harness.cases import cases_of
from flowparity.harness.results import Status
from flowparity.harness.subjects.saboteur import Fault, faults

CASES = {(case.name if "/" in case.name else f"{case.topic}/{case.name}"): case for case in cases_of([ROOT / "fixtures"])}
FAULTS = list(faults().values())


def test_there_are_enough() -> None:
    assert len(FAULTS) >= 25
    assert {fault.level for fault in FAULTS} >= {"conserved", "records", "wire"}
    assert all(count == 1 for count in Counter(fault.name for fault in FAULTS).values())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_rule_and_case_exist(fault: Fault) -> None:
    assert catalogue.get(fault.rule).id == fault.rule
    assert fault.case in CASES


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_caught(suite: Suite, fault: Fault) -> None:
    name = f"saboteur:{fault.name}"
    try:
        cells = suite.run(CASES[fault.case], name)
    finally:
        suite.forget(name)
    concerned = [cell for cell in cells if cell.format in fault.formats]
    assert concerned
    for cell in concerned:
        assert cell.status is Status.FAIL, f"{cell.id}: {cell.status} {cell.reason}"
        seen = {(problem.level.value, problem.field) for problem in cell.problems}
        assert (fault.level, fault.check) in seen, f"{cell.id}: only {sorted(seen)}"
        assert "flowparity shrink" in cell.shrink


@pytest.mark.parametrize("case", sorted({fault.case for fault in FAULTS}))
def test_the_reference_passes_the_same_cases(suite: Suite, case: str) -> None:
    """No check blames what the fault did not do."""
    for cell in suite.run(CASES[case], "reference"):
        assert cell.status is Status.PASS, list(cell.lines())

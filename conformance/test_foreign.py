# SPDX-License-Identifier: Apache-2.0
"""Exporters that this project did not write: what they are known to do wrong is seen, with the packet that shows it."""

from __future__ import annotations

import shutil

import pytest

from conformance.conftest import ROOT, Suite
from flowparity.harness.cases import cases_of
from flowparity.harness.results import Cell, Problem, Status

needs_softflowd = pytest.mark.skipif(shutil.which("softflowd") is None, reason="softflowd is not installed: apt-get install softflowd")
CASES = {case.name: case for case in cases_of([ROOT / "fixtures"])}


def problems(cells: list[Cell], format: str, field: str) -> list[Problem]:
    return [problem for cell in cells if cell.format == format for problem in cell.problems if problem.field == field]


@needs_softflowd
def test_softflowd_counts_ethernet_padding(suite: Suite) -> None:
    cells = suite.run(CASES["lengths/padding"], "softflowd")
    for format in ("5", "9", "ipfix"):
        found = problems(cells, format, "octets")
        assert found, [list(cell.lines()) for cell in cells]
        assert "packet 0 (frame.number 1, 60 octets): octets 46 instead of 29: Ethernet padding" in found[0].explanation
        assert found[0].rules == ("S-LEN-3",)


@needs_softflowd
def test_softflowd_breaks_the_wire(suite: Suite) -> None:
    cells = suite.run(CASES["end/idle-exact"], "softflowd")
    assert problems(cells, "9", "V9-HDR-02"), "the count is wrong"
    assert problems(cells, "ipfix", "IPFIX-HDR-04"), "the sequence is wrong"


@needs_softflowd
def test_softflowd_does_not_see_two_tags(suite: Suite) -> None:
    cells = suite.run(CASES["vlan/qinq"], "softflowd")
    assert any(problem.field in ("record", "packets") for cell in cells for problem in cell.problems), [list(cell.lines()) for cell in cells]


@needs_softflowd
def test_softflowd_hangs_on_a_cut_label_stack_and_costs_one_case(suite: Suite) -> None:
    cells = suite.run(CASES["mpls/cut-stack"], "softflowd")
    assert {cell.status for cell in cells} == {Status.ERROR}
    assert all("did not end in time" in cell.reason for cell in cells)

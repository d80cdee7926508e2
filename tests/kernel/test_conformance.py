# SPDX-License-Identifier: Apache-2.0
"""Every fixture and recorded capture over real interfaces: three formats in one run, level `records`, times exact."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from flowparity.harness.rigs.veth import VethRig
from tests.kernel.bench import ROWS, Case, Row, all_cases, run_case, why_left_out

CASES = all_cases()
LEFT_OUT = tomllib.loads((Path(__file__).parent / "left_out.toml").read_text(encoding="utf-8"))
_SHARE = 0.85

Rigs = Callable[[str], VethRig]


def _runnable(row: Row) -> list[Case]:
    return [case for case in CASES if not why_left_out(case, row)]


def _parameters(rows: tuple[Row, ...]) -> list[object]:
    return [pytest.param(row, case, id=f"{row.name}-{case.name}") for row in rows for case in _runnable(row)]


def _shared() -> list[object]:
    """Two workers for every case by one row of each backend; two and four by every row for the recorded captures, which have more flows than that."""
    thorough = ("af_packet", "socket-tuned", "af_xdp-native")
    every = [(row, case, 2) for row in ROWS for case in _runnable(row) if row.name in thorough or case.fixture is None]
    every += [(row, case, 4) for row in ROWS for case in _runnable(row) if case.fixture is None]
    return [pytest.param(row, case, workers, id=f"{row.name}-{case.name}-{workers}") for row, case, workers in every]


@pytest.mark.parametrize(("row", "case"), _parameters(ROWS))
def test_times_travel_with_the_packets(rigs: Rigs, row: Row, case: Case) -> None:
    """SO_TXTIME or metadata; the trailer where a capture needs it."""
    assert run_case(rigs(row.carrier), row, case) == []


@pytest.mark.parametrize(("row", "case"), _parameters(tuple(row for row in ROWS if row.name in ("af_packet", "af_xdp-native"))))
def test_times_travel_in_the_trailer(rigs: Rigs, row: Row, case: Case) -> None:
    """The path of kernels and links that carry no time."""
    assert run_case(rigs("trailer"), row, case) == []


@pytest.mark.parametrize(("row", "case", "workers"), _shared())
def test_workers_meter_their_assignment(rigs: Rigs, row: Row, case: Case, workers: int) -> None:
    """The reference meters what each worker says it received. AF_XDP has one socket for each queue."""
    assert run_case(rigs(row.carrier), row, case, workers=workers) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_is_left_out_is_known(row: Row) -> None:
    """The committed list is what the links forbid, no more and no less, and small."""
    found = {case.name: why_left_out(case, row) for case in CASES if why_left_out(case, row)}
    assert found == LEFT_OUT[row.name]
    ethernet = [case for case in CASES if why_left_out(case, row) != "not Ethernet"]
    assert len(_runnable(row)) >= _SHARE * len(ethernet)

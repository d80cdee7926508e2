# SPDX-License-Identifier: Apache-2.0
"""Every fixture and recorded capture over the stand-ins: three formats in one run, every level, several rings against the reported assignment."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from flowparity.harness.engine import Bench, Settings
from flowparity.harness.interfaces import Tier
from flowparity.harness.results import Cell, Status
from flowparity.harness.rigs.sims import ROWS, Row
from tests.sims.benches import benches_of
from tests.sims.left_out import CASES, NOT_ETHERNET, REFUSED, reasons

LEFT_OUT = tomllib.loads((Path(__file__).parent / "left_out.toml").read_text(encoding="utf-8"))
_SHARE = 0.85


@pytest.fixture(scope="session")
def benches() -> Iterator[Mapping[str, Bench]]:
    """One for each row, kept so that one worker process serves every case of a row."""
    with benches_of(ROWS) as made:
        yield made


def _lines(cells: list[Cell]) -> str:
    return "\n" + "\n".join(line for cell in cells for line in cell.lines())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.topic}-{case.name}")
def test_parity(benches: Mapping[str, Bench], case: object, row: Row) -> None:
    cells = benches[row.name].run(case, row.name, Settings())  # type: ignore[arg-type]
    left = LEFT_OUT[row.backend].get(case.name)  # type: ignore[attr-defined]
    if left is not None:
        assert {cell.status for cell in cells} <= {Status.LEFT_OUT, Status.PASS}, _lines(cells)
        assert {cell.reason for cell in cells if cell.status is Status.LEFT_OUT} == {left}
    else:
        assert {cell.status for cell in cells} == {Status.PASS}, _lines(cells)
    assert {cell.tier for cell in cells} == {Tier.SIM}


@pytest.mark.parametrize("backend", ["netmap", "pfring", "pfring_zc"])
def test_what_is_left_out_is_known_and_little(backend: str) -> None:
    """The committed list is what the paths forbid, no more and no less."""
    found = reasons(backend)
    assert found == LEFT_OUT[backend]
    judged = [case for case in CASES if not any(word in found.get(case.name, "") for word in (NOT_ETHERNET, *REFUSED))]
    assert len([case for case in judged if case.name not in found]) >= _SHARE * len(judged)

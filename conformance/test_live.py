# SPDX-License-Identifier: Apache-2.0
"""The backends of the live kernel through the same engine as all others: a few cases that differ in how the link carries them. tests/kernel runs every case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from conformance.conftest import ROOT
from flowparity.harness.cases import Case, cases_of
from flowparity.harness.engine import Bench, Place, Settings
from flowparity.harness.interfaces import Tier
from flowparity.harness.live import CARRIERS, live_places
from flowparity.harness.results import Status

_CASES = ("recorded/dns.pcap", "vlan/qinq.toml", "verdicts/runt.toml", "time/stray-1970.toml")
CASES = [case for name in _CASES for case in cases_of([ROOT / "fixtures" / name])]


@pytest.fixture(scope="module")
def places() -> Iterator[Mapping[str, Place]]:
    with live_places(CARRIERS) as found:
        yield found


@pytest.fixture(scope="module", params=CARRIERS)
def bench(request: pytest.FixtureRequest, places: Mapping[str, Place]) -> Iterator[Bench]:
    with Bench([request.param], places) as one:
        if why := one.unavailable(request.param):
            pytest.skip(f"{request.param} is not tested: {why}")
        yield one


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_parity(bench: Bench, case: Case) -> None:
    (name,) = bench.subjects
    cells = bench.run(case, name, Settings())
    assert {cell.status for cell in cells} == {Status.PASS}, "\n" + "\n".join(line for cell in cells for line in cell.lines())
    assert {cell.tier for cell in cells} == {Tier.KERNEL}

# SPDX-License-Identifier: Apache-2.0
"""Every fixture through the native core in memory: the expectations were written from docs/semantics.md by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flowparity.capture import read_capture
from flowparity.errors import FlowparityError
from flowparity.fixtures import Fixture, disagreements, load_fixtures
from flowparity.native import meter
from flowparity.profile import profile_from

from .ipfix import flow_records

ROOT = Path(__file__).parents[2] / "fixtures"
FIXTURES = load_fixtures(ROOT)
NOT_IN_MEMORY = {"filter", "export_socket", "clock"}
"""Run parameters that the in-process meter does not have; the conformance suite runs those cases over a source."""


def run(fixture: Fixture, batch: int, sweep_budget: int) -> list[str]:
    profile = profile_from(fixture.profile_table)
    profile.check_formats(fixture.formats)
    frames = [
        replace(frame, tags=fixture.tags.get(frame.index, ()), segments=fixture.segments.get(frame.index, 1)) for frame in read_capture(fixture.capture_path)
    ]
    datagrams, result = meter(
        frames,
        profile,
        ("ipfix",),
        fixture.workers,
        batch=batch,
        sweep_budget=sweep_budget,
        ipfix_ns=True,
        assignment=fixture.assignment or None,
        **fixture.run,
    )
    broken = result.accounting.broken()
    return broken + disagreements(fixture, flow_records(datagrams["ipfix"]), result.accounting, result.final_clock_ns)


@pytest.mark.parametrize("fixture", [f for f in FIXTURES if f.level == "records" and not NOT_IN_MEMORY & set(f.run)], ids=lambda f: f.name)
@pytest.mark.parametrize(("batch", "sweep_budget"), [(1, 0), (32, 0), (7, 1), (256, 1000)])
def test_fixture(fixture: Fixture, batch: int, sweep_budget: int) -> None:
    if fixture.expected.refused:
        with pytest.raises(FlowparityError, match=fixture.expected.refused):
            run(fixture, batch, sweep_budget)
        return
    assert run(fixture, batch, sweep_budget) == []

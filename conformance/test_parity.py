# SPDX-License-Identifier: Apache-2.0
"""Every fixture and recorded capture by every subject that reads files, in all formats, at every level."""

from __future__ import annotations

import pytest

from conformance.conftest import FILE_SUBJECTS, ROOT, Suite
from flowparity.harness.cases import Case, cases_of
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

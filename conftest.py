# SPDX-License-Identifier: Apache-2.0
"""A skip is a hole in the net; and what runs over a live kernel on a busy machine may be tried twice.

Under `CI=true` or `FLOWPARITY_STRICT=1` a skipped test fails unless ci/skips.txt allows its reason: a capability that this machine may lack.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from pathlib import Path

import pytest

STRICT = os.environ.get("CI") == "true" or os.environ.get("FLOWPARITY_STRICT") == "1"


def allowed_skips(text: str) -> list[re.Pattern[str]]:
    """The patterns of an allow-list: one regular expression a line, searched in the reason; '#' starts a comment line."""
    return [re.compile(line) for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]


ALLOWED = allowed_skips((Path(__file__).parent / "ci" / "skips.txt").read_text(encoding="utf-8"))


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turns a skip whose reason is not allowed into a failure that says so."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(pattern.search(reason.removeprefix("Skipped: ")) for pattern in ALLOWED):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped in CI, but ci/skips.txt does not allow the reason: {reason}"


if STRICT:

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Tests that skip themselves or are marked so."""
        report = yield
        refuse_skip(report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Modules that skip themselves whole (`pytest.importorskip`)."""
        report = yield
        refuse_skip(report)
        return report


LIVE = ("tests/kernel/", "tests/dpdk/", "tests/sims/", "conformance/test_live", "conformance/test_dpdk")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests over live links and pollers share their cores with everything else, so each has a second try; the summary counts them. A real fault fails twice."""
    for item in items:
        if item.nodeid.startswith(LIVE):
            item.add_marker(pytest.mark.flaky(reruns=1))

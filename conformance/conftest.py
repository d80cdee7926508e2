# SPDX-License-Identifier: Apache-2.0
"""The suite's subjects, kept for a whole session so that one worker process serves all cases of a test process, and its summary."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowparity.harness.codec import pack, unpack
from flowparity.harness.engine import Bench, Settings
from flowparity.harness.results import Cell, Results
from flowparity.harness.subjects import native_names
from flowparity.report.matrix import Rendered

ROOT = Path(__file__).parent.parent
FILE_SUBJECTS = ("reference", "pcap", "memory")
FOREIGN = ("softflowd",)
_BEGIN = time.monotonic()
_CELLS = pytest.StashKey[list[Cell]]()


class Suite:
    """Runs cases and remembers their cells for the summary."""

    def __init__(self, cells: list[Cell], artefacts: Path | None) -> None:
        self._cells = cells
        self._benches: dict[str, Bench] = {}
        self.settings = Settings(artefacts=artefacts)

    def bench(self, subject: str) -> Bench:
        """The bench of a subject, made when first asked for."""
        if subject not in self._benches:
            self._benches[subject] = Bench([subject])
        return self._benches[subject]

    def run(self, case: object, subject: str) -> list[Cell]:
        """All cells of a case by a subject."""
        cells = self.bench(subject).run(case, subject, self.settings)  # type: ignore[arg-type]
        self.add(cells)
        return cells

    def add(self, cells: list[Cell]) -> None:
        """Remembers cells that a test made by itself."""
        self._cells += cells

    def forget(self, subject: str) -> None:
        """Ends a subject that is not needed again."""
        self._benches.pop(subject).close()

    def close(self) -> None:
        """Ends every worker."""
        for bench in self._benches.values():
            bench.close()


@pytest.fixture(scope="session")
def suite(pytestconfig: pytest.Config) -> Iterator[Suite]:
    kept = os.environ.get("FLOWPARITY_ARTEFACTS")
    one = Suite(pytestconfig.stash[_CELLS], Path(kept) if kept else None)
    yield one
    one.close()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CELLS] = []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    """A process of xdist hands over its cells."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[_CELLS] += [unpack(Cell, each) for each in output.get("flowparity_cells", [])]  # type: ignore[attr-defined]


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["flowparity_cells"] = [pack(cell) for cell in session.config.stash[_CELLS]]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The matrix and the CPU seconds, once for all processes; what others wrote apart, because the suite expects their faults."""
    from rich.console import Console

    cells = [cell for cell in terminalreporter.config.stash[_CELLS] if not cell.subject.startswith("saboteur:")]
    cells.sort(key=lambda cell: (cell.topic, cell.case, cell.subject, cell.format))
    for title, foreign in (("parity", False), ("exporters that others wrote: their known faults are expected to show", True)):
        shown = [cell for cell in cells if (cell.subject in FOREIGN) == foreign]
        if shown:
            terminalreporter.section(title)
            Console(width=160, file=terminalreporter._tw._file).print(Rendered(Results(shown, seconds=time.monotonic() - _BEGIN)))


def file_subjects() -> list[str]:
    """The subjects of the suite that read files."""
    built = native_names()
    return [each for each in FILE_SUBJECTS if each == "reference" or each in built]

# SPDX-License-Identifier: Apache-2.0
"""The matrix: a row for each topic, a column for each subject and format, with the tier. A simulated pass never looks like a native one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flowparity.harness.results import Cell, Results, Status

SHOWN = {"5": "v5", "9": "v9", "ipfix": "IPFIX"}
_ORDER = (Status.ERROR, Status.FAIL, Status.KNOWN, Status.PASS, Status.LEFT_OUT, Status.UNAVAILABLE)
_STYLE = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.ERROR: "bold magenta",
    Status.KNOWN: "yellow",
    Status.LEFT_OUT: "dim",
    Status.UNAVAILABLE: "dim",
}


@dataclass(frozen=True, slots=True)
class Square:
    """All cells of a topic by a subject in a format."""

    cells: tuple[Cell, ...]

    @property
    def status(self) -> Status:
        """The worst of the cells; one that was compared counts before one that was not."""
        seen = {cell.status for cell in self.cells}
        return next(each for each in _ORDER if each in seen)

    @property
    def text(self) -> str:
        """Of one cell, what it says, with the number of records; of several, passed of compared, and what else there is."""
        if len(self.cells) == 1:
            (cell,) = self.cells
            words = {Status.PASS: f"agree ({cell.records})", Status.FAIL: "DIFFER", Status.ERROR: "ERROR", Status.UNAVAILABLE: "not here"}
            return words.get(cell.status, cell.status.value)
        compared = [cell for cell in self.cells if cell.status not in (Status.LEFT_OUT, Status.UNAVAILABLE)]
        if not compared:
            return "not here" if self.status is Status.UNAVAILABLE else "left out"
        passed = sum(cell.status is Status.PASS for cell in compared)
        known = sum(cell.status is Status.KNOWN for cell in compared)
        left = len(self.cells) - len(compared)
        text = f"{passed}/{len(compared)}" + (f" +{known} known" if known else "")
        return text + (f" ({left} left out)" if left else "")


_FEW = 40  # cases up to this number have rows of their own


class Matrix:
    """The squares by topic and column; a case is its own topic where there are few."""

    def __init__(self, results: Results) -> None:
        squares: defaultdict[tuple[str, tuple[str, str]], list[Cell]] = defaultdict(list)
        self.topics: list[str] = []
        self.columns: list[tuple[str, str]] = []
        self.tiers: dict[str, str] = {}
        self.by_case = len({cell.case for cell in results.cells}) <= _FEW
        for cell in results.cells:
            column = (cell.subject, cell.format)
            topic = cell.case if self.by_case else cell.topic
            squares[topic, column].append(cell)
            if topic not in self.topics:
                self.topics.append(topic)
            if column not in self.columns:
                self.columns.append(column)
            if cell.tier is not None:
                self.tiers[cell.subject] = cell.tier.value
        self._squares = {key: Square(tuple(cells)) for key, cells in squares.items()}

    def square(self, topic: str, column: tuple[str, str]) -> Square | None:
        """The square at a place, if anything was asked for there."""
        return self._squares.get((topic, column))

    def heading(self, column: tuple[str, str]) -> str:
        """Subject, tier and format."""
        subject, name = column
        return f"{subject}\n{self.tiers.get(subject, '-')} · {SHOWN[name]}"


def reasons(results: Results) -> Iterator[tuple[str, int, str]]:
    """Why cells were left out or are unavailable: (subject, how many, reason)."""
    seen: dict[tuple[str, str], int] = {}
    for cell in results.cells:
        if cell.reason and cell.status in (Status.LEFT_OUT, Status.UNAVAILABLE):
            seen[cell.subject, cell.reason] = seen.get((cell.subject, cell.reason), 0) + 1
    for (subject, reason), count in sorted(seen.items()):
        yield subject, count, reason


def summary(results: Results) -> str:
    """One line: counts, time, CPU seconds."""
    counts = ", ".join(f"{results.counts[status]} {status}" for status in _ORDER if results.counts[status])
    runs = len({(cell.case, cell.subject) for cell in results.cells if cell.cpu_seconds})
    each = f", {results.cpu_seconds / runs:.3f} each of {runs} runs" if runs else ""
    return f"{counts or 'nothing'} in {results.seconds:.1f} s; subjects used {results.cpu_seconds:.2f} CPU seconds{each}"


def verdict(results: Results) -> str:
    """What the exit status says, in words."""
    known = results.counts[Status.KNOWN]
    words = {0: "parity, but for known faults" if known else "parity", 1: "no parity", 3: "not compared: a subject is not available here"}
    return words[results.exit_code]


def render(results: Results) -> RenderableType:
    """The matrix for a terminal, with the reasons and the summary below it."""
    matrix = Matrix(results)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("capture" if matrix.by_case else "topic", no_wrap=True)
    for column in matrix.columns:
        table.add_column(matrix.heading(column), justify="right")
    for topic in matrix.topics:
        row: list[Text] = [Text(topic)]
        for column in matrix.columns:
            square = matrix.square(topic, column)
            row.append(Text("") if square is None else Text(square.text, _STYLE[square.status]))
        table.add_row(*row)
    lines: list[RenderableType] = [table]
    for subject, count, reason in reasons(results):
        lines.append(Text(f"{subject}: {count} left out: {reason}", "dim"))
    if remarked := sum(bool(cell.remarks) for cell in results.cells):
        rules = sorted({remark.partition(":")[0] for cell in results.cells for remark in cell.remarks})
        lines.append(Text(f"remarks in {remarked} cells on requirements of level SHOULD: {', '.join(rules)} (--strict makes them failures)", "yellow"))
    lines.append(Text(f"{verdict(results)}: {summary(results)}", "green" if results.exit_code == 0 else "red"))
    return Group(*lines)


def failures(results: Results, most: int = 20) -> Iterator[str]:
    """The lines that explain what failed, known faults last, the first few cells in full."""
    cells = results.failures + [cell for cell in results.cells if cell.status is Status.KNOWN]
    for cell in cells[:most]:
        yield from cell.lines()
    if len(cells) > most:
        yield f"… and {len(cells) - most} more cells; --json, --html and --junit have them all"

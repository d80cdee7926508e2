# SPDX-License-Identifier: Apache-2.0
"""The matrix: a row for each topic, a column for each subject and format, with the tier. A simulated pass never looks like a native one.

Where the terminal is too narrow for that, a subject's formats share a column; where it still is, the subjects follow each other in several tables.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
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

    def square(self, topic: str, *columns: tuple[str, str]) -> Square | None:
        """What is at a topic in some columns together, if anything was asked for there."""
        found = [self._squares[topic, column].cells for column in columns if (topic, column) in self._squares]
        return Square(tuple(cell for cells in found for cell in cells)) if found else None

    def subject(self, name: str) -> str:
        """A subject, and below it its tier."""
        return f"{PurePath(name).stem if name.endswith('.toml') else name}\n{self.tiers.get(name, '-')}"

    def heading(self, *columns: tuple[str, str]) -> str:
        """The subject of columns with its tier, and the format if it is one."""
        subject, name = columns[0]
        return self.subject(subject) + (f" · {SHOWN[name]}" if len(columns) == 1 else "")

    def by_subject(self) -> list[tuple[tuple[str, str], ...]]:
        """The columns of each subject."""
        found: dict[str, list[tuple[str, str]]] = {}
        for column in self.columns:
            found.setdefault(column[0], []).append(column)
        return [tuple(columns) for columns in found.values()]


_WORDS = {Status.LEFT_OUT: "left out", Status.UNAVAILABLE: "not here"}


def reasons(results: Results) -> Iterator[tuple[str, int, str, str]]:
    """Why cells were left out or could not be had here: (subjects, how many cells of each, which of the two, reason)."""
    seen = Counter(
        (cell.subject, _WORDS[cell.status], cell.reason) for cell in results.cells if cell.reason and cell.status in (Status.LEFT_OUT, Status.UNAVAILABLE)
    )
    alike: defaultdict[tuple[str, str, int], list[str]] = defaultdict(list)
    for (subject, word, reason), count in sorted(seen.items()):
        alike[word, reason, count].append(subject)
    for (word, reason, count), subjects in alike.items():
        yield ", ".join(subjects), count, word, reason


def notes(results: Results, most: int = 10) -> Iterator[str]:
    """What a reader must know of cases whatever their status (input that ended early, frames not sent): a line for each note, with the runs that have it."""
    found: dict[str, dict[str, None]] = {}
    for cell in results.cells:
        for note in cell.notes:
            found.setdefault(note, {})[f"{cell.case} by {cell.subject}"] = None
    for note, (first, *others) in list(found.items())[:most]:
        yield f"{first}{f' and {len(others)} more' if others else ''}: {note}"
    if len(found) > most:
        yield f"… and {len(found) - most} more notes; --json and --html have them all"


def summary(results: Results) -> str:
    """One line: counts, time, CPU seconds."""
    counts = ", ".join(f"{results.counts[status]} {_WORDS.get(status, status.value)}" for status in _ORDER if results.counts[status])
    runs = len({(cell.case, cell.subject) for cell in results.cells if cell.cpu_seconds})
    each = f", {results.cpu_seconds / runs:.3f} each of {runs} runs" if runs else ""
    return f"{counts or 'nothing'} in {results.seconds:.1f} s; subjects used {results.cpu_seconds:.2f} CPU seconds{each}"


def verdict(results: Results) -> str:
    """What the exit status says, in words."""
    known = results.counts[Status.KNOWN]
    words = {0: "parity, but for known faults" if known else "parity", 1: "no parity", 3: "not compared: a subject is not available here"}
    return words[results.exit_code]


class Rendered:
    """The matrix for a terminal, with the reasons and the summary below it."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._matrix = Matrix(results)

    def _table(self, groups: Sequence[tuple[tuple[str, str], ...]]) -> Table:
        """A table of one column for each group of columns."""
        matrix = self._matrix
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("capture" if matrix.by_case else "topic", no_wrap=True)
        for group in groups:
            table.add_column(matrix.heading(*group), justify="right")
        for topic in matrix.topics:
            row: list[Text] = [Text(topic)]
            for group in groups:
                square = matrix.square(topic, *group)
                row.append(Text("") if square is None else Text(square.text, _STYLE[square.status]))
            table.add_row(*row)
        return table

    def _tables(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """As few tables as the width allows, and what has to be said of them."""

        def fits(groups: Sequence[tuple[tuple[str, str], ...]]) -> bool:
            return Measurement.get(console, options.update(width=10_000), self._table(groups)).maximum <= options.max_width

        apart = [(column,) for column in self._matrix.columns]
        if fits(apart):
            yield self._table(apart)
            return
        yield Text(f"formats together: {', '.join(dict.fromkeys(SHOWN[name] for _, name in self._matrix.columns))}", "dim")
        rest = self._matrix.by_subject()
        while rest:
            taken = max((n for n in range(2, len(rest) + 1) if fits(rest[:n])), default=1)
            yield self._table(rest[:taken])
            rest = rest[taken:]
            if rest:
                yield ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Everything, from the top down."""
        results = self._results
        yield from self._tables(console, options)
        for subject, count, word, reason in reasons(results):
            yield Text(f"{subject}: {count} {word}{' each' if ', ' in subject else ''}: {reason}", "dim")
        for note in notes(results):
            yield Text(note, "yellow")
        if remarked := sum(bool(cell.remarks) for cell in results.cells):
            rules = sorted({remark.partition(":")[0] for cell in results.cells for remark in cell.remarks})
            of = ", ".join(dict.fromkeys(cell.subject for cell in results.cells if cell.remarks))
            yield Text(f"remarks on {of} in {remarked} cells, requirements of level SHOULD: {', '.join(rules)} (--strict makes them failures)", "yellow")
        yield Text(f"{verdict(results)}: {summary(results)}", "green" if results.exit_code == 0 else "red")


def failures(results: Results, most: int = 20) -> Iterator[str]:
    """The lines that explain what failed, known faults last: of each case by each subject one format in full before the others."""
    turns: Counter[tuple[bool, str, str]] = Counter()
    ranked = []
    for cell in results.failures + [cell for cell in results.cells if cell.status is Status.KNOWN]:
        run = (cell.status is Status.KNOWN, cell.case, cell.subject)
        ranked.append((run[0], turns[run], cell))
        turns[run] += 1
    cells = [cell for *_, cell in sorted(ranked, key=lambda each: each[:2])]
    for cell in cells[:most]:
        yield from cell.lines()
    if len(cells) > most:
        unseen = list(dict.fromkeys(cell.case for cell in cells[most:] if cell.case not in {shown.case for shown in cells[:most]}))
        names = f", among them of {', '.join(unseen[:5])}{' …' if len(unseen) > 5 else ''}" if unseen else ""
        yield f"… and {len(cells) - most} more cells{names}; --json, --html and --junit have them all"

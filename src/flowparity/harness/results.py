# SPDX-License-Identifier: Apache-2.0
"""What came of the comparison: problems, cells of the matrix, and all of them together with their exit status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from flowparity.explain import NOT_REPORTED
from flowparity.harness.interfaces import Level, Tier


class Status(StrEnum):
    """What a cell says."""

    PASS = "pass"
    FAIL = "fail"
    KNOWN = "known"  # it fails, for reasons that its description gives
    LEFT_OUT = "left out"  # a probed capability forbids the case
    UNAVAILABLE = "unavailable"  # the subject does not work here
    ERROR = "error"  # the subject crashed, hung or refused what it had promised


@dataclass(frozen=True, slots=True)
class Problem:
    """One way in which a case failed. `rules` are ids of the catalogue; `frames` the packets to look at first; `known` the reason if it was expected."""

    level: Level
    field: str  # of the record, or the first rule's id where the problem is not a field's
    rules: tuple[str, ...]
    text: str
    explanation: str = ""
    frames: tuple[int, ...] = ()
    key: str = ""
    known: str = ""

    @property
    def signature(self) -> tuple[str, str]:
        """What has to be the same for a smaller capture to fail the same way: level and field or rule."""
        return self.level.value, self.field

    def __str__(self) -> str:
        """One line, with the reason where there is one."""
        rules = f" [{', '.join(self.rules)}]" if self.rules else ""
        return f"{self.level}: {self.text}{rules}" + (f"; {self.explanation}" if self.explanation else "")


@dataclass(frozen=True, slots=True)
class Cell:
    """One case by one subject in one format."""

    case: str
    topic: str
    capture: str
    subject: str
    format: str
    status: Status
    tier: Tier | None = None
    level: Level | None = None  # the strictest at which records were compared
    problems: tuple[Problem, ...] = ()
    reason: str = ""  # of a case left out, a subject unavailable, an error
    records: int = 0  # that the reference has for this format
    cpu_seconds: float = 0.0  # of the whole run, shared by its formats; 0 over a stand-in
    shrink: str = ""  # the command that makes the smallest capture that fails the same way
    artefacts: str = ""  # directory
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()  # requirements of level SHOULD that were broken where that is no failure

    @property
    def id(self) -> str:
        """Case · subject · format."""
        return f"{self.case} · {self.subject} · {self.format}"

    def lines(self, most: int = 5) -> Iterator[str]:
        """What a person has to read of a failure, what a rule explains first."""
        alike: dict[tuple[object, ...], list[Problem]] = {}
        # The same rule broken in a hundred datagrams, or a field that is never there, is one line.
        for problem in sorted(self.problems, key=lambda each: not each.rules):
            unsaid = problem.explanation == NOT_REPORTED.format(problem.field)
            alike.setdefault(problem.signature if problem.level is Level.WIRE or unsaid else (len(alike),), []).append(problem)
        for first, *others in list(alike.values())[:most]:
            mark = f" (known: {first.known})" if first.known else ""
            more = f" (and {len(others)} more like it)" if others else ""
            yield f"{self.case} by {self.subject} in {self.format}: {first}{mark}{more}"
        if len(alike) > most:
            yield f"… and {len(alike) - most} more kinds of mismatch"
        if self.reason:
            yield f"{self.case} by {self.subject} in {self.format}: {self.status}: {self.reason}"
        if self.shrink and self.status is Status.FAIL:
            yield f"smallest capture: {self.shrink}"


@dataclass(slots=True)
class Results:
    """All cells of a run."""

    cells: list[Cell] = field(default_factory=list)
    required: frozenset[str] = frozenset()  # subjects that were asked for by name
    seconds: float = 0.0
    about: Mapping[str, str] = field(default_factory=dict)  # of the run, for reports: when, where, the command

    def add(self, cells: Iterable[Cell]) -> None:
        """Adds cells."""
        self.cells += cells

    @property
    def counts(self) -> Counter[Status]:
        """How many cells there are of each status."""
        return Counter(cell.status for cell in self.cells)

    @property
    def failures(self) -> list[Cell]:
        """The cells that fail or went wrong."""
        return [cell for cell in self.cells if cell.status in (Status.FAIL, Status.ERROR)]

    @property
    def exit_code(self) -> int:
        """0 parity, 1 mismatch, 3 a subject that was asked for by name is not available, or nothing at all was compared."""
        if self.failures:
            return 1
        compared = any(cell.status in (Status.PASS, Status.KNOWN) for cell in self.cells)
        missing = any(cell.status is Status.UNAVAILABLE and cell.subject in self.required for cell in self.cells)
        return 3 if missing or not compared else 0

    @property
    def cpu_seconds(self) -> float:
        """Of all subjects; every run counted once."""
        return sum({(cell.case, cell.subject): cell.cpu_seconds for cell in self.cells}.values())

# SPDX-License-Identifier: Apache-2.0
"""`parity`: captures through exporters, and what they exported against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowparity.cli.options import ProfileChoice, Versions, formats_of, takes_profile
from flowparity.cli.output import console, errors_console, note
from flowparity.errors import UsageError

if TYPE_CHECKING:
    from flowparity.harness.engine import Progress
    from flowparity.harness.interfaces import Level

_MOST_FAILURES = 10  # explained one by one; all are in the matrix and the reports

Captures = Annotated[list[Path], typer.Argument(help="Captures, fixtures, or directories of them.", readable=False, show_default=False)]
Subjects = Annotated[
    str,
    typer.Option(
        "--backend",
        help="Backends, 'reference', 'saboteur:FAULT', softflowd, TOML files of exporters (docs/adding-an-exporter.md); all: backends that read files.",
        metavar="LIST",
    ),
]
Levels = Annotated[str, typer.Option("--level", help="conserved, merged, records, wire, cross, or all (docs/semantics.md).", metavar="LIST")]
Workers = Annotated[int, typer.Option(help="Workers of the exporter.", min=1, max=64)]
Artefacts = Annotated[Path | None, typer.Option("--artefacts", help="Keep datagrams and records of failures here.", metavar="DIR", show_default=False)]
Jobs = Annotated[int, typer.Option("--jobs", "-j", help="Cases at a time.", min=1, max=256)]
Timeout = Annotated[float, typer.Option(help="Seconds for one case.", metavar="S", min=0.1)]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(rich_help_panel="Parity")(parity)


@takes_profile
def parity(
    captures: Captures,
    backend: Subjects = "pcap",
    version: Versions = "all",
    level: Levels = "all",
    workers: Workers = 1,
    artefacts: Artefacts = None,
    jobs: Jobs = 2,
    timeout: Timeout = 60.0,
    *,
    profile: ProfileChoice,
) -> int:
    """Whether exporters agree with the reference, record by record, and with the rules of the formats. Prints the matrix.

    Status 0 parity, 1 mismatch, 2 bad input or usage, 3 a backend that was named is not available here. A failure names capture, exporter, format, key, field,
    both values and the packets, and the command that makes the smallest capture that still fails.
    """
    from flowparity.cli.matrix import matrix, not_compared
    from flowparity.harness.cases import cases_of
    from flowparity.harness.engine import Settings
    from flowparity.harness.engine import parity as compare

    formats = formats_of(version)
    names, required = _subjects(backend)
    settings = Settings(
        formats=formats,
        levels=_levels(level),
        profile=profile.resolve(formats) if profile.table else None,
        workers=workers,
        timeout=timeout,
        artefacts=artefacts,
        required=frozenset(required),
    )
    cases = cases_of(captures)
    with _bar(len(cases) * len(names)) as progress:
        results = compare(cases, names, settings, jobs=jobs, progress=progress)
    console().print(matrix(results))
    for line in not_compared(results.cells):
        note(line)
    told = {cell.reason or cell.id: cell for cell in reversed(results.failures)}  # what ends a run ends it for all its formats: told once
    for cell in reversed(list(told.values())[-_MOST_FAILURES:]):
        for line in cell.lines():
            note(line)
    if len(told) > _MOST_FAILURES:
        note(f"… and {len(told) - _MOST_FAILURES} more failures")
    counts = ", ".join(f"{number} {status}" for status, number in sorted(results.counts.items()))
    verdict = {0: "parity", 1: "MISMATCH", 3: "nothing to compare, or a backend that was named is not available here"}[results.exit_code]
    note(f"{verdict}: {counts}; {results.seconds:.1f} s, {results.cpu_seconds:.2f} CPU seconds in exporters")
    return results.exit_code


def _subjects(text: str) -> tuple[list[str], set[str]]:
    """The subjects' names, and those that were named (a named one that does not work here is status 3)."""
    from flowparity.harness.subjects import native_names, open_subject

    names = list(dict.fromkeys(each for each in (part.strip() for part in text.split(",")) if each))
    if not names:
        raise UsageError("--backend: nothing is named")
    if names == ["all"]:
        from flowparity import native

        on_files = {each.name for each in native.backends() if each.capabilities is not None and not each.capabilities.live and each.name != "memory"}
        return [name for name in native_names() if name in on_files] + ["reference"], set()
    for name in names:
        open_subject(name)
    return names, set(names)


def _levels(text: str) -> frozenset[Level]:
    from flowparity.harness.interfaces import Level

    names = {part.strip() for part in text.split(",") if part.strip()}
    if names == {"all"}:
        return frozenset(Level)
    unknown = sorted(names - {each.value for each in Level})
    if unknown or not names:
        raise UsageError(f"--level: {', '.join(unknown) or 'nothing'} is none of {', '.join(Level)}, all")
    return frozenset(Level(name) for name in names)


@contextmanager
def _bar(total: int) -> Iterator[Progress | None]:
    """A progress bar on a terminal; nothing elsewhere."""
    shown = errors_console()
    if not shown.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"), console=shown, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, _all, what: bar.update(task, completed=done, description=what)

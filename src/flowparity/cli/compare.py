# SPDX-License-Identifier: Apache-2.0
"""`parity`: captures through exporters, and what they exported against the reference. `shrink`: the smallest capture that still fails."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowparity.cli.options import ProfileChoice, Versions, formats_of, takes_profile
from flowparity.cli.output import console, errors_console, note
from flowparity.errors import UsageError

if TYPE_CHECKING:
    from flowparity.harness.engine import Progress
    from flowparity.harness.interfaces import Level

ON_FILES = ("pcap", "memory")
"""The backends that read captures themselves."""
_MOST_FAILURES = 10  # explained one by one; all are in the matrix and the reports

Captures = Annotated[list[Path], typer.Argument(help="Captures, fixtures, or directories of them.", readable=False, show_default=False)]
Subjects = Annotated[
    str,
    typer.Option(
        "--backend",
        help="Backends (live ones over links of their own), 'reference', 'saboteur:FAULT', softflowd, TOML files of exporters "
        "(docs/adding-an-exporter.md); all: every backend; what does not work here is said.",
        metavar="LIST",
    ),
]
Levels = Annotated[str, typer.Option("--level", help="conserved, merged, records, wire, cross, or all (docs/semantics.md).", metavar="LIST")]
Workers = Annotated[int, typer.Option(help="Workers of the exporter.", min=1, max=64)]
Html = Annotated[Path | None, typer.Option("--html", help="Write a page with the matrix and every failure.", metavar="FILE", show_default=False)]
Junit = Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML.", metavar="FILE", show_default=False)]
Json = Annotated[Path | None, typer.Option("--json", help="Write everything as JSON.", metavar="FILE", show_default=False)]
Strict = Annotated[bool, typer.Option("--strict", help="Requirements of level SHOULD that are broken are failures, not remarks.")]
Artefacts = Annotated[Path | None, typer.Option("--artefacts", help="Keep datagrams and records of failures here.", metavar="DIR", show_default=False)]
Jobs = Annotated[int, typer.Option("--jobs", "-j", help="Cases at a time.", min=1, max=256)]
Timeout = Annotated[float, typer.Option(help="Seconds for one case.", metavar="S", min=0.1)]
Capture = Annotated[Path, typer.Argument(help="A capture that fails.", readable=False, show_default=False)]
Subject = Annotated[str, typer.Option("--backend", help="The exporter that fails on it, as for 'flowparity parity'.", metavar="NAME")]
OneVersion = Annotated[str, typer.Option("--version", help="The NetFlow version in which it fails: 5, 9 or ipfix.", metavar="VERSION")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where the capture goes (default: its name with .small.pcap, here).", metavar="FILE", show_default=False)
]
Anonymise = Annotated[
    bool,
    typer.Option(
        "--anonymise",
        help="Change IP and MAC addresses in headers; prefixes, lengths and right checksums are kept. Payload that the failure needs stays.",
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(rich_help_panel="Parity")(parity)
    app.command(rich_help_panel="Parity")(shrink)


@takes_profile
def parity(
    captures: Captures,
    backend: Subjects = "pcap",
    version: Versions = "all",
    level: Levels = "all",
    workers: Workers = 1,
    html: Html = None,
    junit: Junit = None,
    json: Json = None,
    artefacts: Artefacts = None,
    strict: Strict = False,
    jobs: Jobs = 2,
    timeout: Timeout = 60.0,
    *,
    profile: ProfileChoice,
) -> int:
    """Whether exporters agree with the reference, record by record, and with the rules of the formats. Prints the matrix.

    Status 0 parity, 1 mismatch, 2 bad input or usage (of a capture that is cut, what comes before is compared), 3 a backend that was named is not available
    here. A failure names capture, exporter, format, key, field,
    both values and the packets, and the command that makes the smallest capture that still fails.
    """
    from flowparity.harness.cases import cases_of
    from flowparity.harness.engine import Settings
    from flowparity.harness.engine import parity as compare
    from flowparity.harness.live import live_places
    from flowparity.report.files import write_reports
    from flowparity.report.matrix import Rendered, failures

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
        strict=strict,
    )
    for path in (html, junit, json):
        if path is not None:
            _check_target(path)
    if artefacts is not None:
        _check_directory(artefacts)
    cases = cases_of(captures)
    with _bar(len(cases) * len(names)) as progress:
        results = compare(cases, names, settings, jobs=jobs, places=lambda: live_places(names), progress=progress)
    results.about = {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "machine": f"{platform.node()}, {platform.system()} {platform.release()}, {platform.machine()}",
        "command": shlex.join(["flowparity", *sys.argv[1:]]),
    }
    write_reports(results, html=html, junit_path=junit, json_path=json)
    console().print(Rendered(results))
    for line in failures(results, _MOST_FAILURES):
        note(line)
    if results.exit_code == 0:
        for case in cases:
            case.check_whole()
    return results.exit_code


def _check_target(path: Path) -> None:
    """UsageError where a report could not be written; better before a long run than after it."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no directory {path.parent}; make it first")
    if path.is_dir():
        raise UsageError(f"{path}: a directory; name a file in it")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{path}: Permission denied; choose another path or get the right to it")


def _check_directory(path: Path) -> None:
    """UsageError where failures could not be kept."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--artefacts: {path} cannot be made: {error.strerror}; name a directory that you may write to") from None
    if not os.access(path, os.W_OK):
        raise UsageError(f"--artefacts: {path}: Permission denied; name a directory that you may write to")


@takes_profile
def shrink(
    capture: Capture,
    backend: Subject = "pcap",
    version: OneVersion = "ipfix",
    level: Levels = "all",
    workers: Workers = 1,
    anonymise: Anonymise = False,
    output: Output = None,
    timeout: Timeout = 60.0,
    *,
    profile: ProfileChoice,
) -> int:
    """The smallest capture that still fails the same way: fewer packets, then plainer ones. Every failure of parity prints this command."""
    from flowparity.capture import write_capture
    from flowparity.harness.cases import cases_of
    from flowparity.harness.engine import Settings
    from flowparity.shrink import has_payload
    from flowparity.shrink import shrink as make_smaller

    formats = formats_of(version)
    if len(formats) != 1:
        raise UsageError(f"--version: {version} is more than one; name the version in which it fails")
    names, _ = _subjects(backend)
    if len(names) != 1:
        raise UsageError(f"--backend: {backend} is more than one; name the exporter that fails")
    settings = Settings(levels=_levels(level), profile=profile.resolve(formats) if profile.table else None, workers=workers, timeout=timeout)
    if capture.is_dir():
        raise UsageError(f"{capture}: a directory; name the capture that fails")
    if output is not None and output.exists() and capture.exists() and output.samefile(capture):
        raise UsageError(f"--output: {output} is the capture itself; give another file")
    (case,) = cases_of([capture])
    with _bar(len(case.frames())) as progress:

        def tell(left: int, tries: int) -> None:
            if progress is not None:
                progress(left, left, f"{left} packets left after {tries} tries")

        found = make_smaller(case, names[0], formats[0], settings, anonymise=anonymise, progress=tell)
    several = len({(frame.link, frame.interface) for frame in found.frames}) > 1
    target = output or Path(capture.stem + (".small.pcapng" if several else ".small.pcap"))
    write_capture(target, found.frames)
    note(f"{target}: {len(found.frames)} of {found.before} packets, after {found.tries} tries; it fails so: {found.problem}")
    if anonymise and (kept := [frame.index for frame in found.frames if has_payload(frame)]):
        note(f"payload is still in packet {', '.join(map(str, kept))} of it, unchanged: look whether it names somebody before you show it")
    return 0


def _subjects(text: str) -> tuple[list[str], set[str]]:
    """The subjects' names, and those that were named (a named one that does not work here is status 3)."""
    from flowparity.harness.subjects import open_subject

    names = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if "" in names:
        raise UsageError(f"--backend: {text!r} names nothing before or after a comma")
    if names == ["all"]:
        from flowparity import native
        from flowparity.harness.live import places_of_all

        here = [each.name for each in native.backends() if each.available]
        return [*(name for name in ON_FILES if name in here), *places_of_all(here), "reference"], set()
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

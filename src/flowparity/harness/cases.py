# SPDX-License-Identifier: Apache-2.0
"""Cases: captures as they are, and fixtures with their profile, workers and metadata."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from flowparity.capture import read_capture
from flowparity.errors import InputError, UsageError
from flowparity.fixtures import Fixture, load_fixture
from flowparity.frame import Frame
from flowparity.harness.interfaces import Level, Metadata
from flowparity.harness.subjects.reference import frames_with
from flowparity.profile import Profile

SUFFIXES = (".pcap", ".pcapng", ".cap")


@dataclass(frozen=True, slots=True)
class Case:
    """One capture with what belongs to it. `profile` None: the run's."""

    name: str
    topic: str
    capture: Path
    profile: Profile | None = None
    formats: tuple[str, ...] | None = None
    level: Level = Level.RECORDS
    workers: int | None = None
    run: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[int, Metadata] = field(default_factory=dict)
    assignment: tuple[int, ...] = ()
    refused: str = ""  # a run that must be refused, with a message that holds this text
    rules: tuple[str, ...] = ()
    named: bool = True  # False: found in a directory, so that what cannot be read is left out and does not end the run

    def frames(self) -> list[Frame]:
        """The frames with their metadata. What comes before the place where a capture is cut or damaged counts; InputError if it is none at all."""
        return frames_with(self.capture, self.metadata)

    def check_whole(self) -> None:
        """Raises the InputError of a capture that is cut or damaged, if it was named by itself and no fixture means it to be."""
        if self.named and not self.capture.with_suffix(".toml").exists():
            for _ in read_capture(self.capture):
                pass


def case_of_fixture(fixture: Fixture) -> Case:
    """A fixture as a case."""
    try:
        profile = fixture.profile
    except UsageError:
        if not fixture.expected.refused:
            raise
        profile = None  # nobody can be asked for it
    metadata = {index: Metadata(fixture.tags.get(index, ()), fixture.segments.get(index, 1)) for index in sorted(set(fixture.tags) | set(fixture.segments))}
    return Case(
        name=fixture.name,
        topic=fixture.topic,
        capture=fixture.capture_path,
        profile=profile,
        formats=fixture.formats,
        level=Level(fixture.level),
        workers=fixture.workers,
        run={name: str(value) for name, value in fixture.run.items()},
        metadata=metadata,
        assignment=fixture.assignment,
        refused=fixture.expected.refused,
        rules=fixture.rules,
    )


def cases_of(paths: Iterable[Path]) -> list[Case]:
    """The cases in files and directories: a capture beside a fixture of its name is that fixture's. InputError if there is nothing.

    Where two would have one name, their paths are their names.
    """
    out: dict[Path, Case] = {}
    for path in paths:
        if path.is_dir():
            found = sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES and each.is_file())
            if not found:
                raise InputError(f"{path}: no captures ({', '.join(SUFFIXES)}) below this directory")
            for each in found:
                out.setdefault(each.resolve(), replace(_case(each, path), named=False))
        elif path.exists():
            if not os.access(path, os.R_OK):
                raise InputError(f"{path}: Permission denied; make it readable to you")
            out.setdefault(path.resolve(), _case(path, path.parent))
        else:
            raise InputError(f"{path}: No such file or directory; name captures, fixtures or directories of them")
    times = Counter(case.name for case in out.values())
    return [case if times[case.name] == 1 else replace(case, name=str(case.capture)) for case in out.values()]


def _case(path: Path, root: Path) -> Case:
    described = path.with_suffix(".toml")
    if described.exists():
        return case_of_fixture(load_fixture(described))
    parent = path.parent.name or "captures"
    return Case(name=f"{parent}/{path.name}" if path.parent != root else path.name, topic=parent, capture=path)

# SPDX-License-Identifier: Apache-2.0
"""Exporters that this project did not write, each described by a TOML file alone (docs: conformance/subjects/README.md).

One process runs for each format. The exporter has no choice of profile: it is compared under its own (`adapt`), and says nothing of verdicts.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from flowparity.errors import FlowparityError, InputError, SystemFault, UsageError
from flowparity.harness.data import data_directory
from flowparity.harness.interfaces import Availability, Capabilities, Job, Outcome, Session, Subject, Tier
from flowparity.profile import FORMATS, Profile, profile_from
from flowparity.view import FIELDS


@dataclass(frozen=True, slots=True)
class Known:
    """A failure that is expected: in a field or of a rule, in some formats, for a reason."""

    reason: str
    field: str = ""
    rule: str = ""
    formats: tuple[str, ...] = FORMATS


@dataclass(frozen=True, slots=True)
class Description:
    """What a TOML file says of an exporter."""

    name: str
    summary: str
    executable: str
    package: str
    argv: tuple[str, ...]
    formats: Mapping[str, str]  # the project's name of a format to the exporter's
    files: Mapping[str, str] = field(default_factory=dict)  # files to write first, by name: templates as in argv
    profile: Mapping[str, Any] = field(default_factory=dict)
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    known: tuple[Known, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    settle: float = 0.0  # seconds that a process without an end of its own gets after its last sign of work
    timeout: float = 60.0  # seconds that a run may take at most, whatever the harness would wait
    statuses: tuple[int, ...] = (0,)  # exit statuses that mean success


@cache
def descriptions() -> dict[str, str]:
    """The paths of the described exporters by name."""
    directory = data_directory("subjects")
    return {path.stem: str(path) for path in sorted(directory.glob("*.toml"))} if directory is not None else {}


def load_description(path: Path) -> Description:
    """Reads a description; InputError names the file and what is wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        known_keys = {each.name for each in fields(Description)}
        unknown = sorted(set(table) - known_keys)
        if unknown:
            raise ValueError(f"unknown key {', '.join(unknown)}; known: {', '.join(sorted(known_keys))}")
        known = tuple(Known(**{**each, "formats": tuple(each.get("formats", FORMATS))}) for each in table.pop("known", []))
        if any(not (each.field or each.rule) for each in known):
            raise ValueError("a known failure names a field or a rule")
        for name in ("argv", "statuses"):
            if name in table:
                table[name] = tuple(table[name])
        out = Description(**table, known=known)
        profile_from(out.profile)
        _capabilities(out)
        if set(out.formats) - set(FORMATS):
            raise ValueError(f"formats are {', '.join(FORMATS)}")
        return out
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError, ValueError, FlowparityError) as error:
        raise InputError(f"subject {path}: {error}") from None


def _capabilities(description: Description) -> Capabilities:
    table = dict(description.capabilities)
    reported = table.pop("fields", None)
    if reported is not None:
        wrong = sorted(set(reported) - set(FIELDS))
        if wrong:
            raise ValueError(f"capabilities.fields: {', '.join(wrong)} is none of {', '.join(FIELDS)}")
        table["fields"] = frozenset(reported)
    if "links" in table:
        table["links"] = frozenset(table["links"])
    tier = Tier(table.pop("tier", "file"))
    return Capabilities(tier=tier, formats=tuple(each for each in FORMATS if each in description.formats), exact_time=False, truthful=False, **table)


class ForeignSubject(Subject):
    """An exporter by its description."""

    def __init__(self, description: Description) -> None:
        self.name = description.name
        self.description = description

    @classmethod
    def load(cls, path: str) -> ForeignSubject:
        """From a TOML file (InputError)."""
        return cls(load_description(Path(path)))

    def probe(self) -> Availability:
        """Whether the program is installed."""
        if shutil.which(self.description.executable) is not None:
            return Availability(True)
        return Availability(False, f"{self.description.executable} is not installed", f"apt-get install {self.description.package}")

    def capabilities(self) -> Capabilities:
        """As described."""
        return _capabilities(self.description)

    def adapt(self, profile: Profile) -> Profile:
        """Its own profile, with what it does not fix taken from the given one."""
        fixed = profile_from(self.description.profile)
        names = {"template_packets", "template_seconds"} if "template_refresh" in self.description.profile else set()
        return replace(profile, **{name: getattr(fixed, name) for name in {*self.description.profile, *names} - {"template_refresh"}})

    def refusals(self, profile: Profile, formats: tuple[str, ...], workers: int) -> list[str]:
        """Several workers and sampling, which it does not know."""
        out = [f"{workers} workers: it has none"] if workers > 1 else []
        return out + (["sampling is not described for it"] if profile.sampling is not None else [])

    def known(self, format: str, rule: str, field: str) -> str:
        """As described."""
        for each in self.description.known:
            if format in each.formats and each.field in ("", field) and each.rule in ("", rule):
                return each.reason
        return ""

    def start(self, job: Job) -> Session:
        """Starts a process for each format."""
        return _ForeignSession(self.description, job)


class _ForeignSession(Session):
    def __init__(self, description: Description, job: Job) -> None:
        self._description = description
        self._directory = tempfile.TemporaryDirectory(prefix="flowparity-foreign-")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._before = resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            for name, (address, port) in job.collectors.items():
                self._start(name, address, port, job)
        except BaseException:
            self.kill()
            raise

    def _start(self, name: str, address: str, port: int, job: Job) -> None:
        place = Path(self._directory.name) / name
        place.mkdir()
        values = {
            "executable": self._description.executable,
            "capture": str(Path(job.source).resolve()) if "/" in job.source or Path(job.source).exists() else job.source,
            "address": address,
            "port": str(port),
            "version": self._description.formats[name],
            "directory": str(place),
        }
        for file, text in self._description.files.items():
            (place / file).write_text(fill(text, values), encoding="utf-8")
        argv = [*job.prefix, *(fill(each, values) for each in self._description.argv)]
        environment = {**os.environ, **{key: fill(value, values) for key, value in self._description.environment.items()}}
        with (place / "output").open("wb") as output:
            try:
                process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place, env=environment)
            except OSError as error:
                raise SystemFault(f"{self._description.name}: cannot start {argv[0]}: {error.strerror}") from None
        self._processes.append(process)

    def wait_ready(self, timeout: float) -> None:
        """A reader of files is always ready."""

    def finish(self, timeout: float) -> Outcome:
        """Waits for every process; one that does not end by itself is ended when it has been idle for as long as its description says."""
        end = time.monotonic() + min(timeout, self._description.timeout)
        for process in self._processes:
            self._wait(process, end)
            if process.returncode not in self._description.statuses:
                how = f"signal {-process.returncode}" if process.returncode < 0 else f"status {process.returncode}"
                raise SystemFault(f"{self._description.name} ended with {how}: {self._last_words()}")
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime - self._before.ru_utime - self._before.ru_stime
        return Outcome(cpu_seconds=cpu)

    def _wait(self, process: subprocess.Popen[bytes], end: float) -> None:
        settle = self._description.settle
        try:
            if not settle:
                process.wait(max(0.0, end - time.monotonic()))
                return
            used, since = _cpu_ticks(process.pid), time.monotonic()
            while time.monotonic() - since < settle and time.monotonic() < end:
                try:
                    process.wait(0.05)
                    return
                except subprocess.TimeoutExpired:
                    now = _cpu_ticks(process.pid)
                    if now != used:
                        used, since = now, time.monotonic()
            process.terminate()
            process.wait(max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise SystemFault(f"{self._description.name} did not end in time: {self._last_words()}") from None

    def _last_words(self) -> str:
        for path in sorted(Path(self._directory.name).glob("*/output")):
            lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if lines:
                return lines[-1]
        return "it said nothing"

    def kill(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._directory.cleanup()


def _cpu_ticks(pid: int) -> str:
    """User and system time of a process as /proc has it; empty when it is gone."""
    try:
        return " ".join(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13])
    except OSError:
        return ""


def fill(template: str, values: Mapping[str, str]) -> str:
    """A template with its {names} replaced; {{ and }} are braces. A UsageError names a name that there is not."""
    try:
        return template.format_map(values)
    except (KeyError, ValueError, IndexError) as error:
        raise UsageError(f"template {template!r}: {error}; known: {', '.join(sorted(values))}") from None

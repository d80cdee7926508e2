# SPDX-License-Identifier: Apache-2.0
"""Exporters that this project did not write, each described by a TOML file alone (docs: conformance/subjects/README.md).

One process runs for each format. The exporter has no choice of profile: it is compared under its own (`adapt`), and says nothing of verdicts.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from flowparity.catalogue import get as rule
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
    """Reads a description; InputError names the file, the key and what is wrong with it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        table["known"] = tuple(_known(each) for each in _checked(table, Description, "").get("known", ()))
        for name in ("argv", "statuses"):
            if name in table:
                table[name] = tuple(table[name])
        out = Description(**table)
        profile_from(out.profile)
        _capabilities(out)
        if set(out.formats) - set(FORMATS) or not out.formats:
            raise ValueError(f"formats are some of {', '.join(FORMATS)}, each with the exporter's own name of it")
        return out
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValueError, FlowparityError) as error:
        raise InputError(f"subject {path}: {error}") from None


_SHAPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("text", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "int | None": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "float": ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    "tuple[str, ...]": ("a list of texts", lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value)),
    "tuple[int, ...]": ("a list of whole numbers", lambda value: isinstance(value, list) and all(isinstance(each, int) for each in value)),
    "tuple[Known, ...]": ("tables, [[known]]", lambda value: isinstance(value, list) and all(isinstance(each, dict) for each in value)),
    "Mapping[str, str]": ("a table of texts", lambda value: isinstance(value, dict) and all(isinstance(each, str) for each in value.values())),
    "Mapping[str, Any]": ("a table", lambda value: isinstance(value, dict)),
    "frozenset[int]": ("a list of LINKTYPE numbers (1 is Ethernet)", lambda value: isinstance(value, list) and all(isinstance(each, int) for each in value)),
    "frozenset[str]": ("a list of texts", lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value)),
    "frozenset[str] | None": ("a list of texts", lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value)),
    "Tier": (f"one of {', '.join(Tier)}", lambda value: value in list(Tier)),
}
"""By the type of a dataclass's field: what a TOML file has to say, in words, and whether it does."""


def _checked(table: dict[str, Any], cls: type, where: str, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The table, if it has what the dataclass needs, nothing that it does not know, and each value in its shape; else a ValueError."""
    known = {each.name: each for each in fields(cls) if each.name not in without}
    for name, value in table.items():
        if name not in known:
            raise ValueError(f"unknown key {where}{name}; known: {', '.join(sorted(known))}")
        words, fits = _SHAPES[str(known[name].type)]
        if not fits(value):
            raise ValueError(f"{where}{name}: {value!r} is not {words}")
    missing = [name for name, each in known.items() if name not in table and each.default is MISSING and each.default_factory is MISSING]
    if missing:
        raise ValueError(f"{', '.join(where + name for name in missing)}: missing")
    return table


def _known(table: dict[str, Any]) -> Known:
    values = _checked(table, Known, "known.")
    known = Known(**{**values, "formats": tuple(values.get("formats", FORMATS))})
    if not (known.field or known.rule):
        raise ValueError("known: an entry names a field or a rule")
    if known.field and known.field not in (*FIELDS, "record"):
        raise ValueError(f"known.field: {known.field} is none of {', '.join(FIELDS)}, record")
    if known.rule:
        rule(known.rule)
    return known


_OWN = frozenset({"formats", "truthful", "exact_time"})  # what is so of every exporter that only exports


def _capabilities(description: Description) -> Capabilities:
    table = dict(_checked({"tier": "file", **description.capabilities}, Capabilities, "capabilities.", without=_OWN))
    if "fields" in table:
        wrong = sorted(set(table["fields"]) - set(FIELDS))
        if wrong:
            raise ValueError(f"capabilities.fields: {', '.join(wrong)} is none of {', '.join(FIELDS)}")
        table["fields"] = frozenset(table["fields"])
    for name in ("links", "run"):
        if name in table:
            table[name] = frozenset(table[name])
    tier = Tier(table.pop("tier"))
    return Capabilities(tier=tier, formats=tuple(each for each in FORMATS if each in description.formats), exact_time=False, truthful=False, **table)


class ForeignSubject(Subject):
    """An exporter by its description."""

    def __init__(self, description: Description) -> None:
        self.name = description.name
        self.description = description
        self._lock = threading.Lock()
        self._session: _ForeignSession | None = None
        self._closed = False

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
        """Starts a process for each format, each in a session of its own: what it starts in turn ends with it, and a Ctrl-C is the harness's."""
        with self._lock:
            if self._closed:
                raise SystemFault(f"{self.name}: the run was ended")
            self._session = _ForeignSession(self.description, job)
            return self._session

    def close(self) -> None:
        """Ends what may still run, for good; from any thread. Safe to call twice."""
        with self._lock:
            self._closed = True
            if self._session is not None:
                self._session.kill()


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
                process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place, env=environment, start_new_session=True)
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
                code = process.returncode
                how = f"signal {-code}" if code < 0 else f"status {code}"
                hint = "" if code < 0 else f"; if that is a good end for it, write statuses = [0, {code}] into its description"
                raise SystemFault(f"{self._description.name} ended with {how}: {self._last_words()}{hint}")
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
        """Ends the processes and all that they have started; safe to call twice."""
        for process in self._processes:
            with suppress(ProcessLookupError):  # nobody of the group is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()  # their numbers may soon be another's
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

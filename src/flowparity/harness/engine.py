# SPDX-License-Identifier: Apache-2.0
"""The parity engine: captures × subjects × formats. One run of a subject exports all formats; each is decoded, checked and compared with the reference."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from flowparity.collector import Collector
from flowparity.errors import FlowparityError, InputError, SystemFault
from flowparity.frame import Frame
from flowparity.harness.artefacts import keep
from flowparity.harness.cases import Case
from flowparity.harness.checks import Run, Verdict, judge
from flowparity.harness.interfaces import Capabilities, Injector, Job, Level, Rig, Subject, Tier
from flowparity.harness.needs import needs_of, unmet
from flowparity.harness.options import profile_options
from flowparity.harness.oracle import Oracle
from flowparity.harness.results import Cell, Problem, Results, Status
from flowparity.harness.rigs.file import FileRig
from flowparity.harness.subjects import open_subject
from flowparity.profile import FORMATS, Profile

Progress = Callable[[int, int, str], None]
"""Called with cases done, cases in all, and what comes next."""


_DISCARD = 9  # the port of a run that is to be refused before it sends anything


@dataclass(frozen=True, slots=True)
class Place:
    """Where a subject's cases run: its rig, and the injector that plays captures into its links (None: it reads files)."""

    rig: Rig = field(default_factory=FileRig)
    injector: Injector | None = None
    workers: int | None = None  # None: as the run says

    def subject(self, name: str) -> Subject:
        """The subject, its worker on the rig's side of the world."""
        return open_subject(name, self.rig.prefix())


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run of the engine is asked for.

    `profile` None: the default, with 32-bit counters where v5 is among the formats. `strict`: a broken requirement of level SHOULD is a failure, not a remark.
    """

    formats: tuple[str, ...] = FORMATS
    levels: frozenset[Level] = frozenset(Level)
    profile: Profile | None = None
    workers: int = 1
    timeout: float = 60.0
    artefacts: Path | None = None
    required: frozenset[str] = frozenset()
    strict: bool = True


Places = Callable[[], AbstractContextManager[Mapping[str, Place]]]
"""Makes the places of the subjects that do not read files."""


def _files_only() -> AbstractContextManager[Mapping[str, Place]]:
    return nullcontext({})


class Bench:
    """The subjects of one thread, kept over many cases so that a worker process serves them all."""

    def __init__(self, names: Sequence[str], places: Mapping[str, Place] | None = None) -> None:
        self._places = dict(places or {})
        self.subjects: dict[str, Subject] = {name: self.place(name).subject(name) for name in names}
        self._reasons: dict[str, str] = {}
        self._oracle = Oracle()

    def close(self) -> None:
        """Ends the workers."""
        for each in self.subjects.values():
            close = getattr(each, "close", None)
            if close is not None:
                close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def unavailable(self, name: str) -> str:
        """Why a subject does not work here; empty if it does. Probed once."""
        if name not in self._reasons:
            self._reasons[name] = _why_not(self.subjects[name], self.place(name))
        return self._reasons[name]

    def place(self, name: str) -> Place:
        """Where a subject's cases run."""
        return self._places.get(name) or Place()

    def run(self, case: Case, name: str, settings: Settings) -> list[Cell]:
        """All cells of one case by one subject."""
        subject = self.subjects[name]
        formats = tuple(each for each in settings.formats if case.formats is None or each in case.formats)
        blank = [Cell(case.name, case.topic, str(case.capture), name, each, Status.LEFT_OUT) for each in formats]
        reason = self.unavailable(name)
        if reason:
            return [replace(cell, status=Status.UNAVAILABLE, reason=reason) for cell in blank]
        place = self.place(name)
        capabilities = place.rig.restrict(subject.capabilities())
        spoken = tuple(each for each in formats if each in capabilities.formats)
        mute = [replace(cell, tier=capabilities.tier, reason="it does not speak this format") for cell in blank if cell.format not in spoken]
        blank = [replace(cell, tier=capabilities.tier) for cell in blank if cell.format in spoken]
        if not blank:
            return mute
        profile = subject.adapt(case.profile or settings.profile or default_profile(spoken))
        workers = case.workers or place.workers or settings.workers
        if case.refused:
            return mute + [self._refusal(case, subject, place, cell, settings) for cell in blank]
        try:
            frames = case.frames()
        except InputError as error:
            if case.named:
                raise
            return mute + [replace(cell, reason=f"unreadable: {error}") for cell in blank]
        reasons = unmet(needs_of(frames), capabilities, profile) + subject.refusals(profile, spoken, workers)
        reasons += [f"run parameter {each} is not honoured" for each in case.run if each not in capabilities.run]
        if case.assignment and not capabilities.assignment:
            reasons.append("frames cannot be given to chosen workers")
        if reasons:
            return mute + [replace(cell, reason="; ".join(reasons)) for cell in blank]
        try:
            run = _play(case, subject, place, capabilities, profile, spoken, workers, settings, frames)
        except FlowparityError as error:
            return mute + [replace(cell, status=Status.ERROR, reason=str(error)) for cell in blank]
        verdicts = judge(run, self._oracle, subject, settings.levels, strict=settings.strict)
        return mute + [self._cell(cell, run, verdicts[cell.format], profile, settings) for cell in blank]

    def _refusal(self, case: Case, subject: Subject, place: Place, cell: Cell, settings: Settings) -> Cell:
        if case.profile is None:
            return replace(cell, reason="the profile is refused before any subject is asked")
        try:
            formats = case.formats or (cell.format,)
            collectors = dict.fromkeys(formats, ("127.0.0.1", _DISCARD))
            job = Job(str(case.capture), case.profile, collectors, case.workers or 1, run=case.run, metadata=case.metadata)
            refusals = subject.refusals(job.profile, formats, job.workers)
            if not refusals and not isinstance(place.rig, FileRig):
                return replace(cell, reason="the capture itself is to be refused, and it reads none")
            if not refusals:
                session = subject.start(job)
                try:
                    session.finish(settings.timeout)
                finally:
                    session.kill()
        except FlowparityError as error:
            refusals = [str(error)]
        if any(case.refused in each for each in refusals):
            return replace(cell, status=Status.PASS, level=Level.CONSERVED)
        problem = Problem(Level.CONSERVED, "refusal", case.rules[:1], f"not refused with {case.refused!r} but: {'; '.join(refusals) or 'accepted'}")
        return replace(cell, status=Status.FAIL, problems=(problem,))

    def _cell(self, cell: Cell, run: Run, verdict: Verdict, profile: Profile, settings: Settings) -> Cell:
        status = Status.PASS
        if verdict.problems:
            status = Status.KNOWN if all(problem.known for problem in verdict.problems) else Status.FAIL
        shrink, artefacts = "", ""
        if status is Status.FAIL:
            words = ["flowparity", "shrink", cell.capture, "--backend", cell.subject, "--version", cell.format, *profile_options(profile)]
            if run.workers > 1:
                words += ["--workers", str(run.workers)]
            shrink = shlex.join(words)
            if settings.artefacts is not None:
                artefacts = str(keep(settings.artefacts, cell, run, verdict, shrink))
        return replace(
            cell,
            status=status,
            level=verdict.level,
            problems=verdict.problems,
            records=verdict.records,
            cpu_seconds=0.0 if cell.tier is Tier.SIM else run.outcome.cpu_seconds,  # what a stand-in costs is nobody's cost
            shrink=shrink,
            artefacts=artefacts,
            notes=verdict.notes,
            remarks=verdict.remarks,
        )


def default_profile(formats: Sequence[str]) -> Profile:
    """The default profile that these formats allow together (S-PRO-3)."""
    return Profile(counter_bits=32 if "5" in formats else 64)


def parity(
    cases: Sequence[Case],
    subjects: Sequence[str],
    settings: Settings,
    *,
    jobs: int = 1,
    places: Places = _files_only,
    progress: Progress | None = None,
) -> Results:
    """Every case by every subject. `jobs` threads have subjects and `places` of their own."""
    if settings.profile is not None:
        settings.profile.check_formats(settings.formats)
    started = time.monotonic()
    results = Results(required=settings.required)
    work = [(case, name) for case in cases for name in subjects]
    held = ExitStack()
    local = threading.local()
    done = 0
    lock = threading.Lock()

    def one(item: tuple[Case, str]) -> list[Cell]:
        nonlocal done
        if not hasattr(local, "bench"):
            with lock:
                local.bench = held.enter_context(Bench(subjects, held.enter_context(places())))
        case, name = item
        bench: Bench = local.bench
        cells = bench.run(case, name, settings)
        with lock:
            done += 1
            if progress is not None:
                progress(done, len(work), f"{case.name} by {name}")
        return cells

    pool = ThreadPoolExecutor(max_workers=max(1, min(jobs, len(work) or 1)))
    with held:
        interrupted = True
        try:
            for cells in pool.map(one, work):
                results.add(cells)
            interrupted = False
        except Exception:
            interrupted = False
            raise
        finally:  # what computes in Python cannot be told to end, and is not waited for; what it has started ends with `held`
            pool.shutdown(wait=not interrupted, cancel_futures=True)
    results.seconds = time.monotonic() - started
    return results


def _why_not(subject: Subject, place: Place) -> str:
    try:
        for availability in (subject.probe(), place.rig.probe(), *((place.injector.probe(),) if place.injector else ())):
            if not availability.ok:
                return str(availability.reason) + (f"; {availability.remedy}" if availability.remedy else "")
        subject.capabilities()
    except FlowparityError as error:
        return str(error)
    return ""


def _play(
    case: Case,
    subject: Subject,
    place: Place,
    capabilities: Capabilities,
    profile: Profile,
    formats: tuple[str, ...],
    workers: int,
    settings: Settings,
    frames: Sequence[Frame],
) -> Run:
    """One run: collectors, subject, injector; everything is ended whatever happens."""
    with place.rig.link(case.capture, queues=workers) as link, ExitStack() as stack:
        collectors = {each: stack.enter_context(Collector(link.collector_address, make_socket=link.socket)) for each in formats}
        job = Job(
            source=link.receive,
            profile=profile,
            collectors={name: each.address for name, each in collectors.items()},
            workers=workers,
            trailer=link.trailer,
            options=link.subject_options,
            run=case.run,
            metadata=case.metadata,
            assignment=case.assignment,
            prefix=link.prefix,
            expected=link.expected,
        )
        session = subject.start(job)
        notes: list[str] = []
        not_sent: frozenset[int] = frozenset()
        try:
            session.wait_ready(settings.timeout)
            if place.injector is not None and link.transmit is not None:
                injection = place.injector.inject(case.capture, link, timeout=settings.timeout)
                not_sent = frozenset(index for indices in injection.not_sent.values() for index in indices)
                notes += [f"{len(indices)} frames not sent: {why}" for why, indices in injection.not_sent.items()]
            outcome = session.finish(settings.timeout)
        finally:
            session.kill()
        datagrams = {name: each.stop() for name, each in collectors.items()}
        lost = {name: each.dropped for name, each in collectors.items() if each.dropped}
    if lost:
        raise SystemFault(f"the collector lost datagrams ({lost}): its receive buffer is too small here; run as root or raise net.core.rmem_max")
    if outcome.error:
        notes.append(f"the input ended early: {outcome.error}")
    return Run(case, profile, formats, workers, outcome, datagrams, tuple(notes), capabilities, frames, not_sent)

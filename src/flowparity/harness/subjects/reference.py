# SPDX-License-Identifier: Apache-2.0
"""The reference as a subject: what the harness says of it, it may say of everybody."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from flowparity.capture import read_capture
from flowparity.errors import InputError, SystemFault, UsageError
from flowparity.export import ReferenceOutcome, assigned, run_reference
from flowparity.frame import Frame
from flowparity.harness.interfaces import Availability, Capabilities, Job, Metadata, Outcome, Session, Subject, Tier
from flowparity.links import LINK_NAMES
from flowparity.profile import Profile
from flowparity.transport import DEFAULT_MTU, UdpStream

RUN = frozenset({"mtu", "ipfix_ns", "first_sequence"})
"""The run parameters that the reference honours."""


def frames_with(path: Path, metadata: Mapping[int, Metadata]) -> list[Frame]:
    """The frames of a capture with what the file cannot carry. Of a file that is cut or damaged, those before the place; InputError if it is no capture."""
    frames: list[Frame] = []
    reader = read_capture(path)
    with suppress(InputError):
        frames.extend(reader)
    if not metadata:
        return frames
    plain = Metadata()
    return [replace(frame, tags=(m := metadata.get(frame.index, plain)).tags, segments=m.segments) for frame in frames]


def by_worker(owners: tuple[int, ...], workers: int) -> list[list[int]]:
    """The frames of each worker from the worker of each frame."""
    out: list[list[int]] = [[] for _ in range(max(workers, max(owners, default=0) + 1))]
    for index, owner in enumerate(owners):
        out[owner].append(index)
    return out


class ThreadSession(Session):
    """A run in a thread of its own, for subjects that live in the worker's process."""

    def __init__(self, run: Callable[[], Outcome]) -> None:
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._call, args=(run,), daemon=True)
        self._thread.start()

    def _call(self, run: Callable[[], Outcome]) -> None:
        try:
            self._outcome = run()
        except BaseException as error:
            self._error = error

    def wait_ready(self, timeout: float) -> None:
        """A reader of files is always ready."""

    def finish(self, timeout: float) -> Outcome:
        """Waits for the end of the file."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise SystemFault(f"the run did not end within {timeout:g} s")
        if self._error is not None:
            raise self._error
        assert self._outcome is not None
        return self._outcome

    def kill(self) -> None:
        """The thread ends with the process."""


class FileSubject(Subject):
    """What the reference and its saboteur have in common: they read files, in this process."""

    def probe(self) -> Availability:
        """Always there."""
        return Availability(True)

    def capabilities(self) -> Capabilities:
        """Whatever semantics.md asks for, from files."""
        return Capabilities(
            tier=Tier.FILE, links=frozenset(LINK_NAMES), interface_source=True, workers=64, drops_known=True, metadata=True, assignment=True, run=RUN
        )

    def refusals(self, profile: Profile, formats: tuple[str, ...], workers: int) -> list[str]:
        """What the profile and the formats do not allow together (S-PRO-3, S-PRO-4)."""
        try:
            profile.check_formats(formats)
        except UsageError as error:
            return [str(error)]
        return []

    def start(self, job: Job) -> Session:
        """Meters the capture at once."""
        job.profile.check_formats(tuple(job.collectors))
        return ThreadSession(lambda: self.run(job))

    @abstractmethod
    def run(self, job: Job) -> Outcome:
        """The whole run."""


class ReferenceSubject(FileSubject):
    """The reference exporter, over UDP like everybody."""

    name = "reference"

    def run(self, job: Job) -> Outcome:
        """Meters and exports."""
        frames = frames_with(Path(job.source), job.metadata)
        assignment = assignment_of(job, frames)
        mtu = int(job.run.get("mtu", DEFAULT_MTU))
        with ExitStack() as stack:
            streams = {name: stack.enter_context(UdpStream(host, port, mtu=mtu)) for name, (host, port) in job.collectors.items()}
            done = run_reference(
                frames, job.profile, streams, assignment=assignment, nanoseconds="ipfix_ns" in job.run, first_sequence=int(job.run.get("first_sequence", 0))
            )
        return outcome_of(done, assignment)


def assignment_of(job: Job, frames: list[Frame]) -> list[list[int]]:
    """The frames of each worker, as the job or else their addresses say."""
    if job.assignment:
        return by_worker(job.assignment, job.workers)
    out: list[list[int]] = [[] for _ in range(job.workers)]
    for worker, frame in assigned(frames, job.workers, None):
        out[worker].append(frame.index)
    return out


def outcome_of(done: ReferenceOutcome, assignment: list[list[int]]) -> Outcome:
    """A finished run as the harness wants it."""
    return Outcome(
        accounting=done.accounting,
        workers=done.workers,
        assignment=tuple(map(tuple, assignment)),
        final_clock_ns=done.final_clock_ns,
        warnings=done.warnings,
        error=str(done.error or ""),
    )

# SPDX-License-Identifier: Apache-2.0
"""The native core over one of its backends, inside a worker process."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

from flowparity import native
from flowparity.errors import SystemFault, UnavailableError, UsageError
from flowparity.harness.interfaces import Availability, Capabilities, Job, Outcome, Session, Subject
from flowparity.harness.subjects.reference import ThreadSession, assignment_of, frames_with
from flowparity.links import LINK_NAMES
from flowparity.profile import Profile
from flowparity.transport import DEFAULT_MTU

_MEMORY = "memory"
_MOST_WORKERS = 64  # FP_MAX_QUEUES of the backend contract


class NativeSubject(Subject):
    """One backend of the registry."""

    def __init__(self, backend: str) -> None:
        self.name = backend

    def probe(self) -> Availability:
        """As the registry's probe finds it."""
        info = self._info()
        return Availability(info.available, info.reason, info.remedy)

    def capabilities(self) -> Capabilities:
        """What the backend declares, and what the core adds."""
        info = self._info()
        if info.capabilities is None:
            raise UnavailableError(f"backend {self.name}: {info.reason}" + (f"; {info.remedy}" if info.remedy else ""))
        caps, memory = info.capabilities, self.name == _MEMORY
        return Capabilities(
            tier=caps.tier,
            links=frozenset({1} if caps.live and not memory else LINK_NAMES),
            mixed_links=memory,  # libpcap refuses such files
            min_frame=caps.min_frame,
            max_frame=caps.max_frame,
            exact_time=caps.exact_time,
            time_resolution=caps.ts_resolution or 1,
            time_tolerance=0 if caps.exact_time else caps.ts_tolerance,
            wire_length=caps.wire_length,
            interface_source=caps.interface,
            workers=max(caps.queues, _MOST_WORKERS),  # the core deals one queue out to them, flow by flow, where the backend has fewer
            coalesces=caps.coalesces,
            splits=caps.splits,
            drops_known=caps.drops_known,
            metadata=memory,
            assignment=memory,
            run=frozenset({"mtu", "ipfix_ns", "first_sequence"} | (set() if memory else {"filter"})),
        )

    def refusals(self, profile: Profile, formats: tuple[str, ...], workers: int) -> list[str]:
        """More workers than the core has, or a profile that the formats forbid."""
        out = []
        try:
            profile.check_formats(formats)
        except UsageError as error:
            out.append(str(error))
        most = self.capabilities().workers
        if workers > most:
            out.append(f"{workers} workers, at most {most} are possible")
        return out

    def start(self, job: Job) -> Session:
        """Opens the backend at once and runs it in a thread, without the interpreter lock."""
        if self.name == _MEMORY:
            return ThreadSession(lambda: _run_memory(job))
        config = native.RunConfig(
            backend=self.name,
            input=job.source,
            profile=job.profile,
            collectors=tuple((version, host, port) for version, (host, port) in job.collectors.items()),
            workers=job.workers,
            clock=job.clock,
            trailer=job.trailer,
            options=job.options,
            filter=job.run.get("filter"),
            mtu=int(job.run.get("mtu", DEFAULT_MTU)),
            first_sequence=int(job.run.get("first_sequence", 0)),
            ipfix_ns="ipfix_ns" in job.run,
            log_assignment=True,
            huge_pages=False,
        )
        exporter = native.Exporter(config)
        return _ExporterSession(exporter, exporter.capabilities.live, job.expected)

    def _info(self) -> native.BackendInfo:
        for each in native.backends():
            if each.name == self.name:
                return each
        raise UsageError(f"no backend {self.name!r}; see `flowparity backends`")


class _ExporterSession(Session):
    """A run of the core over a backend. A file ends by itself; a live source is asked to stop."""

    _SETTLED = 0.2  # seconds without a frame, after which a stopped injector's frames have all been received

    def __init__(self, exporter: native.Exporter, live: bool, expected: int | None) -> None:
        self._exporter = exporter
        self._live = live
        self._expected = expected
        self._result: native.RunResult | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._exporter.run()
        except BaseException as error:
            self._error = error

    def wait_ready(self, timeout: float) -> None:
        """The source was opened by `start`; what is sent from now on waits in its ring."""

    def finish(self, timeout: float) -> Outcome:
        """Lets what was sent be received, stops a live source and collects the accounts."""
        end = time.monotonic() + timeout
        if self._live:
            self._settle(end)
            self._exporter.stop()
        self._thread.join(max(0.0, end - time.monotonic()))
        if self._thread.is_alive():
            raise SystemFault(f"the run did not end within {timeout:g} s")
        try:
            if self._error is not None:
                raise self._error
            assert self._result is not None
            return _outcome(self._result)
        finally:
            self._exporter.close()

    def kill(self) -> None:
        """Stops the run; the process ends it if that does not help."""
        self._exporter.stop()

    def _settle(self, end: float) -> None:
        """Returns when all frames have come, when their number has stood still for a while, or at the end of patience."""
        seen, since = -1, time.monotonic()
        while self._thread.is_alive() and time.monotonic() < end and time.monotonic() - since < self._SETTLED:
            now = self._exporter.snapshot().accounting.received
            if now == self._expected:
                return
            if now != seen:
                seen, since = now, time.monotonic()
            self._thread.join(self._SETTLED / 20)


def _outcome(result: native.RunResult) -> Outcome:
    return Outcome(
        accounting=result.accounting,
        workers=result.workers,
        assignment=result.assignment,
        final_clock_ns=result.final_clock_ns,
        warnings=result.warnings,
        cpu_seconds=result.cpu_seconds,
        error=str(result.error or ""),
    )


def _run_memory(job: Job) -> Outcome:
    """Frames with their metadata from a buffer; the datagrams go out afterwards, stream by stream."""
    frames = frames_with(Path(job.source), job.metadata)
    assignment = None
    if job.assignment or job.workers > 1:
        owners = {index: worker for worker, indices in enumerate(assignment_of(job, frames)) for index in indices}
        assignment = [owners[frame.index] for frame in frames]
    datagrams, result = native.meter(
        frames,
        job.profile,
        tuple(job.collectors),
        job.workers,
        ipfix_ns="ipfix_ns" in job.run,
        mtu=int(job.run.get("mtu", DEFAULT_MTU)),
        first_sequence=int(job.run.get("first_sequence", 0)),
        assignment=assignment,
    )
    for version, target in job.collectors.items():
        with socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for each in datagrams[version]:
                sender.sendto(each, target)
    return _outcome(result)

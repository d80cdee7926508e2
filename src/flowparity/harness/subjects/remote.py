# SPDX-License-Identifier: Apache-2.0
"""Subjects that live in a worker process, and the process itself: replaced after a crash or a time-out, which costs one case."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from pathlib import Path
from typing import Any, BinaryIO, cast

from flowparity.errors import SystemFault
from flowparity.harness.codec import pack, unpack
from flowparity.harness.interfaces import Availability, Capabilities, Job, Outcome, Session, Subject
from flowparity.harness.protocol import HELLO, VERSION, Pipe, error_of
from flowparity.profile import Profile

_START_TIMEOUT = 60.0
_GRACE = 10.0  # seconds

WORKER = (sys.executable, "-m", "flowparity.worker")
"""The argv of a worker process."""


class Worker:
    """One worker process. `argv` may lead through ssh or into a namespace."""

    def __init__(self, argv: Sequence[str] = WORKER) -> None:
        self._log = tempfile.TemporaryFile(prefix="flowparity-worker-", suffix=".log")  # noqa: SIM115  (lives as long as the process)
        try:
            # A session of its own: a Ctrl-C on the terminal is for the harness, whose end is the worker's.
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True)
        except OSError as error:
            raise SystemFault(f"worker: cannot start {argv[0]}: {error.strerror}") from None
        self._pipe = Pipe(cast(BinaryIO, self._process.stdout), cast(BinaryIO, self._process.stdin))
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._next = 0
        self._hello: Future[Any] = Future()
        self._fault: SystemFault | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        try:
            hello = self._hello.result(_START_TIMEOUT)
        except NotInTime:
            self.close()
            raise SystemFault(f"worker: no greeting within {_START_TIMEOUT:g} s; {self._last_words()}") from None
        if hello.get("version") != VERSION:
            self.close()
            raise SystemFault(f"worker: it speaks version {hello.get('version')} of the protocol, not {VERSION}: install the same flowparity there")

    @property
    def alive(self) -> bool:
        """Whether it can take requests."""
        return self._fault is None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process started, which may be ssh's."""
        return self._process.pid

    def ask(self, op: str, limit: float, octets: bytes = b"", **fields: Any) -> Any:
        """One request and its answer. A process that does not answer within `limit` seconds is killed (SystemFault), as is one that has died."""
        answer: Future[Any] = Future()
        with self._lock:
            if self._fault is not None:
                raise self._fault
            self._next += 1
            number = self._next
            self._waiting[number] = answer
        try:
            self._pipe.send({"id": number, "op": op, **fields}, octets)
        except (OSError, ValueError):
            self._thread.join(_GRACE)
            raise self._fault or SystemFault("worker: it is gone") from None
        try:
            return answer.result(limit)
        except NotInTime:
            self.close(grace=0.0)
            raise SystemFault(f"worker: no answer to {op!r} within {limit:g} s; the process was killed") from None

    def close(self, grace: float = _GRACE) -> None:
        """Ends the process: by the end of its input, or with force after so many seconds. Safe to call twice."""
        if self._pipe.end(grace):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._thread.join(_GRACE)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was still to be written cannot be any more
                    stream.close()

    def _listen(self) -> None:
        fault: SystemFault | None = None
        try:
            while (received := self._pipe.receive()) is not None:
                message, _ = received
                if "hello" in message:
                    self._hello.set_result(message if message["hello"] == HELLO else {})
                    continue
                with self._lock:
                    waiting = self._waiting.pop(message.get("id", 0), None)
                if waiting is not None and "error" in message:
                    waiting.set_exception(error_of(message["error"]))
                elif waiting is not None:
                    waiting.set_result(message.get("value"))
        except (SystemFault, ValueError, OSError) as error:
            fault = error if isinstance(error, SystemFault) else None
        if fault is None:
            code = self._process.wait()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
            fault = SystemFault(f"worker: the process ended with {how}; {self._last_words()}")
        with self._lock:
            self._fault = fault
            left, self._waiting = list(self._waiting.values()), {}
        for each in left:
            each.set_exception(fault)
        if not self._hello.done():
            self._hello.set_exception(fault)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
        return f"its last line: {lines[-1]}" if lines else "it said nothing"


class WorkerSubject(Subject):
    """A subject that lives in a worker of its own. The worker is started when needed and replaced when it has died."""

    def __init__(self, spec: str, shown: str | None = None, argv: Sequence[str] | None = None, *, remote_disk: bool = False) -> None:
        """`spec` is what the worker knows it by, `shown` its name in reports. With `remote_disk` captures are sent over the stream."""
        self.name = shown or spec
        self._spec = spec
        self._argv = argv
        self._remote_disk = remote_disk
        self._worker: Worker | None = None
        self._capabilities: Capabilities | None = None

    def worker(self) -> Worker:
        """A living worker."""
        if self._worker is None or not self._worker.alive:
            if self._worker is not None:
                self._worker.close()
            self._worker = Worker(self._argv) if self._argv else Worker()
        return self._worker

    def close(self) -> None:
        """Ends the worker, if there is one."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def probe(self) -> Availability:
        """As the worker finds it."""
        return unpack(Availability, self._ask("probe"))

    def capabilities(self) -> Capabilities:
        """As the worker finds them; asked once."""
        if self._capabilities is None:
            self._capabilities = unpack(Capabilities, self._ask("capabilities"))
        return self._capabilities

    def refusals(self, profile: Profile, formats: tuple[str, ...], workers: int) -> list[str]:
        """As the worker says."""
        return list(self._ask("refusals", profile=pack(profile), formats=formats, workers=workers))

    def start(self, job: Job) -> Session:
        """Starts a run in the worker."""
        worker = self.worker()
        packed = pack(job)
        if self._remote_disk:
            path = Path(job.source)
            packed["source"] = worker.ask("put", _START_TIMEOUT, path.read_bytes(), name=path.name)
        run = worker.ask("start", _START_TIMEOUT, subject=self._spec, job=packed)
        return _WorkerSession(worker, run)

    def _ask(self, op: str, **fields: Any) -> Any:
        return self.worker().ask(op, _START_TIMEOUT, subject=self._spec, **fields)


class _WorkerSession(Session):
    def __init__(self, worker: Worker, run: int) -> None:
        self._worker = worker
        self._run = run
        self._over = False

    def wait_ready(self, timeout: float) -> None:
        self._worker.ask("ready", timeout + _GRACE, run=self._run, timeout=timeout)

    def finish(self, timeout: float) -> Outcome:
        value = self._worker.ask("finish", timeout + _GRACE, run=self._run, timeout=timeout)
        self._over = True
        return unpack(Outcome, value)

    def kill(self) -> None:
        if not self._over:  # a run that hangs cannot be asked to end: the process ends, the next case gets a new one
            self._over = True
            self._worker.close()

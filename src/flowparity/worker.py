# SPDX-License-Identifier: Apache-2.0
"""The worker process: `python -m flowparity.worker` serves subjects to a harness at the other end of its standard input and output.

It ends when its standard input does, whatever is still running, so that nobody is orphaned. What libraries print goes to standard error.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowparity.errors import SystemFault, UsageError
from flowparity.harness.codec import pack, unpack
from flowparity.harness.interfaces import Job, Session, Subject
from flowparity.harness.protocol import HELLO, VERSION, Pipe, error_message
from flowparity.harness.subjects import local_subject
from flowparity.profile import Profile


class Server:
    """Serves one harness. Every request has a thread of its own, so that the end of the stream is noticed while a case runs."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._sessions: dict[int, tuple[Session, float]] = {}
        self._subjects: dict[str, Subject] = {}
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Until the stream ends."""
        self._pipe.send({"hello": HELLO, "version": VERSION, "pid": os.getpid()})
        while (message := self._pipe.receive()) is not None:
            threading.Thread(target=self._answer, args=message, daemon=True).start()
        with self._lock:
            if self._directory is not None:
                self._directory.cleanup()

    def _answer(self, request: dict[str, Any], octets: bytes) -> None:
        answer: dict[str, Any] = {"id": request.get("id")}
        try:
            handler = getattr(self, f"_op_{request.get('op')}", None)
            if handler is None:
                raise UsageError(f"worker: no operation {request.get('op')!r} in version {VERSION} of the protocol")
            answer["value"] = handler(request, octets)
        except Exception as error:  # whatever it is, the harness has to hear of it
            answer["error"] = error_message(error)
        try:
            self._pipe.send(answer)
        except (OSError, ValueError):
            os._exit(0)  # nobody listens any more

    def _subject(self, request: dict[str, Any]) -> Subject:
        with self._lock:
            name = request["subject"]
            if name not in self._subjects:
                self._subjects[name] = local_subject(name)
            return self._subjects[name]

    def _session(self, request: dict[str, Any]) -> tuple[Session, float]:
        with self._lock:
            if request["run"] not in self._sessions:
                raise SystemFault(f"worker: no run {request['run']}")
            return self._sessions[request["run"]]

    def _op_probe(self, request: dict[str, Any], octets: bytes) -> Any:
        return pack(self._subject(request).probe())

    def _op_capabilities(self, request: dict[str, Any], octets: bytes) -> Any:
        return pack(self._subject(request).capabilities())

    def _op_refusals(self, request: dict[str, Any], octets: bytes) -> Any:
        return self._subject(request).refusals(unpack(Profile, request["profile"]), tuple(request["formats"]), request["workers"])

    def _op_put(self, request: dict[str, Any], octets: bytes) -> Any:
        """Takes a file, for a worker that does not see the harness's disk."""
        with self._lock:
            if self._directory is None:
                self._directory = tempfile.TemporaryDirectory(prefix="flowparity-worker-")
            path = Path(self._directory.name) / Path(request["name"]).name
        path.write_bytes(octets)
        return str(path)

    def _op_start(self, request: dict[str, Any], octets: bytes) -> Any:
        before = time.process_time()
        session = self._subject(request).start(unpack(Job, request["job"]))
        with self._lock:
            self._sessions[request["id"]] = session, before
        return request["id"]

    def _op_ready(self, request: dict[str, Any], octets: bytes) -> Any:
        self._session(request)[0].wait_ready(request["timeout"])
        return None

    def _op_finish(self, request: dict[str, Any], octets: bytes) -> Any:
        session, before = self._session(request)
        outcome = session.finish(request["timeout"])
        with self._lock:
            del self._sessions[request["run"]]
        return pack(replace(outcome, cpu_seconds=time.process_time() - before))

    def _op_kill(self, request: dict[str, Any], octets: bytes) -> Any:
        session, _ = self._session(request)
        session.kill()
        with self._lock:
            self._sessions.pop(request["run"], None)
        return None


def main() -> None:
    """Serves standard input and output."""
    stream = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not write into the protocol
    with os.fdopen(stream, "wb") as writer:
        Server(Pipe(sys.stdin.buffer, writer)).serve()
    os._exit(0)  # at once: a run may still be in a library that does not return


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Plays captures into an injector plug-in from a process of its own: `python -m flowparity.harness.rigs.feeder`.

A process of its own, because a framework that starts once in a process (DPDK) serves one side of a link only, and because its crash must cost one case and not
the harness. The process serves many captures. Both sides write JSON lines: a request opens the output and is answered by {"open": true}; {"go": true} then
plays and is answered by what was sent, {"go": false} closes the output. An error is {"error": {kind, text}} in place of any answer.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from flowparity import errors
from flowparity.errors import FlowparityError, SystemFault
from flowparity.harness.interfaces import Injection

_START_SECONDS = 60.0
_GRACE_SECONDS = 10.0


class Feeder:
    """The harness's side: a feeding process, started when first needed and replaced when it has died. `prefix` is the argv that puts it in its place."""

    def __init__(self, injector: str, prefix: Sequence[str] = ()) -> None:
        self._argv = [*prefix, sys.executable, "-m", "flowparity.harness.rigs.feeder", injector]
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._rest = b""

    def open(self, output: str, options: Mapping[str, str], capture: Path, *, trailer: bool, rate_pps: float | None = None, timeout: float = 60.0) -> None:
        """Opens the output; returns when something can connect to it. Raises the plug-in's error."""
        request = {"output": output, "options": dict(options), "capture": str(capture), "trailer": trailer, "rate": rate_pps, "timeout": timeout}
        self._tell(request)
        self._hear(_START_SECONDS)

    def play(self, timeout: float) -> Injection:
        """Plays the capture, closes the output and says what was sent. Raises the plug-in's error, or SystemFault in time or when the process died."""
        self._tell({"go": True})
        answer = self._hear(timeout + _GRACE_SECONDS)
        not_sent = {reason: tuple(indices) for reason, indices in answer["not_sent"].items()}
        return Injection(answer["sent"], not_sent, answer["seconds"], answer["worst"])

    def cancel(self) -> None:
        """Closes an output that was not played into."""
        self._tell({"go": False})
        self._hear(_GRACE_SECONDS)

    def close(self) -> None:
        """Ends the process. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            cast(IO[bytes], process.stdin).close()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            cast(IO[bytes], process.stdout).close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _tell(self, request: Mapping[str, Any]) -> None:
        if self._process is not None and self._process.poll() is not None and "output" in request:
            self.close()
        if self._process is None:
            self._rest = b""
            self._log = tempfile.TemporaryFile(prefix="flowparity-feeder-", suffix=".log")  # noqa: SIM115  (lives as long as the process)
            self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True)
        pipe = cast(IO[bytes], self._process.stdin)
        try:
            pipe.write(json.dumps(request).encode() + b"\n")
            pipe.flush()
        except OSError:
            raise self._died() from None

    def _hear(self, timeout: float) -> dict[str, Any]:
        assert self._process is not None
        pipe = cast(IO[bytes], self._process.stdout)
        end = time.monotonic() + timeout
        while b"\n" not in self._rest:
            if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
                self._process.kill()
                self._process.wait()
                raise SystemFault(f"feeder: no answer within {timeout:g} s; the process was killed")
            more = os.read(pipe.fileno(), 65536)
            if not more:
                raise self._died()
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["error"]["kind"], SystemFault)
            raise kind(answer["error"]["text"])
        return answer

    def _died(self) -> SystemFault:
        assert self._process is not None
        assert self._log is not None
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
        how = f"signal {-code}" if code < 0 else f"status {code}"
        return SystemFault(f"feeder: the process ended with {how}; " + (f"its last line: {lines[-1]}" if lines else "it said nothing"))


class _CancelledError(Exception):
    """The harness does not want the capture played."""


def _serve(injector: str) -> None:
    from flowparity.native import InjectorCaps, Player

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)

    def wait_for_go(_: InjectorCaps) -> None:
        print(json.dumps({"open": True}), file=answers)
        line = sys.stdin.readline()
        if not line or not json.loads(line)["go"]:
            raise _CancelledError

    for line in sys.stdin:
        request = json.loads(line)
        try:
            player = Player(injector, request["output"], request["options"])
            done = player.play(Path(request["capture"]), trailer=request["trailer"], rate_pps=request["rate"], timeout=request["timeout"], on_open=wait_for_go)
            answer: dict[str, Any] = {"sent": done.sent, "not_sent": done.not_sent, "seconds": done.seconds, "worst": done.worst_lateness_ns}
        except _CancelledError:
            answer = {}
        except FlowparityError as error:
            answer = {"error": {"kind": type(error).__name__, "text": str(error)}}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    _serve(sys.argv[1])

# SPDX-License-Identifier: Apache-2.0
"""A private network namespace, held by a child process and gone with it: as root, or as an ordinary user inside a user namespace where the kernel allows it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from flowparity.errors import SystemFault, UnavailableError
from flowparity.harness.interfaces import Availability
from flowparity.harness.rigs import wire

_START_SECONDS = 60.0
_ANSWER_SECONDS = 60.0


_AS_ROOT = ("unshare", "--net")
_AS_USER = ("unshare", "--user", "--map-root-user", "--net")


def _fails(argv: tuple[str, ...]) -> str:
    """Why the way into a namespace does not work; empty if it does."""
    done = subprocess.run([*argv, "true"], capture_output=True, text=True, timeout=_START_SECONDS, check=False)
    return (done.stderr.strip().splitlines() or ["unshare fails"])[-1] if done.returncode else ""


@cache
def privileged() -> bool:
    """Whether namespaces can be made and entered without a user namespace: a matter of capabilities, not of the user's number."""
    return not _fails(_AS_ROOT)


def probe() -> Availability:
    """Whether a private namespace with a veth pair can be had here."""
    for tool in ("unshare", "nsenter"):
        if shutil.which(tool) is None:
            return Availability(False, f"{tool} is missing", "apt-get install util-linux")
    reason = "" if privileged() else _fails(_AS_USER)
    if not reason:
        return Availability(True)
    return Availability(False, f"no private network namespace: {reason}", "run as root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone=1")


class Namespace:
    """A namespace with a holder inside. Used as a context manager; `close` may be called twice."""

    def __init__(self) -> None:
        available = probe()
        if not available.ok:
            raise UnavailableError(f"{available.reason}; {available.remedy}")
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own: a Ctrl-C on the terminal is for the rig, whose end is the holder's.
            self._holder = subprocess.Popen(
                [*(_AS_ROOT if privileged() else _AS_USER), sys.executable, "-m", "flowparity.harness.rigs.holder", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self._channel = ours
        self._one_at_a_time = threading.Lock()
        try:
            self._channel.settimeout(_START_SECONDS)
            wire.get(self._channel)
        except (OSError, EOFError) as error:
            self.close()
            raise SystemFault(f"the holder of the network namespace does not start: {error}") from None
        self._channel.settimeout(_ANSWER_SECONDS)

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """What setns takes."""
        return Path(f"/proc/{self._holder.pid}/ns/net")

    @property
    def prefix(self) -> tuple[str, ...]:
        """The argv that puts a process inside."""
        target = ("--target", str(self._holder.pid))
        return ("nsenter", *target, "--net") if privileged() else ("nsenter", "--preserve-credentials", *target, "--user", "--net")

    def ask(self, request: str, **values: Any) -> dict[str, Any]:
        """One request to the holder; raises SystemFault with the holder's reason."""
        return self._ask(request, values)[0]

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives inside."""
        _, descriptors = self._ask("socket", {"family": int(family), "kind": int(kind), "protocol": protocol})
        return socket.socket(fileno=descriptors[0])

    def _ask(self, request: str, values: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        try:
            with self._one_at_a_time:
                wire.put(self._channel, {"do": request, **values})
                answer, descriptors = wire.get(self._channel)
        except (OSError, EOFError) as error:
            raise SystemFault(f"the holder of the network namespace is gone: {error}") from None
        if "error" in answer:
            raise SystemFault(f"network namespace: {request}: {answer['error']}")
        return answer, descriptors

    def close(self) -> None:
        """Ends the holder; the namespace goes with the last process inside."""
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)  # also when another thread still waits for an answer
        self._channel.close()
        try:
            self._holder.wait(_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait()

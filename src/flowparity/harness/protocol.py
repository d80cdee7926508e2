# SPDX-License-Identifier: Apache-2.0
"""The protocol between the harness and a worker: length-prefixed messages of JSON and octets on a byte stream, so that ssh or a guest's console will do.

A message is two 32-bit lengths in network order, a JSON object, then octets. The worker speaks first: {"hello": "flowparity-worker", "version": n, …}. Each
request {"id", "op", …} has one answer {"id", …} or {"id", "error": {"kind", "text"}}; answers come in any order.
"""

from __future__ import annotations

import json
import struct
import threading
from contextlib import suppress
from typing import Any, BinaryIO

from flowparity.errors import FlowparityError, InputError, SystemFault, UnavailableError, UsageError

VERSION = 1
HELLO = "flowparity-worker"
_LENGTHS = struct.Struct("!II")
_LONGEST = 1 << 30

_KINDS: dict[str, type[FlowparityError]] = {each.__name__: each for each in (InputError, UsageError, UnavailableError, SystemFault)}


class Pipe:
    """One side of the stream. `send` may be called from several threads, `receive` from one."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader = reader
        self._writer = writer
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any], octets: bytes = b"") -> None:
        """Writes one message whole; OSError or ValueError when the other side is gone."""
        text = json.dumps(message, separators=(",", ":")).encode()
        with self._lock:
            self._writer.write(_LENGTHS.pack(len(text), len(octets)) + text + octets)
            self._writer.flush()

    def end(self, seconds: float) -> bool:
        """Ends the stream for the other side; False if another thread still writes after so many seconds."""
        if not self._lock.acquire(timeout=seconds):
            return False
        try:
            with suppress(OSError):  # the other side is gone
                self._writer.close()
        finally:
            self._lock.release()
        return True

    def receive(self) -> tuple[dict[str, Any], bytes] | None:
        """The next message; None at the end of the stream. A SystemFault if what comes is no message."""
        head = self._exactly(_LENGTHS.size)
        if head is None:
            return None
        text_size, octets_size = _LENGTHS.unpack(head)
        if text_size > _LONGEST or octets_size > _LONGEST:
            raise SystemFault("worker protocol: what came is no message; something else writes to the stream")
        text, octets = self._exactly(text_size), self._exactly(octets_size)
        if text is None or octets is None:
            return None
        try:
            message = json.loads(text)
        except ValueError:
            raise SystemFault("worker protocol: what came is no message; something else writes to the stream") from None
        return message, octets

    def _exactly(self, size: int) -> bytes | None:
        parts = []
        while size:
            part = self._reader.read(size)
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def error_message(error: BaseException) -> dict[str, str]:
    """An error for the wire. One that no user can mend is a SystemFault with its kind."""
    if isinstance(error, FlowparityError):
        kind = next((name for name, each in _KINDS.items() if isinstance(error, each)), "SystemFault")
        return {"kind": kind, "text": str(error)}
    return {"kind": "SystemFault", "text": f"{type(error).__name__}: {error}"}


def error_of(message: dict[str, str]) -> FlowparityError:
    """The error that was sent."""
    return _KINDS.get(message.get("kind", ""), SystemFault)(message.get("text", "the worker failed without a word"))

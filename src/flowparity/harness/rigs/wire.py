# SPDX-License-Identifier: Apache-2.0
"""Requests between a rig and the holder of its namespace: one JSON line each way over a socket pair, with file descriptors beside it."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

_LONGEST = 65_536


def put(channel: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Sends one message; raises OSError when the other side is gone."""
    socket.send_fds(channel, [json.dumps(message).encode() + b"\n"], list(descriptors))


def get(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message with its descriptors; raises EOFError when the other side is gone. One message is under way at a time."""
    text, descriptors = b"", []
    while not text.endswith(b"\n"):
        more, found, _, _ = socket.recv_fds(channel, _LONGEST, 4)
        if not more:
            raise EOFError("the other side is gone")
        text += more
        descriptors += found
    return json.loads(text), descriptors

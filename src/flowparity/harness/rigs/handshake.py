# SPDX-License-Identifier: Apache-2.0
"""Asks a fresh link whether a packet's own time arrives with it (SO_TXTIME), and whether frames arrive at all."""

from __future__ import annotations

import select
import socket
import struct
import time

_ETH_P_EXPERIMENTAL = 0x88B5
_SO_TXTIME = 61  # also SCM_TXTIME
_SO_TIMESTAMPNS = 35  # also SCM_TIMESTAMPNS, struct timespec
_TIMESPEC = struct.Struct("qq")
_SECOND = 1_000_000_000
_TIMES = (1, 1_234_567_890_123_456_789, 4_294_967_295_999_999_999)  # the ends matter: 1 ns after 1970, and 2106


def carries_times(transmit: str, receive: str, seconds: float = 10.0) -> bool:
    """Whether frames sent to `transmit` arrive at `receive` with exactly the times given to them. Raises OSError when nothing can be sent or heard at all."""
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_EXPERIMENTAL)) as ear,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as mouth,
    ):
        ear.bind((receive, _ETH_P_EXPERIMENTAL))
        ear.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        mouth.bind((transmit, 0))
        _reach(mouth, ear, seconds)
        try:
            mouth.setsockopt(socket.SOL_SOCKET, _SO_TXTIME, struct.pack("iI", time.CLOCK_REALTIME, 0))
        except OSError:
            return False  # an old kernel, or no right to it
        for when in _TIMES:
            mouth.sendmsg([_frame(b"time")], [(socket.SOL_SOCKET, _SO_TXTIME, struct.pack("Q", when))])
        return [_heard(ear, b"time", seconds) for _ in _TIMES] == list(_TIMES)


def _frame(word: bytes) -> bytes:
    return bytes(12) + _ETH_P_EXPERIMENTAL.to_bytes(2, "big") + word.ljust(46, b"\0")


def _reach(mouth: socket.socket, ear: socket.socket, seconds: float) -> None:
    """A link that was just made may lose its first frames: says hello until it is heard."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        mouth.send(_frame(b"hello"))
        if _heard(ear, b"hello", 0.02) is not None:
            return
    raise OSError("the link carries nothing")


def _heard(ear: socket.socket, word: bytes, seconds: float) -> int | None:
    """The timestamp of the next frame with the word; None if it does not come."""
    end = time.monotonic() + seconds
    while select.select([ear], [], [], max(0.0, end - time.monotonic()))[0]:
        data, control, _, _ = ear.recvmsg(256, 256)
        if not data.startswith(_frame(word)[: 14 + len(word)]):
            continue
        for level, kind, value in control:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                whole, part = _TIMESPEC.unpack(value[: _TIMESPEC.size])
                return int(whole) * _SECOND + int(part)
    return None

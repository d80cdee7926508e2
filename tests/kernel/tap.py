# SPDX-License-Identifier: Apache-2.0
"""A second ear on an interface, in plain Python: what the kernel really delivered there, so that the reference can meter it, whatever was merged on the way."""

from __future__ import annotations

import socket
import struct

from flowparity.frame import Frame

_SOL_PACKET, _AUXDATA, _VNET_HDR, _IGNORE_OUTGOING = 263, 8, 15, 23
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33
_ETH_P_ALL = 3
_VLAN_VALID, _TPID_VALID = 0x10, 0x40
_SECOND = 1_000_000_000
_ROOM = 300_000
_TAGS = (0x8100, 0x88A8, 0x9100)
_IPV4, _IPV6 = 0x0800, 0x86DD


class Tap:
    """Hears from its making on. Its buffer is large enough for a capture; `frames` reads it empty."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        for level, option, value in (
            (_SOL_PACKET, _AUXDATA, 1),
            (_SOL_PACKET, _VNET_HDR, 1),
            (_SOL_PACKET, _IGNORE_OUTGOING, 1),
            (socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1),
            (socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20),
        ):
            self._socket.setsockopt(level, option, value)
        self._socket.bind((interface, _ETH_P_ALL))

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def frames(self) -> list[Frame]:
        """Everything heard so far, with the tags that the kernel took out and the number of segments that it merged."""
        out: list[Frame] = []
        while True:
            try:
                data, control, _, _ = self._socket.recvmsg(_ROOM, 512)
            except BlockingIOError:
                return out
            out.append(_frame(data, control, len(out)))


def _frame(data: bytes, control: list[tuple[int, int, bytes]], index: int) -> Frame:
    stamp, tags = 0, ()
    for level, kind, value in control:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            whole, part = struct.unpack("qq", value)
            stamp = whole * _SECOND + part
        elif (level, kind) == (_SOL_PACKET, _AUXDATA):
            status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", value)
            if status & _VLAN_VALID:
                tags = ((tpid if status & _TPID_VALID else 0x8100, tci),)
    _, gso_type, _, gso_size, _, _ = struct.unpack_from("BBHHHH", data)
    frame = data[10:]
    segments = -(-_payload(frame) // gso_size) if gso_type else 1
    return Frame(stamp, frame, len(frame), index=index, tags=tags, segments=segments)


def _payload(frame: bytes) -> int:
    """Octets of TCP payload in a merged frame; the kernel merges nothing with IPv6 extension headers here."""
    at = 12
    while int.from_bytes(frame[at : at + 2], "big") in _TAGS:
        at += 4
    kind, at = int.from_bytes(frame[at : at + 2], "big"), at + 2
    assert kind in (_IPV4, _IPV6)
    length = int.from_bytes(frame[at + 2 : at + 4], "big") if kind == _IPV4 else 40 + int.from_bytes(frame[at + 4 : at + 6], "big")
    head = (frame[at] & 15) * 4 if kind == _IPV4 else 40
    return length - head - (frame[at + head + 12] >> 4) * 4

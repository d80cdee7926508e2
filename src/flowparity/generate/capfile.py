# SPDX-License-Identifier: Apache-2.0
"""Capture files with exactly the octets that we say: classic pcap and pcapng, written without looking into the frames.

It shares nothing with the reader, which the fixtures put to the test.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flowparity.errors import UsageError

RESOLUTIONS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""Decimal digits of a second that a capture keeps, by name."""

_MAGIC = {"us": 0xA1B2C3D4, "ns": 0xA1B23C4D}
SNAPLEN = 262_144


@dataclass(frozen=True, slots=True)
class Interface:
    """A pcapng interface, or the one of a classic file: LINKTYPE_ number, timestamp resolution, and pcapng's if_tsoffset in seconds."""

    link: int = 1
    resolution: str = "ns"
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Captured:
    """One frame to be written; times are nanoseconds, lengths octets. `wirelen` is written as it is, below len(data) too."""

    ts_ns: int
    data: bytes
    wirelen: int
    interface: int = 0


def pcap(frames: Iterable[Captured], interface: Interface) -> bytes:
    """A classic capture in network byte order; UsageError when a time does not fit the resolution or the 32-bit seconds."""
    if interface.resolution not in _MAGIC:
        raise UsageError(f"capture: a pcap file has resolution us or ns, not {interface.resolution!r}; use pcapng")
    out = bytearray(struct.pack(">IHHiIII", _MAGIC[interface.resolution], 2, 4, 0, 0, SNAPLEN, interface.link))
    for frame in frames:
        seconds, fraction = divmod(_ticks(frame, interface), 10 ** RESOLUTIONS[interface.resolution])
        if not 0 <= seconds < 2**32:
            raise UsageError(f"capture: {seconds} s does not fit the 32-bit seconds of a pcap file; use pcapng")
        out += struct.pack(">IIII", seconds, fraction, len(frame.data), frame.wirelen) + frame.data
    return bytes(out)


def pcapng(frames: Iterable[Captured], interfaces: Sequence[Interface]) -> bytes:
    """A pcapng capture in little-endian order: one section, all interfaces first, then one Enhanced Packet Block a frame."""
    out = bytearray(_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
    for interface in interfaces:
        options = struct.pack("<HHB3x", 9, 1, RESOLUTIONS[interface.resolution])
        if interface.offset:
            options += struct.pack("<HHq", 14, 8, interface.offset)
        out += _block(1, struct.pack("<HHI", interface.link, 0, SNAPLEN) + options + bytes(4))
    for frame in frames:
        interface = interfaces[frame.interface]
        ticks = _ticks(frame, interface) - interface.offset * 10 ** RESOLUTIONS[interface.resolution]
        if not 0 <= ticks < 2**64:
            raise UsageError(f"capture: time {frame.ts_ns} ns does not fit the timestamp of a pcapng block")
        head = struct.pack("<IIIII", frame.interface, ticks >> 32, ticks & 0xFFFFFFFF, len(frame.data), frame.wirelen)
        out += _block(6, head + frame.data + bytes(-len(frame.data) % 4))
    return bytes(out)


def _ticks(frame: Captured, interface: Interface) -> int:
    """The time in the interface's unit; a time that would lose digits is refused, so that a fixture never says what its capture does not."""
    unit: int = 10 ** (9 - RESOLUTIONS[interface.resolution])
    ticks, rest = divmod(frame.ts_ns, unit)
    if rest:
        raise UsageError(f"capture: {frame.ts_ns} ns is not a whole number of {interface.resolution}")
    return ticks


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)

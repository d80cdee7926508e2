# SPDX-License-Identifier: Apache-2.0
"""Frames from their parts, octet by octet, so that a test can bend any of them."""

from __future__ import annotations

import struct

from flowparity.flow import FlowRecord
from flowparity.frame import Frame
from flowparity.profile import SECOND

EPOCH = 1_700_000_000 * SECOND
A4, B4 = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
A6, B6 = bytes(15) + b"\x01", bytes(15) + b"\x02"


def checksum(header: bytes) -> int:
    """RFC 791 §3.1, by 16-bit words."""
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ipv4(
    payload: bytes = b"",
    protocol: int = 17,
    *,
    tos: int = 0,
    total: int | None = None,
    ihl: int | None = None,
    fragment: int = 0,
    options: bytes = b"",
    ttl: int = 64,
    version: int = 4,
    source: bytes = A4,
    destination: bytes = B4,
) -> bytes:
    """An IPv4 packet with a right checksum."""
    words = 5 + len(options) // 4 if ihl is None else ihl
    length = 20 + len(options) + len(payload) if total is None else total
    header = struct.pack("!BBHHHBBH4s4s", version << 4 | words, tos, length, 0, fragment, ttl, protocol, 0, source, destination) + options
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return header + payload


def ipv6(payload: bytes = b"", protocol: int = 17, *, tos: int = 0, label: int = 0, length: int | None = None, hops: int = 64, version: int = 6) -> bytes:
    """An IPv6 packet."""
    first = version << 28 | tos << 20 | label
    return struct.pack("!IHBB16s16s", first, len(payload) if length is None else length, protocol, hops, A6, B6) + payload


def udp(data: bytes = b"", source: int = 1000, destination: int = 2000) -> bytes:
    """A UDP datagram."""
    return struct.pack("!HHHH", source, destination, 8 + len(data), 0) + data


def tcp(flags: int = 0x10, data: bytes = b"", offset: int = 5, source: int = 1000, destination: int = 2000) -> bytes:
    """A TCP segment; `flags` are 12 bits."""
    return struct.pack("!HHIIHHHH", source, destination, 0, 0, offset << 12 | flags, 0, 0, 0) + bytes(max(0, offset * 4 - 20)) + data


def ethernet(payload: bytes, kind: int = 0x0800, *tags: tuple[int, int]) -> bytes:
    """An Ethernet frame; tags are (TPID, TCI)."""
    return bytes(12) + b"".join(struct.pack("!HH", *tag) for tag in tags) + struct.pack("!H", kind) + payload


def frame(data: bytes, t: float = 0, *, link: int = 1, wire: int | None = None, index: int = 0, interface: int = 0, segments: int = 1, **rest: object) -> Frame:
    """A frame at `t` seconds after EPOCH (exact for multiples of a nanosecond that a float holds; the tests use simple fractions)."""
    tags = rest.pop("tags", ())
    assert not rest
    return Frame(EPOCH + round(t * SECOND), data, len(data) if wire is None else wire, link, interface, index, tags, segments)  # type: ignore[arg-type]


def udp_frame(t: float = 0, index: int = 0, port: int = 1000, data: bytes = b"") -> Frame:
    """A UDP packet over IPv4."""
    return frame(ethernet(ipv4(udp(data, port))), t, index=index)


def tcp_frame(flags: int, t: float = 0, index: int = 0) -> Frame:
    """A TCP segment over IPv4."""
    return frame(ethernet(ipv4(tcp(flags), 6)), t, index=index)


def record(**changes: object) -> FlowRecord:
    """A Flow Record with every field another value."""
    values: dict[str, object] = {
        "source_address": A4,
        "destination_address": B4,
        "source_port": 1001,
        "destination_port": 2002,
        "protocol": 6,
        "tos": 0x2E,
        "input_interface": 70_000,
        "packets": 3,
        "octets": 180,
        "first_ns": EPOCH + 1_234_567,
        "last_ns": EPOCH + 2 * SECOND + 999_999_999,
        "tcp_flags": 0x11B,
        "end_reason": 3,
        "ttl": 61,
        "vlan": 100,
        "inner_vlan": 200,
    }
    return FlowRecord(**{**values, **changes})  # type: ignore[arg-type]

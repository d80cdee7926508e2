# SPDX-License-Identifier: Apache-2.0
"""Packets for tests that need particular ones."""

from __future__ import annotations

import struct

from flowparity.frame import Frame

_ETHERNET = bytes.fromhex("020000000001020000000002")
START = 1_700_000_000_000_000_000  # ns since the UNIX epoch


def ipv4(protocol: int, payload: bytes, *, fragment: int = 0, identification: int = 1, host: int = 1) -> bytes:
    """An Ethernet frame with an IPv4 packet; `fragment` is the flags-and-offset field. The header checksum is right."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), identification, fragment, 64, protocol, 0, bytes([10, 0, 0, host]), bytes([10, 9, 0, 2]))
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return _ETHERNET + b"\x08\x00" + head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + payload


def udp(port: int, payload: bytes = b"x" * 20, **ip: int) -> bytes:
    """A UDP packet without a checksum."""
    return ipv4(17, struct.pack("!HHHH", port, 53, 8 + len(payload), 0) + payload, **ip)


def tcp(payload: bytes, sequence: int = 1, flags: int = 0x10) -> bytes:
    """A TCP segment with the checksum that a pseudo header leaves for the network card to complete."""
    length = 20 + len(payload)
    pseudo = bytes([10, 0, 0, 1, 10, 9, 0, 2, 0, 6]) + length.to_bytes(2, "big")
    total = sum(struct.unpack("!6H", pseudo))
    total = (total & 0xFFFF) + (total >> 16)
    return ipv4(6, struct.pack("!HHIIBBHHH", 4000, 80, sequence, 1, 0x50, flags, 1000, total & 0xFFFF, 0) + payload)


def complete(segment: bytes) -> bytes:
    """The segment with its whole TCP checksum (RFC 9293 §3.1)."""
    body = segment[34:]
    padded = body[:16] + b"\0\0" + body[18:] + b"\0" * (len(body) % 2)
    pseudo = segment[26:34] + b"\x00\x06" + len(body).to_bytes(2, "big")
    total = sum(struct.unpack(f"!{len(padded + pseudo) // 2}H", pseudo + padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return segment[:50] + struct.pack("!H", ~total & 0xFFFF) + segment[52:]


def frames(data: list[bytes], first: int = 0) -> list[Frame]:
    """Frames one microsecond apart."""
    return [Frame(START + (first + i) * 1000, each, len(each), index=first + i) for i, each in enumerate(data)]

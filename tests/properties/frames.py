# SPDX-License-Identifier: Apache-2.0
"""Frames from small numbers: octets written by hand (struct), so that no library's opinion of a header comes between the program and the exporters."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from flowparity.frame import Frame

ETHERNET, RAW, NULL, LOOP, SLL, IPV4, IPV6, SLL2 = 1, 101, 0, 108, 113, 228, 229, 276
LINKS = (ETHERNET, RAW, NULL, LOOP, SLL, IPV4, IPV6, SLL2)
TPIDS = (0x8100, 0x88A8, 0x9100)
EXTENSIONS = (0, 43, 60, 44, 51, 135, 139, 140)


@dataclass(frozen=True, slots=True)
class Step:
    """One packet of a program. Small numbers choose; `build` makes the frame."""

    flow: int = 0  # which addresses and ports
    protocol: int = 6
    version: int = 4
    delta: int = 0  # nanoseconds after the largest time so far; may be negative
    flags: int = 0x10
    payload: int = 10
    tos: int = 0
    ttl: int = 64
    interface: int = 0
    encapsulation: str = ""  # letters: a b c = a tag of TPIDS, m = MPLS label, p = PPPoE session
    extensions: tuple[int, ...] = ()  # IPv6 extension headers
    fragment: str = ""  # "", first, later
    options: int = 0  # IPv4 option words
    length: str = ""  # "", zero (total length 0), long, short: what the header claims
    damage: str = ""  # "", version, ihl, checksum, llc, type, runt
    cut: int = 0  # octets missing at the end of the capture
    padding: int = 0  # octets behind the packet
    tags: tuple[tuple[int, int], ...] = ()
    segments: int = 1


def _checksum(header: bytes) -> int:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _transport(step: Step) -> bytes:
    source, destination = 1024 + step.flow % 3, 80 + step.flow // 3
    body = bytes(step.payload)
    match step.protocol:
        case 6:
            return struct.pack("!HHIIHHHH", source, destination, 1, 2, 0x5000 | step.flags, 100, 0, 0) + body
        case 17 | 136:
            return struct.pack("!HHHH", source, destination, 8 + len(body), 0) + body
        case 33 | 132:
            return struct.pack("!HHII", source, destination, 0, 0) + body
        case 1 | 58:
            return struct.pack("!BBHI", step.flow, step.flags & 0xFF, 0, 0) + body
    return body


def _fragment_offset(step: Step) -> int:
    return {"": 0, "first": 0x2000, "later": 0x2000 | 185}[step.fragment]


def _ipv4(step: Step) -> bytes:
    inner = _transport(step)
    ihl = 5 + step.options if step.damage != "ihl" else 4
    real = 20 + 4 * step.options + len(inner)
    claimed = {"": real, "zero": 0, "long": real + 1500, "short": max(1, real - 12)}[step.length]
    version = 4 if step.damage != "version" else 5
    head = struct.pack(
        "!BBHHHBBH4s4s",
        version << 4 | ihl,
        step.tos,
        claimed,
        7,
        _fragment_offset(step),
        step.ttl,
        step.protocol,
        0,
        bytes([10, 0, 0, step.flow]),
        bytes([10, 0, 1, step.flow % 2]),
    ) + bytes([1]) * (4 * step.options)
    checksum = _checksum(head) ^ (1 if step.damage == "checksum" else 0)
    return head[:10] + struct.pack("!H", checksum) + head[12:] + inner


def _ipv6(step: Step) -> bytes:
    body = _transport(step)
    following = step.protocol
    for kind in reversed(step.extensions):
        if kind == 44:
            body = struct.pack("!BBHI", following, 0, {"": 0, "first": 1, "later": 185 << 3 | 1}[step.fragment], 9) + body
        elif kind == 51:
            body = struct.pack("!BBHIII", following, 4, 0, 1, 2, 3) + bytes(8) + body
        else:
            body = bytes([following, 0]) + bytes([1, 4, 0, 0, 0, 0]) + body
        following = kind
    claimed = {"": len(body), "zero": 0, "long": len(body) + 1500, "short": max(0, len(body) - 12)}[step.length]
    version = 6 if step.damage != "version" else 7
    word = version << 28 | step.tos << 20 | (0xABC00 + step.flow)
    prefix = bytes.fromhex("20010db8000000000000000000000000")[:15]
    return struct.pack("!IHBB16s16s", word, claimed, following, step.ttl, prefix + bytes([step.flow]), prefix + bytes([128 + step.flow % 2])) + body


def _framed(step: Step, link: int, packet: bytes) -> bytes:
    kind = 0x0800 if step.version == 4 else 0x86DD
    if step.damage == "type":
        kind = 0x0806
    if link in (RAW, IPV4, IPV6):
        return packet
    if link in (NULL, LOOP):
        family = 2 if step.version == 4 else 30
        if step.damage == "type":
            family = 99
        return struct.pack("!I" if link == LOOP or step.flow % 2 else "<I", family) + packet
    layers = b""
    for letter in reversed(step.encapsulation):
        if letter == "m":
            layers = struct.pack("!I", 16 << 12 | (0x100 if kind != 0x8847 else 0) | 64) + layers
            kind = 0x8847
        elif letter == "p":
            layers = struct.pack("!BBHHH", 0x11, 0, 1, len(packet) + 2, 0x21 if step.version == 4 else 0x57) + layers
            kind = 0x8864
        else:
            layers = struct.pack("!HH", 0x2000 | (100 + ord(letter) + step.flow % 2), kind) + layers
            kind = TPIDS["abc".index(letter)]
    if step.damage == "llc":
        kind = 0x0026
    if link == SLL:
        return struct.pack("!HHH8sH", 0, 1, 6, bytes(8), kind) + layers + packet
    if link == SLL2:
        return struct.pack("!HHIHBB8s", kind, 0, 3 + step.interface, 1, 0, 6, bytes(8)) + layers + packet
    return bytes(12) + struct.pack("!H", kind) + layers + packet


def build(step: Step, link: int, ts_ns: int, index: int) -> Frame:
    """The frame of a step over a link layer."""
    data = _framed(step, link, _ipv4(step) if step.version == 4 else _ipv6(step)) + bytes(step.padding)
    if step.damage == "runt":
        data = data[:9]
    wirelen = len(data)
    if step.cut:
        data = data[: max(0, len(data) - step.cut)]
    tags = step.tags if link == ETHERNET else ()
    return Frame(ts_ns, data, wirelen, link, step.interface, index, tags, step.segments)

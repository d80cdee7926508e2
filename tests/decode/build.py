# SPDX-License-Identifier: Apache-2.0
"""Datagrams for tests, octet by octet, and nothing of the project's encoders."""

from __future__ import annotations

import struct

from flowparity.collector import Datagram

EXPORT = 1_700_000_000
"""The second of most headers here."""

UPTIME = 100_000
SOURCE = ("192.0.2.1", 40_000)


def dgram(payload: bytes, *, at_ns: int = EXPORT * 10**9, source: tuple[str, int] = SOURCE, **more: object) -> Datagram:
    return Datagram(payload, source, at_ns, **more)  # type: ignore[arg-type]


def v5_record(first: int = 1_000, last: int = 2_000, pad: int = 0) -> bytes:
    addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0])
    return addresses + struct.pack(">HHIIIIHHBBBBHHBBH", 1, 0, 3, 300, first, last, 1234, 80, pad, 0x1B, 6, 0, 0, 0, 0, 0, 0)


def v5(
    records: list[bytes] | None = None,
    *,
    sequence: int = 0,
    count: int | None = None,
    uptime: int = UPTIME,
    seconds: int = EXPORT,
    nanoseconds: int = 0,
    engine: int = 0,
    sampling: int = 0,
) -> bytes:
    body = [v5_record()] if records is None else records
    number = len(body) if count is None else count
    return struct.pack(">HHIIIIBBH", 5, number, uptime, seconds, nanoseconds, sequence, 0, engine, sampling) + b"".join(body)


def fields(*specifiers: tuple[int, int] | tuple[int, int, int]) -> bytes:
    """Field Specifiers from (number, length) or (number, length, enterprise)."""
    return b"".join(struct.pack(">HHI", s[0] | 0x8000, s[1], s[2]) if len(s) == 3 else struct.pack(">HH", *s) for s in specifiers)


def flowset(number: int, body: bytes, *, pad: bool = True, length: int | None = None, padding: bytes = b"\0") -> bytes:
    if pad:
        body += padding * (-len(body) % 4)
    return struct.pack(">HH", number, 4 + len(body) if length is None else length) + body


def template(template_id: int, *specifiers: tuple[int, int] | tuple[int, int, int], count: int | None = None) -> bytes:
    return struct.pack(">HH", template_id, len(specifiers) if count is None else count) + fields(*specifiers)


def v9_options(template_id: int, scopes: list[tuple[int, int]], options: list[tuple[int, int]]) -> bytes:
    return struct.pack(">HHH", template_id, 4 * len(scopes), 4 * len(options)) + fields(*scopes, *options)


def ipfix_options(template_id: int, specifiers: list[tuple[int, ...]], scopes: int = 1, count: int | None = None) -> bytes:
    return struct.pack(">HHH", template_id, len(specifiers) if count is None else count, scopes) + fields(*specifiers)  # type: ignore[arg-type]


def v9(*sets: bytes, count: int, sequence: int = 0, uptime: int = UPTIME, seconds: int = EXPORT, domain: int = 1) -> bytes:
    return struct.pack(">HHIIII", 9, count, uptime, seconds, sequence, domain) + b"".join(sets)


def ipfix(*sets: bytes, sequence: int = 0, seconds: int = EXPORT, domain: int = 1, length: int | None = None) -> bytes:
    body = b"".join(sets)
    return struct.pack(">HHIII", 10, 16 + len(body) if length is None else length, seconds, sequence, domain) + body


def withdrawal(set_id: int, template_id: int) -> bytes:
    return flowset(set_id, struct.pack(">HH", template_id, 0))


V9_T = [(8, 4), (12, 4), (1, 8), (2, 8), (22, 4), (21, 4), (4, 1), (5, 1)]
"""A v9 template of 34 octets."""


def v9_data(n: int = 1, first: int = 1_000, last: int = 2_000) -> bytes:
    return (bytes([10, 0, 0, 1, 10, 0, 0, 2]) + struct.pack(">QQIIBB", 300, 3, first, last, 6, 0)) * n


IPFIX_T = [(8, 4), (12, 4), (1, 8), (2, 8), (152, 8), (153, 8), (4, 1), (5, 1)]
"""An IPFIX template of 42 octets."""


def ipfix_data(n: int = 1, first: int = (EXPORT - 2) * 1000, last: int = (EXPORT - 1) * 1000) -> bytes:
    return (bytes([10, 0, 0, 1, 10, 0, 0, 2]) + struct.pack(">QQQQBB", 300, 3, first, last, 6, 0)) * n

# SPDX-License-Identifier: Apache-2.0
"""Several datagrams in one packet of a capture: an exporter that uses UDP segmentation offload, captured on its own host, where the kernel has not cut yet.

They are told from a datagram that really holds several messages (IPFIX-UDP-04) by what Linux does (udp(7), UDP_SEGMENT): all are of one size but the last,
which may be shorter, and the checksum is not filled in yet. Where they begin is what the formats say of their own lengths; their sequence numbers go on.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from flowparity.collector import Datagram

_UINT32 = 2**32


@dataclass(frozen=True, slots=True)
class _Part:
    """One message of the packet: octets, and by how much it may move the sequence."""

    size: int
    domain: int
    sequence: int
    least: int
    most: int


def split(datagram: Datagram) -> list[Datagram]:
    """The datagrams that the packet became on the wire; itself alone unless all of the above holds."""
    payload = datagram.payload
    read = _READERS.get(int.from_bytes(payload[:2], "big"))
    if not datagram.unfinished or read is None:
        return [datagram]
    parts: list[_Part] = []
    at = 0
    while at < len(payload):
        part = read(payload[at:])
        if part is None:
            return [datagram]
        parts.append(part)
        at += part.size
    cut = parts[0].size
    even = all(part.size == cut for part in parts[:-1]) and parts[-1].size <= cut
    follows = all(after.domain == part.domain and part.least <= (after.sequence - part.sequence) % _UINT32 <= part.most for part, after in pairwise(parts))
    if not even or not follows:
        return [datagram]
    headers = None if datagram.ip_octets is None else datagram.ip_octets - len(payload)
    pieces = [payload[i : i + cut] for i in range(0, len(payload), cut)]
    return [replace(datagram, payload=each, ip_octets=None if headers is None else headers + len(each)) for each in pieces]


def _v5(data: bytes) -> _Part | None:
    """A header of 24 octets and as many records of 48 as it counts."""
    if len(data) < 24:
        return None
    version, count, sequence, engine = struct.unpack_from(">HH12xIH", data)
    size = 24 + 48 * count
    return _Part(size, engine, sequence, count, count) if version == 5 and 1 <= count <= 30 and size <= len(data) else None


def _v9(data: bytes) -> _Part | None:
    """A header of 20 octets and FlowSets (RFC 3954 §5) up to one with the reserved id 9, which is the next header's version."""
    if len(data) < 20:
        return None
    version, sequence, domain = struct.unpack_from(">H10xII", data)
    at = 20
    while at < len(data):
        flowset, length = struct.unpack_from(">HH", data, at) if len(data) - at >= 4 else (0, 0)
        if flowset == 9 and at > 20:
            break
        if length < 4 or at + length > len(data):
            return None
        at += length
    return _Part(at, domain, sequence, 1, 1) if version == 9 and at > 20 else None


def _ipfix(data: bytes) -> _Part | None:
    """A message of its own Length (RFC 7011 §3.1). The records of a Data Set have an octet or more; how many there are only its template says."""
    if len(data) < 16:
        return None
    version, size, sequence, domain = struct.unpack_from(">HH4xII", data)
    if version != 10 or not 16 < size <= len(data):
        return None
    at, octets = 16, 0
    while at < size:
        set_id, length = struct.unpack_from(">HH", data, at) if size - at >= 4 else (0, 0)
        if length < 4 or at + length > size:
            return None
        octets += length - 4 if set_id >= 256 else 0
        at += length
    return _Part(size, domain, sequence, min(octets, 1), octets)


_READERS: dict[int, Callable[[bytes], _Part | None]] = {5: _v5, 9: _v9, 10: _ipfix}

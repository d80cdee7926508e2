# SPDX-License-Identifier: Apache-2.0
"""From a frame to its verdict, and to what the Metering Process sees of it (S-VER, S-LEN, S-PRT and S-SUP of docs/semantics.md).

A pure function of one frame: no profile, no state. Offsets count from the first octet of the frame.
"""

from __future__ import annotations

from typing import NamedTuple

from flowparity.frame import Frame
from flowparity.links import Payload, Refusal, find_ip

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_HOP_BY_HOP, _FRAGMENT, _AH = 0, 44, 51
_WALKABLE = frozenset((_HOP_BY_HOP, 43, _FRAGMENT, _AH, 60, 135, 139, 140))  # S-PRT-2
_WITH_PORTS = frozenset((TCP, UDP, 33, 132, 136))  # S-PRT-3
_MOST_HEADERS = 16
_JUMBO = 0xC2


class Packet(NamedTuple):
    """An IP packet as the Metering Process sees it. `tos` is not masked yet (S-REC-4)."""

    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    protocol: int
    tos: int
    interface: int
    vlan: int
    inner_vlan: int
    ttl: int
    flow_label: int
    tcp_flags: int
    packets: int
    octets: int


_SHORT_HEADER = Refusal("malformed", "S-VER-5", "fewer octets captured than an IP header has")
_WRONG_VERSION = Refusal("malformed", "S-VER-5", "the IP version is not the one that the link layer announced")
_BAD_IHL = Refusal("malformed", "S-VER-5", "IHL below 5")
_LONG_HEADER = Refusal("malformed", "S-VER-5", "the IPv4 header is longer than the packet")
_LONG_PACKET = Refusal("malformed", "S-VER-5", "the IP length exceeds the frame")
_MPLS_NOT_IP = Refusal("non_ip", "S-LNK-3", "MPLS: the payload is not a well-formed IP packet")
_MPLS_CHECKSUM = Refusal("non_ip", "S-LNK-3", "MPLS: the payload has no right IPv4 header checksum")


def parse(frame: Frame) -> Packet | Refusal:
    """The packet in a frame, or why there is none: `non_ip` or `malformed`, with the rule that says so."""
    payload = find_ip(frame)
    if isinstance(payload, Refusal):
        return payload
    data = frame.data
    start = payload.offset
    length = max(frame.wirelen, len(data)) - start  # L of S-VER-5; S-LNK-6
    version = payload.version
    if version is None:  # raw IP: only the nibble tells
        version = data[start] >> 4 if len(data) > start else 0
    if version == 4:
        packet = _parse_ipv4(frame, payload, start, length)
    elif version == 6:
        packet = _parse_ipv6(frame, payload, start, length)
    else:
        packet = _WRONG_VERSION
    if payload.mpls and isinstance(packet, Refusal) and packet.verdict == "malformed":
        return _MPLS_NOT_IP  # a test of S-VER-5 fired on what was only a guess (S-LNK-3)
    return packet


def _parse_ipv4(frame: Frame, payload: Payload, start: int, length: int) -> Packet | Refusal:
    data = frame.data
    if len(data) < start + 20:
        return _SHORT_HEADER
    if data[start] >> 4 != 4:
        return _WRONG_VERSION
    header = (data[start] & 0x0F) * 4
    if header < 20:
        return _BAD_IHL
    octets = (data[start + 2] << 8 | data[start + 3]) or length  # S-LEN-1: 0 is segmentation offload
    if header > octets:
        return _LONG_HEADER  # a total length of 1 to 19 ends here too
    if octets > length:
        return _LONG_PACKET
    if payload.mpls and not _checksum_right(data[start : start + header], header):
        return _MPLS_CHECKSUM
    protocol = data[start + 9]  # S-PRT-1: nothing is walked
    later = bool((data[start + 6] << 8 | data[start + 7]) & 0x1FFF)
    end = min(len(data), start + octets)  # S-LEN-4
    transport = start + header
    source_port, destination_port, flags = (0, 0, 0) if later else _transport(data, protocol, transport, end, ICMP)
    packets = 1
    if frame.segments > 1:
        packets = frame.segments
        octets += (packets - 1) * _repeated(data, protocol, start, transport, end, later)
    return Packet(
        data[start + 12 : start + 16],
        data[start + 16 : start + 20],
        source_port,
        destination_port,
        protocol,
        data[start + 1],
        payload.interface,
        payload.vlan,
        payload.inner_vlan,
        data[start + 8],
        0,
        flags,
        packets,
        octets,
    )


def _parse_ipv6(frame: Frame, payload: Payload, start: int, length: int) -> Packet | Refusal:
    data = frame.data
    if len(data) < start + 40:
        return _SHORT_HEADER
    if data[start] >> 4 != 6:
        return _WRONG_VERSION
    protocol = data[start + 6]
    octets = 40 + (data[start + 4] << 8 | data[start + 5])
    if octets == 40:  # S-LEN-2: jumbogram, segmentation offload, or really empty
        if protocol == _HOP_BY_HOP:
            octets += _jumbo(data, start + 40)
        elif protocol in (TCP, UDP):
            octets = length
    if octets > length:
        return _LONG_PACKET
    end = min(len(data), start + octets)  # S-LEN-4
    transport = start + 40
    later = False
    passed = 0
    while protocol in _WALKABLE and passed < _MOST_HEADERS and not later:  # S-PRT-2
        if transport + 2 > end:
            break
        if protocol == _FRAGMENT:
            size = 8
        elif protocol == _AH:
            size = (data[transport + 1] + 2) * 4
        else:
            size = (data[transport + 1] + 1) * 8
        if transport + size > end:
            break
        if protocol == _FRAGMENT:
            later = bool((data[transport + 2] << 8 | data[transport + 3]) & 0xFFF8)
        protocol = data[transport]
        transport += size
        passed += 1
    source_port, destination_port, flags = (0, 0, 0) if later else _transport(data, protocol, transport, end, ICMPV6)
    packets = 1
    if frame.segments > 1:
        packets = frame.segments
        octets += (packets - 1) * _repeated(data, protocol, start, transport, end, later)
    return Packet(
        data[start + 8 : start + 24],
        data[start + 24 : start + 40],
        source_port,
        destination_port,
        protocol,
        (data[start] << 4 | data[start + 1] >> 4) & 0xFF,
        payload.interface,
        payload.vlan,
        payload.inner_vlan,
        data[start + 7],
        (data[start + 1] & 0x0F) << 16 | data[start + 2] << 8 | data[start + 3],
        flags,
        packets,
        octets,
    )


def _transport(data: bytes, protocol: int, at: int, end: int, icmp: int) -> tuple[int, int, int]:
    """Source port, destination port and TCP flags; 0 for what does not lie before `end` (S-PRT-3 to S-PRT-5)."""
    if protocol in _WITH_PORTS:
        if at + 4 > end:
            return 0, 0, 0
        flags = (data[at + 12] << 8 | data[at + 13]) & 0x0FFF if protocol == TCP and at + 14 <= end else 0
        return data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3], flags
    if protocol == icmp and at + 2 <= end:
        return 0, data[at] << 8 | data[at + 1], 0
    return 0, 0, 0


def _jumbo(data: bytes, at: int) -> int:
    """The Jumbo Payload length in the hop-by-hop header at `at`, or 0 (S-LEN-2). Only what lies wholly in the header and in the capture counts."""
    if len(data) < at + 2:
        return 0
    end = min(len(data), at + (data[at + 1] + 1) * 8)
    at += 2
    while at < end:
        if data[at] == 0:  # Pad1 has no length octet
            at += 1
            continue
        if at + 2 > end or at + 2 + data[at + 1] > end:
            return 0
        if data[at] == _JUMBO:
            value = int.from_bytes(data[at + 2 : at + 6], "big") if data[at + 1] == 4 else 0
            return value if value >= 65_536 else 0
        at += 2 + data[at + 1]
    return 0


def _repeated(data: bytes, protocol: int, start: int, transport: int, end: int, later: bool) -> int:
    """H of S-SUP-1: the octets that every further segment of a super-packet had of its own."""
    size = 0
    if not later:
        if protocol == TCP:
            size = (data[transport + 12] >> 4) * 4 if transport + 12 < end else 20
            size = max(size, 20)
        elif protocol == UDP:
            size = 8
    return transport - start + size


def _checksum_right(header: bytes, size: int) -> bool:
    """Whether the whole IPv4 header was captured and its checksum (RFC 791 §3.1) is right."""
    if len(header) < size:
        return False
    total = sum(header[0::2]) * 256 + sum(header[1::2])
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF

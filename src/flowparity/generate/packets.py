# SPDX-License-Identifier: Apache-2.0
"""The octets of generated frames: one function from a flow's number to its key, one from the key to a frame."""

from __future__ import annotations

import struct
from typing import NamedTuple

_MASK = 2**64 - 1
_MACS = bytes.fromhex("02000000000b02000000000a")
_IPV4 = struct.Struct(">BBHHHBBHII").pack
_IPV6 = struct.Struct(">IHBBQQQQ").pack
_UDP = struct.Struct(">HHHH").pack
_TCP = struct.Struct(">HHIIBBHHH").pack
_UDP_IN_IPV4 = struct.Struct(">12sHBBHIBBHIIHHI").pack
_ZEROS = bytes(9000)
_IPV4_NET, _IPV4_PEER = 0xC6120000, 0xC6130000  # 198.18.0.0/16 and 198.19.0.0/16, the benchmarking range of RFC 2544
_IPV6_NET, _IPV6_PEER = 0x20010002_00000000, 0x20010002_00000001  # 2001:2::/48, that of RFC 5180
_CLASSES = (0, 0, 0, 0, 0, 0x28, 0x48, 0xB8)
_SERVICES = (53, 80, 123, 443, 443, 443, 5060, 8080)

FIN, SYN, ACK = 0x01, 0x02, 0x10


class Flow(NamedTuple):
    """What all packets of a flow have in common. `source` and `destination` are numbers."""

    version: int
    source: int
    destination: int
    source_port: int
    destination_port: int
    protocol: int
    tos: int
    ttl: int
    vlan: int  # 0 = untagged
    label: int

    @property
    def header(self) -> int:
        """Octets of Ethernet, tag, IP and transport headers."""
        return 14 + 4 * (self.vlan > 0) + (20 if self.version == 4 else 40) + (20 if self.protocol == 6 else 8)


def mix(value: int) -> int:
    """The finaliser of SplitMix64: 64 bits to 64 well mixed bits."""
    value &= _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31


def flow_of(number: int, seed: int, ipv6: float, vlan: float, tcp: float) -> Flow:
    """The flow with a number below 2^32; different numbers give different addresses. The shares are of all flows."""
    bits = mix(seed + (number + 1) * 0x9E3779B97F4A7C15)
    version = 6 if (bits & 0xFFFF) < ipv6 * 65536 else 4
    tag = 1 + number % 4094 if (bits >> 16 & 0xFFFF) < vlan * 65536 else 0
    protocol = 6 if (bits >> 32 & 0xFFFF) < tcp * 65536 else 17
    more = bits >> 48
    low, high = number & 0xFFFF, number >> 16
    if version == 4:
        source, destination = _IPV4_NET | low, _IPV4_PEER | high
    else:
        source, destination = _IPV6_NET << 64 | low, _IPV6_PEER << 64 | high
    return Flow(
        version,
        source,
        destination,
        1024 + (bits >> 40) % 64512,
        _SERVICES[more & 7],
        protocol,
        _CLASSES[more >> 3 & 7],
        64 - (more >> 6 & 15),
        tag,
        (bits >> 20 & 0xFFFFF) if version == 6 else 0,
    )


def frame_of(flow: Flow, length: int, flags: int) -> bytes:
    """A frame of `length` octets (at least flow.header) with right checksums; TCP with `flags`. The payload is zeros."""
    version, source, destination, sport, dport, protocol, tos, ttl, vlan, label = flow
    link = _MACS + struct.pack(">HH", 0x8100, vlan) if vlan else _MACS
    size = length - len(link) - 2
    if version == 4:
        total = 0x4500 + tos + size + (ttl << 8 | protocol) + (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF)
        if protocol == 17 and not vlan:
            total = _complement(total)
            head = _UDP_IN_IPV4(link, 0x0800, 0x45, tos, size, 0, ttl, 17, total, source, destination, sport, dport, size - 20 << 16)
            return head + _ZEROS[: size - 28]
        head = link + b"\x08\x00" + _IPV4(0x45, tos, size, 0, 0, ttl, protocol, _complement(total), source, destination)
        if protocol == 17:
            return head + _UDP(sport, dport, size - 20, 0) + _ZEROS[: size - 28]
        pseudo = (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF) + protocol + size - 20
    else:
        payload = size - 40
        low = 2**64 - 1
        addresses = source >> 64, source & low, destination >> 64, destination & low
        head = link + b"\x86\xdd" + _IPV6(6 << 28 | tos << 20 | label, payload, protocol, ttl, *addresses)
        pseudo = sum(word >> shift & 0xFFFF for word in addresses for shift in (0, 16, 32, 48)) + protocol + payload
        if protocol == 17:
            return head + _UDP(sport, dport, payload, _complement(pseudo + sport + dport + payload) or 0xFFFF) + _ZEROS[: payload - 8]
    checksum = _complement(pseudo + sport + dport + 1 + (0x5000 | flags) + 0xFFFF)
    return head + _TCP(sport, dport, 1, 0, 0x50, flags, 0xFFFF, checksum, 0) + _ZEROS[: length - len(head) - 20]


def _complement(total: int) -> int:
    """The Internet checksum of a sum of 16-bit words (RFC 1071)."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF

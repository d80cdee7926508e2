# SPDX-License-Identifier: Apache-2.0
"""Addresses rewritten so that common prefixes stay common, lengths stay, and right checksums stay right (and wrong ones wrong).

Each bit of an address is flipped or not by a keyed function of the bits before it (the idea of Crypto-PAn). Two addresses share as many bits after as before.
Only the outermost IP header and the MAC addresses change: what payloads say, the quoted packet of an ICMP error say, stays.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Sequence
from dataclasses import replace

from flowparity.frame import Frame
from flowparity.links import ETHERNET, Payload, find_ip

_SUMS = {6: 16, 17: 6, 136: 6, 58: 2}  # offset of the checksum in a transport header that covers the addresses


def anonymise_frames(frames: Sequence[Frame], key: bytes | None = None) -> list[Frame]:
    """The frames with other IP and MAC addresses. `key` decides which; None: a random one, so that nobody can go back."""
    renamer = _Renamer(key if key is not None else secrets.token_bytes(32))
    return [renamer.frame(frame) for frame in frames]


class _Renamer:
    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[bytes, bytes] = {}

    def address(self, old: bytes) -> bytes:
        if old not in self._known:
            number, bits, out = int.from_bytes(old, "big"), 8 * len(old), 0
            for place in range(bits):
                prefix = number >> (bits - place)
                mixed = hashlib.blake2b(struct.pack("!BB", len(old), place) + prefix.to_bytes(16, "big"), key=self._key, digest_size=1).digest()[0]
                out = out << 1 | ((number >> (bits - 1 - place) & 1) ^ (mixed & 1))
            self._known[old] = out.to_bytes(len(old), "big")
        return self._known[old]

    def mac(self, old: bytes) -> bytes:
        """Group bit kept; locally administered."""
        mixed = hashlib.blake2b(old, key=self._key, digest_size=6).digest()
        return bytes((mixed[0] & 0xFC | 0x02 | old[0] & 1,)) + mixed[1:]

    def frame(self, frame: Frame) -> Frame:
        data = bytearray(frame.data)
        if frame.link == ETHERNET and len(data) >= 12:
            data[0:6], data[6:12] = self.mac(bytes(data[0:6])), self.mac(bytes(data[6:12]))
        payload = find_ip(frame)
        if isinstance(payload, Payload):
            self._packet(data, payload.offset)
        return replace(frame, data=bytes(data))

    def _packet(self, data: bytearray, start: int) -> None:
        version = data[start] >> 4 if len(data) > start else 0
        if version == 4 and len(data) >= start + 20:
            places, protocol, at = ((start + 12, 4), (start + 16, 4)), data[start + 9], start + (data[start] & 15) * 4
            header_sum, later = start + 10, bool((data[start + 6] << 8 | data[start + 7]) & 0x1FFF)
        elif version == 6 and len(data) >= start + 40:
            places, protocol, at = ((start + 8, 16), (start + 24, 16)), data[start + 6], start + 40
            header_sum, later = 0, False
        else:
            return
        delta = 0
        for place, size in places:
            old = bytes(data[place : place + size])
            new = self.address(old)
            data[place : place + size] = new
            delta += _words(new) - _words(old)
        if header_sum:
            _adjust(data, header_sum, delta, zero_is_none=False)
        if protocol in _SUMS and not later:
            _adjust(data, at + _SUMS[protocol], delta, zero_is_none=protocol in (17, 136))


def _words(octets: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    return total


def _adjust(data: bytearray, place: int, delta: int, *, zero_is_none: bool) -> None:
    """RFC 1624: a checksum that was right stays right, one that was wrong stays as wrong."""
    if place + 2 > len(data):
        return
    old = data[place] << 8 | data[place + 1]
    if zero_is_none and old == 0:
        return
    total = (~old & 0xFFFF) + delta
    while not 0 <= total <= 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    new = ~total & 0xFFFF
    data[place : place + 2] = struct.pack("!H", 0xFFFF if zero_is_none and new == 0 else new)

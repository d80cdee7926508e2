# SPDX-License-Identifier: Apache-2.0
"""Link layers: from a frame's first octet to the start of its IP header (S-LNK-1 to S-LNK-6, S-VER-4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from flowparity.frame import Frame

ETHERNET, NULL, LOOP, RAW, IPV4, IPV6, SLL, SLL2 = 1, 0, 108, 101, 228, 229, 113, 276
LINK_NAMES = {
    NULL: "NULL",
    ETHERNET: "ETHERNET",
    12: "RAW (DLT 12)",
    14: "RAW (DLT 14)",
    RAW: "RAW",
    LOOP: "LOOP",
    SLL: "LINUX_SLL",
    IPV4: "IPV4",
    IPV6: "IPV6",
    SLL2: "LINUX_SLL2",
}
"""The link types of S-LNK-1 by number."""

_TPIDS = frozenset((0x8100, 0x88A8, 0x9100))  # S-LNK-2
_MPLS = frozenset((0x8847, 0x8848))
_PPPOE = 0x8864
_VERSION_OF_TYPE = {0x0800: 4, 0x86DD: 6}
_VERSION_OF_PPP = {0x0021: 4, 0x0057: 6}
_VERSION_OF_FAMILY = {2: 4, 10: 6, 24: 6, 28: 6, 30: 6}
_VERSION_OF_RAW: dict[int, int | None] = {12: None, 14: None, RAW: None, IPV4: 4, IPV6: 6}
_MOST_TAGS = 8


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a frame is not metered: the verdict (S-VER-4, S-VER-5), the rule, and one line for people."""

    verdict: str
    rule: str
    why: str


class Payload(NamedTuple):
    """Where the IP header starts and what the link layer said of it."""

    offset: int
    version: int | None  # what the type field says; None where only the first nibble does (raw IP)
    vlan: int
    inner_vlan: int
    mpls: bool  # S-LNK-3: IP is a guess that must be confirmed
    interface: int


_CUT_LINK = Refusal("non_ip", "S-VER-4", "the frame ends inside its link header")
_CUT_TAG = Refusal("non_ip", "S-VER-4", "the frame ends inside a VLAN tag")
_CUT_LABEL = Refusal("non_ip", "S-VER-4", "the frame ends inside an MPLS label stack")
_CUT_SESSION = Refusal("non_ip", "S-VER-4", "the frame ends inside a PPPoE session header")
_MANY_TAGS = Refusal("non_ip", "S-VER-4", "more than 8 VLAN tags")
_LLC = Refusal("non_ip", "S-VER-4", "LLC or SNAP: the type field is below 0x0600")
_NOT_IP = Refusal("non_ip", "S-VER-4", "the type is not IP")
_NOT_PPPOE_IP = Refusal("non_ip", "S-LNK-4", "PPPoE: not version and type 0x11, code 0 with an IP protocol")
_NOT_FAMILY = Refusal("non_ip", "S-LNK-5", "the address family is not IP")


def find_ip(frame: Frame) -> Payload | Refusal:
    """Walks the link layer. A link type that S-LNK-1 does not list is a programming error here: readers refuse it at start."""
    data = frame.data
    if frame.link == ETHERNET:
        if len(data) < 14:
            return _CUT_LINK
        return _typed(frame, data[12] << 8 | data[13], 14, frame.interface)
    return _OTHER_LINKS[frame.link](frame)


def _typed(frame: Frame, kind: int, offset: int, interface: int) -> Payload | Refusal:
    """What follows a type field: tags, then MPLS, PPPoE or IP (S-LNK-2 to S-LNK-4)."""
    data = frame.data
    tags = [tci & 0x0FFF for _, tci in frame.tags]  # stripped tags come first (S-LNK-2); the TPID is never key (S-REC-3)
    while kind in _TPIDS:
        if len(data) < offset + 4:
            return _CUT_TAG
        tags.append((data[offset] << 8 | data[offset + 1]) & 0x0FFF)
        kind = data[offset + 2] << 8 | data[offset + 3]
        offset += 4
    if len(tags) > _MOST_TAGS:
        return _MANY_TAGS
    vlan = tags[0] if tags else 0
    inner = tags[1] if len(tags) > 1 else 0
    if kind in _VERSION_OF_TYPE:
        return Payload(offset, _VERSION_OF_TYPE[kind], vlan, inner, False, interface)
    if kind in _MPLS:
        return _labelled(data, offset, vlan, inner, interface)
    if kind == _PPPOE:
        if len(data) < offset + 8:
            return _CUT_SESSION
        version = _VERSION_OF_PPP.get(data[offset + 6] << 8 | data[offset + 7])
        if data[offset] != 0x11 or data[offset + 1] != 0 or version is None:
            return _NOT_PPPOE_IP
        return Payload(offset + 8, version, vlan, inner, False, interface)
    return _LLC if kind < 0x0600 else _NOT_IP


def _labelled(data: bytes, offset: int, vlan: int, inner: int, interface: int) -> Payload | Refusal:
    """MPLS: labels up to the bottom of stack, then IP if the first nibble may be one (S-LNK-3)."""
    bottom = False
    while not bottom:
        if len(data) < offset + 4:
            return _CUT_LABEL
        bottom = bool(data[offset + 2] & 1)
        offset += 4
    version = data[offset] >> 4 if len(data) > offset else 0
    if version not in (4, 6):
        return Refusal("non_ip", "S-LNK-3", "MPLS: the payload is not IP by its first nibble")
    return Payload(offset, version, vlan, inner, True, interface)


def _tagged_payload(frame: Frame, offset: int, version: int | None) -> Payload | Refusal:
    """IP at a known place; only stripped tags can be there."""
    tags = [tci & 0x0FFF for _, tci in frame.tags]
    if len(tags) > _MOST_TAGS:
        return _MANY_TAGS
    return Payload(offset, version, tags[0] if tags else 0, tags[1] if len(tags) > 1 else 0, False, frame.interface)


def _raw(frame: Frame) -> Payload | Refusal:
    return _tagged_payload(frame, 0, _VERSION_OF_RAW[frame.link])


def _family(frame: Frame) -> Payload | Refusal:
    """Null in either byte order, loopback in network order (S-LNK-5)."""
    if len(frame.data) < 4:
        return _CUT_LINK
    version = _VERSION_OF_FAMILY.get(int.from_bytes(frame.data[:4], "big"))
    if version is None and frame.link == NULL:
        version = _VERSION_OF_FAMILY.get(int.from_bytes(frame.data[:4], "little"))
    return _NOT_FAMILY if version is None else _tagged_payload(frame, 4, version)


def _cooked(frame: Frame) -> Payload | Refusal:
    """Linux cooked v1: 16 octets, the protocol last (S-LNK-5)."""
    data = frame.data
    if len(data) < 16:
        return _CUT_LINK
    return _typed(frame, data[14] << 8 | data[15], 16, frame.interface)


def _cooked2(frame: Frame) -> Payload | Refusal:
    """Linux cooked v2: 20 octets, the protocol first, the interface index at 4 (the `source` interface, whatever the file's)."""
    data = frame.data
    if len(data) < 20:
        return _CUT_LINK
    return _typed(frame, data[0] << 8 | data[1], 20, int.from_bytes(data[4:8], "big"))


_OTHER_LINKS = {NULL: _family, LOOP: _family, SLL: _cooked, SLL2: _cooked2, **dict.fromkeys(_VERSION_OF_RAW, _raw)}

# SPDX-License-Identifier: Apache-2.0
"""What each export format says of a record and of the exporter, as tables of Information Elements (RFC 7012, IANA; for v9 RFC 3954 §8).

A row is element, size and where the value comes from; a template is a tuple of rows; the encoders know nothing else of a record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from flowparity.flow import FlowRecord
from flowparity.profile import SECOND

MILLISECOND = 1_000_000
_NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970
VARIABLE = 65535

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """One field of a template. `code` packs the value as the struct module has it, in network order; "" is a variable-length string (RFC 7011 §7)."""

    element: int
    size: int  # octets; VARIABLE
    code: str
    value: Callable[[T], object]


@dataclass(frozen=True, slots=True)
class Exported:
    """A record with what its encoding needs besides."""

    record: FlowRecord
    boot_ms: int  # the epoch of uptimes


@dataclass(frozen=True, slots=True)
class Statistics:
    """Metering by one worker and exporting over one stream so far, counted from the start (S-EXP-7). Times are nanoseconds; 0 = never."""

    domain: int  # observation domain id
    received: int  # frames
    observed: int  # frames that sampling looked at
    selected: int  # frames that sampling took
    metered_packets: int
    metered_octets: int
    ignored_packets: int  # malformed or shed
    ignored_octets: int
    first_ignored_ns: int
    last_ignored_ns: int
    sent_messages: int
    sent_octets: int
    sent_records: int
    not_sent_records: int
    not_sent_packets: int
    not_sent_octets: int
    first_not_sent_ns: int
    last_not_sent_ns: int


@dataclass(frozen=True, slots=True)
class NamedInterface:
    """An input interface and its name."""

    number: int
    name: str


def uptime(t: int, boot_ms: int) -> int:
    """Milliseconds since boot, modulo 2^32 (S-EXP-5)."""
    return (t // MILLISECOND - boot_ms) % 2**32


def ntp(t: int) -> int:
    """A time as dateTimeNanoseconds (RFC 7011 §6.1.10): the fraction rounded up, so that decoders that floor get every nanosecond back (S-EXP-5)."""
    seconds, ns = divmod(t, SECOND)
    return (seconds + _NTP_EPOCH) % 2**32 << 32 | -(-ns * 2**32 // SECOND)


# Sizes that v9 and IPFIX share. The tables below differ where RFC 3954 §8 and the IANA registry do.
_IPV4: tuple[Field[Exported], ...] = (
    Field(8, 4, "4s", lambda e: e.record.source_address),
    Field(12, 4, "4s", lambda e: e.record.destination_address),
)
_IPV6: tuple[Field[Exported], ...] = (
    Field(27, 16, "16s", lambda e: e.record.source_address),
    Field(28, 16, "16s", lambda e: e.record.destination_address),
)
_COMMON: tuple[Field[Exported], ...] = (
    Field(7, 2, "H", lambda e: e.record.source_port),
    Field(11, 2, "H", lambda e: e.record.destination_port),
    Field(4, 1, "B", lambda e: e.record.protocol),
    Field(5, 1, "B", lambda e: e.record.tos),
    Field(10, 4, "I", lambda e: e.record.input_interface),
    Field(2, 8, "Q", lambda e: e.record.packets),
    Field(1, 8, "Q", lambda e: e.record.octets),
    Field(136, 1, "B", lambda e: e.record.end_reason),
    Field(192, 1, "B", lambda e: e.record.ttl),
    Field(243, 2, "H", lambda e: e.record.vlan),
    Field(245, 2, "H", lambda e: e.record.inner_vlan),
    Field(60, 1, "B", lambda e: e.record.ip_version),
)
_UPTIMES: tuple[Field[Exported], ...] = (
    Field(22, 4, "I", lambda e: uptime(e.record.first_ns, e.boot_ms)),
    Field(21, 4, "I", lambda e: uptime(e.record.last_ns, e.boot_ms)),
)
_MILLISECONDS: tuple[Field[Exported], ...] = (
    Field(152, 8, "Q", lambda e: e.record.first_ns // MILLISECOND),
    Field(153, 8, "Q", lambda e: e.record.last_ns // MILLISECOND),
)
_NANOSECONDS: tuple[Field[Exported], ...] = (
    Field(156, 8, "Q", lambda e: ntp(e.record.first_ns)),
    Field(157, 8, "Q", lambda e: ntp(e.record.last_ns)),
)
_FLAGS_9: tuple[Field[Exported], ...] = (Field(6, 1, "B", lambda e: e.record.tcp_flags & 0xFF),)  # S-PRT-5
_FLAGS_IPFIX: tuple[Field[Exported], ...] = (Field(6, 2, "H", lambda e: e.record.tcp_flags),)  # RFC 7125
_LABEL_9: tuple[Field[Exported], ...] = (Field(31, 3, "3s", lambda e: e.record.flow_label.to_bytes(3, "big")),)
_LABEL_IPFIX: tuple[Field[Exported], ...] = (Field(31, 4, "I", lambda e: e.record.flow_label),)
_ICMP4: tuple[Field[Exported], ...] = (Field(32, 2, "H", lambda e: e.record.destination_port),)
_ICMP6: tuple[Field[Exported], ...] = (Field(139, 2, "H", lambda e: e.record.destination_port),)

FlowTemplates = dict[tuple[int, bool], tuple[Field[Exported], ...]]
"""The flow templates of a format by (IP version, ICMP): a TCP record says nothing of ICMP instead of 0."""


def flow_templates_9() -> FlowTemplates:
    """The flow templates of NetFlow v9."""
    v4, v6 = _IPV4 + _COMMON + _UPTIMES + _FLAGS_9, _IPV6 + _COMMON + _UPTIMES + _FLAGS_9 + _LABEL_9
    return {(4, False): v4, (4, True): v4 + _ICMP4, (6, False): v6, (6, True): v6 + _ICMP6}


def flow_templates_ipfix(nanoseconds: bool) -> FlowTemplates:
    """The flow templates of IPFIX, with times in milliseconds or nanoseconds."""
    times = _NANOSECONDS if nanoseconds else _MILLISECONDS
    v4, v6 = _IPV4 + _COMMON + times + _FLAGS_IPFIX, _IPV6 + _COMMON + times + _FLAGS_IPFIX + _LABEL_IPFIX
    return {(4, False): v4, (4, True): v4 + _ICMP4, (6, False): v6, (6, True): v6 + _ICMP6}


def key_elements(keys_tos_and_interface: bool, keys_vlan: bool) -> frozenset[int]:
    """The elements that are Flow Key under a profile, for flowKeyIndicator (RFC 7011 §4.4)."""
    elements = {8, 12, 27, 28, 7, 11, 4}
    if keys_tos_and_interface:
        elements |= {5, 10}
    if keys_vlan:
        elements |= {243, 245}
    return frozenset(elements)


# Options records. The first `scopes` fields of each are its scope.
_DOMAIN: Field[Statistics] = Field(149, 4, "I", lambda s: s.domain)
METERING_STATISTICS: tuple[Field[Statistics], ...] = (  # RFC 7011 §4.1, with the frames received and the packets and octets metered
    _DOMAIN,
    Field(41, 8, "Q", lambda s: s.sent_messages),
    Field(42, 8, "Q", lambda s: s.sent_records),
    Field(40, 8, "Q", lambda s: s.sent_octets),
    Field(431, 8, "Q", lambda s: s.received),
    Field(86, 8, "Q", lambda s: s.metered_packets),
    Field(85, 8, "Q", lambda s: s.metered_octets),
)
METERING_RELIABILITY: tuple[Field[Statistics], ...] = (  # RFC 7011 §4.2
    _DOMAIN,
    Field(164, 8, "Q", lambda s: s.ignored_packets),
    Field(165, 8, "Q", lambda s: s.ignored_octets),
    Field(323, 8, "Q", lambda s: s.first_ignored_ns // MILLISECOND),
    Field(323, 8, "Q", lambda s: s.last_ignored_ns // MILLISECOND),
)
EXPORTING_RELIABILITY: tuple[Field[Statistics], ...] = (  # RFC 7011 §4.3; each domain has an Exporting Process of its own
    Field(144, 4, "I", lambda s: s.domain),
    Field(166, 8, "Q", lambda s: s.not_sent_records),
    Field(167, 8, "Q", lambda s: s.not_sent_packets),
    Field(168, 8, "Q", lambda s: s.not_sent_octets),
    Field(323, 8, "Q", lambda s: s.first_not_sent_ns // MILLISECOND),
    Field(323, 8, "Q", lambda s: s.last_not_sent_ns // MILLISECOND),
)
INTERFACE_NAME: tuple[Field[NamedInterface], ...] = (
    Field(10, 4, "I", lambda i: i.number),
    Field(82, VARIABLE, "", lambda i: i.name),
)
STATISTICS_9: tuple[Field[Statistics], ...] = (  # RFC 3954 §6.1; scope 1 = System
    Field(1, 4, "I", lambda s: s.domain),
    Field(41, 8, "Q", lambda s: s.sent_messages),
    Field(42, 8, "Q", lambda s: s.sent_records),
    Field(40, 8, "Q", lambda s: s.sent_octets),
    Field(86, 8, "Q", lambda s: s.metered_packets),
    Field(85, 8, "Q", lambda s: s.metered_octets),
    Field(164, 8, "Q", lambda s: s.ignored_packets),
    Field(166, 8, "Q", lambda s: s.not_sent_records),
    Field(167, 8, "Q", lambda s: s.not_sent_packets),
)
INTERFACE_NAME_9: tuple[Field[NamedInterface], ...] = (  # scope 2 = Interface
    Field(2, 4, "I", lambda i: i.number),
    Field(82, 32, "32s", lambda i: utf8(i.name, 32)),
)


def sampling_9(interval: int, random: bool) -> tuple[Field[Statistics], ...]:
    """Sampling in v9: SAMPLING_INTERVAL and SAMPLING_ALGORITHM, 1 = deterministic, 2 = random (RFC 3954 §8)."""
    return (
        Field(1, 4, "I", lambda s: s.domain),
        Field(34, 4, "I", lambda _: interval),
        Field(35, 1, "B", lambda _: 2 if random else 1),
    )


def sampling_ipfix(interval: int, random: bool) -> tuple[Field[Statistics], ...]:
    """Sampling in IPFIX by the PSAMP elements (RFC 5477): systematic count-based, or uniform probabilistic since each frame is drawn for itself."""
    how: tuple[Field[Statistics], ...]
    if random:
        how = (Field(304, 2, "H", lambda _: 4), Field(311, 8, "d", lambda _: 1 / interval))
    else:
        how = (Field(304, 2, "H", lambda _: 1), Field(305, 4, "I", lambda _: 1), Field(306, 4, "I", lambda _: interval - 1))
    counts: tuple[Field[Statistics], ...] = (Field(318, 8, "Q", lambda s: s.observed), Field(319, 8, "Q", lambda s: s.selected))
    return (Field(302, 8, "Q", lambda s: s.domain), *how, *counts)


@dataclass(frozen=True, slots=True)
class KeyOfTemplate:
    """Which fields of a template are Flow Key: bit 0 is the first field."""

    template: int
    bits: int


FLOW_KEYS: tuple[Field[KeyOfTemplate], ...] = (  # RFC 7011 §4.4
    Field(145, 2, "H", lambda k: k.template),
    Field(173, 8, "Q", lambda k: k.bits),
)


def utf8(text: str, size: int) -> bytes:
    """Text in at most `size` octets of valid UTF-8, cut between characters."""
    return text.encode()[:size].decode(errors="ignore").encode()

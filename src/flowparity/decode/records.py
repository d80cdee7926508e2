# SPDX-License-Identifier: Apache-2.0
"""Data Records to flows: one shape whatever the version and whichever of the registry's synonyms an exporter chose. An absent field is None, never zero."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowparity.decode.model import DataRecord, Message

MILLISECOND = 1_000_000
UPTIME_MODULUS = 2**32


@dataclass(frozen=True, slots=True)
class DecodedFlow:
    """One flow as the collector understands it; names as in `flowparity.flow.FlowRecord`. Times are ns since the UNIX epoch."""

    version: int  # 5, 9, 10
    source: Hashable
    domain: int
    template_id: int
    source_address: bytes | None = None
    destination_address: bytes | None = None
    source_port: int | None = None
    destination_port: int | None = None  # ICMP: type * 256 + code, from whichever element carries it
    protocol: int | None = None
    tos: int | None = None
    input_interface: int | None = None
    output_interface: int | None = None
    packets: int | None = None
    octets: int | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    time_resolution: int | None = None  # ns; the coarser of both times
    tcp_flags: int | None = None
    end_reason: int | None = None
    ttl: int | None = None
    vlan: int | None = None
    inner_vlan: int | None = None
    flow_label: int | None = None
    direction: int | None = None
    first_uptime: int | None = None  # milliseconds as sent, modulo 2^32
    last_uptime: int | None = None
    sys_uptime: int | None = None  # the header's, as sent
    header_seconds: int | None = None
    header_ns: int | None = None  # header time as S-EXP-5 has it; v9: whole seconds and the milliseconds of sysUptime
    offset: int = 0
    reverse: DecodedFlow | None = None  # RFC 5103: the other direction, endpoints exchanged
    repeats: Mapping[str, tuple[Any, ...]] | None = None  # elements that occur more than once

    @property
    def worker(self) -> int:
        """The worker by S-EXP-2: v5 engine_id, else the domain less 1."""
        return self.domain & 0xFF if self.version == 5 else self.domain - 1

    @property
    def ip_version(self) -> int | None:
        """4 or 6, by the length of the addresses."""
        return None if self.source_address is None else 4 if len(self.source_address) == 4 else 6


# Field of DecodedFlow -> elements that carry it, the most telling first.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "source_address": ("sourceIPv4Address", "sourceIPv6Address"),
    "destination_address": ("destinationIPv4Address", "destinationIPv6Address"),
    "source_port": ("sourceTransportPort", "udpSourcePort", "tcpSourcePort"),
    "destination_port": ("destinationTransportPort", "udpDestinationPort", "tcpDestinationPort"),
    "protocol": ("protocolIdentifier",),
    "tos": ("ipClassOfService",),
    "input_interface": ("ingressInterface",),
    "output_interface": ("egressInterface",),
    "packets": ("packetDeltaCount", "packetTotalCount", "initiatorPackets", "postPacketDeltaCount", "postPacketTotalCount"),
    "octets": ("octetDeltaCount", "octetTotalCount", "initiatorOctets", "postOctetDeltaCount", "postOctetTotalCount"),
    "tcp_flags": ("tcpControlBits",),
    "end_reason": ("flowEndReason",),
    "ttl": ("ipTTL", "minimumTTL", "maximumTTL"),
    "vlan": ("dot1qVlanId", "vlanId", "postDot1qVlanId", "postVlanId"),
    "inner_vlan": ("dot1qCustomerVlanId", "postDot1qCustomerVlanId"),
    "flow_label": ("flowLabelIPv6",),
    "direction": ("flowDirection",),
}
_CARRIERS = {name: (field, rank) for field, names in _SYNONYMS.items() for rank, name in enumerate(names)}
_REVERSED_COUNTERS = {"responderPackets": ("packets", 0), "responderOctets": ("octets", 0)}
_OF_BOTH_DIRECTIONS = frozenset({"protocol", "vlan", "inner_vlan"})

# Absolute time elements: name without flowStart/flowEnd, resolution in ns.
_ABSOLUTE = (("Nanoseconds", 1), ("Microseconds", 1_000), ("Milliseconds", MILLISECOND), ("Seconds", 1_000_000_000))
_DURATIONS = (("flowDurationMicroseconds", 1_000), ("flowDurationMilliseconds", MILLISECOND))
_RELATIVE = ("DeltaMicroseconds", "SysUpTime")
_TIMES = frozenset(f"flow{side}{suffix}" for side in ("Start", "End") for suffix in (*(suffix for suffix, _ in _ABSOLUTE), *_RELATIVE))
_NO_TIMES: dict[str, Any] = dict.fromkeys(("first_ns", "last_ns", "time_resolution", "first_uptime", "last_uptime"))

# Type and code together, type, code.
_ICMP4 = ("icmpTypeCodeIPv4", "icmpTypeIPv4", "icmpCodeIPv4")
_ICMP6 = ("icmpTypeCodeIPv6", "icmpTypeIPv6", "icmpCodeIPv6")


def recover_ns(header_ms: int, sys_uptime: int, uptime: int) -> int:
    """The time of an uptime by S-EXP-5, in ns: header time less (sysUptime - uptime) modulo 2^32. Uptimes and header time in milliseconds."""
    return (header_ms - (sys_uptime - uptime) % UPTIME_MODULUS) * MILLISECOND


class Normaliser:
    """Turns messages into flows. It keeps systemInitTimeMilliseconds (160) of options data by source and domain, for exporters that send uptimes in IPFIX.

    `boot` is the second in which uptimes began, if known: v9 needs it after its sysUptime wrapped (S-EXP-5). Domains that began in different seconds
    (S-TIM-7) have a mapping, from the observation domain id; what stands in it for no domain is not known.
    """

    _MAX_DOMAINS = 65_536

    def __init__(self, boot: int | Mapping[int, int] | None = None) -> None:
        self._boot = boot
        self._init_times: dict[tuple[Hashable, int], int] = {}

    def flows(self, message: Message) -> list[DecodedFlow]:
        """The flows of a message, in order; options data records are none."""
        key = (message.source, message.header.domain)
        for record in message.options:
            init = record.get("systemInitTimeMilliseconds")
            if isinstance(init, int) and (key in self._init_times or len(self._init_times) < self._MAX_DOMAINS):
                self._init_times[key] = init
        return [self._flow(message, record) for record in message.flows]

    def flow_stream(self, messages: Iterable[Message]) -> list[DecodedFlow]:
        """The flows of many messages, in order."""
        return [flow for message in messages for flow in self.flows(message)]

    def header_ms(self, message: Message) -> int | None:
        """The header's time in milliseconds since the UNIX epoch (S-EXP-5); None when the header is incomplete."""
        header = message.header
        if header.seconds is None:
            return None
        if message.version == 5:
            return header.seconds * 1000 + (header.nanoseconds or 0) // MILLISECOND
        if message.version == 9 and header.sys_uptime is not None:
            boot = self._boot.get(header.domain) if isinstance(self._boot, Mapping) else self._boot
            if boot is None:
                return (header.seconds - header.sys_uptime // 1000) * 1000 + header.sys_uptime
            near = boot * 1000 + header.sys_uptime
            return near + round((header.seconds * 1000 + 500 - near) / UPTIME_MODULUS) * UPTIME_MODULUS
        return header.seconds * 1000

    def _flow(self, message: Message, record: DataRecord) -> DecodedFlow:
        values: dict[str, Any] = {}
        repeats: dict[str, list[Any]] = {}
        for element, value in record.values:
            if element.name in values:
                repeats.setdefault(element.name, [values[element.name]]).append(value)
            else:
                values[element.name] = value
        header_ms = self.header_ms(message)
        found = _fields(values)
        flow = DecodedFlow(
            version=message.version or 0,
            source=message.source,
            domain=record.domain,
            template_id=record.template_id,
            offset=record.offset,
            sys_uptime=message.header.sys_uptime,
            header_seconds=message.header.seconds,
            header_ns=None if header_ms is None else header_ms * MILLISECOND,
            repeats={name: tuple(many) for name, many in repeats.items() if name != "paddingOctets"} or None,
            **{**found, "destination_port": _destination_port(found, values)},
            **self._times(message, values, header_ms),
        )
        reverse = self._reverse(flow, message, values, header_ms)
        return flow if reverse is None else replace(flow, reverse=reverse)

    def _times(self, message: Message, values: Mapping[str, Any], header_ms: int | None) -> dict[str, Any]:
        if _TIMES.isdisjoint(values):
            return _NO_TIMES
        first, first_resolution = self._time("flowStart", message, values, header_ms)
        last, last_resolution = self._time("flowEnd", message, values, header_ms)
        for name, unit in _DURATIONS:
            duration = values.get(name)
            if isinstance(duration, int) and (first is None) != (last is None):
                first, last = (first, first + duration * unit) if first is not None else ((last or 0) - duration * unit, last)
                first_resolution = last_resolution = max(first_resolution, last_resolution, unit)
        return {
            "first_ns": first,
            "last_ns": last,
            "time_resolution": max(first_resolution, last_resolution) or None,
            "first_uptime": _integer(values.get("flowStartSysUpTime")),
            "last_uptime": _integer(values.get("flowEndSysUpTime")),
        }

    def _time(self, side: str, message: Message, values: Mapping[str, Any], header_ms: int | None) -> tuple[int | None, int]:
        for suffix, resolution in _ABSOLUTE:
            value = _integer(values.get(side + suffix))
            if value is not None:
                return value, resolution
        delta = _integer(values.get(side + "DeltaMicroseconds"))
        if delta is not None and header_ms is not None:
            return header_ms * MILLISECOND - delta * 1_000, 1_000_000_000
        uptime = _integer(values.get(side + "SysUpTime"))
        if uptime is None:
            return None, 0
        if message.header.sys_uptime is not None and header_ms is not None:
            return recover_ns(header_ms, message.header.sys_uptime, uptime), MILLISECOND
        init = _integer(values.get("systemInitTimeMilliseconds"))
        if init is None:
            init = self._init_times.get((message.source, message.header.domain))
        if init is None:
            return None, 0
        return init + uptime * MILLISECOND, MILLISECOND

    def _reverse(self, flow: DecodedFlow, message: Message, values: Mapping[str, Any], header_ms: int | None) -> DecodedFlow | None:
        reverse = {name[7].lower() + name[8:]: value for name, value in values.items() if name.startswith("reverse") and len(name) > 8}
        counters = _pick(values, _REVERSED_COUNTERS)
        if not reverse and not counters:
            return None
        found = {**counters, **_fields(reverse)}
        both = {name: getattr(flow, name) for name in _OF_BOTH_DIRECTIONS if name not in found}
        ends = {
            "source_address": flow.destination_address,
            "destination_address": flow.source_address,
            "source_port": flow.destination_port,
            "destination_port": flow.source_port,
        }
        return DecodedFlow(
            flow.version,
            flow.source,
            flow.domain,
            flow.template_id,
            **{**ends, **both, **found},
            **self._times(message, reverse, header_ms),
            offset=flow.offset,
            sys_uptime=flow.sys_uptime,
            header_seconds=flow.header_seconds,
            header_ns=flow.header_ns,
        )


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _pick(values: Mapping[str, Any], carriers: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    """Fields by name, of several carriers the most telling one's value."""
    found: dict[str, tuple[int, Any]] = {}
    for name, value in values.items():
        carrier = carriers.get(name)
        if carrier and (carrier[0] not in found or carrier[1] < found[carrier[0]][0]):
            found[carrier[0]] = carrier[1], value
    return {field: value for field, (_, value) in found.items()}


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that some synonym carries; a value that its length made undecodable is absent.

    Of two address families in one record (0.0.0.0 beside IPv6), the one counts that ipVersion names or that is not zero.
    """
    found = {name: value for name, value in _pick(values, _CARRIERS).items() if isinstance(value, int) or name.endswith("_address")}
    six = values.get("sourceIPv6Address"), values.get("destinationIPv6Address")
    if "sourceIPv4Address" in values and six[0] is not None:
        named = values.get("ipVersion")
        if named == 6 or (named != 4 and not any(values["sourceIPv4Address"]) and any(six[0])):
            found["source_address"], found["destination_address"] = six
    for name in ("source_address", "destination_address"):
        if name in found and (not isinstance(found[name], bytes) or len(found[name]) not in (4, 16)):
            del found[name]
    return found


def _destination_port(found: Mapping[str, Any], values: Mapping[str, Any]) -> int | None:
    """The port, or for ICMP the type and code from elements 32, 139 or 176 to 179 where the exporter gave them (foreign ones also put 32 into IPv6 records)."""
    protocol, port = found.get("protocol"), _integer(found.get("destination_port"))
    if protocol not in (1, 58, None):
        return port
    six = protocol == 58 or (protocol is None and len(found.get("source_address", b"")) == 16)
    for together, type_, code_ in (_ICMP6, _ICMP4) if six else (_ICMP4, _ICMP6):
        both = _integer(values.get(together))
        if both is None:
            kind, code = _integer(values.get(type_)), _integer(values.get(code_))
            both = None if kind is None else kind * 256 + (code or 0)
        if both is not None and (both or port is None):
            return both
    return port

# SPDX-License-Identifier: Apache-2.0
"""What templates and records hold: field choices and values that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

from flowparity.decode import DataRecord, Normaliser, Template
from flowparity.wire.model import Context, Hit, Item, Stream, rule

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
_TEMPLATED = ("9", "ipfix")
_DIRECTIONAL = frozenset({7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 27, 28, 29, 30, 44, 45, 56, 80, 169, 170, 180, 181, 182, 183, 252, 253})
"""Elements that tell one direction of a Biflow from the other."""


def templates(stream: Stream) -> Iterator[tuple[Item, int, Template]]:
    """Every definition of the stream with its offset, refreshes left out."""
    for item in stream.items:
        for event in item.message.templates:
            if event.template is not None and event.kind in ("new", "redefined"):
                yield item, event.offset, event.template


def records(stream: Stream) -> Iterator[tuple[Item, DataRecord]]:
    """Every flow Data Record."""
    for item in stream.items:
        for record in item.message.flows:
            yield item, record


def _numbers(template: Template) -> set[int]:
    return {f.element.number for f in template.fields if f.element.pen == 0}


@rule("V9-FLD-02", "V9-FLD-08")
def v9_widths(stream: Stream, context: Context) -> Iterator[Hit]:
    """Counters take 1 to 8 octets, interfaces at least 2."""
    for item, offset, template in templates(stream):
        for f in template.fields:
            number, pen = f.element.number, f.element.pen
            if pen == 0 and number in (1, 2, 3, 19, 20, 23, 24, 40, 41, 42) and not 1 <= f.length <= 8:
                yield Hit("V9-FLD-02", item.index, offset, f"template {template.template_id}: counter {f.element.name} in {f.length} octets")
            if pen == 0 and number in (10, 14) and f.length not in (2, 3, 4):
                yield Hit("V9-FLD-08", item.index, offset, f"template {template.template_id}: {f.element.name} in {f.length} octets")


@rule("V9-FLD-06")
def v9_ip_version(stream: Stream, context: Context) -> Iterator[Hit]:
    """IPv6 templates have IP_PROTOCOL_VERSION, and its value is 6."""
    for item, offset, template in templates(stream):
        if {27, 28} & _numbers(template) and 60 not in _numbers(template) and not template.options:
            yield Hit("V9-FLD-06", item.index, offset, f"template {template.template_id} has IPv6 addresses and no IP_PROTOCOL_VERSION (60)")
    for item, record in records(stream):
        value = record.get("ipVersion")
        if record.get("sourceIPv6Address") is not None and record.get("sourceIPv4Address") is None and value not in (None, 6):
            yield Hit("V9-FLD-06", item.index, record.offset, f"IP_PROTOCOL_VERSION is {value} in a record with IPv6 addresses")


@rule("V9-FLD-07")
def v9_direction(stream: Stream, context: Context) -> Iterator[Hit]:
    """DIRECTION is 0 or 1."""
    for item, record in records(stream):
        if record.get("flowDirection") not in (None, 0, 1):
            yield Hit("V9-FLD-07", item.index, record.offset, f"DIRECTION is {record.get('flowDirection')}, neither 0 (ingress) nor 1 (egress)")


@rule("V9-FLD-09")
def v9_reserved(stream: Stream, context: Context) -> Iterator[Hit]:
    """Field types that never got a registered meaning are not used."""
    for item, offset, template in templates(stream):
        for number in sorted(_numbers(template) & {65, 66, 67, 68, 69}):
            yield Hit("V9-FLD-09", item.index, offset, f"template {template.template_id} uses the reserved field type {number}")


@rule("V9-FLD-12")
def v9_absolute_times(stream: Stream, context: Context) -> Iterator[Hit]:
    """Millisecond times in v9 have 8 octets and count since 1970: seconds in them would end in January 1970."""
    for item, offset, template in templates(stream):
        for f in template.fields:
            if f.element.pen == 0 and f.element.number in (152, 153) and f.length != 8:
                yield Hit("V9-FLD-12", item.index, offset, f"template {template.template_id}: {f.element.name} in {f.length} octets, not 8")
    for item, record in records(stream):
        value = record.get("flowEndMilliseconds")
        export = (item.message.header.seconds or 0) * SECOND
        if isinstance(value, int) and value * 100 < export:
            yield Hit("V9-FLD-12", item.index, record.offset, f"flowEndMilliseconds is {value // MILLISECOND}, the export second {item.message.header.seconds}")


@rule("IPFIX-TIME-03")
def uptime_base(stream: Stream, context: Context) -> Iterator[Hit]:
    """Uptimes come with systemInitTimeMilliseconds in the record or in options of the domain."""
    told = {item.message.header.domain for item in stream.items for r in item.message.options if r.get("systemInitTimeMilliseconds") is not None}
    for item, offset, template in templates(stream):
        if {21, 22} & _numbers(template) and 160 not in _numbers(template) and not template.options and item.message.header.domain not in told:
            yield Hit("IPFIX-TIME-03", item.index, offset, f"template {template.template_id} has sysUpTime times and nowhere systemInitTimeMilliseconds (160)")


@rule("IPFIX-IE-18")
def duration(stream: Stream, context: Context) -> Iterator[Hit]:
    """A flowDuration is end minus start, to one unit."""
    normaliser = Normaliser()
    for item in stream.items:
        for flow, record in zip(normaliser.flows(item.message), item.message.flows, strict=True):
            for name, unit in (("flowDurationMilliseconds", MILLISECOND), ("flowDurationMicroseconds", 1_000)):
                value = record.get(name)
                if isinstance(value, int) and flow.first_ns is not None and flow.last_ns is not None:
                    coarse = max(unit, flow.time_resolution or 0)
                    if abs(flow.last_ns - flow.first_ns - value * unit) > coarse:
                        yield Hit("IPFIX-IE-18", item.index, record.offset, f"{name} is {value}, end minus start {(flow.last_ns - flow.first_ns) / unit:g}")


@rule("IPFIX-IE-19")
def ip_version(stream: Stream, context: Context) -> Iterator[Hit]:
    """The ipVersion agrees with the addresses."""
    for item, record in records(stream):
        version = record.get("ipVersion")
        four, six = record.get("sourceIPv4Address") is not None, record.get("sourceIPv6Address") is not None
        if version is not None and four != six and version != (4 if four else 6):
            yield Hit("IPFIX-IE-19", item.index, record.offset, f"ipVersion is {version} in a record with IPv{4 if four else 6} addresses")


@rule("IPFIX-IE-09")
def icmp_of_its_family(stream: Stream, context: Context) -> Iterator[Hit]:
    """Type and code stand in the element of the record's IP version: icmpTypeCodeIPv4 (32) is no element of ICMPv6."""
    for item, record in records(stream):
        four, six = record.get("sourceIPv4Address") is not None, record.get("sourceIPv6Address") is not None
        foreign = record.get("icmpTypeCodeIPv6" if four else "icmpTypeCodeIPv4")
        if four != six and foreign:
            yield Hit(
                "IPFIX-IE-09", item.index, record.offset, f"icmpTypeCodeIPv{6 if four else 4} is {foreign:#x} in a record with IPv{4 if four else 6} addresses"
            )


@rule("IPFIX-IE-21")
def deprecated_sampling(stream: Stream, context: Context) -> Iterator[Hit]:
    """Sampling is reported by PSAMP elements."""
    for item, offset, template in templates(stream):
        old = sorted({34, 35} & _numbers(template))
        if old:
            yield Hit("IPFIX-IE-21", item.index, offset, f"template {template.template_id} uses the deprecated elements {old}")


@rule("IPFIX-BIF-03")
def directional_key(stream: Stream, context: Context) -> Iterator[Hit]:
    """Reverse elements need a key that has a direction."""
    for item, offset, template in templates(stream):
        if any(f.element.reverse for f in template.fields) and not _numbers(template) & _DIRECTIONAL:
            yield Hit("IPFIX-BIF-03", item.index, offset, f"template {template.template_id} has reverse elements and no source or destination field")


@rule("IPFIX-BIF-08")
def biflow_direction(stream: Stream, context: Context) -> Iterator[Hit]:
    """A biflowDirection is 0 to 3."""
    for item in stream.items:
        for record in item.message.records:
            value = record.get("biflowDirection")
            if isinstance(value, int) and value > 3:
                yield Hit("IPFIX-BIF-08", item.index, record.offset, f"biflowDirection is {value}, not 0 to 3")

# SPDX-License-Identifier: Apache-2.0
"""Data Records by their template, for v9 and IPFIX alike (RFC 3954 §5.3, RFC 7011 §3.4.3 and §7)."""

from __future__ import annotations

from flowparity.decode.elements import RANGES, VARIABLE, Element
from flowparity.decode.model import DataRecord, Template, Value
from flowparity.decode.state import Pen
from flowparity.decode.values import decode_value


def decode_records(payload: bytes, start: int, end: int, domain: int, template: Template, pen: Pen, *, ipfix: bool) -> tuple[list[DataRecord], int]:
    """The records between two offsets and the offset at which padding begins."""
    records: list[DataRecord] = []
    minimum = template.minimum
    if minimum == 0:
        pen.problem(start, "DEC-LIM-02", f"template {template.template_id} describes records of no octets; the Set was not decoded")
        return records, start
    at = start
    while end - at >= minimum:
        if pen.values_left < len(template.fields):
            pen.problem(at, "DEC-LIM-01", "the datagram holds more values than the decoder takes; the rest of the Set was not decoded")
            return records, end
        pen.values_left -= len(template.fields)
        record, after = _record(payload, at, end, domain, template, pen, ipfix)
        if record is None:
            return records, end
        records.append(record)
        at = after
    return records, at


def _record(payload: bytes, start: int, end: int, domain: int, template: Template, pen: Pen, ipfix: bool) -> tuple[DataRecord | None, int]:
    values: list[tuple[Element, Value]] = []
    at = start
    for field in template.fields:
        element, length = field.element, field.length
        if length == VARIABLE and ipfix:
            prefix, (at, length) = at, _prefix(payload, at, end, pen)
            if length < 0:
                return None, end
            if at + length > end:
                counted = at + length - end == at - prefix
                pen.problem(prefix, "IPFIX-ENC-16" if counted else "IPFIX-ENC-14", f"{element.name} of {length} octets overruns its Set by {at + length - end}")
                return None, end
        if at + length > end:
            pen.problem(at, "IPFIX-SET-06" if ipfix else "V9-SET-07", f"{element.name} of {length} octets overruns its Set by {at + length - end}")
            return None, end
        data = payload[at : at + length]
        value, rule, text = decode_value(element, data)
        values.append((element, value))
        if ipfix:
            if rule is not None:
                pen.problem(at, rule, str(text))
            _check_value(element, value, at, pen)
        at += length
    return DataRecord(domain, template.template_id, start, at - start, tuple(values), template.scope_count, template.options), at


def _prefix(payload: bytes, at: int, end: int, pen: Pen) -> tuple[int, int]:
    """Where a variable-length value begins, and its length; -1 when the prefix itself overruns the Set."""
    need = 1 if at < end and payload[at] != 255 else 3
    if at + need > end:
        pen.problem(at, "IPFIX-ENC-14", "the length prefix of a variable-length value overruns its Set")
        return end, -1
    if need == 1:
        return at + 1, payload[at]
    length = int.from_bytes(payload[at + 1 : at + 3], "big")
    return at + 3, length


def _check_value(element: Element, value: Value, at: int, pen: Pen) -> None:
    limits = RANGES.get(element.number) if element.known and element.pen >= 0 else None
    if limits and isinstance(value, int) and not limits[0] <= value <= limits[1]:
        pen.problem(at, "IPFIX-ENC-18", f"{element.name} is {value}, not {limits[0]} to {limits[1]}")
    if element.number == 210 and element.known and isinstance(value, bytes) and any(value):
        pen.problem(at, "IPFIX-SET-08", "paddingOctets are not zero")

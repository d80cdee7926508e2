# SPDX-License-Identifier: Apache-2.0
"""IPFIX (RFC 7011), reverse elements included (RFC 5103)."""

from __future__ import annotations

import struct

from flowparity.decode.data import decode_records
from flowparity.decode.elements import HIGHEST_ASSIGNED, NOT_REVERSIBLE, REVERSE, V9_ONLY, VARIABLE, Element, element
from flowparity.decode.model import Field, Header, Message, Set, Template, TemplateEvent
from flowparity.decode.state import Pen, Store

HEADER = struct.Struct(">HHIII")
VERSION = 10
TEMPLATE_SET, OPTIONS_TEMPLATE_SET = 2, 3
_STRUCTURED = frozenset({"ipv4", "ipv6", "mac", "bool", "sec", "ms", "us", "ns"})


def decode(payload: bytes, message: Message, store: Store, *, reliable: bool) -> None:
    """Fills the message and updates the templates of its source and Observation Domain.

    `reliable`: the transport is TCP, SCTP or a file, where withdrawals are legal.
    """
    pen = Pen(message)
    if len(payload) < HEADER.size:
        pen.problem(len(payload), "IPFIX-HDR-02", f"{len(payload)} octets are no IPFIX header of {HEADER.size}")
        return
    _, length, seconds, sequence, domain = HEADER.unpack_from(payload)
    message.header = Header(length=length, seconds=seconds, sequence=sequence, domain=domain)
    if length != len(payload):
        pen.problem(2, "IPFIX-HDR-02", f"Length is {length}, the datagram has {len(payload)} octets")
    last = min(max(length, HEADER.size), len(payload))
    at = HEADER.size
    while at < last:
        if last - at < 4:
            pen.problem(at, "IPFIX-SET-02", f"{last - at} octets after the last Set")
            break
        set_id, set_length = struct.unpack_from(">HH", payload, at)
        end = at + set_length
        if set_length < 4 or end > last:
            pen.problem(at + 2, "IPFIX-SET-02", f"Set Length {set_length} where {last - at} octets are left")
            break
        message.sets.append(_set(payload, at, end, set_id, message, store, pen, reliable))
        at = end


def _set(payload: bytes, at: int, end: int, set_id: int, message: Message, store: Store, pen: Pen, reliable: bool) -> Set:
    domain, before = message.header.domain, len(message.problems)
    if set_id in (TEMPLATE_SET, OPTIONS_TEMPLATE_SET):
        kind = "template" if set_id == TEMPLATE_SET else "options_template"
        records, pad = _templates(payload, at + 4, end, set_id, message, store, pen, reliable)
    elif set_id < 256:
        pen.problem(at, "IPFIX-SET-01", f"Set ID {set_id} is reserved")
        return Set(at, set_id, end - at, "reserved", 0, b"")
    else:
        template = store.domain(message.source, VERSION, domain).get(set_id)
        if template is None:
            pen.problem(at, "IPFIX-TPL-09", f"data for template {set_id} of domain {domain} without a live template")
            return Set(at, set_id, end - at, "unknown_template", 0, b"")
        found, pad = decode_records(payload, at + 4, end, domain, template, pen, ipfix=True)
        message.records.extend(found)
        records, kind = len(found), "options_data" if template.options else "data"
    if not records and len(message.problems) == before:
        pen.problem(at, "IPFIX-SET-04", f"Set {set_id} holds no record")
    padding = payload[pad:end]
    if any(padding):
        pen.problem(pad, "IPFIX-SET-05", f"padding is {padding[:16].hex()}, not zero")
    return Set(at, set_id, end - at, kind, records, padding)


def _templates(payload: bytes, at: int, end: int, set_id: int, message: Message, store: Store, pen: Pen, reliable: bool) -> tuple[int, int]:
    """The number of Template Records and where the padding begins: at fewer than 4 octets or at 4 zeros, which no record begins with."""
    records, options, start = 0, set_id == OPTIONS_TEMPLATE_SET, at
    while end - at >= 4 and any(payload[at : at + 4]):
        template_id, count = struct.unpack_from(">HH", payload, at)
        if count == 0:
            _withdraw(message, store, pen, at, template_id, set_id, end - start, reliable)
            records, at = records + 1, at + 4
            continue
        scopes, head = 0, 4
        if options:
            if end - at < 6:
                pen.problem(at, "IPFIX-OPT-02", f"options template {template_id} ends before its Scope Field Count")
                return records, end
            scopes, head = int.from_bytes(payload[at + 4 : at + 6], "big"), 6
            _check_scopes(pen, at + 4, template_id, scopes, count)
        fields, after = _specifiers(payload, at + head, end, count, template_id, pen)
        if fields is None:
            return records, end
        _define(message, store, pen, at, Template(template_id, fields, min(scopes, count), options, payload[at:after]), set_id)
        records, at = records + 1, after
    if end - at >= 4:
        pen.problem(at, "IPFIX-SET-06", f"{end - at} octets of padding in a Template Set, as long as a record")
    return records, at


def _check_scopes(pen: Pen, at: int, template_id: int, scopes: int, count: int) -> None:
    if scopes == 0:
        pen.problem(at, "IPFIX-OPT-01", f"options template {template_id} has Scope Field Count 0")
    if scopes > count:
        pen.problem(at, "IPFIX-OPT-02", f"options template {template_id} has Scope Field Count {scopes} above Field Count {count}")


def _specifiers(payload: bytes, at: int, end: int, count: int, template_id: int, pen: Pen) -> tuple[tuple[Field, ...] | None, int]:
    fields = []
    for i in range(count):
        if end - at < 4 or (payload[at] & 0x80 and end - at < 8):
            rule = "IPFIX-TPL-04" if end - at >= 4 else "IPFIX-TPL-03"
            pen.problem(at, rule, f"template {template_id} announces {count} fields, its Set ends in field {i + 1}")
            return None, end
        number, length = struct.unpack_from(">HH", payload, at)
        pen_number, size = 0, 4
        if number & 0x8000:
            pen_number, size = int.from_bytes(payload[at + 4 : at + 8], "big"), 8
        fields.append(_field(pen, at, number & 0x7FFF, length, pen_number, bool(number & 0x8000)))
        at += size
    return tuple(fields), at


def _field(pen: Pen, at: int, number: int, length: int, enterprise: int, bit: bool) -> Field:
    known = element(enterprise, number)
    if bit and enterprise == 0:
        pen.problem(at + 4, "IPFIX-TPL-04", f"element {number} has the enterprise bit and Enterprise Number 0")
    if enterprise == 0 and (number == 0 or number > HIGHEST_ASSIGNED or number in V9_ONLY):
        pen.problem(at, "IPFIX-TPL-05", f"element {number} is not in the IANA registry")
    if enterprise == REVERSE and number in NOT_REVERSIBLE:
        pen.problem(at, "IPFIX-BIF-04", f"{known.name}: the element has no reverse (RFC 5103 §6.1)")
    if length == VARIABLE:
        if known.known and known.size is not None:
            pen.problem(at + 2, "IPFIX-TPL-06", f"{known.name} has a fixed size but Field Length 65535")
    elif not known.permits(length):
        pen.problem(at + 2, _size_rule(known, length), f"{known.name} has Field Length {length}; its type has {known.size}")
    return Field(known, length)


def _size_rule(known: Element, length: int) -> str:
    shorter = known.size is not None and length < known.size
    if known.type in ("f32", "f64"):
        return "IPFIX-ENC-13" if shorter and known.type == "f64" else "IPFIX-ENC-03"
    if known.type in _STRUCTURED and shorter:
        return "IPFIX-ENC-11"
    return "IPFIX-ENC-02" if known.type in ("ipv4", "ipv6", "mac") else "IPFIX-TPL-06"


def _define(message: Message, store: Store, pen: Pen, at: int, template: Template, set_id: int) -> None:
    domain, number = message.header.domain, template.template_id
    if number < 256:
        pen.problem(at, "IPFIX-TPL-01", f"template id {number} is below 256")
        return
    old = store.domain(message.source, VERSION, domain).get(number)
    kind = "new" if old is None else "refresh" if (old.raw, old.options) == (template.raw, template.options) else "redefined"
    if kind == "redefined":
        rule = "IPFIX-TPL-02" if old and old.options != template.options else "IPFIX-TPL-17"
        pen.problem(at, rule, f"template id {number} of domain {domain} was defined otherwise before")
    if kind != "refresh" and not store.put(message.source, VERSION, domain, template):
        pen.problem(at, "DEC-LIM-03", f"the decoder holds as many templates as it takes; template {number} was not kept")
        return
    message.templates.append(TemplateEvent(at, domain, kind, number, template, set_id))


def _withdraw(message: Message, store: Store, pen: Pen, at: int, number: int, set_id: int, octets: int, reliable: bool) -> None:
    domain, options = message.header.domain, set_id == OPTIONS_TEMPLATE_SET
    if not reliable:
        pen.problem(at, "IPFIX-TPL-15", f"template {number} is withdrawn over UDP")
    if number in (TEMPLATE_SET, OPTIONS_TEMPLATE_SET):
        if number != set_id or octets != 4:
            pen.problem(at, "IPFIX-TPL-22", f"withdrawal of all, id {number}, in Set {set_id} of {octets + 4} octets: not alone in a Set of its id")
        store.drop_all(message.source, VERSION, domain, options=number == OPTIONS_TEMPLATE_SET)
        message.templates.append(TemplateEvent(at, domain, "withdrawn_all", number, None, set_id))
        return
    if number < 256:
        pen.problem(at, "IPFIX-TPL-03", f"template id {number} with Field Count 0 is neither a template nor a withdrawal")
        return
    old = store.domain(message.source, VERSION, domain).get(number)
    if old is None:
        pen.problem(at, "IPFIX-TPL-21", f"template {number} is withdrawn but not defined in domain {domain}")
        message.templates.append(TemplateEvent(at, domain, "unknown_withdrawn", number, None, set_id))
        return
    if old.options != options:
        pen.problem(at, "IPFIX-TPL-20", f"template {number} is withdrawn in Set {set_id}, but was defined in the other kind")
    store.drop(message.source, VERSION, domain, number)
    message.templates.append(TemplateEvent(at, domain, "withdrawn", number, old, set_id))

# SPDX-License-Identifier: Apache-2.0
"""NetFlow v9 (RFC 3954). The datagram's length governs, not the header's count, which is only checked."""

from __future__ import annotations

import struct

from flowparity.decode.data import decode_records
from flowparity.decode.elements import VARIABLE, element
from flowparity.decode.model import Field, Header, Message, Set, Template, TemplateEvent
from flowparity.decode.state import Pen, Store
from flowparity.decode.v9_table import V9_LENGTHS, V9_NAMES, scope

HEADER = struct.Struct(">HHIIII")
VERSION = 9


def decode(payload: bytes, message: Message, store: Store) -> None:
    """Fills the message and updates the templates of its source and Source ID."""
    pen = Pen(message)
    if len(payload) < HEADER.size:
        pen.problem(len(payload), "V9-SET-02", f"{len(payload)} octets are no v9 header of {HEADER.size}")
        return
    _, count, uptime, seconds, sequence, domain = HEADER.unpack_from(payload)
    message.header = Header(count=count, sys_uptime=uptime, seconds=seconds, sequence=sequence, domain=domain)
    if len(payload) == HEADER.size:
        pen.problem(HEADER.size, "V9-HDR-11", "the datagram has no FlowSet")
    at = HEADER.size
    while at < len(payload):
        if len(payload) - at < 4:
            pen.problem(at, "V9-SET-02", f"{len(payload) - at} octets after the last FlowSet")
            break
        set_id, length = struct.unpack_from(">HH", payload, at)
        end = at + length
        if length < 4 or end > len(payload):
            pen.problem(at + 2, "V9-SET-02", f"FlowSet length {length} where {len(payload) - at} octets are left")
            break
        message.sets.append(_flowset(payload, at, end, set_id, message, store, pen))
        at = end
    _check_count(count, message, pen)


def _check_count(count: int, message: Message, pen: Pen) -> None:
    if message.undecoded or any(p.rule_id.startswith("DEC-LIM") or p.rule_id == "V9-SET-02" for p in message.problems):
        return
    records = sum(s.records for s in message.sets)
    if count != records:
        pen.problem(2, "V9-HDR-02", f"count is {count}, but the datagram has {records} records, templates included")


def _flowset(payload: bytes, at: int, end: int, set_id: int, message: Message, store: Store, pen: Pen) -> Set:
    domain = message.header.domain
    if set_id in (0, 1):
        records, pad = (_templates if set_id == 0 else _options_templates)(payload, at + 4, end, message, store, pen)
        kind = "options_template" if set_id else "template"
        if set_id and (end - at) % 4:
            pen.problem(at + 2, "V9-SET-05", f"Options Template FlowSet length {end - at} is no multiple of 4")
    elif set_id < 256:
        pen.problem(at, "V9-SET-01", f"FlowSet id {set_id} is reserved")
        return Set(at, set_id, end - at, "reserved", 0, b"")
    else:
        template = store.domain(message.source, VERSION, domain).get(set_id)
        if template is None:
            pen.problem(at, "V9-TPL-06", f"data for template {set_id} of source id {domain} before its template")
            return Set(at, set_id, end - at, "unknown_template", 0, b"")
        found, pad = decode_records(payload, at + 4, end, domain, template, pen, ipfix=False)
        message.records.extend(found)
        records, kind = len(found), "options_data" if template.options else "data"
        if end - pad > 3 or not found:
            pen.problem(pad, "V9-SET-07", f"{end - pad} octets are left after {records} records of template {set_id}")
        if template.options and (end - at) % 4:
            pen.problem(at + 2, "V9-SET-05", f"FlowSet with options data has length {end - at}, no multiple of 4")
        elif end < len(payload) and (end - at) % 4:
            pen.problem(at + 2, "V9-SET-03", f"Data FlowSet length {end - at} is no multiple of 4")
    padding = payload[pad:end]
    if any(padding):
        pen.problem(pad, "V9-SET-04", f"padding is {padding[:16].hex()}, not zero")
    return Set(at, set_id, end - at, kind, records, padding)


def _templates(payload: bytes, at: int, end: int, message: Message, store: Store, pen: Pen) -> tuple[int, int]:
    records = 0
    while end - at >= 4 and any(payload[at : at + 4]):
        template_id, count = struct.unpack_from(">HH", payload, at)
        after = at + 4 + 4 * count
        if after > end:
            pen.problem(at + 2, "V9-TPL-03", f"template {template_id} announces {count} fields, {(end - at - 4) // 4} fit its FlowSet")
            return records, end
        if count == 0:
            pen.problem(at + 2, "V9-TPL-15", f"template {template_id} has no field (a withdrawal is IPFIX)")
        fields = tuple(_field(payload, at + 4 + 4 * i, pen) for i in range(count))
        _define(message, store, pen, at, Template(template_id, fields, 0, False, payload[at:after]), 0)
        records, at = records + 1, after
    return records, at


def _options_templates(payload: bytes, at: int, end: int, message: Message, store: Store, pen: Pen) -> tuple[int, int]:
    records = 0
    while end - at >= 6 and any(payload[at : at + 6]):
        template_id, scopes, options = struct.unpack_from(">HHH", payload, at)
        after = at + 6 + scopes + options
        if scopes % 4 or options % 4:
            pen.problem(at + 2, "V9-OPT-01", f"Option Scope Length {scopes} and Option Length {options} are octets, 4 for each field")
            return records, end
        if after > end:
            pen.problem(at + 2, "V9-OPT-01", f"options template {template_id} of {after - at} octets overruns its FlowSet by {after - end}")
            return records, end
        fields = []
        for i in range((scopes + options) // 4):
            where = at + 6 + 4 * i
            if i < scopes // 4:
                kind, length = struct.unpack_from(">HH", payload, where)
                if not 1 <= kind <= 5:
                    pen.problem(where, "V9-OPT-02", f"scope type {kind} is not 1 to 5")
                fields.append(Field(scope(kind), length))
            else:
                fields.append(_field(payload, where, pen))
        _define(message, store, pen, at, Template(template_id, tuple(fields), scopes // 4, True, payload[at:after]), 1)
        records, at = records + 1, after
    return records, at


def _field(payload: bytes, at: int, pen: Pen) -> Field:
    kind, length = struct.unpack_from(">HH", payload, at)
    known = element(0, kind)
    if kind >= 0x8000:
        pen.problem(at, "V9-TPL-15", f"field type {kind} has the enterprise bit of IPFIX")
    elif length in (0, VARIABLE):
        pen.problem(at + 2, "V9-TPL-15", f"field length {length} of {V9_NAMES.get(kind, known.name)}: v9 has neither empty nor variable-length fields")
    elif kind in V9_LENGTHS and length not in V9_LENGTHS[kind]:
        rule = "V9-FLD-10" if kind in (16, 17) else "V9-FLD-01"
        pen.problem(at + 2, rule, f"{V9_NAMES.get(kind, known.name)} has length {length}, not {' or '.join(map(str, V9_LENGTHS[kind]))}")
    return Field(known, length)


def _define(message: Message, store: Store, pen: Pen, at: int, template: Template, set_id: int) -> None:
    domain = message.header.domain
    if template.template_id < 256:
        pen.problem(at, "V9-TPL-01", f"template id {template.template_id} is below 256")
        return
    if not template.fields:
        return
    old = store.domain(message.source, VERSION, domain).get(template.template_id)
    kind = "new" if old is None else "refresh" if (old.raw, old.options) == (template.raw, template.options) else "redefined"
    if kind == "redefined":
        pen.problem(at, "V9-TPL-02", f"template id {template.template_id} of source id {domain} has two definitions")
    if kind != "refresh" and not store.put(message.source, VERSION, domain, template):
        pen.problem(at, "DEC-LIM-03", f"the decoder holds as many templates as it takes; template {template.template_id} was not kept")
        return
    message.templates.append(TemplateEvent(at, domain, kind, template.template_id, template, set_id))

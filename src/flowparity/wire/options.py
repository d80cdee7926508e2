# SPDX-License-Identifier: Apache-2.0
"""Options: scopes and the statistics of Metering and Exporting Processes (RFC 7011 §4, RFC 3954 §8)."""

from __future__ import annotations

from collections.abc import Iterator

from flowparity.decode import DataRecord, Template
from flowparity.wire.content import templates
from flowparity.wire.model import Context, Hit, Item, Stream, rule

METERING = frozenset({40, 41, 42, 164, 165})
EXPORTING = frozenset({166, 167, 168})
OBSERVATION_TIMES = ("observationTimeSeconds", "observationTimeMilliseconds", "observationTimeMicroseconds", "observationTimeNanoseconds")
_TIMES = ("sec", "ms", "us", "ns")


_Sums = tuple[tuple[int, int, int], ...]


def _split(template: Template) -> tuple[set[int], set[int]]:
    """Numbers of the scope fields and of the others."""
    numbers = [f.element.number if f.element.pen == 0 else -1 for f in template.fields]
    return set(numbers[: template.scope_count]), set(numbers[template.scope_count :])


@rule("IPFIX-OPT-04", "IPFIX-OPT-06", "IPFIX-OPT-07", "IPFIX-OPT-11", "IPFIX-OPT-13")
def scopes(stream: Stream, context: Context) -> Iterator[Hit]:
    """Scopes are identifiers, and those that RFC 7011 §4 asks for."""
    for item, offset, template in templates(stream):
        if not template.options:
            continue
        for f in template.fields[: template.scope_count]:
            if f.element.semantics in ("d", "t") or f.element.type in _TIMES or f.element.number == 210:
                yield Hit("IPFIX-OPT-04", item.index, offset, f"options template {template.template_id} is scoped by {f.element.name}, no identifier")
        scope, rest = _split(template)
        where = f"options template {template.template_id}"
        if rest & METERING and 149 not in scope and item.message.header.domain == 0:
            yield Hit("IPFIX-OPT-06", item.index, offset, f"{where}: metering statistics of domain 0 without observationDomainId as scope")
        if rest & METERING and 143 in rest:
            yield Hit("IPFIX-OPT-07", item.index, offset, f"{where}: meteringProcessId is no scope of metering statistics")
        if rest & EXPORTING and not scope & {130, 131, 144}:
            yield Hit("IPFIX-OPT-11", item.index, offset, f"{where}: exporting statistics without an exporter's address or exportingProcessId as scope")
        if 173 in rest and 145 not in scope:
            yield Hit("IPFIX-OPT-13", item.index, offset, f"{where}: flowKeyIndicator without templateId as scope")


@rule("IPFIX-OPT-13", "IPFIX-OPT-14")
def flow_keys(stream: Stream, context: Context) -> Iterator[Hit]:
    """A Flow Keys record names a template that exists, and marks none but its fields."""
    for items in stream.domains.values():
        known: dict[int, Template] = {}
        for item in items:
            known.update({event.template_id: event.template for event in item.message.templates if event.template is not None})
            for record in item.message.options:
                keys, named = record.get("flowKeyIndicator"), record.get("templateId")
                if keys is None or named is None:
                    continue
                if named not in known:
                    yield Hit("IPFIX-OPT-13", item.index, record.offset, f"a Flow Keys record names template {named}, which does not exist")
                elif keys >> len(known[named].fields):
                    yield Hit(
                        "IPFIX-OPT-14",
                        item.index,
                        record.offset,
                        f"flowKeyIndicator {keys:#x} marks more than the fields of template {named}",
                    )


@rule("IPFIX-OPT-10")
def loss_interval(stream: Stream, context: Context) -> Iterator[Hit]:
    """Reliability statistics have two times of one element."""
    for item, offset, template in templates(stream):
        if template.options and _split(template)[1] & (EXPORTING | {164, 165}):
            counts = [sum(f.element.name == name for f in template.fields) for name in OBSERVATION_TIMES]
            if any(counts) and sorted(counts) != [0, 0, 0, 2]:
                yield Hit(
                    "IPFIX-OPT-10",
                    item.index,
                    offset,
                    f"options template {template.template_id} has {counts} times of 322 to 325, not two of one",
                )


def _totals(stream: Stream) -> Iterator[tuple[Item, DataRecord, _Sums, _Sums]]:
    """Options records; with (messages, flow records, octets) sent before, by domain and by source, without and with the record's own message."""
    sums: dict[object, tuple[int, int, int]] = {}
    for item in stream.items:
        own = (1, len(item.message.flows), len(item.datagram.payload))
        keys = (item.datagram.source, item.message.header.domain), item.datagram.source
        before = tuple(sums.get(key, (0, 0, 0)) for key in keys)
        after = tuple((a + own[0], b + own[1], c + own[2]) for a, b, c in before)
        for key, value in zip(keys, after, strict=True):
            sums[key] = value
        for record in item.message.options:
            yield item, record, before, after


_TOTALS = (("exportedMessageTotalCount", 0), ("exportedFlowRecordTotalCount", 1), ("exportedOctetTotalCount", 2))
_TOTAL_IDS = {"exportedMessageTotalCount": "IPFIX-OPT-15", "exportedOctetTotalCount": "IPFIX-OPT-16", "exportedFlowRecordTotalCount": "IPFIX-OPT-17"}


@rule("V9-OPT-06", "IPFIX-OPT-15", "IPFIX-OPT-16", "IPFIX-OPT-17", formats=("9", "ipfix"), needs=["complete"])
def totals(stream: Stream, context: Context) -> Iterator[Hit]:
    """Totals are those of the stream, by domain or by source; of v9 the text leaves open whether the own datagram counts."""
    if any(item.message.undecoded for item in stream.items):
        return
    for item, record, before, after in _totals(stream):
        for name, place in _TOTALS:
            value = record.get(name)
            allowed = {sums[place] for sums in before} | ({sums[place] for sums in after} if stream.version == 9 else set())
            if value is not None and value not in allowed:
                rule_id = "V9-OPT-06" if stream.version == 9 else _TOTAL_IDS[name]
                yield Hit(rule_id, item.index, record.offset, f"{name} is {value}; the stream has {' or '.join(map(str, sorted(allowed)))}")


@rule("IPFIX-OPT-18")
def totals_grow(stream: Stream, context: Context) -> Iterator[Hit]:
    """Totals never fall, but for a wrap of 64 bits or a restart of the sequence."""
    for items in stream.domains.values():
        last: dict[tuple[object, ...], int] = {}
        for item in items:
            if item.message.header.sequence == 0:
                last = {}
            for record in item.message.options:
                for element, value in record.values[record.scope_count :]:
                    if element.semantics != "t" or not isinstance(value, int):
                        continue
                    key = (record.template_id, record.scope, element.name)
                    if value < last.get(key, 0):
                        yield Hit("IPFIX-OPT-18", item.index, record.offset, f"{element.name} fell from {last[key]} to {value}")
                    last[key] = value

# SPDX-License-Identifier: Apache-2.0
"""Sequence numbers: v5 counts flows, v9 datagrams, IPFIX data records, each by domain (S-EXP-1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from flowparity.decode import Message
from flowparity.wire.model import UINT32, Context, Hit, Item, Stream, rule

Advance = Callable[[Message], int | None]
"""By how much a message moves the sequence; None when it cannot be told (data without template)."""


def _breaks(items: list[Item], advance: Advance) -> Iterator[tuple[Item, int]]:
    """Items whose sequence is not what the one before makes it, with the expected number."""
    expected: int | None = None
    for item in items:
        sequence = item.message.header.sequence or 0
        if expected is not None and sequence != expected:
            yield item, expected
        step = advance(item.message)
        expected = None if step is None else (sequence + step) % UINT32


def _continuous(items: list[Item], advance: Advance) -> bool:
    return next(_breaks(items, advance), None) is None


def _hits(rule_id: str, breaks: Iterator[tuple[Item, int]], offset: int, unit: str) -> Iterator[Hit]:
    for item, expected in breaks:
        got = item.message.header.sequence or 0
        gap = (got - expected + UINT32 // 2) % UINT32 - UINT32 // 2
        yield Hit(rule_id, item.index, offset, f"sequence is {got}, not {expected}: {gap:+d} {unit} in domain {item.message.header.domain}")


def _shared(stream: Stream, source: object, advance: Advance) -> bool:
    """Whether one counter runs through all domains of a source, which has several."""
    own = [key for key in stream.domains if key[0] == source]
    return len(own) > 1 and _continuous(stream.sources[source], advance)


def _flows(message: Message) -> int | None:
    return message.header.count


@rule("V5-HDR-08", "V5-HDR-10")
def v5_sequence(stream: Stream, context: Context) -> Iterator[Hit]:
    """flow_sequence grows by the count, for each engine."""
    for (source, _), items in stream.domains.items():
        breaks = _breaks(items, _flows)
        yield from _hits("V5-HDR-10" if _shared(stream, source, _flows) else "V5-HDR-08", breaks, 16, "flows")


@rule("V5-HDR-09", needs=["complete"])
def v5_start(stream: Stream, context: Context) -> Iterator[Hit]:
    """flow_sequence starts at 0."""
    for (source, _), items in stream.domains.items():
        if items[0].message.header.sequence and not _shared(stream, source, _flows):
            yield Hit("V5-HDR-09", items[0].index, 16, f"the first flow_sequence is {items[0].message.header.sequence}, not 0")


def _one(_: Message) -> int:
    return 1


def _one_if_data(message: Message) -> int:
    return int(bool(message.records) or message.undecoded)


@rule("V9-HDR-05", "V9-HDR-06", "V9-HDR-07")
def v9_sequence(stream: Stream, context: Context) -> Iterator[Hit]:
    """The sequence grows by one for each datagram, template-only ones included, for each Source ID."""
    for (source, _), items in stream.domains.items():
        found = "V9-HDR-05"
        if _shared(stream, source, _one):
            found = "V9-HDR-07"
        elif any(not _one_if_data(item.message) for item in items) and _continuous(items, _one_if_data):
            found = "V9-HDR-06"
        yield from _hits(found, _breaks(items, _one), 12, "datagrams")


def _data(message: Message) -> int | None:
    return None if message.undecoded else len(message.records)


def _without_options(message: Message) -> int | None:
    return None if message.undecoded else len(message.flows)


def _with_templates(message: Message) -> int | None:
    return None if message.undecoded else len(message.records) + len(message.templates)


def _biflows_twice(message: Message) -> int | None:
    if message.undecoded:
        return None
    return len(message.records) + sum(any(element.reverse for element, _ in record.values) for record in message.flows)


@rule("IPFIX-HDR-04", "IPFIX-HDR-05", "IPFIX-HDR-06", "IPFIX-HDR-07", "IPFIX-BIF-11")
def ipfix_sequence(stream: Stream, context: Context) -> Iterator[Hit]:
    """The sequence is the number of Data Records sent before, for each domain. A break that a known mistake explains is named after it."""
    mistakes = (("IPFIX-HDR-05", _without_options), ("IPFIX-HDR-06", _with_templates), ("IPFIX-BIF-11", _biflows_twice))
    for (source, _), items in stream.domains.items():
        found = "IPFIX-HDR-04"
        if not _continuous(items, _data):
            found = "IPFIX-HDR-07" if _shared(stream, source, _data) else next((name for name, advance in mistakes if _continuous(items, advance)), found)
            yield from _hits(found, _breaks(items, _data), 8, "data records")
        first = items[0].message.header.sequence
        if context.complete and first and found != "IPFIX-HDR-07":
            yield Hit("IPFIX-HDR-04", items[0].index, 8, f"the first sequence of domain {items[0].message.header.domain} is {first}, not 0")

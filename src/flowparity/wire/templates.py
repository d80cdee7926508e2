# SPDX-License-Identifier: Apache-2.0
"""The life of templates: before their data, refreshed, the same each time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from flowparity.decode import Template, TemplateEvent
from flowparity.wire.model import Context, Hit, Item, Stream, rule

_DEFINES = ("new", "refresh", "redefined")


@dataclass(slots=True)
class _Domain:
    """What has been seen of one domain's templates so far."""

    defined: dict[int, int] = field(default_factory=dict)  # template id -> Export Time of its first definition
    withdrawn: dict[int, int] = field(default_factory=dict)  # template id -> Export Time of the withdrawal


def _defines(item: Item) -> list[TemplateEvent]:
    return [event for event in item.message.templates if event.kind in _DEFINES]


@rule("V9-TPL-06", "V9-TX-03")
def v9_before_data(stream: Stream, context: Context) -> Iterator[Hit]:
    """No data before their template; V9-TX-03 when the domain had sent other templates before, so that the template of a new kind of flow came late."""
    known: dict[tuple[object, int], set[int]] = {}
    for item in stream.items:
        live = known.setdefault((item.datagram.source, item.message.header.domain), set())
        had = set(live)
        live.update(event.template_id for event in _defines(item))
        for s in item.message.sets:
            if s.kind == "unknown_template":
                yield Hit("V9-TX-03" if had else "V9-TPL-06", item.index, s.offset, f"data of template {s.set_id} before its template")


@rule("IPFIX-TPL-07", "IPFIX-TPL-09", "IPFIX-TPL-23", "IPFIX-TPL-28", "IPFIX-FILE-02")
def ipfix_before_data(stream: Stream, context: Context) -> Iterator[Hit]:
    """No data without a live template of their own domain; the id says how it went wrong."""
    known: dict[tuple[object, int], _Domain] = {}
    for item in stream.items:
        source, domain = item.datagram.source, item.message.header.domain
        state = known.setdefault((source, domain), _Domain())
        seconds = item.message.header.seconds or 0
        for s in item.message.sets:
            if s.kind != "unknown_template":
                continue
            if any(event.template_id == s.set_id and event.offset > s.offset for event in _defines(item)):
                yield Hit("IPFIX-TPL-07", item.index, s.offset, f"data of template {s.set_id} stand before it in the same message")
            elif s.set_id in state.withdrawn:
                if seconds > state.withdrawn[s.set_id]:
                    yield Hit("IPFIX-TPL-23", item.index, s.offset, f"data of template {s.set_id}, which was withdrawn in second {state.withdrawn[s.set_id]}")
            elif any(s.set_id in other.defined for (of, number), other in known.items() if of == source and number != domain):
                yield Hit("IPFIX-TPL-28", item.index, s.offset, f"domain {domain} uses template {s.set_id}, which only another domain has defined")
            else:
                name = "IPFIX-FILE-02" if context.transport == "file" else "IPFIX-TPL-09"
                yield Hit(name, item.index, s.offset, f"data of template {s.set_id} of domain {domain} without its template")
        for event in item.message.templates:
            if event.kind in _DEFINES:
                state.defined.setdefault(event.template_id, seconds)
                state.withdrawn.pop(event.template_id, None)
            elif event.kind == "withdrawn":
                state.withdrawn[event.template_id] = seconds
                state.defined.pop(event.template_id, None)


@rule("IPFIX-TPL-08")
def data_not_older(stream: Stream, context: Context) -> Iterator[Hit]:
    """No data with an Export Time before that of the message which defined their template."""
    for items in stream.domains.values():
        defined: dict[int, int] = {}
        for item in items:
            seconds = item.message.header.seconds or 0
            for event in _defines(item):
                if event.kind != "refresh":
                    defined[event.template_id] = seconds
            for s in item.message.sets:
                if s.kind in ("data", "options_data") and seconds < defined.get(s.set_id, 0):
                    yield Hit("IPFIX-TPL-08", item.index, 4, f"data of template {s.set_id} of second {seconds}; it was defined in second {defined[s.set_id]}")


@rule("IPFIX-TPL-10")
def copies_before_use(stream: Stream, context: Context) -> Iterator[Hit]:
    """Over UDP a new template is sent more than once, in a message of its own, before its first data."""
    if context.reliable:
        return
    for items in stream.domains.values():
        copies: dict[int, int] = {}
        used: set[int] = set()
        for item in items:
            alone = not item.message.records and not item.message.undecoded
            for s in item.message.sets:
                if s.kind in ("data", "options_data") and s.set_id not in used:
                    used.add(s.set_id)
                    if copies.get(s.set_id, 0) < 2:
                        yield Hit(
                            "IPFIX-TPL-10",
                            item.index,
                            s.offset,
                            f"first data of template {s.set_id} after {copies.get(s.set_id, 0)} copies in messages of their own",
                        )
            for event in _defines(item) if alone else ():
                copies[event.template_id] = copies.get(event.template_id, 0) + 1


def _ages(items: list[Item]) -> Iterator[tuple[Item, int, int, int]]:
    """Per data Set: the template, and by how many datagrams and seconds its last copy is older."""
    last: dict[int, tuple[int, int]] = {}
    for ordinal, item in enumerate(items):
        seconds = item.message.header.seconds or 0
        for event in _defines(item):
            last[event.template_id] = (ordinal, seconds)
        for template_id, (where, when) in last.items():
            yield item, template_id, ordinal - where, seconds - when


@rule("V9-TPL-07", needs=["template_packets"])
def v9_refresh_packets(stream: Stream, context: Context) -> Iterator[Hit]:
    """All templates reappear at least once in every N datagrams of their domain."""
    for items in stream.domains.values():
        for item, template_id, datagrams, _ in _ages(items):
            if datagrams == (context.template_packets or 0) + 1:
                yield Hit("V9-TPL-07", item.index, 0, f"template {template_id} was not repeated within {context.template_packets} datagrams")


@rule("V9-TPL-08", "IPFIX-TPL-11", formats=("9", "ipfix"), needs=["template_seconds"])
def refresh_seconds(stream: Stream, context: Context) -> Iterator[Hit]:
    """No datagram leaves while a template is older than the refresh time (and the second that headers round off)."""
    if context.reliable:
        return
    name = "V9-TPL-08" if stream.version == 9 else "IPFIX-TPL-11"
    for items in stream.domains.values():
        told: set[int] = set()
        for item, template_id, _, seconds in _ages(items):
            if seconds <= (context.template_seconds or 0) + 1:
                told.discard(template_id)
            elif template_id not in told:
                told.add(template_id)
                yield Hit(name, item.index, 0, f"the last copy of template {template_id} is {seconds} s old; the refresh time is {context.template_seconds} s")


@rule("V9-TPL-10")
def refresh_is_complete(stream: Stream, context: Context) -> Iterator[Hit]:
    """A refresh repeats every template that the domain has, options templates included."""
    for items in stream.domains.values():
        defined: dict[int, tuple[int, Template]] = {}
        copies: dict[int, list[int]] = {}
        for item in items:
            for event in _defines(item):
                if event.template is not None:
                    defined.setdefault(event.template_id, (item.index, event.template))
                copies.setdefault(event.template_id, []).append(item.index)
        for template_id, (since, template) in defined.items():
            most = max((sum(1 for index in indices if index > since) for other, indices in copies.items() if other != template_id), default=0)
            own = len(copies[template_id]) - 1
            if most >= 2 and own < most - 1:
                kind = "options template" if template.options else "template"
                yield Hit("V9-TPL-10", since, 0, f"{kind} {template_id} was repeated {own} times, others {most} times since")


@rule("V9-TPL-02", "V9-TPL-04", "IPFIX-TPL-02", "IPFIX-TPL-17", "IPFIX-TPL-19", "IPFIX-OPT-03", formats=("9", "ipfix"))
def one_definition(stream: Stream, context: Context) -> Iterator[Hit]:
    """An id keeps its definition. Two within one datagram clash; a later one is a refresh that differs, over TCP one without withdrawal."""
    for items in stream.domains.values():
        old: dict[int, tuple[int, Template]] = {}
        for item in items:
            for event in item.message.templates:
                if event.kind == "withdrawn":
                    old.pop(event.template_id, None)
                elif event.kind == "withdrawn_all":
                    old = {number: kept for number, kept in old.items() if kept[1].options != (event.template_id == 3)}
                if event.template is None or event.kind not in _DEFINES:
                    continue
                before = old.get(event.template_id)
                if before is not None and event.kind == "redefined":
                    name = _clash(stream, context, item.index == before[0], before[1], event.template)
                    yield Hit(name, item.index, event.offset, f"template id {event.template_id} had another definition in datagram {before[0]}")
                old[event.template_id] = (item.index, event.template)


def _clash(stream: Stream, context: Context, same_datagram: bool, before: Template, now: Template) -> str:
    if stream.version == 9:
        return "V9-TPL-02" if same_datagram or before.options != now.options else "V9-TPL-04"
    if same_datagram or before.options != now.options:
        return "IPFIX-TPL-02"
    scopes = before.fields[: before.scope_count], now.fields[: now.scope_count]
    if before.options and scopes[0] != scopes[1] and sorted(map(repr, scopes[0])) == sorted(map(repr, scopes[1])):
        return "IPFIX-OPT-03"
    return "IPFIX-TPL-19" if context.reliable else "IPFIX-TPL-17"


@rule("IPFIX-FILE-03")
def ascending(stream: Stream, context: Context) -> Iterator[Hit]:
    """Messages of a file are in the order of their Export Time."""
    if context.transport != "file":
        return
    for before, item in pairwise(stream.items):
        if (item.message.header.seconds or 0) < (before.message.header.seconds or 0):
            yield Hit("IPFIX-FILE-03", item.index, 4, f"Export Time {item.message.header.seconds} after {before.message.header.seconds}")


@rule("IPFIX-FILE-04")
def needless_withdrawal(stream: Stream, context: Context) -> Iterator[Hit]:
    """A file withdraws a template only if its id is used again."""
    if context.transport != "file":
        return
    for items in stream.domains.values():
        events = [(item, event) for item in items for event in item.message.templates]
        for position, (item, event) in enumerate(events):
            again = any(later.template_id == event.template_id and later.kind in _DEFINES for _, later in events[position + 1 :])
            if event.kind == "withdrawn" and not again:
                yield Hit("IPFIX-FILE-04", item.index, event.offset, f"template {event.template_id} is withdrawn and its id not used again")

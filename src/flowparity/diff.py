# SPDX-License-Identifier: Apache-2.0
"""The comparison of what an exporter said with what the reference says: levels `conserved`, `merged`, `records` and `cross` (docs/semantics.md)."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowparity.decode.records import DecodedFlow
from flowparity.flow import FlowRecord
from flowparity.matching import pair
from flowparity.text import ends_text, time_text
from flowparity.view import KEY, MILLISECOND, TIMES, Values, View, merge

Traced = tuple[FlowRecord, tuple[int, ...]]
"""A reference record and the indices of its frames."""

_STRANGERS = 40_000  # pairs of records of different keys that are worth weighing
_AKIN = 3  # differing fields up to which two records of different keys are taken for one


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which an exporter's records are not the reference's.

    `kind` is "field" (of a record that both have), "missing" (only the reference has it), "extra" (only the exporter has it) or "total".
    """

    format: str
    level: str
    kind: str
    key: str
    field: str
    expected: Any
    actual: Any
    frames: tuple[int, ...] = ()  # that the reference counted into the record
    record: FlowRecord | None = None  # the reference's
    other_fields: Mapping[str, tuple[Any, Any]] | None = None  # every differing field of the same pair: (expected, actual)

    def __str__(self) -> str:
        """One line."""
        if self.kind == "missing":
            return f"{self.key}: no such record, expected {self.expected}"
        if self.kind == "extra":
            return f"{self.key}: a record that the reference does not have: {self.actual}"
        return f"{self.key}: {self.field} is {show(self.field, self.actual)}, expected {show(self.field, self.expected)}"


def show(name: str, value: Any) -> str:
    """A value for people: addresses as text, flags and ToS in hexadecimal."""
    if value is None:
        return "absent"
    if isinstance(value, bytes):
        return str(ipaddress.ip_address(value)) if len(value) in (4, 16) else value.hex()
    if name in ("tcp_flags", "tos") and isinstance(value, int):
        return f"{value:#04x}"
    if name in TIMES and isinstance(value, int):
        return time_text(value)
    return str(value)


def key_text(values: Values) -> str:
    """The 5-tuple of a record as text."""
    source, destination, source_port, destination_port, protocol = values[: len(KEY)]
    return f"{' > '.join(ends_text(source, destination, source_port, destination_port, protocol))} protocol {show('', protocol)}"


def describe(values: Values, fields: Sequence[str]) -> str:
    """A whole record in one line, without its key."""
    return " ".join(f"{name}={show(name, value)}" for name, value in zip(fields, values, strict=True) if name not in KEY)


def compare_records(expected: Sequence[Traced], flows: Sequence[DecodedFlow], view: View) -> list[Difference]:
    """Level `records`: the multisets of records, field by field, paired optimally inside each key (S-CMP-3)."""
    wanted = [(view.expected(record), record, frames) for record, frames in expected if view.carries(record)]
    return _match(wanted, [view.actual(flow) for flow in flows], view, "records")


def compare_merged(expected: Sequence[Traced], flows: Sequence[DecodedFlow], view: View) -> list[Difference]:
    """Level `merged`: per key sums, extremes and flags."""
    return _by_key(expected, flows, view, "merged", ("packets", "octets", *TIMES, "tcp_flags"))


def compare_conserved(expected: Sequence[Traced], flows: Sequence[DecodedFlow], view: View, *, per_key: bool) -> list[Difference]:
    """Level `conserved`: total packets and octets, and per key unless something was shed."""
    carried = [(record, frames) for record, frames in expected if view.carries(record)]
    out = []
    for name in ("packets", "octets"):
        if name in view.fields:
            want, got = sum(getattr(record, name) for record, _ in carried), sum(getattr(flow, name) or 0 for flow in flows)
            if want != got:
                out.append(Difference(view.format, "conserved", "total", "all records", name, want, got))
    return out + (_by_key(expected, flows, view, "conserved", ("packets", "octets")) if per_key else [])


def _by_key(expected: Sequence[Traced], flows: Sequence[DecodedFlow], view: View, level: str, fields: tuple[str, ...]) -> list[Difference]:
    view = replace(view, fields=tuple(name for name in view.fields if name in KEY or name in fields))
    wanted = merge((view.expected(record) for record, _ in expected if view.carries(record)), view.fields)
    frames: defaultdict[Values, list[int]] = defaultdict(list)
    records: dict[Values, FlowRecord] = {}
    for record, indices in expected:
        key = view.expected(record)[: len(KEY)]
        frames[key] += indices
        records.setdefault(key, record)
    got = merge((view.actual(flow) for flow in flows), view.fields)
    traced = [(values, records[key], tuple(sorted(frames[key]))) for key, values in wanted.items()]
    return _match(traced, list(got.values()), view, level)


def compare_cross(a: Sequence[DecodedFlow], b: Sequence[DecodedFlow], view_a: View, view_b: View) -> list[Difference]:
    """Level `cross`: two formats of one input, less what either cannot carry. `a` is the richer one and stands as expected."""
    fields = tuple(name for name in view_a.fields if name in view_b.fields)
    both = replace(
        view_b,
        fields=fields,
        resolution=max(view_a.resolution, view_b.resolution),
        wraps=view_a.wraps or view_b.wraps,
        tolerance=None if view_a.tolerance is None or view_b.tolerance is None else view_a.tolerance + view_b.tolerance,
    )
    drop_ipv6 = "5" in (view_a.format, view_b.format)
    sides = []
    for flows in (a, b):
        sides.append([_narrow(flow, both, view_a, view_b) for flow in flows if not (drop_ipv6 and flow.ip_version == 6)])
    wanted: list[tuple[Values, FlowRecord | None, tuple[int, ...]]] = [(values, None, ()) for values in sides[0]]
    return _match(wanted, sides[1], both, "cross")


def _narrow(flow: DecodedFlow, both: View, *views: View) -> Values:
    out = list(both.actual(flow))
    for place, name in enumerate(both.fields):
        value = out[place]
        if value is None:
            continue
        if name in TIMES:
            out[place] = value // both.resolution * both.resolution
        elif name == "tcp_flags" and any(view.format != "ipfix" for view in views):
            out[place] = value & 0xFF
        elif name == "input_interface" and any(view.format == "5" for view in views):
            out[place] = value & 0xFFFF
    return tuple(out)


def _match(wanted: Iterable[tuple[Values, FlowRecord | None, tuple[int, ...]]], got: Iterable[Values], view: View, level: str) -> list[Difference]:
    """Pairs inside each key; what is left of different keys is paired when it differs in few fields, so that a wrong port is a wrong port."""
    buckets: defaultdict[Values, tuple[list[tuple[Values, FlowRecord | None, tuple[int, ...]]], list[Values]]] = defaultdict(lambda: ([], []))
    for each in wanted:
        buckets[each[0][: len(KEY)]][0].append(each)
    for values in got:
        buckets[values[: len(KEY)]][1].append(values)
    out: list[Difference] = []
    missing: list[tuple[Values, FlowRecord | None, tuple[int, ...]]] = []
    extra: list[Values] = []
    for expected, actual in buckets.values():
        pairs, left, right = pair([each[0] for each in expected], actual, view.cost, metric=view.metric)
        for i, j in pairs:
            out += _fields(expected[i], actual[j], view, level)
        missing += [expected[i] for i in left]
        extra += [actual[j] for j in right]
    if missing and extra and len(missing) * len(extra) <= _STRANGERS:
        pairs, left, right = pair([each[0] for each in missing], extra, view.cost, metric=view.metric)
        akin = [(i, j) for i, j in pairs if view.cost(missing[i][0], extra[j]) <= _AKIN]
        for i, j in akin:
            out += _fields(missing[i], extra[j], view, level)
        missing = [each for i, each in enumerate(missing) if i not in {i for i, _ in akin}]
        extra = [each for j, each in enumerate(extra) if j not in {j for _, j in akin}]
    for values, record, frames in missing:
        out.append(Difference(view.format, level, "missing", key_text(values), "record", describe(values, view.fields), None, frames, record))
    out += [Difference(view.format, level, "extra", key_text(values), "record", None, describe(values, view.fields)) for values in extra]
    return out


def _fields(wanted: tuple[Values, FlowRecord | None, tuple[int, ...]], got: Values, view: View, level: str) -> list[Difference]:
    values, record, frames = wanted
    names = view.differing(values, got)
    if not names:
        return []
    place = {name: i for i, name in enumerate(view.fields)}
    others = {name: (values[place[name]], got[place[name]]) for name in names}
    return [Difference(view.format, level, "field", key_text(values), name, *others[name], frames, record, others) for name in names]


def resolution_text(view: View) -> str:
    """How times were compared."""
    if view.tolerance is None:
        return "times not compared"
    unit = "ms" if view.resolution == MILLISECOND else f"{view.resolution} ns"
    return f"times in {unit}" + (f" within {view.tolerance / 1e9:g} s" if view.tolerance else "")

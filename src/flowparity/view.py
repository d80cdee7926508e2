# SPDX-License-Identifier: Apache-2.0
"""What a format can carry of a Flow Record and what a subject reports: the projection under which records are compared (S-CMP levels, S-EXP-5, S-EXP-6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from flowparity.decode.records import DecodedFlow
from flowparity.flow import FlowRecord

Values: TypeAlias = tuple[Any, ...]
"""One record as a tuple in the order of `View.fields`; None = absent."""

MILLISECOND = 1_000_000
UPTIME_SPAN = 2**32 * MILLISECOND
KEY = ("source_address", "destination_address", "source_port", "destination_port", "protocol")
FIELDS = (
    *KEY,
    "tos",
    "input_interface",
    "packets",
    "octets",
    "first_ns",
    "last_ns",
    "tcp_flags",
    "end_reason",
    "ttl",
    "vlan",
    "inner_vlan",
    "flow_label",
    "worker",
)
"""Every comparable field, named as in FlowRecord. The first five are present in every format and group the records for matching."""

TIMES = ("first_ns", "last_ns")
_NOT_IN_V5 = frozenset({"end_reason", "ttl", "vlan", "inner_vlan", "flow_label"})
_WITH_PORTS = frozenset({6, 17, 33, 132, 136})  # S-PRT-3
CARRIED = {"5": tuple(name for name in FIELDS if name not in _NOT_IN_V5), "9": FIELDS, "ipfix": FIELDS}
"""What the project's own exporters say in each format."""


@dataclass(frozen=True, slots=True)
class View:
    """How records are seen through a format and a subject. Times are nanoseconds."""

    format: str  # "5", "9", "ipfix"
    fields: tuple[str, ...] = ()
    resolution: int = MILLISECOND  # of times on the wire; expected times are floored to it (S-EXP-5)
    tolerance: int | None = 0  # None: times are not compared
    wraps: bool = False  # times are known modulo 2^32 ms (v5, v9)

    @property
    def metric(self) -> bool:
        """Whether the number of differing fields is a distance: not with a tolerance, under which equality is not transitive."""
        return not self.tolerance

    def expected(self, record: FlowRecord) -> Values:
        """A reference record as the format carries it."""
        return tuple(self._carried(name, getattr(record, name), record.ip_version) for name in self.fields)

    def actual(self, flow: DecodedFlow) -> Values:
        """A decoded flow in the same shape; None where it says nothing of what it should. Of what its protocol does not have, nothing said is 0."""
        return tuple(0 if getattr(flow, name) is None and _has_none(flow, name) else getattr(flow, name) for name in self.fields)

    def carries(self, record: FlowRecord) -> bool:
        """Whether the format can carry the record at all (S-INV-3)."""
        return self.format != "5" or record.ip_version == 4

    def _carried(self, name: str, value: Any, version: int) -> Any:
        if name in TIMES:
            return value // self.resolution * self.resolution
        if name == "tcp_flags" and self.format != "ipfix":
            return value & 0xFF  # S-PRT-5
        if name == "input_interface" and self.format == "5":
            return value & 0xFFFF  # S-EXP-6
        return int(value) if name == "end_reason" else value

    def same(self, name: str, expected: Any, actual: Any) -> bool:
        """Whether two values of a field count as equal."""
        if name not in TIMES or expected is None or actual is None:
            return bool(expected == actual)
        distance = abs(expected - actual)
        if self.wraps:
            distance %= UPTIME_SPAN
            distance = min(distance, UPTIME_SPAN - distance)
        return self.tolerance is not None and bool(distance <= self.tolerance)

    def differing(self, expected: Values, actual: Values) -> list[str]:
        """The fields in which two records differ."""
        return [
            name for name, want, got in zip(self.fields, expected, actual, strict=True) if want is not got and want != got and not self.same(name, want, got)
        ]

    def cost(self, expected: Values, actual: Values) -> int:
        """The number of differing fields."""
        if expected == actual:
            return 0
        return len(self.differing(expected, actual))


def view(name: str, flows: Iterable[DecodedFlow], fields: frozenset[str] | None = None, tolerance: int | None = 0) -> View:
    """The view of a stream: the format's fields less what the subject does not report, and times in the resolution that its templates announce.

    No exporter is excused for times coarser than a millisecond by announcing them (S-EXP-6): that is what `tolerance` is for.
    """
    kept = tuple(each for each in CARRIED[name] if fields is None or each in fields or each in KEY)
    if tolerance is None:
        kept = tuple(each for each in kept if each not in TIMES)
    resolution = MILLISECOND
    if name == "ipfix":
        resolution = min(MILLISECOND, max((flow.time_resolution or MILLISECOND for flow in flows), default=MILLISECOND))
    return View(name, kept, resolution, tolerance, wraps=name in ("5", "9"))


def _has_none(flow: DecodedFlow, name: str) -> bool:
    """Whether a flow has no such property, so that an exporter may leave it out (RFC 7011 §8: a template says what its records have)."""
    if name == "flow_label":
        return flow.ip_version == 4
    if name == "tcp_flags":
        return flow.protocol != 6
    return name in ("source_port", "destination_port") and flow.protocol not in _WITH_PORTS


def merge(values: Iterable[Values], fields: tuple[str, ...]) -> dict[Values, Values]:
    """Level `merged`: per key the sums of packets and octets, the extremes of times and the OR of flags; other fields are dropped to None."""
    combine = {"packets": _add, "octets": _add, "first_ns": _least, "last_ns": _most, "tcp_flags": _either}
    merged: dict[Values, Values] = {}
    for each in values:
        key = each[: len(KEY)]
        old = merged.get(key)
        shown = tuple(value if name in KEY or name in combine else None for name, value in zip(fields, each, strict=True))
        if old is None:
            merged[key] = shown
        else:
            merged[key] = tuple(combine[name](a, b) if name in combine else a for name, a, b in zip(fields, old, shown, strict=True))
    return merged


def _add(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def _least(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else min(a, b)


def _most(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else max(a, b)


def _either(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a | b

# SPDX-License-Identifier: Apache-2.0
"""What the decoder gives: messages, templates, records and problems as values. Offsets count octets from the first of the datagram."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from flowparity.decode.elements import VARIABLE, Element

Value: TypeAlias = int | float | bool | str | bytes
"""Unsigned, signed and float types as numbers; booleans as bool (another octet: int); strings as str; addresses, MACs, octetArrays and
structured data as bytes; times as ns since the UNIX epoch."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One irregularity of a datagram."""

    offset: int
    rule_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Field:
    """A Field Specifier. `length` is that of the template, VARIABLE for variable length."""

    element: Element
    length: int


@dataclass(frozen=True, slots=True)
class Template:
    """A Template (scope_count 0 and not options) or Options Template. `raw` is the record as sent, for comparison octet by octet."""

    template_id: int
    fields: tuple[Field, ...]
    scope_count: int
    options: bool
    raw: bytes
    minimum: int = field(init=False, compare=False)
    """The least octets that a record takes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "minimum", sum(1 if f.length == VARIABLE else f.length for f in self.fields))


@dataclass(frozen=True, slots=True)
class TemplateEvent:
    """A Template Record in a message. `kind`: new, refresh, redefined, withdrawn, withdrawn_all, unknown_withdrawn."""

    offset: int
    domain: int
    kind: str
    template_id: int
    template: Template | None
    set_id: int


@dataclass(frozen=True, slots=True)
class Set:
    """A Set or FlowSet. `kind`: template, options_template, data, options_data, unknown_template, reserved."""

    offset: int
    set_id: int
    length: int
    kind: str
    records: int
    padding: bytes


@dataclass(frozen=True, slots=True)
class DataRecord:
    """A Data Record. `values` keeps order and repeats; the first `scope_count` are scope fields."""

    domain: int
    template_id: int  # 0 for v5
    offset: int
    length: int
    values: tuple[tuple[Element, Value], ...]
    scope_count: int = 0
    options: bool = False

    @property
    def scope(self) -> tuple[tuple[Element, Value], ...]:
        """The scope fields with their values."""
        return self.values[: self.scope_count]

    def get(self, name: str) -> Any:
        """The first value of the element with this name; None when absent (absent is not zero)."""
        for element, value in self.values:
            if element.name == name:
                return value
        return None

    def all(self, name: str) -> list[Value]:
        """Every value of the element with this name, in order."""
        return [value for element, value in self.values if element.name == name]


@dataclass(frozen=True, slots=True)
class Header:
    """The header's fields; None where the version has no such field or the datagram ends before it."""

    count: int | None = None  # v5, v9
    length: int | None = None  # IPFIX
    sys_uptime: int | None = None  # milliseconds
    seconds: int | None = None
    nanoseconds: int | None = None  # v5
    sequence: int | None = None
    domain: int = 0  # v5: engine_type * 256 + engine_id
    sampling_mode: int | None = None  # v5
    sampling_interval: int | None = None  # v5


@dataclass(slots=True)
class Message:
    """One datagram, decoded as far as it goes. `version` is None when not even that can be read."""

    version: int | None
    source: Hashable
    arrival_ns: int | None
    size: int
    header: Header = field(default_factory=Header)
    sets: list[Set] = field(default_factory=list)
    templates: list[TemplateEvent] = field(default_factory=list)
    records: list[DataRecord] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    truncated_problems: int = 0  # problems beyond the limit, counted only

    @property
    def flows(self) -> list[DataRecord]:
        """The Data Records that are not described by an Options Template."""
        return [r for r in self.records if not r.options]

    @property
    def options(self) -> list[DataRecord]:
        """The options data records."""
        return [r for r in self.records if r.options]

    @property
    def undecoded(self) -> bool:
        """Whether it has data that could not be decoded for want of a template."""
        return any(s.kind == "unknown_template" for s in self.sets)

# SPDX-License-Identifier: Apache-2.0
"""What NetFlow v9 and IPFIX have in common: records described by templates, packed in sets padded to 4 octets, under an MTU (S-EXP-4, S-EXP-7)."""

from __future__ import annotations

import itertools
import struct
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Generic

from flowparity.encode import Domain, Encoder, Message
from flowparity.errors import UsageError
from flowparity.fields import VARIABLE, Exported, Field, FlowTemplates, NamedInterface, Statistics, T
from flowparity.flow import FlowRecord
from flowparity.profile import SECOND

_SET_HEADER = 4


class Template(Generic[T]):
    """A template id with its fields, the first `scopes` of which are scope (0: a flow template)."""

    def __init__(self, number: int, fields: tuple[Field[T], ...], scopes: int = 0) -> None:
        self.number = number
        self.fields = fields
        self.scopes = scopes
        fixed = [each for each in fields if each.code]
        self._pack = struct.Struct("!" + "".join(each.code for each in fixed)).pack
        self._values = [each.value for each in fixed]
        self._strings = [each.value for each in fields if not each.code]  # always last
        self.size = sum(each.size for each in fixed) + 3 * len(self._strings)  # of a record with empty strings, at most

    def record(self, source: T) -> bytes:
        """One data record."""
        data = self._pack(*[value(source) for value in self._values])
        for value in self._strings:
            data += _variable(str(value(source)))
        return data


class TemplatedEncoder(Encoder):
    """The messages of one observation domain. A subclass says how headers and templates look, and how the sequence grows."""

    header_size: ClassVar[int]
    template_set: ClassVar[int]
    options_set: ClassVar[int]
    template_repeats: ClassVar[int] = 1  # how often new templates go before the first data, over an unreliable transport

    def __init__(self, domain: Domain, flows: FlowTemplates) -> None:
        self.domain = domain
        self.sequence = domain.first_sequence
        self._flows: dict[tuple[int, bool], Template[Exported]] = {kind: Template(256 + i, fields) for i, (kind, fields) in enumerate(flows.items())}
        self.options: list[tuple[Template[Any], Callable[[], Iterable[Any]]]] = []  # options template, and what it has records of now
        self._boot_ms = domain.boot * 1000
        self._held: dict[int, list[bytes]] = {}
        self._held_size = 0  # of the sets, padded
        self._held_flows: list[FlowRecord] = []
        self._refreshed_ns: int | None = None
        self._since_refresh = 0  # datagrams
        self._unheard = False  # a message was refused since the last templates

    @property
    def flow_templates(self) -> list[Template[Exported]]:
        """The flow templates, in the order of their ids."""
        return list(self._flows.values())

    def add_options(self, template: Template[T], sources: Callable[[], Iterable[T]]) -> None:
        """Adds an options template; `sources` gives what it has a record of at the time of asking."""
        self.options.append((template, sources))

    def add_statistics(self, fields: tuple[Field[Statistics], ...]) -> None:
        """Adds an options template with one scope field and one record of statistics."""
        self.add_options(Template(512 + len(self.options), fields, 1), lambda: [self.domain.statistics()])

    def add_interfaces(self, fields: tuple[Field[NamedInterface], ...]) -> None:
        """Adds the names of the input interfaces."""
        names = [NamedInterface(number, name) for number, name in sorted(self.domain.interfaces.items())]
        if names:
            self.add_options(Template(512 + len(self.options), fields, 1), lambda: names)

    def check_size(self) -> None:
        """A UsageError if a record or a template cannot go in one message."""
        needed = [each.size for each in self.flow_templates] + [each.size for each, _ in self.options]
        needed += [len(self.template_record(each)) for each in self.flow_templates] + [len(self.template_record(each)) for each, _ in self.options]
        least = self.header_size + _padded(_SET_HEADER + max(needed))
        if self.domain.max_message < least:
            raise UsageError(f"a message needs {least} octets and the MTU leaves {self.domain.max_message}; raise the MTU")

    @abstractmethod
    def header(self, size: int, records: int, now_ns: int) -> bytes:
        """The header of a message of `size` octets with `records` records of every kind."""

    @abstractmethod
    def template_record(self, template: Template[Any]) -> bytes:
        """How the template is defined on the wire."""

    @abstractmethod
    def advance_sequence(self, data_records: int) -> None:
        """Counts a message that holds so many data records, options data included (S-EXP-1)."""

    def carries(self, record: FlowRecord) -> bool:
        """Every record."""
        return True

    def add(self, record: FlowRecord, now_ns: int) -> Iterator[Message]:
        """Holds the record; first gives the message that it would have made too long."""
        template = self._flows[record.ip_version, record.is_icmp]
        data = template.record(Exported(record, self._boot_ms))
        if self.header_size + self._size_with(template.number, data) > self.domain.max_message:
            yield from self._send_held(now_ns)
        self._held_size = self._size_with(template.number, data)
        self._held.setdefault(template.number, []).append(data)
        self._held_flows.append(record)

    def flush(self, now_ns: int) -> Iterator[Message]:
        """What is held back; templates and options that are due by time, once there was anything."""
        if self._held:
            yield from self._send_held(now_ns)
        elif self._refreshed_ns is not None and self._refresh_due(now_ns):
            yield from self._refresh(now_ns)

    def finish(self, now_ns: int) -> Iterator[Message]:
        """What is held back, then the final options records, after templates where these are due."""
        if self._held:
            yield from self._send_held(now_ns)
        if self._refresh_due(now_ns):
            yield from self._refresh(now_ns)
        else:
            yield from self._pack(self._options_records(), now_ns)

    def refused(self) -> None:
        """Templates go again before the next records."""
        self._unheard = True

    @property
    def queued_packets(self) -> int:
        """Packets in the records held back."""
        return sum(record.packets for record in self._held_flows)

    def _size_with(self, number: int, data: bytes) -> int:
        """The size of the held sets with one record more. Lists of one template's records are equally long, so their sum is a product."""
        records = self._held.get(number)
        if records is None:
            return self._held_size + _padded(_SET_HEADER + len(data))
        now = _SET_HEADER + len(records) * len(data)
        return self._held_size - _padded(now) + _padded(now + len(data))

    def _send_held(self, now_ns: int) -> Iterator[Message]:
        """The held records as one message, after templates and options where these are due."""
        if self._unheard or self._refresh_due(now_ns):
            yield from self._refresh(now_ns)
        held, self._held, self._held_size = self._held, {}, 0
        flows, self._held_flows = self._held_flows, []
        self._since_refresh += 1
        yield self._message(held, now_ns, flows)

    def _refresh_due(self, now_ns: int) -> bool:
        """By datagrams or by seconds, whichever comes first (S-EXP-4)."""
        profile = self.domain.profile
        if self._refreshed_ns is None or self._since_refresh >= profile.template_packets:
            return True
        return now_ns - self._refreshed_ns >= profile.template_seconds * SECOND

    def _refresh(self, now_ns: int) -> Iterator[Message]:
        """Templates, then the options records (S-EXP-7).

        Where new templates are repeated, they have messages of their own (IPFIX-TPL-10); else they share one with the options.
        """
        first, self._refreshed_ns, self._since_refresh = self._refreshed_ns is None, now_ns, 0
        self._unheard = False
        templates = [] if self.domain.reliable and not first else list(self._template_records())
        if first and not self.domain.reliable:
            for _ in range(self.template_repeats - 1):
                yield from self._pack(templates, now_ns)
        if self.template_repeats > 1:
            yield from self._pack(templates, now_ns)
            templates = []  # they had their own
        yield from self._pack(itertools.chain(templates, self._options_records()), now_ns)

    def _template_records(self) -> Iterator[tuple[int, bytes]]:
        for template in self.flow_templates:
            yield self.template_set, self.template_record(template)
        for options, _ in self.options:
            yield self.options_set, self.template_record(options)

    def _options_records(self) -> Iterator[tuple[int, bytes]]:
        for template, sources in self.options:
            for source in sources():
                yield template.number, template.record(source)

    def _pack(self, records: Iterable[tuple[int, bytes]], now_ns: int) -> Iterator[Message]:
        """(set id, record) pairs in as few messages as they need."""
        sets: dict[int, list[bytes]] = {}
        for number, data in records:
            grown = {**sets, number: [*sets.get(number, []), data]}
            if sets and self.header_size + sum(map(_set_size, grown.values())) > self.domain.max_message:
                yield self._message(sets, now_ns, [])
                grown = {number: [data]}
            sets = grown
        if sets:
            yield self._message(sets, now_ns, [])

    def _message(self, sets: dict[int, list[bytes]], now_ns: int, flows: list[FlowRecord]) -> Message:
        parts = []
        for number, records in sets.items():
            size = _set_size(records)
            parts += [struct.pack("!HH", number, size), *records, bytes(size - _SET_HEADER - sum(map(len, records)))]
        body = b"".join(parts)
        count = sum(map(len, sets.values()))
        header = self.header(self.header_size + len(body), count, now_ns)
        self.advance_sequence(sum(len(records) for number, records in sets.items() if number >= 256))
        return Message(header + body, len(flows), sum(each.packets for each in flows), sum(each.octets for each in flows))


def _padded(size: int) -> int:
    return size + -size % 4


def _set_size(records: list[bytes]) -> int:
    return _padded(_SET_HEADER + sum(map(len, records)))


def _variable(text: str) -> bytes:
    """A variable-length string (RFC 7011 §7): one octet of length, or 255 and two."""
    data = text.encode()[:VARIABLE].decode(errors="ignore").encode()
    return (bytes((len(data),)) if len(data) < 255 else struct.pack("!BH", 255, len(data))) + data

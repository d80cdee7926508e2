# SPDX-License-Identifier: Apache-2.0
"""Decoded exports as text: flow records, options records, and what the exporter did wrong."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from flowparity.cli.output import TABLE_HEAD, errors_console, flow_row
from flowparity.collector import Datagram
from flowparity.decode import DataRecord, DecodedFlow, Decoder, Message, Normaliser, Problem, render
from flowparity.sequence import Sequences, StreamSequence

_MOST_PROBLEMS = 20  # printed one by one; all are counted
_BEFORE_TEMPLATE = ("V9-TPL-06", "IPFIX-TPL-09")  # where datagrams are missing, the template may have been in one of them
VERSION_NAMES = {5: "v5", 9: "v9", 10: "IPFIX"}
_ROW = len(TABLE_HEAD) + 4  # columns; the longest reason is "forced"
_ABSOLUTE_TIMES = {f"{side}{unit}" for side in ("flowStart", "flowEnd") for unit in ("Seconds", "Milliseconds", "Microseconds", "Nanoseconds")}


class ExportPrinter:
    """Decodes datagrams in order, prints what they hold and counts what is wrong."""

    def __init__(self, as_table: bool) -> None:
        self.as_table = as_table
        self.datagrams = self.flows = self.options = self.undecoded = 0
        self.problems: Counter[str] = Counter()
        self._sequences = Sequences()
        self._decoder = Decoder()
        self._normaliser = Normaliser()

    def take(self, datagram: Datagram, most: int | None = None) -> None:
        """Prints at most `most` flow records of a datagram."""
        self.datagrams += 1
        message = self._decoder.feed(datagram.payload, datagram.source, datagram.arrival_ns)
        self.undecoded += message.undecoded
        title = f"{socket_name(*datagram.source)}, {VERSION_NAMES.get(message.version or 0, '?')}, {message.header.domain}"
        stream, impossible = self._sequences.take(message, datagram.payload)
        excused = _BEFORE_TEMPLATE if stream is not None and stream.incomplete else ()
        where = f"datagram {self.datagrams} of {datagram.source[0]} port {datagram.source[1]}"
        for problem in (*message.problems, *((impossible,) if impossible else ())):
            if problem.rule_id not in excused:
                self._tell(where, problem)
        for record, flow in zip(message.flows[:most], self._normaliser.flows(message), strict=False):
            if self.as_table and self.flows == 0:
                sys.stdout.write(f"{TABLE_HEAD:{_ROW}} exporter, version, domain\n")
            self.flows += 1
            row = f"{flow_row(flow):{_ROW}} {title}" if self.as_table else json.dumps(flow_document(message, record, flow))
            sys.stdout.write(row + "\n")
        for record in message.options:
            self.options += 1
            if not self.as_table:
                sys.stdout.write(json.dumps(options_document(message, record)) + "\n")

    def _tell(self, where: str, problem: Problem) -> None:
        self.problems[problem.rule_id] += 1
        if self.problems.total() <= _MOST_PROBLEMS:
            errors_console().print(f"{where}, offset {problem.offset}: {problem.rule_id}: {problem.text}", soft_wrap=True, markup=False)

    def end(self, notes: str) -> int:
        """The summary on the standard error, and the status: what was lost on the way is told, and is nobody's broken rule."""
        for stream in self._sequences.streams:
            mistake = stream.mistake()
            if mistake is not None:
                self._tell(_stream_title(stream), mistake)
            elif told := _on_the_way(stream):
                errors_console().print(f"{_stream_title(stream)}: {told}", soft_wrap=True, markup=False)
        told = f"{self.flows} flow records and {self.options} options records in {self.datagrams} datagrams"
        if self.undecoded:
            told += f"; {self.undecoded} datagrams with data whose template did not come"
        errors_console().print(told + notes, soft_wrap=True, markup=False)
        if not self.problems:
            return 0
        counted = ", ".join(f"{rule} × {number}" for rule, number in sorted(self.problems.items()))
        errors_console().print(f"{self.problems.total()} irregularities: {counted}; 'flowparity explain RULE' tells more", soft_wrap=True, markup=False)
        return 1


def _stream_title(stream: StreamSequence) -> str:
    host, port = stream.source if isinstance(stream.source, tuple) else ("", 0)
    return f"{socket_name(host, port)}, {VERSION_NAMES[stream.version]}, domain {stream.domain}"


def _on_the_way(stream: StreamSequence) -> str:
    """What the network did to a stream; empty if nothing."""
    parts = [f"lost {stream.lost} of {stream.received + stream.lost} {stream.unit}"] if stream.lost else []
    counts = {"came late": stream.late, "came again": stream.repeated}
    parts += [f"{number} datagram{'s' if number > 1 else ''} {what}" for what, number in counts.items() if number]
    parts += [f"the exporter was restarted {stream.restarts} times"] if stream.restarts else []
    return "; ".join(parts)


def socket_name(host: str, port: int) -> str:
    """A transport address as text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def flow_document(message: Message, record: DataRecord, flow: DecodedFlow) -> dict[str, Any]:
    """A Data Record as JSON: the elements as they were sent, times in ns since the UNIX epoch whatever they were sent as."""
    out = _envelope(message, record)
    out |= {name: value for name, value in _values(record) if name not in _ABSOLUTE_TIMES}
    out |= {name: time for name, time in (("flowStartNanoseconds", flow.first_ns), ("flowEndNanoseconds", flow.last_ns)) if time is not None}
    return out


def options_document(message: Message, record: DataRecord) -> dict[str, Any]:
    """An options data record as JSON; `scope` names its scope fields."""
    return _envelope(message, record) | {"scope": [element.name for element, _ in record.scope]} | dict(_values(record))


def _envelope(message: Message, record: DataRecord) -> dict[str, Any]:
    exporter = message.source if isinstance(message.source, tuple) else ("", 0)
    return {"exporter": exporter[0], "exporterTransportPort": exporter[1], "exportProtocolVersion": message.version, "observationDomainId": record.domain}


def _values(record: DataRecord) -> Iterator[tuple[str, Any]]:
    """Each element once; one that occurs more than once as a list."""
    for name in dict.fromkeys(element.name for element, _ in record.values if element.name != "paddingOctets"):
        found = [render(element, value) for element, value in record.values if element.name == name]
        yield name, found[0] if len(found) == 1 else found


def looks_like_an_export(payload: bytes) -> bool:
    """Whether a datagram to an unknown port is worth decoding: the version and what its header says of its size agree with it."""
    version = int.from_bytes(payload[:2], "big")
    field = int.from_bytes(payload[2:4], "big")
    if version == 5:
        return len(payload) >= 24 and len(payload) == 24 + 48 * field
    if version == 9:
        return len(payload) >= 20 and len(payload) % 4 == 0
    return version == 10 and len(payload) >= 16 and field == len(payload)

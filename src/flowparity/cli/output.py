# SPDX-License-Identifier: Apache-2.0
"""How records and accounts look. JSON and CSV are named by IPFIX elements, times in nanoseconds; a table is for people and streams too."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import Any, TextIO

from rich.console import Console

from flowparity.accounting import Accounting
from flowparity.flow import EndReason, FlowRecord
from flowparity.profile import SECOND
from flowparity.text import ends_text, time_text

CSV_COLUMNS = (
    *("sourceIPv4Address", "destinationIPv4Address", "sourceIPv6Address", "destinationIPv6Address", "sourceTransportPort", "destinationTransportPort"),
    *("protocolIdentifier", "ipClassOfService", "ingressInterface", "packetDeltaCount", "octetDeltaCount", "flowStartNanoseconds", "flowEndNanoseconds"),
    *("tcpControlBits", "flowEndReason", "ipTTL", "dot1qVlanId", "dot1qCustomerVlanId", "flowLabelIPv6", "observationDomainId"),
    *("icmpTypeCodeIPv4", "icmpTypeCodeIPv6"),
)
_REASONS: Mapping[int, str] = {
    EndReason.IDLE: "idle",
    EndReason.ACTIVE: "active",
    EndReason.END_OF_FLOW: "end",
    EndReason.FORCED: "forced",
    EndReason.RESOURCES: "full",
}
_PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 50: "esp", 51: "ah", 58: "icmp6", 132: "sctp", 136: "udplite"}
TABLE_HEAD = f"{'start (UTC)':29} {'duration':>12} {'proto':7} {'source':>27}    {'destination':27} {'packets':>9} {'octets':>12} {'flags':9} end"
_FLAGS = "FSRPAUECN"  # from the lowest bit (RFC 9293 §3.1, RFC 3540)


class Format(StrEnum):
    """How records are printed."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


def console() -> Console:
    """For tables and progress; the width of a pipe is not 80 columns, it has none."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def errors_console() -> Console:
    """For progress and notes, beside the output."""
    return Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """A text for people, beside the output."""
    errors_console().print(text, soft_wrap=True, markup=False)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Shows that something takes time, on a terminal only."""
    shown = errors_console()
    if not shown.is_terminal:
        yield
        return
    with shown.status(what):
        yield


def print_json(value: Any) -> None:
    """A JSON document for programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def record_printer(style: Format, file: TextIO | None = None) -> Callable[[FlowRecord], None]:
    """A function that prints one record (None: on the standard output); what comes before the first one is printed now."""
    write = (file or sys.stdout).write
    if style is Format.JSONL:
        return lambda record: _discard(write(json.dumps(record.elements(), ensure_ascii=False) + "\n"))
    if style is Format.CSV:
        writer = csv.DictWriter(file or sys.stdout, CSV_COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        return lambda record: _discard(writer.writerow(record.elements()))
    write(TABLE_HEAD + "\n")
    return lambda record: _discard(write(flow_row(record) + "\n"))


def flow_row(flow: Any) -> str:
    """One FlowRecord or DecodedFlow on one line; what is absent is a dash."""
    protocol = "-" if flow.protocol is None else _PROTOCOLS.get(flow.protocol, str(flow.protocol))
    source, destination = ends_text(flow.source_address, flow.destination_address, flow.source_port, flow.destination_port, flow.protocol)
    start = "-" if flow.first_ns is None else time_text(flow.first_ns)
    duration = "-" if flow.first_ns is None or flow.last_ns is None else f"{(flow.last_ns - flow.first_ns) / SECOND:.6f}"
    tcp = flow.protocol == 6 and flow.tcp_flags is not None
    flags = "".join(letter if flow.tcp_flags >> bit & 1 else "." for bit, letter in enumerate(_FLAGS)) if tcp else ""
    reason = "-" if flow.end_reason is None else _REASONS.get(flow.end_reason, str(flow.end_reason))
    counts = f"{_or_dash(flow.packets):>9} {_or_dash(flow.octets):>12}"
    return f"{start:29} {duration:>12} {protocol:7} {source:>27} -> {destination:27} {counts} {flags:9} {reason}"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


_REPLAY = ("trailers", "strays", "lost")


def accounting_document(accounting: Accounting) -> dict[str, Any]:
    """An account as a JSON object, with the invariants that do not hold."""
    out = asdict(accounting)
    out["broken"] = accounting.broken()
    return out


def accounting_text(accounting: Accounting, counters: Mapping[str, int] | None = None, *, live: bool = False) -> str:
    """An account for people: verdicts, then each stream, then whether the invariants hold.

    `live`: the source can lose frames, so that a loss that it does not count is said to be unknown; then what the replay trailer and the interface tell of it,
    which is among the `counters`.
    """
    a = accounting
    dropped = f"; dropped before: {'unknown' if a.dropped is None else a.dropped}" if live or a.dropped is not None else ""
    lines = [
        f"frames    received {a.received} = filtered {a.filtered} + sampled out {a.sampled_out} + not IP {a.non_ip} + malformed {a.malformed}"
        f" + shed {a.shed} + metered {a.metered}{dropped}",
        f"packets   metered {a.metered_packets}; still resident {a.resident_packets}" + _also(a),
    ]
    for name, s in a.streams.items():
        parts = [f"{s.exported_records} records ({s.exported_packets} packets) in {s.datagrams} datagrams, {s.datagram_octets} octets"]
        if s.queued_packets:
            parts.append(f"queued {s.queued_packets} packets")
        if s.not_sent_records or s.not_sent_packets:
            parts.append(f"NOT SENT {s.not_sent_records} records ({s.not_sent_packets} packets): the collector or the way to it refused them")
        if s.unrepresentable_records or s.unrepresentable_packets:
            parts.append(f"not representable {s.unrepresentable_records} records ({s.unrepresentable_packets} packets)")
        lines.append(f"{_stream_title(name):9} " + "; ".join(parts))
    told = [f"{name} {value}" for name, value in (counters or {}).items() if name in _REPLAY or name.startswith("interface_")]
    if told:
        lines.append("beside    " + ", ".join(told))
    broken = a.broken()
    lines.append("invariants hold" if not broken else "BROKEN INVARIANTS: " + "; ".join(broken))
    return "\n".join(lines)


def _also(a: Accounting) -> str:
    named: Mapping[str, int] = {"late": a.late, "clock steps": a.clock_steps, "evicted records": a.evicted}
    return "".join(f"; {name} {count}" for name, count in named.items() if count)


def _stream_title(name: str) -> str:
    return {"5": "v5", "9": "v9", "ipfix": "IPFIX"}.get(name, name)


def _discard(_: object) -> None:
    pass

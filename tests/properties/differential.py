# SPDX-License-Identifier: Apache-2.0
"""Runs a program through the reference and through the native core and gives what each reported, in one form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from flowparity.accounting import Accounting
from flowparity.decode import Decoder, Normaliser
from flowparity.flow import FlowRecord
from flowparity.frame import Frame
from flowparity.native import meter
from flowparity.profile import SECOND, Profile
from flowparity.reference import ReferenceExporter

NAMES = tuple(field.name for field in fields(FlowRecord))
VERDICTS = ("received", "filtered", "sampled_out", "non_ip", "malformed", "shed", "metered", "metered_packets", "late")


@dataclass(frozen=True, slots=True)
class Reported:
    """What an exporter made of a program."""

    records: Counter[tuple[object, ...]]
    accounting: Accounting
    final_clock: int | None


def row(record: FlowRecord) -> tuple[object, ...]:
    """A record as a comparable value."""
    return tuple(getattr(record, name) for name in NAMES)


def reference(
    frames: Sequence[Frame], profile: Profile, workers: int = 1, assignment: Sequence[int] | None = None, sweep_every: int | None = SECOND
) -> Reported:
    """The reference's records."""
    exporter = ReferenceExporter(profile, workers, sweep_every=sweep_every)
    closed = []
    for position, frame in enumerate(frames):
        closed += exporter.feed(frame, worker=assignment[position] if assignment else 0)
    closed += exporter.flush()
    return Reported(Counter(row(c.record) for c in closed), exporter.accounting(), exporter.final_clock_ns)


def native_records(payloads: Iterable[bytes]) -> Counter[tuple[object, ...]]:
    """The records of IPFIX messages with nanosecond times; no problem is accepted."""
    decoder, normaliser = Decoder(), Normaliser()
    records: Counter[tuple[object, ...]] = Counter()
    for payload in payloads:
        message = decoder.feed(payload)
        assert not message.problems, message.problems
        for flow in normaliser.flows(message):
            label = flow.flow_label if flow.flow_label is not None else 0  # IPv4 templates have none
            records[tuple(label if name == "flow_label" else getattr(flow, name) for name in NAMES)] += 1
    return records


def native(frames: Sequence[Frame], profile: Profile, workers: int = 1, assignment: Sequence[int] | None = None, **choices: int) -> Reported:
    """The native core's records, as decoded from its IPFIX with nanosecond times."""
    datagrams, result = meter(frames, profile, ("ipfix",), workers, ipfix_ns=True, assignment=assignment, **choices)
    return Reported(native_records(datagrams["ipfix"]), result.accounting, result.final_clock_ns)


def verdicts(accounting: Accounting) -> dict[str, int]:
    """The counters that both sides must agree on."""
    return {name: getattr(accounting, name) for name in VERDICTS}


def merged(records: Counter[tuple[object, ...]]) -> dict[tuple[object, ...], tuple[int, int, int, int, int]]:
    """Level `merged`: per addresses, ports and protocol the sums and extremes."""
    at = {name: i for i, name in enumerate(NAMES)}
    out: dict[tuple[object, ...], tuple[int, int, int, int, int]] = {}
    for record, count in records.items():
        key = record[:5]
        packets, octets, first, last, flags = (record[at[name]] for name in ("packets", "octets", "first_ns", "last_ns", "tcp_flags"))
        known = out.get(key, (0, 0, first, last, 0))
        out[key] = (known[0] + packets * count, known[1] + octets * count, min(known[2], first), max(known[3], last), known[4] | flags)  # type: ignore[operator,type-var]
    return out

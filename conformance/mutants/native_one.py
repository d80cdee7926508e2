# SPDX-License-Identifier: Apache-2.0
"""The suite's quick checks of the native core, in a process of its own: `python native_one.py`, with FLOWPARITY_MUTANT saying which fault the loaded core has.

Prints what noticed, one a line: `fixture NAME` where a fixture's expectation is not met, `wire NAME` where the decoder or a wire rule objects to a
datagram or the formats tell different records, `invariant NAME` where the accounts do not add up. Exit status 0 whatever they said.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NOT_IN_MEMORY = {"filter", "export_socket", "clock", "first_sequence"}
"""Run parameters of fixtures that only a run over a source has."""
IN_EVERY_FORMAT = ("source_address", "destination_address", "source_port", "destination_port", "protocol", "tos", "packets", "octets")
WAYS = ({"batch": 1, "sweep_budget": 1}, {"batch": 32, "sweep_budget": 0})
FIELDS = ("input_interface", "first_ns", "last_ns", "tcp_flags", "end_reason", "ttl", "vlan", "inner_vlan")


def told(flow: Any, name: str) -> tuple[Any, ...]:
    """What every format that carries a field tells of a flow, in the resolution and width of the coarsest."""
    row = [getattr(flow, each) for each in IN_EVERY_FORMAT]
    row += [flow.input_interface & 0xFFFF, flow.tcp_flags & 0xFF, flow.first_ns // 10**6, flow.last_ns // 10**6]
    return tuple(row) if name == "5" else (*row, int(flow.end_reason), flow.ttl, flow.vlan, flow.inner_vlan, flow.worker)


def boots(frames: Sequence[Any], assignment: Sequence[Sequence[int]]) -> dict[int, int]:
    """The second in which the uptimes of each observation domain began (S-TIM-7)."""
    return {worker + 1: frames[indices[0]].ts_ns // 10**9 for worker, indices in enumerate(assignment) if indices}


def wire_faults(datagrams: dict[str, list[bytes]], fixture: Any, records: Sequence[Any], began: Any) -> Iterator[str]:
    """What is wrong with the datagrams of each format, given the records that the most exact one (IPFIX, nanoseconds) told."""
    from flowparity.collector import Datagram
    from flowparity.decode import Decoder, Normaliser
    from flowparity.wire import Context, check_stream

    profile, mtu = fixture.profile, fixture.run.get("mtu", 1500)
    interval = profile.sampling.interval if profile.sampling else 0
    interval = None if interval == 1 else interval  # 1 in 1 may be announced or not
    context = Context(mtu=mtu, sampling_interval=interval, template_packets=profile.template_packets, template_seconds=profile.template_seconds)
    for name, payloads in datagrams.items():
        report = check_stream([Datagram(payload, ("192.0.2.1", 1), 0, len(payload) + 28) for payload in payloads], name, context)
        yield from (f"{name}: {finding.rule_id} {finding.text}" for finding in report.findings if not finding.advisory)
        decoder = Decoder()
        flows = Normaliser(began if profile.boot is None else profile.boot).flow_stream(decoder.feed(payload) for payload in payloads)
        kept = [r for r in records if name != "5" or r.ip_version == 4]
        if Counter(told(flow, name) for flow in flows) != Counter(told(record, name) for record in kept):
            yield f"{name}: other records than in IPFIX with nanoseconds"
        bounds = fixture.expected.wire.get(name, {})
        if len(payloads) < bounds.get("at_least", 0) or max(map(len, payloads), default=0) > bounds.get("most_octets", 65535):
            yield f"{name}: number or size of datagrams"


def records_of(datagrams: Sequence[bytes]) -> list[Any]:
    """Flow records of IPFIX with nanoseconds."""
    from flowparity.decode import Decoder, Normaliser
    from flowparity.flow import FlowRecord

    out, decoder = [], Decoder()
    for flow in Normaliser().flow_stream(decoder.feed(payload) for payload in datagrams):
        values = {name: getattr(flow, name) for name in (*IN_EVERY_FORMAT, *FIELDS, "worker")}
        out.append(FlowRecord(**values, flow_label=flow.flow_label or 0))
    return out


def noticed() -> Iterator[str]:
    """Everything that the checks find wrong with the loaded core."""
    sys.path.insert(0, str(Path(__file__).parent))
    from one import merged

    from flowparity.errors import FlowparityError
    from flowparity.fixtures import disagreements, load_fixtures
    from flowparity.native import meter

    for fixture in load_fixtures(ROOT / "fixtures"):
        if fixture.expected.refused or NOT_IN_MEMORY & set(fixture.run):
            continue
        frames, mtu = fixture.frames(), fixture.run.get("mtu", 1500)
        found: set[str] = set()
        for way in WAYS:
            choice = {"assignment": fixture.assignment or None, "mtu": mtu, **way}
            try:
                exact, result = meter(frames, fixture.profile, ("ipfix",), fixture.workers, ipfix_ns=True, **choice)
                records = records_of(exact["ipfix"])
                found |= {"invariant"} if result.accounting.broken() else set()
                compared = merged(records) if fixture.level == "merged" else records
                lines = list(disagreements(fixture, compared, None, result.final_clock_ns))
                lines += [line for line in disagreements(fixture, compared, result.accounting) if line not in lines and "verdict" in line]
                found |= {"fixture"} if lines else set()
                told_in, result = meter(frames, fixture.profile, fixture.formats, fixture.workers, **choice)
                faults = list(wire_faults(told_in, fixture, records, boots(frames, result.assignment or ())))
                found |= {"wire"} if faults else set()
                for line in (*result.accounting.broken(), *lines, *faults):
                    print(f"# {fixture.name}: {line}", file=sys.stderr)
            except (FlowparityError, ValueError, TypeError, KeyError) as error:
                print(f"# {fixture.name}: {type(error).__name__}: {error}", file=sys.stderr)
                found.add("wire")
        yield from (f"{check} {fixture.name}" for check in sorted(found))


if __name__ == "__main__":
    for line in noticed():
        print(line)

# SPDX-License-Identifier: Apache-2.0
"""The suite's quick checks of the native core: `python native_one.py ID[=FIXTURE,...] ...` tries each fault in a process of its own, forked from this one.

Needs the build that has all faults (FLOWPARITY_MUTANT=runtime) and FLOWPARITY_MUTANT unset. The fixtures named with an id are asked first, then all others;
`ENOUGH` that notice are enough, but 0, the core without a fault, is asked everything. Prints what noticed, `ID CHECK NAME` a line: `fixture` where a
fixture's expectation is not met, `wire` where the decoder or a wire rule objects to a datagram or the formats tell different records, `invariant` where the
accounts do not add up, `crash` where the process ended early or never. Exit status 0 whatever they said.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from one import merged

from flowparity import _core
from flowparity.collector import Datagram
from flowparity.decode import Decoder, Normaliser
from flowparity.errors import FlowparityError
from flowparity.fixtures import Fixture, disagreements, load_fixtures
from flowparity.flow import FlowRecord
from flowparity.frame import Frame
from flowparity.native import meter
from flowparity.view import UPTIME_SPAN
from flowparity.wire import Context, check_stream

ROOT = Path(__file__).resolve().parents[2]
ENOUGH = 3
CPU_SECONDS, SECONDS = 20, 300
"""Of processor time, so that a busy machine kills no mutant; and of waiting for what never comes."""
OCTETS = 4 << 30
"""Of memory: a fault that never stops to make datagrams must not take the machine's."""
NOT_IN_MEMORY = {"filter", "export_socket", "clock"}
"""Run parameters of fixtures that only a run over a source has."""
IN_EVERY_FORMAT = ("source_address", "destination_address", "source_port", "destination_port", "protocol", "tos", "packets", "octets")
WAYS = ({"batch": 1, "sweep_budget": 1}, {"batch": 32, "sweep_budget": 0})
FIELDS = ("input_interface", "first_ns", "last_ns", "tcp_flags", "end_reason", "ttl", "vlan", "inner_vlan")


def told(flow: Any, name: str) -> tuple[Any, ...]:
    """What every format that carries a field tells of a flow, in the resolution and width of the coarsest."""
    row = [getattr(flow, each) for each in IN_EVERY_FORMAT]
    span = 2**128 if name == "ipfix" else 2**32  # uptimes say a time modulo 2^32 ms (S-EXP-5)
    row += [flow.input_interface & 0xFFFF, flow.tcp_flags & 0xFF, flow.first_ns // 10**6 % span, flow.last_ns // 10**6 % span, flow.worker]
    return tuple(row) if name == "5" else (*row, int(flow.end_reason), flow.ttl, flow.vlan, flow.inner_vlan, flow.flow_label or 0)


def boots(frames: Sequence[Frame], assignment: Sequence[Sequence[int]]) -> dict[int, int]:
    """The second in which the uptimes of each observation domain began (S-TIM-7)."""
    return {worker + 1: frames[indices[0]].ts_ns // 10**9 for worker, indices in enumerate(assignment) if indices}


def wire_faults(
    datagrams: dict[str, list[bytes]], fixture: Fixture, frames: Sequence[Frame], records: Sequence[FlowRecord], began: dict[int, int]
) -> Iterator[str]:
    """What is wrong with the datagrams of each format, given the records that the most exact one (IPFIX, nanoseconds) told."""
    profile, mtu = fixture.profile, fixture.run.get("mtu", 1500)
    interval = profile.sampling.interval if profile.sampling else 0
    times = [frame.ts_ns for frame in frames] or [0]
    context = Context(
        mtu=mtu,
        complete="first_sequence" not in fixture.run,
        sampling_interval=None if interval == 1 else interval,  # 1 in 1 may be announced or not
        template_packets=profile.template_packets,
        template_seconds=profile.template_seconds,
        span_ns=max(times) - min(times),
    )
    for name, payloads in datagrams.items():
        report = check_stream([Datagram(payload, ("192.0.2.1", 1), 0, len(payload) + 28) for payload in payloads], name, context)
        yield from (f"{name}: {finding.rule_id} {finding.text}" for finding in report.findings if not finding.advisory)
        decoder = Decoder()
        flows = Normaliser(began if profile.boot is None and context.span_ns >= UPTIME_SPAN else profile.boot).flow_stream(
            decoder.feed(payload) for payload in payloads
        )
        kept = [r for r in records if name != "5" or r.ip_version == 4]
        if Counter(told(flow, name) for flow in flows) != Counter(told(record, name) for record in kept):
            yield f"{name}: other records than in IPFIX with nanoseconds"
        bounds = fixture.expected.wire.get(name, {})
        if len(payloads) < bounds.get("at_least", 0) or max(map(len, payloads), default=0) > bounds.get("most_octets", 65535):
            yield f"{name}: number or size of datagrams"


def records_of(datagrams: Sequence[bytes]) -> list[FlowRecord]:
    """Flow records of IPFIX with nanoseconds."""
    out, decoder = [], Decoder()
    for flow in Normaliser().flow_stream(decoder.feed(payload) for payload in datagrams):
        values = {name: getattr(flow, name) for name in (*IN_EVERY_FORMAT, *FIELDS, "worker")}
        out.append(FlowRecord(**values, flow_label=flow.flow_label or 0))
    return out


def faults_of(fixture: Fixture, frames: Sequence[Frame]) -> Iterator[str]:
    """Which checks a fixture does not pass; why goes to stderr."""
    found: set[str] = set()
    for way in WAYS:
        choice: dict[str, Any] = {"assignment": fixture.assignment or None, **fixture.run, **way}
        try:
            exact, result = meter(frames, fixture.profile, ("ipfix",), fixture.workers, ipfix_ns=True, **choice)
            records = records_of(exact["ipfix"])
            found |= {"invariant"} if result.accounting.broken() else set()
            compared = merged(records) if fixture.level == "merged" else records
            lines = list(disagreements(fixture, compared, None, result.final_clock_ns))
            lines += [line for line in disagreements(fixture, compared, result.accounting) if line not in lines and "verdict" in line]
            found |= {"fixture"} if lines else set()
            told_in, result = meter(frames, fixture.profile, fixture.formats, fixture.workers, **choice)
            faults = list(wire_faults(told_in, fixture, frames, records, boots(frames, result.assignment or ())))
            found |= {"wire"} if faults else set()
            for line in (*result.accounting.broken(), *lines, *faults):
                print(f"# {fixture.name}: {line}", file=sys.stderr)
        except (FlowparityError, ValueError, TypeError, KeyError) as error:
            print(f"# {fixture.name}: {type(error).__name__}: {error}", file=sys.stderr)
            found.add("wire")
    yield from (f"{check} {fixture.name}" for check in sorted(found))


def noticed(cases: Iterable[tuple[Fixture, Sequence[Frame]]], enough: int) -> Iterator[str]:
    """What the fixtures find wrong with the core as it is, until `enough` of them did."""
    for fixture, frames in cases:
        lines = list(faults_of(fixture, frames))
        yield from lines
        enough -= bool(lines)
        if not enough:
            return


def tried(mutant: int, cases: Iterable[tuple[Fixture, Sequence[Frame]]]) -> None:
    """Forks, sets the fault in the child and lets it say what noticed."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_DATA, (OCTETS, OCTETS))
        signal.alarm(SECONDS)
        ctypes.c_uint.in_dll(ctypes.CDLL(_core.__file__), "fp_mutant_id").value = mutant
        for line in noticed(cases, ENOUGH if mutant else -1):
            print(mutant, line)
        sys.stdout.flush()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        print(mutant, "crash", f"signal {-status}" if status < 0 else f"status {status}")


def main(arguments: Sequence[str]) -> None:
    """Every fault in turn."""
    cases = {
        fixture.name: (fixture, fixture.frames())
        for fixture in load_fixtures(ROOT / "fixtures")
        if not fixture.expected.refused and not NOT_IN_MEMORY & set(fixture.run)
    }
    for argument in arguments:
        mutant, _, hints = argument.partition("=")
        first = [name for name in hints.split(",") if name in cases]
        tried(int(mutant), [cases[name] for name in dict.fromkeys([*first, *cases])])


if __name__ == "__main__":
    main(sys.argv[1:])

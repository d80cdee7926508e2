# SPDX-License-Identifier: Apache-2.0
"""The fixtures against what the decoder reads out of the reference's datagrams: the Exporting Process and the encoders on trial."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from flowparity.collector import Datagram
from flowparity.decode import DecodedFlow, Decoder, Message, Normaliser
from flowparity.export import ReferenceOutcome, run_reference
from flowparity.fixtures import ExpectedRecord, Fixture, disagreements
from flowparity.flow import FlowRecord
from flowparity.frame import Frame
from flowparity.profile import Sampling
from flowparity.transport import MemoryStream
from flowparity.view import UPTIME_SPAN
from flowparity.wire import Context, check_stream

MILLI = 10**6
NAMES = [field.name for field in fields(FlowRecord)]
_NOT_IN_V5 = {"flowEndReason", "ipTTL", "dot1qVlanId", "dot1qCustomerVlanId", "flowLabelIPv6"}
_TIMES = ("flowStartNanoseconds", "flowEndNanoseconds")
_SAMPLING = {None: 0, "systematic": 1, "random": 2}


def carried(record: ExpectedRecord, form: str, *, exact: bool) -> ExpectedRecord:
    """What a format can say of an expected record (S-EXP-5, S-EXP-6, S-PRT-5)."""
    elements: dict[str, Any] = {}
    for name, value in record.elements.items():
        if form == "5" and name in _NOT_IN_V5:
            continue
        if name in _TIMES and not exact:
            value = value // MILLI * MILLI % (UPTIME_SPAN if form != "ipfix" else 2**128)
        if name == "tcpControlBits" and form != "ipfix":
            value &= 0xFF
        if name == "ingressInterface" and form == "5":
            value &= 0xFFFF
        elements[name] = value
    return replace(record, elements=elements)


def record_of(flow: DecodedFlow, form: str) -> FlowRecord:
    """A decoded flow as a record; uptimes modulo 2^32 ms."""
    values = {name: getattr(flow, name) or 0 for name in NAMES}
    if form != "ipfix":
        values |= {name: values[name] % UPTIME_SPAN for name in ("first_ns", "last_ns")}
    return FlowRecord(**values)


def faults_of(fixture: Fixture, frames: Sequence[Frame]) -> Iterator[str]:
    """What the decoder, the wire rules and the accounts object to, a line each."""
    for form, exact in [*((form, False) for form in fixture.formats), *(("ipfix", True) for form in fixture.formats if form == "ipfix")]:
        stream = MemoryStream(fixture.run.get("mtu", 1500) - 28)
        assignment = [[f.index for f in frames if fixture.worker_of(f.index) == worker] for worker in range(fixture.workers)]
        first = fixture.run.get("first_sequence", 0)
        outcome = run_reference(frames, fixture.profile, {form: stream}, assignment=assignment, nanoseconds=exact, first_sequence=first)
        decoder = Decoder()
        messages = [decoder.feed(message) for message in stream.messages]
        yield from (f"{form}: {line}" for line in outcome.accounting.broken())
        yield from (f"{form}: {problem.rule_id} {problem.text}" for message in messages for problem in message.problems)
        yield from _of_wire(fixture, frames, form, stream.messages)
        yield from _of_records(fixture, frames, form, messages, exact=exact)
        yield from _of_account(fixture, form, messages, outcome)
        if form != "5":
            yield from _of_icmp(form, messages)


def _of_wire(fixture: Fixture, frames: Sequence[Frame], form: str, payloads: Sequence[bytes]) -> Iterator[str]:
    profile = fixture.profile
    times = [frame.ts_ns for frame in frames] or [0]
    interval = profile.sampling.interval if profile.sampling else 0
    context = Context(
        mtu=fixture.run.get("mtu", 1500),
        complete="first_sequence" not in fixture.run,
        sampling_interval=None if interval == 1 else interval,  # 1 in 1 may be announced or not
        template_packets=profile.template_packets,
        template_seconds=profile.template_seconds,
        span_ns=max(times) - min(times),
    )
    report = check_stream([Datagram(payload, ("192.0.2.1", 1), 0, len(payload) + 28) for payload in payloads], form, context)
    yield from (f"{form}: {each.rule_id} {each.text}" for each in report.findings if not each.advisory)
    bounds = fixture.expected.wire.get(form, {})
    if len(payloads) < bounds.get("at_least", 0) or max(map(len, payloads), default=0) > bounds.get("most_octets", 65535):
        yield f"{form}: number or size of datagrams"


def _of_records(fixture: Fixture, frames: Sequence[Frame], form: str, messages: Sequence[Message], *, exact: bool) -> Iterator[str]:
    from one import merged

    boots: dict[int, int] = {}
    for frame in frames:
        boots.setdefault(fixture.worker_of(frame.index) + 1, frame.ts_ns // 10**9)
    times = [frame.ts_ns for frame in frames] or [0]
    long = max(times) - min(times) >= UPTIME_SPAN
    flows = Normaliser(boots if fixture.profile.boot is None and long else fixture.profile.boot).flow_stream(messages)
    records = [record_of(flow, form) for flow in flows]
    wanted = [carried(each, form, exact=exact) for each in fixture.expected.records if form != "5" or not _is_ipv6(frames, each)]
    seen = replace(fixture, expected=replace(fixture.expected, records=tuple(wanted)))
    yield from (f"{form}: {line}" for line in disagreements(seen, merged(records) if fixture.level == "merged" else records))


def _is_ipv6(frames: Sequence[Frame], record: ExpectedRecord) -> bool:
    """Whether v5 cannot carry a record, by its first frame as it is captured."""
    from flowparity.packet import Packet, parse

    packet = parse(frames[record.frames[0]])
    return isinstance(packet, Packet) and len(packet.source) == 16


def _of_account(fixture: Fixture, form: str, messages: Sequence[Message], outcome: ReferenceOutcome) -> Iterator[str]:
    """What arrived is what the exporter believes, and what its last options and headers say (S-INV-2, S-EXP-7, S-TIM-6)."""
    account = outcome.accounting.streams[form]
    flows = [flow for message in messages for flow in message.flows]
    if (account.exported_records, account.exported_packets) != (len(flows), sum(flow.get("packetDeltaCount") for flow in flows)):
        yield f"{form}: S-INV-2: other records or packets than the account has"
    last = {message.header.domain: message for message in messages}
    sampling = fixture.profile.sampling
    for domain, message in last.items():
        if outcome.final_clock_ns is not None and message.header.seconds != outcome.final_clock_ns // 10**9 % 2**32:
            yield f"{form}: S-TIM-6: the last header of domain {domain} does not bear the final clock"
        if form == "5" and message.header.sampling_mode != _SAMPLING[sampling.mode if sampling else None]:
            yield f"{form}: S-EXP-7: sampling mode {message.header.sampling_mode}"
        if form != "5":
            said = {element.name: value for record in message.options for element, value in record.values}
            told = sum(len(each.flows) for each in messages if each.header.domain == domain)
            if said.get("exportedFlowRecordTotalCount") != told or said.get("notSentFlowTotalCount") != 0:
                yield f"{form}: S-EXP-7: the last options of domain {domain} do not tell the records exported"
            if sampling and said | _announced(form, sampling) != said:
                yield f"{form}: S-EXP-7: sampling announced otherwise than by {_announced(form, sampling)}"


def _announced(form: str, sampling: Sampling) -> dict[str, object]:
    """The elements that announce a sampling and their values (RFC 3954 §8, RFC 5477)."""
    if form == "9":
        return {"samplingInterval": sampling.interval, "samplingAlgorithm": _SAMPLING[sampling.mode]}
    if sampling.mode == "random":
        return {"selectorAlgorithm": 4, "samplingProbability": 1 / sampling.interval}
    return {"selectorAlgorithm": 1, "samplingPacketInterval": 1, "samplingPacketSpace": sampling.interval - 1}


def _of_icmp(form: str, messages: Sequence[Message]) -> Iterator[str]:
    """S-PRT-4: type and code in the element of the family, and only there."""
    for message in messages:
        for flow in message.flows:
            four, six = flow.get("icmpTypeCodeIPv4"), flow.get("icmpTypeCodeIPv6")
            protocol, port = flow.get("protocolIdentifier"), flow.get("destinationTransportPort")
            is4 = flow.get("sourceIPv4Address") is not None
            if (four, six) != (port if protocol == 1 and is4 else None, port if protocol == 58 and not is4 else None):
                yield f"{form}: S-PRT-4: ICMP type and code {four}, {six} of protocol {protocol}"


def noticed(cases: Sequence[tuple[Fixture, Sequence[Frame]]]) -> list[str]:
    """The fixtures whose datagrams are not right; why goes to stderr."""
    out = []
    for fixture, frames in cases:
        try:
            lines = list(faults_of(fixture, frames))
        except Exception as error:  # an encoder that crashes was noticed
            lines = [f"{type(error).__name__}: {error}"]
        for line in lines:
            print(f"# {fixture.name}: {line}", file=sys.stderr)
        if lines:
            out.append(fixture.name)
    return out

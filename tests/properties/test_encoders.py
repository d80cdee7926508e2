# SPDX-License-Identifier: Apache-2.0
"""What is encoded is decoded again: every format, milliseconds and nanoseconds, any record.

The native encoders are fed with what the core makes of programs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowparity.decode import Decoder, Normaliser
from flowparity.encode import Domain, make_encoder
from flowparity.fields import Statistics
from flowparity.flow import FlowRecord
from flowparity.frame import Frame
from flowparity.native import meter
from flowparity.profile import SECOND, Profile
from flowparity.reference import ReferenceExporter
from flowparity.view import CARRIED, View
from tests.properties.programs import Program, programs

MILLI = 10**6
FEWER = settings(max_examples=settings().max_examples // 4)  # four formats each
FORMATS = pytest.mark.parametrize(("form", "nanoseconds"), [("5", False), ("9", False), ("ipfix", False), ("ipfix", True)])


def number(bits: int, least: int = 0) -> st.SearchStrategy[int]:
    """Any number of so many bits, the extreme ones often."""
    most = 2**bits - 1
    return st.sampled_from([least, most, most >> 1, (most >> 1) + 1]) | st.integers(least, most)


@st.composite
def records(draw: st.DrawFn, boot: int, bits: int) -> FlowRecord:
    """A record that began at or after `boot`, of any length up to 49 days."""
    version = draw(st.sampled_from([4, 6]))
    address = st.binary(min_size=4 if version == 4 else 16, max_size=4 if version == 4 else 16)
    first = boot * SECOND + draw(number(41) | st.integers(0, 2**51 - 1))
    last = min(first + draw(number(40) | st.integers(0, 2**51)), boot * SECOND + (2**32 - 1) * MILLI)
    protocol = draw(st.sampled_from([6, 17, 1, 58, 132, 0, 255]))
    ports = protocol in (6, 17, 132)
    icmp = protocol == (1 if version == 4 else 58)
    return FlowRecord(
        source_address=draw(address),
        destination_address=draw(address),
        source_port=draw(number(16)) if ports else 0,
        destination_port=draw(number(16)) if ports or icmp else 0,
        protocol=protocol,
        tos=draw(number(8)),
        input_interface=draw(number(32)),
        packets=draw(number(bits, 1)),
        octets=draw(number(bits, 1)),
        first_ns=min(first, last),
        last_ns=last,
        tcp_flags=draw(number(12)) if protocol == 6 else 0,
        end_reason=draw(st.integers(1, 5)),
        ttl=draw(number(8)),
        vlan=draw(number(12)),
        inner_vlan=draw(number(12)),
        flow_label=draw(number(20)) if version == 6 else 0,
        worker=0,
    )


def statistics() -> Statistics:
    return Statistics(1, *[0] * 17)


def decoded(payloads: Iterable[bytes], view: View, boot: int | None = None) -> Counter[tuple[object, ...]]:
    """The decoder's flows through a view; no problem is accepted."""
    decoder = Decoder()
    messages = [decoder.feed(payload) for payload in payloads]
    assert not [problem for message in messages for problem in message.problems]
    return Counter(view.actual(flow) for flow in Normaliser(boot).flow_stream(messages))


@FORMATS
@FEWER
@given(data=st.data(), boot=st.sampled_from([0, 1, 1_700_000_000, 2**31, 2**32 - 2**23]), max_message=st.integers(600, 1500))
def test_reference(form: str, nanoseconds: bool, data: st.DataObject, boot: int, max_message: int) -> None:
    sent = data.draw(st.lists(records(boot, 32 if form == "5" else 64), min_size=1, max_size=30))
    encoder = make_encoder(form, Domain(0, boot, Profile(counter_bits=32 if form == "5" else 64), max_message, False, statistics, nanoseconds=nanoseconds))
    view, messages, now = View(form, CARRIED[form], 1 if nanoseconds else MILLI), [], boot * SECOND
    carried = [record for record in sent if encoder.carries(record)]
    for record in sorted(carried, key=lambda each: each.last_ns):
        now = max(now, record.last_ns)
        messages += encoder.add(record, now)
    messages += encoder.finish(now)
    assert sum(message.flow_records for message in messages) == len(carried)
    assert sum(message.packets for message in messages) == sum(record.packets for record in carried)
    assert max((len(message.data) for message in messages), default=0) <= max_message
    assert decoded((message.data for message in messages), view, boot) == Counter(view.expected(record) for record in carried)


@FORMATS
@FEWER
@given(program=programs(), start=st.sampled_from([1, 2**31 - 5, 2**31, 2**32 - 20_000]), mtu=st.sampled_from([700, 1500, 9000]))
def test_native(form: str, nanoseconds: bool, program: Program, start: int, mtu: int) -> None:
    """Against the reference's records, so that it is not only the reading back that is right."""
    profile = replace(program.profile, counter_bits=32) if form == "5" else program.profile
    shift = start * SECOND + 100 * SECOND - program.frames[0].ts_ns
    frames: Sequence[Frame] = [replace(frame, ts_ns=max(0, frame.ts_ns + shift)) for frame in program.frames]
    exporter = ReferenceExporter(profile)
    closed = [each.record for frame in frames for each in exporter.feed(frame)] + [each.record for each in exporter.flush()]
    # Uptimes count from the first frame (S-TIM-7); what began before it lies 2^32 ms later for a decoder, so v5 and v9 are told an earlier second.
    profile = replace(profile, boot=min(frame.ts_ns for frame in frames) // SECOND)
    payloads, result = meter(frames, profile, (form,), ipfix_ns=nanoseconds, mtu=mtu)
    view = View(form, CARRIED[form], 1 if nanoseconds else MILLI)
    assert decoded(payloads[form], view, profile.boot) == Counter(view.expected(record) for record in closed if view.carries(record))
    account = result.accounting.streams[form]
    assert account.exported_packets + account.unrepresentable_packets == result.accounting.metered_packets
    assert max(map(len, payloads[form]), default=0) <= mtu - 28

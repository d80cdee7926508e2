# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from flowparity.decode import DecodedFlow
from flowparity.diff import compare_conserved, compare_cross, compare_merged, compare_records
from flowparity.flow import FlowRecord
from flowparity.view import UPTIME_SPAN, view

RECORD = FlowRecord(b"\x0a\0\0\1", b"\x0a\0\0\2", 1000, 2000, 6, 0x10, 70_000, 3, 300, 1_000_000_001, 2_000_999_999, 0x11B, 4, 64, 5, 6, 0)


def decoded(record: FlowRecord, version: int) -> DecodedFlow:
    """What a decoder makes of the record in a format."""
    v5 = version == 5
    return DecodedFlow(
        version=version,
        source=None,
        domain=record.worker if v5 else record.worker + 1,
        template_id=0,
        source_address=record.source_address,
        destination_address=record.destination_address,
        source_port=record.source_port,
        destination_port=record.destination_port,
        protocol=record.protocol,
        tos=record.tos,
        input_interface=record.input_interface & 0xFFFF if v5 else record.input_interface,
        packets=record.packets,
        octets=record.octets,
        first_ns=record.first_ns // 10**6 * 10**6,
        last_ns=record.last_ns // 10**6 * 10**6,
        time_resolution=10**6,
        tcp_flags=record.tcp_flags if version == 10 else record.tcp_flags & 0xFF,
        end_reason=None if v5 else record.end_reason,
        ttl=None if v5 else record.ttl,
        vlan=None if v5 else record.vlan,
        inner_vlan=None if v5 else record.inner_vlan,
    )


FORMATS = {"5": 5, "9": 9, "ipfix": 10}


@pytest.mark.parametrize(("name", "version"), FORMATS.items())
def test_equal_through_every_format(name: str, version: int) -> None:
    flows = [decoded(RECORD, version)]
    seen = view(name, flows)
    assert not compare_records([(RECORD, (0,))], flows, seen)
    assert not compare_merged([(RECORD, (0,))], flows, seen)
    assert not compare_conserved([(RECORD, (0,))], flows, seen, per_key=True)


@pytest.mark.parametrize(("name", "version"), FORMATS.items())
@pytest.mark.parametrize("field", ["tos", "packets", "octets", "tcp_flags", "input_interface", "ttl", "vlan", "end_reason", "source_port", "protocol"])
def test_one_wrong_field_is_named_with_both_values(name: str, version: int, field: str) -> None:
    flow = decoded(RECORD, version)
    wrong = replace(flow, **{field: (getattr(flow, field) or 0) + 1})
    if getattr(flow, field) is None:  # what a format does not carry is not compared
        assert not compare_records([(RECORD, (4, 7))], [wrong], view(name, [wrong]))
        return
    (found,) = compare_records([(RECORD, (4, 7))], [wrong], view(name, [wrong]))
    assert (found.kind, found.field, found.frames) == ("field", field, (4, 7))
    assert found.actual == found.expected + 1


def test_absent_is_not_zero() -> None:
    (found,) = compare_records([(replace(RECORD, tos=0), ())], [replace(decoded(RECORD, 10), tos=None)], view("ipfix", []))
    assert (found.field, found.expected, found.actual) == ("tos", 0, None)


def test_uptimes_are_known_modulo_their_span_and_absolute_times_are_not() -> None:
    old = replace(RECORD, first_ns=RECORD.first_ns + 5 * UPTIME_SPAN, last_ns=RECORD.last_ns + 5 * UPTIME_SPAN)
    assert not compare_records([(old, ())], [decoded(RECORD, 9)], view("9", []))
    assert {each.field for each in compare_records([(old, ())], [decoded(RECORD, 10)], view("ipfix", []))} == {"first_ns", "last_ns"}


def test_missing_and_extra() -> None:
    other = replace(RECORD, source_address=b"\x0b\0\0\1", destination_address=b"\x0b\0\0\2", source_port=1, octets=9, packets=1, ttl=1)
    found = compare_records([(RECORD, (0,))], [decoded(other, 10)], view("ipfix", []))
    assert {each.kind for each in found} == {"missing", "extra"}


def test_ipv6_is_nothing_that_v5_misses() -> None:
    ipv6 = replace(RECORD, source_address=bytes(16), destination_address=bytes(16))
    assert not compare_records([(ipv6, ())], [], view("5", []))
    assert compare_records([(ipv6, ())], [], view("9", []))


def test_cross_sees_what_one_format_says_otherwise() -> None:
    ipfix, v5 = decoded(RECORD, 10), decoded(RECORD, 5)
    assert not compare_cross([ipfix], [v5], view("ipfix", []), view("5", []))
    (found,) = compare_cross([ipfix], [replace(v5, octets=301)], view("ipfix", []), view("5", []))
    assert (found.level, found.field, found.actual) == ("cross", "octets", 301)


def test_merged_does_not_see_a_split_and_records_does() -> None:
    a, b = replace(RECORD, packets=1, octets=100), replace(RECORD, packets=2, octets=200)
    flows = [decoded(a, 10), decoded(b, 10)]
    assert not compare_merged([(RECORD, ())], flows, view("ipfix", flows))
    assert compare_records([(RECORD, ())], flows, view("ipfix", flows))
    lost = compare_merged([(RECORD, ())], flows[:1], view("ipfix", flows))
    assert {each.field for each in lost} == {"packets", "octets"}

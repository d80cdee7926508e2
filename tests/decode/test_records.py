# SPDX-License-Identifier: Apache-2.0
"""Flows out of records: times by S-EXP-5, synonyms, absent fields, Biflows; and decoder details."""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest

from flowparity.decode import DecodedFlow, Decoder, Message, Normaliser
from flowparity.decode.values import ntp_to_ns
from tests.decode.build import EXPORT, V9_T, flowset, ipfix, ipfix_options, template, v5, v5_record, v9, v9_data, withdrawal


def one(message: Message, boot: int | None = None) -> DecodedFlow:
    (flow,) = Normaliser(boot).flows(message)
    return flow


def i_flow(specifiers: list[tuple[int, ...]], data: bytes) -> DecodedFlow:
    message = Decoder().feed(ipfix(flowset(2, template(256, *specifiers)), flowset(256, data, pad=False)))  # type: ignore[arg-type]
    return one(message)


def test_v5_times_and_fields() -> None:
    flow = one(Decoder().feed(v5([v5_record(1_000, 2_000)], uptime=5_000, seconds=100, nanoseconds=999_999_999, engine=3)))
    assert (flow.first_ns, flow.last_ns) == ((100_999 - 4_000) * 10**6, (100_999 - 3_000) * 10**6)
    assert (flow.packets, flow.octets, flow.destination_port, flow.worker) == (3, 300, 80, 3)
    assert (flow.end_reason, flow.ttl, flow.vlan) == (None, None, None)


def test_uptimes_across_a_wrap() -> None:
    flow = one(Decoder().feed(v5([v5_record(2**32 - 1_000, 500)], uptime=1_000, seconds=100)))
    assert (flow.first_ns, flow.last_ns) == (98 * 10**9, 99_500 * 10**6)


def v9_flow(uptime: int, seconds: int, boot: int | None = None) -> DecodedFlow:
    data = flowset(256, v9_data(1, uptime - 2_000, uptime - 1_000))
    return one(Decoder().feed(v9(flowset(0, template(256, *V9_T)), data, count=2, uptime=uptime, seconds=seconds)), boot)


def test_v9_header_time_has_the_milliseconds_of_sysuptime() -> None:
    flow = v9_flow(100_123, 1_000)
    assert flow.header_ns == 1_000_123 * 10**6
    assert flow.last_ns == 999_123 * 10**6


def test_v9_after_a_wrap_needs_boot() -> None:
    boot = 1_000
    uptime = 2**32 + 7_654  # ms since boot
    seconds = (boot * 1000 + uptime) // 1000
    flow = v9_flow(uptime % 2**32, seconds, boot)
    assert flow.last_ns == (boot * 1000 + uptime - 1_000) * 10**6


@pytest.mark.parametrize(
    ("specifiers", "data", "port"),
    [
        ([(4, 1), (32, 2)], b"\x01\x03\x01", 0x0301),
        ([(4, 1), (11, 2)], b"\x01\x03\x01", 0x0301),
        ([(4, 1), (11, 2), (32, 2)], b"\x01\x00\x00\x03\x01", 0x0301),
        ([(4, 1), (11, 2), (32, 2)], b"\x01\x08\x00\x00\x00", 0x0800),
        ([(4, 1), (139, 2)], b"\x3a\x80\x00", 0x8000),
        ([(4, 1), (32, 2)], b"\x3a\x80\x00", 0x8000),
        ([(4, 1), (176, 1), (177, 1)], b"\x01\x03\x01", 0x0301),
        ([(4, 1), (178, 1), (179, 1)], b"\x3a\x80\x01", 0x8001),
        ([(4, 1), (11, 2), (32, 2)], b"\x06\x00\x50\x03\x01", 80),
        ([(4, 1), (183, 2)], b"\x06\x00\x50", 80),
        ([(4, 1)], b"\x01", None),
    ],
)
def test_destination_port_and_icmp(specifiers: list[tuple[int, ...]], data: bytes, port: int | None) -> None:
    assert i_flow(specifiers, data).destination_port == port


@pytest.mark.parametrize(
    ("specifiers", "data", "field", "value"),
    [
        ([(58, 2), (245, 2)], b"\0\7\0\x08", "vlan", 7),
        ([(243, 2), (245, 2)], b"\0\7\0\x08", "inner_vlan", 8),
        ([(85, 8), (86, 8)], bytes(7) + b"\5" + bytes(7) + b"\6", "octets", 5),
        ([(85, 8), (86, 8)], bytes(7) + b"\5" + bytes(7) + b"\6", "packets", 6),
        ([(23, 4), (1, 4)], bytes(3) + b"\1" + bytes(3) + b"\2", "octets", 2),
        ([(23, 4)], bytes(3) + b"\1", "octets", 1),
        ([(52, 1)], b"\x40", "ttl", 64),
        ([(150, 4)], struct.pack(">I", 7), "first_ns", 7 * 10**9),
        ([(152, 8)], struct.pack(">Q", 7), "first_ns", 7 * 10**6),
        ([(150, 4), (156, 8)], struct.pack(">III", 7, 2_208_988_800 + 8, 1 << 31), "first_ns", 8_500_000_000),
        ([(158, 4)], struct.pack(">I", 7), "first_ns", EXPORT * 10**9 - 7_000),
        ([(152, 8), (161, 4)], struct.pack(">QI", 7, 5), "last_ns", 12 * 10**6),
        ([(22, 4), (160, 8)], struct.pack(">IQ", 7, 1_000), "first_ns", 1_007 * 10**6),
        ([(22, 4)], struct.pack(">I", 7), "first_ns", None),
        ([(22, 4)], struct.pack(">I", 7), "first_uptime", 7),
        ([(8, 4), (27, 16)], bytes(4) + b"\x20" + bytes(15), "source_address", b"\x20" + bytes(15)),
        ([(8, 4), (27, 16)], b"\x0a\0\0\1" + bytes(16), "source_address", b"\x0a\0\0\1"),
        ([(8, 3)], bytes(3), "source_address", None),
    ],
)
def test_synonyms(specifiers: list[tuple[int, ...]], data: bytes, field: str, value: object) -> None:
    assert getattr(i_flow(specifiers, data), field) == value


def test_system_init_time_from_options_of_the_domain() -> None:
    decoder, normaliser = Decoder(), Normaliser()
    options = ipfix(flowset(3, ipfix_options(300, [(149, 4), (160, 8)])), flowset(300, struct.pack(">IQ", 1, 1_000)))
    flows = ipfix(flowset(2, template(256, (22, 4))), flowset(256, struct.pack(">I", 7)))
    assert normaliser.flows(decoder.feed(options)) == []
    assert normaliser.flows(decoder.feed(flows))[0].first_ns == 1_007 * 10**6


def test_biflow_and_repeats() -> None:
    flow = i_flow([(8, 4), (12, 4), (2, 1), (2, 1, 29305), (4, 1), (4, 1)], b"\1\1\1\1\2\2\2\2\5\6\x11\x06")
    assert flow.reverse is not None
    assert (flow.packets, flow.reverse.packets) == (5, 6)
    assert flow.reverse.source_address == b"\2\2\2\2"
    assert flow.repeats == {"protocolIdentifier": (17, 6)}


def test_ntp_floors_and_knows_the_next_era() -> None:
    ns = 123_456_789
    fraction = -(-ns * 2**32 // 10**9)
    assert ntp_to_ns(struct.pack(">II", 2_208_988_800 + 5, fraction)) == 5 * 10**9 + ns
    assert ntp_to_ns(struct.pack(">II", 0, 0)) == (2**32 - 2_208_988_800) * 10**9


def test_templates_live_by_source_and_domain() -> None:
    decoder = Decoder(reliable=True)
    define, data = flowset(2, template(256, (4, 1))), flowset(256, b"\6", pad=False)
    decoder.feed(ipfix(define), source="a")
    assert decoder.feed(ipfix(data), source="a").records[0].get("protocolIdentifier") == 6
    assert decoder.feed(ipfix(data), source="b").undecoded
    assert decoder.feed(ipfix(data, domain=2), source="a").undecoded
    kinds = [event.kind for event in decoder.feed(ipfix(define, withdrawal(2, 256), define, withdrawal(2, 2)), source="a").templates]
    assert kinds == ["refresh", "withdrawn", "new", "withdrawn_all"]
    assert decoder.feed(ipfix(data), source="a").undecoded


def test_unknown_enterprise_elements_keep_the_record_aligned() -> None:
    message = Decoder().feed(ipfix(flowset(2, template(256, (77, 3, 9999), (4, 1))), flowset(256, b"abc\6", pad=False)))
    assert message.records[0].values[0][1] == b"abc"
    assert message.records[0].get("protocolIdentifier") == 6
    assert message.problems == []


def test_options_scope() -> None:
    message = Decoder().feed(ipfix(flowset(3, ipfix_options(300, [(149, 4), (143, 4), (160, 8)], 2)), flowset(300, bytes(16))))
    (record,) = message.options
    assert [element.name for element, _ in record.scope] == ["observationDomainId", "meteringProcessId"]


def test_decoder_shares_nothing_with_the_other_witnesses() -> None:
    code = "import sys, flowparity.decode; print(*sorted(m for m in sys.modules if m.startswith('flowparity.') and not m.startswith('flowparity.decode')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split() == []

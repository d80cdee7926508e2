# SPDX-License-Identifier: Apache-2.0
"""No octets make the decoder fail, hang or grow without bound."""

from __future__ import annotations

import struct
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from flowparity import catalogue
from flowparity.decode import Decoder, Message, Normaliser
from flowparity.decode.state import MAX_FIELDS, MAX_PROBLEMS, MAX_VALUES
from tests.decode.build import IPFIX_T, V9_T, fields, flowset, ipfix, ipfix_data, ipfix_options, template, v5, v9, v9_data, v9_options, withdrawal

SEEDS = [
    v5(),
    v9(flowset(0, template(256, *V9_T)), flowset(256, v9_data(3)), count=4),
    v9(flowset(1, v9_options(257, [(1, 4)], [(34, 4), (35, 1)])), flowset(257, bytes(9)), count=2),
    ipfix(flowset(2, template(256, *IPFIX_T)), flowset(256, ipfix_data(3))),
    ipfix(flowset(2, template(256, (8, 4), (82, 65535), (1, 8, 29305), (154, 8), (276, 1))), flowset(256, bytes(4) + b"\x03eth" + bytes(17))),
    ipfix(flowset(3, ipfix_options(257, [(149, 4), (41, 8), (322, 4), (322, 4)])), flowset(257, bytes(20)), withdrawal(3, 257), withdrawal(2, 2)),
]


def sane(message: Message) -> None:
    known = catalogue.requirements()
    assert len(message.problems) <= MAX_PROBLEMS
    assert all(p.rule_id in known and 0 <= p.offset <= message.size for p in message.problems)
    assert all(0 <= s.offset <= s.offset + s.length <= message.size for s in message.sets)
    assert sum(len(r.values) for r in message.records) <= MAX_VALUES
    assert all(0 <= r.offset <= r.offset + r.length <= message.size for r in message.records)
    Normaliser().flows(message)


@given(st.lists(st.binary(max_size=200), max_size=4), st.booleans())
def test_random_octets(payloads: list[bytes], reliable: bool) -> None:
    decoder = Decoder(reliable=reliable)
    for payload in payloads:
        sane(decoder.feed(payload))


@given(st.sampled_from([b"\0\5", b"\0\x09", b"\0\x0a"]), st.binary(max_size=400), st.booleans())
def test_random_bodies(version: bytes, body: bytes, reliable: bool) -> None:
    sane(Decoder(reliable=reliable).feed(version + body))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1))
        data[at] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


@settings(max_examples=500)
@given(st.lists(mutated(), min_size=1, max_size=4), st.booleans())
def test_mutated_datagrams(payloads: list[bytes], reliable: bool) -> None:
    decoder = Decoder(reliable=reliable)
    for payload in payloads:
        sane(decoder.feed(payload))


def test_seeds_decode_without_problems() -> None:
    for seed in SEEDS[:5]:
        assert [p for p in Decoder().feed(seed).problems if p.rule_id != "IPFIX-ENC-04"] == []
    assert Decoder(reliable=True).feed(SEEDS[5]).problems == []


def test_template_of_empty_fields_is_no_bomb() -> None:
    many = struct.pack(">HH", 256, 16_001) + fields((4, 1)) + fields((210, 0)) * 16_000
    decoder = Decoder()
    decoder.feed(ipfix(flowset(2, many)))
    message = decoder.feed(ipfix(flowset(256, bytes(60_000))))
    sane(message)
    assert "DEC-LIM-01" in {p.rule_id for p in message.problems}


def test_records_of_no_octets_end() -> None:
    message = Decoder().feed(ipfix(flowset(2, template(256, (210, 0))), flowset(256, bytes(100))))
    assert "DEC-LIM-02" in {p.rule_id for p in message.problems}


def test_templates_are_bounded() -> None:
    decoder = Decoder()
    body = fields((4, 1)) * 16_000
    rules: set[str] = set()
    for domain in range(MAX_FIELDS // 16_000 + 2):
        rules |= {p.rule_id for p in decoder.feed(ipfix(flowset(2, struct.pack(">HH", 256, 16_000) + body), domain=domain)).problems}
    assert rules == {"DEC-LIM-03"}


def _operations(payload: bytes, *before: bytes) -> int:
    """Calls and returns that decoding takes: a measure of work that no clock disturbs."""
    decoder = Decoder(reliable=True)
    for each in before:
        decoder.feed(each)
    count = 0

    def tally(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(tally)
    try:
        decoder.feed(payload)
    finally:
        sys.setprofile(None)
    return count


def test_work_is_bounded_by_length() -> None:
    """Sets without records, withdrawals of everything and zeros cost no more than their octets, whatever was defined before."""
    defined = ipfix(*(flowset(3, ipfix_options(256 + n, [(149, 4), (41, 8)])) for n in range(3_000)))
    wide = ipfix(flowset(2, struct.pack(">HH", 256, 16_000) + fields((4, 1)) * 16_000))
    assert _operations(ipfix(withdrawal(2, 2) * 8_000), defined) < 40 * 8_000
    assert _operations(ipfix(flowset(256, b"") * 16_000), wide) < 40 * 16_000
    assert _operations(ipfix(flowset(2, bytes(65_000) + b"\1")), defined) < 1_000
    assert _operations(v9(flowset(0, bytes(65_000) + b"\1"), count=1)) < 1_000

# SPDX-License-Identifier: Apache-2.0
"""Sequence numbers: what is a loss, what is not, and what cannot be."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from flowparity.decode import Decoder, Problem
from flowparity.sequence import Sequences, StreamSequence
from tests.decode.build import EXPORT, flowset, ipfix, template, v5, v5_record, v9

SHORT = template(256, (4, 1), (5, 1))
RECORD = b"\x06\x00"


def data9(sequence: int, records: int = 4, **more: int) -> bytes:
    """Distinct in every number, as real ones are in their times."""
    return v9(flowset(256, RECORD * records), count=records, sequence=sequence, **more)


def data10(sequence: int, records: int = 4, salt: int = 0) -> bytes:
    return ipfix(flowset(256, bytes([6, salt]) * records), sequence=sequence)


def read(datagrams: Sequence[bytes]) -> tuple[StreamSequence, list[Problem]]:
    sequences, decoder = Sequences(), Decoder()
    problems = []
    for payload in datagrams:
        _, problem = sequences.take(decoder.feed(payload, "exporter"), payload)
        problems += [problem] if problem else []
    (stream,) = sequences.streams
    return stream, problems


V5 = [v5([v5_record()] * 2, sequence=number) for number in range(0, 20, 2)]
V9 = [v9(flowset(0, SHORT), count=1, sequence=0), *(data9(number) for number in range(1, 10))]
IPFIX = [ipfix(flowset(2, SHORT), sequence=0), *(data10(number) for number in range(0, 36, 4))]
STREAMS = pytest.mark.parametrize(("datagrams", "step"), [(V5, 2), (V9, 1), (IPFIX, 4)], ids=["v5", "v9", "ipfix"])


@STREAMS
def test_nothing_is_said_of_a_whole_stream(datagrams: list[bytes], step: int) -> None:
    stream, problems = read(datagrams)
    assert (stream.lost, stream.late, stream.repeated, stream.restarts, stream.incomplete, problems) == (0, 0, 0, 0, False, [])
    assert stream.mistake() is None


@STREAMS
def test_every_loss_is_counted_and_no_rule_is_broken(datagrams: list[bytes], step: int) -> None:
    stream, problems = read([each for index, each in enumerate(datagrams) if index not in (3, 5, 6)])
    assert (stream.lost, problems) == (3 * step, [])
    assert stream.incomplete
    assert stream.mistake() is None


@STREAMS
def test_late_and_repeated_datagrams(datagrams: list[bytes], step: int) -> None:
    stream, problems = read([*datagrams[:3], datagrams[5], datagrams[4], datagrams[3], *datagrams[5:]])
    assert (stream.lost, stream.late, stream.repeated, problems) == (0, 2, 1, [])


@STREAMS
def test_over_the_top(datagrams: list[bytes], step: int) -> None:
    """Modulo 2^32."""
    start = 2**32 - 2 * step
    offset = 12 if datagrams is V9 else 16 if datagrams is V5 else 8
    moved = []
    for payload in datagrams:
        number = (int.from_bytes(payload[offset : offset + 4], "big") + start) % 2**32
        moved.append(payload[:offset] + number.to_bytes(4, "big") + payload[offset + 4 :])
    stream, problems = read([each for index, each in enumerate(moved) if index != 4])
    assert (stream.lost, problems) == (step, [])


def test_steps_that_no_loss_can_explain() -> None:
    """As softflowd 1.1.0 sends: 19, then 25, where the first message holds 20 data records."""
    first = ipfix(flowset(2, SHORT), flowset(256, RECORD * 20), sequence=19)
    stream, problems = read([first, data10(25), data10(29)])
    assert [(each.rule_id, each.offset) for each in problems] == [("IPFIX-HDR-04", 8)]
    assert "25, not 39" in problems[0].text
    assert stream.lost == 0
    _, problems = read([v5([v5_record()] * 2, sequence=0), v5([v5_record()] * 2, sequence=1, seconds=EXPORT + 1, uptime=101_000)])
    assert [each.rule_id for each in problems] == ["V5-HDR-08"]
    _, problems = read([*V9, data9(5, records=3)])
    assert [each.rule_id for each in problems] == ["V9-HDR-05"]
    _, problems = read([IPFIX[0], *(data10(0, salt=salt) for salt in range(4))])
    assert [each.rule_id for each in problems] == ["IPFIX-HDR-04"] * 3


def test_a_restarted_exporter() -> None:
    again = [v9(flowset(0, SHORT), count=1, sequence=0, uptime=10, seconds=EXPORT + 60), data9(1, uptime=20, seconds=EXPORT + 60)]
    stream, problems = read([*V9, *again])
    assert (stream.restarts, stream.lost, problems) == (1, 0, [])
    stream, problems = read([*V5, v5(sequence=3, uptime=20, seconds=EXPORT + 60)])
    assert (stream.restarts, stream.lost, problems) == (1, 0, [])
    stream, problems = read([*IPFIX, ipfix(flowset(2, SHORT), flowset(256, RECORD * 4), sequence=0), data10(4, salt=9)])
    assert (stream.restarts, stream.lost, problems) == (1, 0, [])


def test_counting_something_else_is_no_loss() -> None:
    records = [v9(flowset(0, SHORT), count=1, sequence=0), *(data9(number) for number in range(0, 24, 4))]
    mistake = read(records)[0].mistake()
    assert mistake is not None
    assert mistake.rule_id == "V9-HDR-05"
    templates = [ipfix(flowset(2, SHORT), flowset(256, RECORD * 4), sequence=number) for number in range(0, 30, 5)]
    mistake = read(templates)[0].mistake()
    assert mistake is not None
    assert mistake.rule_id == "IPFIX-HDR-06"


def test_data_that_cannot_be_counted_is_no_loss() -> None:
    """Before the template came, nobody knows how many records there were."""
    stream, problems = read([data10(0), data10(4), *IPFIX[3:]])
    assert (stream.lost, problems) == (0, [])


def test_domains_count_for_themselves() -> None:
    sequences, decoder = Sequences(), Decoder()
    for payload in (v5(sequence=0, engine=1), v5(sequence=0, engine=2), v5(sequence=1, engine=1), v5(sequence=3, engine=2)):
        _, problem = sequences.take(decoder.feed(payload, "exporter"), payload)
        assert problem is None
    assert [(stream.domain, stream.lost) for stream in sequences.streams] == [(1, 0), (2, 2)]


def test_losses_that_look_like_a_mistake_for_a_while() -> None:
    start = v9(flowset(0, SHORT), flowset(256, RECORD * 4), count=5, sequence=0)
    assert read([start, data9(4), data9(8), data9(12)])[0].mistake() is not None
    stream, problems = read([start, data9(4), data9(8), data9(12), data9(13)])
    assert (stream.lost, stream.mistake(), problems) == (9, None, [])

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowparity.anonymise import anonymise_frames
from flowparity.capture import read_capture
from flowparity.errors import InputError
from flowparity.frame import Frame
from flowparity.harness.cases import cases_of
from flowparity.harness.engine import Settings
from flowparity.packet import Packet, parse
from flowparity.shrink import ddmin, shrink

FIXTURES = Path(__file__).parent.parent.parent / "fixtures"


def numbered(count: int) -> list[Frame]:
    return [Frame(index, b"", 0, index=index) for index in range(count)]


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1, max_size=3))))
def test_ddmin_keeps_exactly_what_is_needed(drawn: tuple[int, set[int]]) -> None:
    count, needed = drawn

    def fails(some: Sequence[Frame]) -> bool:
        return needed <= {frame.index for frame in some}

    assert {frame.index for frame in ddmin(numbered(count), fails)} == needed


def test_shrinks_to_the_one_packet_that_fails() -> None:
    (case,) = cases_of([FIXTURES / "recorded" / "dns.pcap"])
    found = shrink(case, "saboteur:octets-off-by-one", "9", Settings(), signature=("records", "octets"))
    assert found.before > 40
    assert len(found.frames) == 1
    assert found.problem.field == "octets"
    plain = shrink(case, "saboteur:octets-off-by-one", "9", Settings(), signature=("records", "octets"), anonymise=True)
    packets = [parse(frame) for frame in (*found.frames, *plain.frames)]
    assert isinstance(packets[0], Packet)
    assert isinstance(packets[1], Packet)
    assert packets[0].octets == packets[1].octets
    assert packets[0].source != packets[1].source


def test_what_does_not_fail_is_not_shrunk() -> None:
    (case,) = cases_of([FIXTURES / "lengths" / "padding.pcap"])
    with pytest.raises(InputError, match="nothing to shrink"):
        shrink(case, "reference", "9", Settings())


def common_bits(a: bytes, b: bytes) -> int:
    different = int.from_bytes(a, "big") ^ int.from_bytes(b, "big")
    return 8 * len(a) - different.bit_length()


@pytest.mark.parametrize("name", ["dns.pcap", "http-ipv4.pcap", "http-ipv6.pcapng"])
def test_anonymising_keeps_prefixes_lengths_and_checksums(name: str) -> None:
    before = list(read_capture(FIXTURES / "recorded" / name))
    after = anonymise_frames(before, b"key")
    assert [(len(a.data), a.wirelen, a.ts_ns) for a in before] == [(b.wirelen and len(b.data), b.wirelen, b.ts_ns) for b in after]
    seen: dict[bytes, bytes] = {}
    for a, b in zip(before, after, strict=True):
        old, new = parse(a), parse(b)
        if isinstance(old, Packet):
            assert isinstance(new, Packet)
            assert old._replace(source=b"", destination=b"") == new._replace(source=b"", destination=b"")
            assert seen.setdefault(old.source, new.source) == new.source
            assert seen.setdefault(old.destination, new.destination) == new.destination
    for (a, x), (b, y) in combinations(seen.items(), 2):
        if len(a) == len(b):
            assert common_bits(a, b) == common_bits(x, y), (ipaddress.ip_address(a), ipaddress.ip_address(b))
    assert any(old != new for old, new in seen.items())

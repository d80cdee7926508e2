# SPDX-License-Identifier: Apache-2.0
"""Datagrams that the kernel had not cut yet when they were captured: cut where it would, and nowhere else."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from flowparity.collector import read_capture
from flowparity.segments import split
from tests.decode.build import dgram, flowset, ipfix, template, v5, v5_record, v9

SHORT = template(256, (4, 1), (5, 1))
RECORD = b"\x06\x00"


def parts(version: int) -> list[bytes]:
    """Four datagrams of one size and a shorter one."""
    if version == 5:
        return [v5([v5_record()] * (2 if index < 4 else 1), sequence=7 + 2 * index) for index in range(5)]
    if version == 9:
        return [v9(flowset(256, RECORD * (6 if index < 4 else 4)), count=6, sequence=7 + index) for index in range(5)]
    return [ipfix(flowset(256, RECORD * (6 if index < 4 else 4)), sequence=6 * index) for index in range(5)]


VERSIONS = pytest.mark.parametrize("version", [5, 9, 10])


@VERSIONS
def test_they_are_cut_where_the_kernel_cuts(version: int) -> None:
    whole = dgram(b"".join(parts(version)), unfinished=True, ip_octets=28 + len(b"".join(parts(version))))
    found = split(whole)
    assert [each.payload for each in found] == parts(version)
    assert [each.ip_octets for each in found] == [28 + len(each) for each in parts(version)]
    assert split(found[0]) == [found[0]]


@VERSIONS
def test_a_datagram_that_crossed_a_wire_is_what_it_is(version: int) -> None:
    """Several messages in one datagram are then the exporter's fault (IPFIX-UDP-04)."""
    whole = dgram(b"".join(parts(version)), checksum=True)
    assert split(whole) == [whole]


@VERSIONS
def test_what_the_kernel_would_not_make_stays_whole(version: int) -> None:
    one, two, three, four, short = parts(version)
    foreign = dict(zip((5, 9, 10), (parts(9)[1], parts(10)[1], parts(5)[1]), strict=True))[version]
    for wrong in ([one, short, two], [one, three, two], [one, one], [one, two + b"\0\0"], [one, two[:-2]], [one, foreign], [short, four]):
        whole = dgram(b"".join(wrong), unfinished=True)
        assert split(whole) == [whole], wrong


@VERSIONS
def test_another_domain_is_another_datagram(version: int) -> None:
    one, two, *_ = parts(version)
    at = {5: 20, 9: 16, 10: 12}[version]
    whole = dgram(one + two[:at] + b"\7\7\7\7" + two[at + 4 :], unfinished=True)
    assert split(whole) == [whole]


@VERSIONS
def test_no_octets_raise_and_nothing_is_lost(version: int) -> None:
    generator = random.Random(version)
    octets = b"".join(parts(version))
    for _ in range(2_000):
        damaged = bytearray(octets[: generator.randrange(len(octets) + 1)])
        for _ in range(generator.randrange(4)):
            if damaged:
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        assert b"".join(each.payload for each in split(dgram(bytes(damaged), unfinished=True))) == bytes(damaged)


@pytest.mark.parametrize("version", [4, 6])
def test_an_unfinished_checksum_is_known(tmp_path: Path, version: int) -> None:
    """The sum of the pseudo header, as Linux leaves it; a right one and a wrong one are neither."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether
    from scapy.utils import wrpcap

    ip = IP(src="192.0.2.1", dst="192.0.2.2") if version == 4 else IPv6(src="2001:db8::1", dst="2001:db8::2")
    packed = [int.from_bytes(bytes(pair), "big") for pair in zip(*[iter(_addresses(version))] * 2, strict=True)]
    partial = sum(packed) + 17 + 8 + 100
    partial = (partial & 0xFFFF) + (partial >> 16)
    kinds = [Ether() / ip / UDP(sport=1, dport=2, **more) / bytes(100) for more in ({"chksum": partial}, {}, {"chksum": 0x1234})]
    wrpcap(str(tmp_path / "x.pcap"), [Ether(bytes(each)) for each in kinds])
    found = list(read_capture(tmp_path / "x.pcap"))
    assert [(each.unfinished, each.checksum) for each in found] == [(True, None), (False, True), (False, False)]
    assert replace(found[0], arrival_ns=0).payload == bytes(100)


def _addresses(version: int) -> bytes:
    if version == 4:
        return bytes([192, 0, 2, 1, 192, 0, 2, 2])
    return bytes.fromhex("20010db8" + "0" * 23 + "1" + "20010db8" + "0" * 23 + "2")

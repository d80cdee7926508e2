# SPDX-License-Identifier: Apache-2.0
"""Frame to verdict and packet, rule by rule (S-VER, S-LNK, S-LEN, S-PRT, S-SUP of docs/semantics.md)."""

from __future__ import annotations

import struct

import pytest

from flowparity.frame import Frame
from flowparity.links import Refusal
from flowparity.packet import Packet, parse

from .build import A4, B4, checksum, ethernet, frame, ipv4, ipv6, tcp, udp

MPLS, PPPOE, V4, V6 = 0x8847, 0x8864, 0x0800, 0x86DD


def packet(data: bytes | Frame, **rest: object) -> Packet:
    got = parse(data if isinstance(data, Frame) else frame(data, **rest))  # type: ignore[arg-type]
    assert isinstance(got, Packet), got
    return got


def refusal(data: bytes | Frame, **rest: object) -> tuple[str, str]:
    got = parse(data if isinstance(data, Frame) else frame(data, **rest))  # type: ignore[arg-type]
    assert isinstance(got, Refusal), got
    return got.verdict, got.rule


def header(kind: int, data: bytes = b"", size: int = 0) -> bytes:
    """An IPv6 extension header before `kind`; `size` is the length octet."""
    return struct.pack("!BB", kind, size) + data.ljust(size * 8 + 6, b"\0")


@pytest.mark.parametrize(
    "data",
    [
        bytes(13),  # a runt
        ethernet(b"\0\1", 0x0806),
        ethernet(b"\x42\x42\x03", 3),  # spanning tree
        ethernet(b"", 0x8100),
        ethernet(ipv4(udp()), V4, *[(0x8100, 1)] * 9),
        ethernet(b"\0\0\x10", MPLS),
        ethernet(b"\0\0\x10\xff", MPLS),  # a label that is not the last
        ethernet(b"\0\0\x11\xff", MPLS),  # nothing after the last
        ethernet(b"\0\0\x11\xff" + b"\x00" * 40, MPLS),
        ethernet(b"\x11\0\0\1\0\x16\0", PPPOE),
    ],
    ids=["runt", "arp", "stp", "cut-tag", "nine-tags", "cut-label", "no-bottom", "empty-mpls", "nibble-0", "cut-pppoe"],
)
def test_not_ip(data: bytes) -> None:
    """S-VER-4."""
    assert refusal(data)[0] == "non_ip"


@pytest.mark.parametrize(
    "data",
    [
        ethernet(ipv4(udp())[:19]),
        ethernet(ipv6(udp()), V4),
        ethernet(ipv4(udp(bytes(20))), V6),
        ethernet(ipv6(udp())[:39], V6),
        ethernet(ipv4(udp(), ihl=4)),
        ethernet(ipv4(udp(), ihl=8)),  # 32 octets of header in a packet of 28
        ethernet(ipv4(udp(), total=19)),
        ethernet(ipv4(udp(), total=29)),
        ethernet(ipv6(udp(), length=9), V6),
    ],
    ids=["short4", "version6", "version4", "short6", "ihl4", "ihl-beyond", "total19", "beyond4", "beyond6"],
)
def test_malformed(data: bytes) -> None:
    """S-VER-5."""
    assert refusal(data) == ("malformed", "S-VER-5")


def test_a_type_field_below_0x0600_is_a_length() -> None:
    """S-VER-4: the verdict is the same, people are told which it was."""
    reasons = [getattr(parse(frame(ethernet(bytes(60), kind))), "why", "") for kind in (0x05FF, 0x0600)]
    assert ["LLC" in each for each in reasons] == [True, False]


def test_raw_ip_judges_by_its_nibble() -> None:
    """S-VER-5, S-LNK-1."""
    assert packet(ipv4(udp()), link=101).source == A4
    assert packet(ipv6(udp()), link=12).protocol == 17
    assert refusal(ipv4(udp(), version=5), link=14)[0] == "malformed"
    assert refusal(ipv6(udp()), link=228)[0] == "malformed"
    assert refusal(b"", link=101)[0] == "malformed"


def test_cut_options_and_bad_checksums_are_metered() -> None:
    """S-VER-6."""
    cut = ethernet(ipv4(udp(), options=bytes(40)))[: 14 + 24]
    assert packet(cut, wire=14 + 68)[:5] == (A4, B4, 0, 0, 17)
    wrong = bytearray(ethernet(ipv4(udp())))
    wrong[24] ^= 0xFF
    assert packet(bytes(wrong)).octets == 28


def test_tags_in_any_order_stripped_first() -> None:
    """S-LNK-2, S-REC-3."""
    data = ethernet(ipv4(udp()), V4, (0x88A8, 0xE064), (0x8100, 0x00C8))
    assert packet(data)[7:9] == (0x064, 0x0C8)
    assert packet(data, tags=((0x8100, 0xF005),))[7:9] == (5, 0x064)
    assert packet(ethernet(ipv4(udp()), V4, (0x9100, 0x1007)))[7:9] == (7, 0)
    assert packet(ethernet(ipv4(udp())), tags=((0x8100, 0),))[7:9] == (0, 0)
    assert refusal(ethernet(ipv4(udp()), V4, *[(0x8100, 1)] * 7), tags=((0x8100, 1), (0x8100, 1))) == ("non_ip", "S-VER-4")


def test_mpls_guesses_are_confirmed() -> None:
    """S-LNK-3."""
    stack = b"\0\x01\0\xff\0\x02\x01\xff"
    assert packet(ethernet(stack + ipv4(udp()), MPLS)).octets == 28
    assert packet(ethernet(stack + ipv6(udp()), 0x8848)).octets == 48
    wrong = bytearray(ipv4(udp()))
    wrong[8] ^= 1
    assert refusal(ethernet(stack + bytes(wrong), MPLS)) == ("non_ip", "S-LNK-3")
    assert refusal(ethernet(stack + ipv4(udp(), total=200), MPLS)) == ("non_ip", "S-LNK-3")
    cut = ethernet(stack + ipv4(udp(), options=bytes(8)), MPLS)[: 14 + 8 + 24]
    assert refusal(cut, wire=14 + 8 + 36) == ("non_ip", "S-LNK-3")


def test_pppoe() -> None:
    """S-LNK-4: the PPPoE length is not used."""
    session = struct.pack("!BBHH", 0x11, 0, 1, 9999)
    assert packet(ethernet(session + b"\0\x21" + ipv4(udp()), PPPOE)).octets == 28
    assert packet(ethernet(session + b"\0\x57" + ipv6(udp()), PPPOE)).octets == 48
    assert refusal(ethernet(session + b"\xc0\x21" + ipv4(udp()), PPPOE)) == ("non_ip", "S-LNK-4")
    assert refusal(ethernet(b"\x11\x09" + session[2:] + b"\0\x21" + ipv4(udp()), PPPOE)) == ("non_ip", "S-LNK-4")


@pytest.mark.parametrize(("family", "build"), [(2, ipv4), (10, ipv6), (24, ipv6), (28, ipv6), (30, ipv6)])
def test_null_and_loopback(family: int, build: object) -> None:
    """S-LNK-5."""
    data = build(udp())  # type: ignore[operator]
    assert packet(struct.pack("<I", family) + data, link=0).protocol == 17
    assert packet(struct.pack(">I", family) + data, link=0).protocol == 17
    assert packet(struct.pack(">I", family) + data, link=108).protocol == 17
    assert refusal(struct.pack("<I", family) + data, link=108) == ("non_ip", "S-LNK-5")


def test_cooked() -> None:
    """S-LNK-5: the protocol is an EtherType; v2 has the interface."""
    first = struct.pack("!HHH8sH", 0, 1, 6, bytes(8), 0x8100) + b"\0\7\x08\0" + ipv4(udp())
    assert packet(first, link=113)[7] == 7
    second = struct.pack("!HHIHBB8s", V6, 0, 42, 1, 0, 6, bytes(8)) + ipv6(udp())
    assert packet(second, link=276, interface=3).interface == 42
    assert packet(first, link=113, interface=3).interface == 3
    assert refusal(first[:15], link=113) == refusal(second[:19], link=276) == ("non_ip", "S-VER-4")


def test_a_wire_length_below_the_captured_one() -> None:
    """S-LNK-6, S-LEN-1: total length 0 means L."""
    assert packet(ethernet(ipv4(udp(), total=0)), wire=10).octets == 28


def test_padding_never_counts() -> None:
    """S-LEN-3: 29 octets in a frame padded to 60; S-LEN-1: 0 is the rest of the frame."""
    data = ethernet(ipv4(udp(b"x"))).ljust(60, b"\0")
    assert packet(data).octets == 29
    assert packet(ethernet(ipv4(udp(bytes(100)), total=0))[:60], wire=142).octets == 128


def test_nothing_behind_the_end_is_read() -> None:
    """S-LEN-4: the UDP header is Ethernet padding here."""
    assert packet(ethernet(ipv4(udp(), total=22))).destination_port == 0
    assert packet(ethernet(ipv4(tcp(0x12), 6, total=33))).tcp_flags == 0
    assert packet(ethernet(ipv4(tcp(0x12), 6, total=34))).tcp_flags == 0x12


def jumbo(value: int, size: int = 4, before: bytes = b"") -> bytes:
    return before + struct.pack("!BB", 0xC2, size) + struct.pack("!I", value)


@pytest.mark.parametrize(
    ("option", "octets"),
    [
        (jumbo(70_000), 70_040),
        (jumbo(65_535), 40),
        (jumbo(70_000, 5), 40),
        (b"\0\0" + jumbo(70_000), 40),  # it would end behind the header
        (b"\x01\x04\0\0\0\0", 40),
    ],
    ids=["jumbo", "too-small", "other-length", "beyond-its-header", "padn"],
)
def test_jumbograms(option: bytes, octets: int) -> None:
    """S-LEN-2."""
    data = ethernet(ipv6(header(17, option) + udp(), 0, length=0), V6)
    assert packet(data, wire=14 + 70_040).octets == octets


def test_jumbo_is_ignored_with_a_length_and_must_fit() -> None:
    """S-LEN-2, S-VER-5."""
    assert packet(ethernet(ipv6(header(17, jumbo(70_000)) + udp(), 0), V6)).octets == 56
    assert refusal(ethernet(ipv6(header(17, jumbo(70_000)) + udp(), 0, length=0), V6)) == ("malformed", "S-VER-5")


def test_ipv6_length_0() -> None:
    """S-LEN-2: offload for TCP and UDP, else an empty packet."""
    assert packet(ethernet(ipv6(udp(bytes(10)), 17, length=0), V6)).octets == 58
    assert packet(ethernet(ipv6(tcp(0x02), 6, length=0), V6))[-3:] == (0x02, 1, 60)
    assert packet(ethernet(ipv6(udp(bytes(10)), 58, length=0), V6))[1:] == packet(ethernet(ipv6(b"", 58), V6))[1:]


def test_ipv4_walks_nothing() -> None:
    """S-PRT-1."""
    assert packet(ethernet(ipv4(header(17, bytes(10)) + udp(), 51)))[2:5] == (0, 0, 51)


def test_ipv6_walks_headers() -> None:
    """S-PRT-2: sizes of AH and fragment headers differ from the others'."""
    ah = struct.pack("!BB", 60, 4) + bytes(22)
    chain = header(51) + ah + header(44) + struct.pack("!BBHI", 17, 99, 1, 7) + udp()
    assert packet(ethernet(ipv6(chain, 0), V6))[2:5] == (1000, 2000, 17)


@pytest.mark.parametrize(("headers", "protocol"), [(16, 17), (17, 60)])
def test_ipv6_passes_16_headers(headers: int, protocol: int) -> None:
    """S-PRT-2."""
    chain = header(60) * (headers - 1) + header(17) + udp()
    assert packet(ethernet(ipv6(chain, 60), V6)).protocol == protocol


def test_a_header_that_is_not_wholly_there_stays_the_protocol() -> None:
    """S-PRT-2."""
    whole = ethernet(ipv6(header(17, size=1) + udp(), 43), V6)
    assert packet(whole).protocol == 17
    assert packet(whole[: 14 + 40 + 15], wire=len(whole)).protocol == 43
    assert packet(whole[: 14 + 40 + 16], wire=len(whole)).protocol == 17


def test_a_header_in_ethernet_padding_is_none() -> None:
    """S-PRT-2, S-LEN-4: captured, but behind `end`."""
    assert packet(ethernet(ipv6(header(17, size=1), 60, length=8), 0x86DD)).protocol == 60


def test_fragments() -> None:
    """S-PRT-6, S-PRT-2: only the first has ports; a later one stops the walk after its header."""
    assert packet(ethernet(ipv4(udp(), fragment=0x2000)))[2:4] == (1000, 2000)
    assert packet(ethernet(ipv4(udp(), fragment=0x0001)))[2:4] == (0, 0)
    assert packet(ethernet(ipv4(tcp(0x02), 6, fragment=1))).tcp_flags == 0
    assert packet(ethernet(ipv4(bytes((8, 0)), 1, fragment=1))).destination_port == 0
    later = struct.pack("!BBHI", 60, 0, 8, 7) + header(17) + udp()
    assert packet(ethernet(ipv6(later, 44), V6))[2:5] == (0, 0, 60)


@pytest.mark.parametrize("protocol", [6, 17, 33, 132, 136])
def test_ports(protocol: int) -> None:
    """S-PRT-3: four octets are enough, three are not."""
    assert packet(ethernet(ipv4(udp()[:4], protocol)))[2:4] == (1000, 2000)
    assert packet(ethernet(ipv4(udp()[:3], protocol)))[2:4] == (0, 0)


def test_other_protocols_have_no_ports() -> None:
    """S-PRT-3."""
    assert packet(ethernet(ipv4(udp(), 47)))[2:4] == (0, 0)


def test_icmp() -> None:
    """S-PRT-4: each ICMP in its own IP version only."""
    assert packet(ethernet(ipv4(b"\x03\x0d", 1)))[2:4] == (0, 0x030D)
    assert packet(ethernet(ipv6(b"\x80\x01", 58), V6))[2:4] == (0, 0x8001)
    assert packet(ethernet(ipv4(b"\x80\x01", 58)))[2:4] == packet(ethernet(ipv6(b"\x03\x0d", 1), V6))[2:4] == (0, 0)
    assert packet(ethernet(ipv4(b"\x03", 1))).destination_port == 0


def test_tcp_flags_are_12_bits() -> None:
    """S-PRT-5."""
    assert packet(ethernet(ipv4(tcp(0xFFF), 6))).tcp_flags == 0xFFF


@pytest.mark.parametrize(
    ("payload", "protocol", "extra"),
    [
        (tcp(offset=8, data=bytes(100)), 6, 20 + 32),
        (tcp(offset=4), 6, 20 + 20),
        (tcp()[:12], 6, 20 + 20),
        (udp(), 17, 20 + 8),
        (bytes(40), 132, 20),
    ],
    ids=["tcp", "offset-4", "cut", "udp", "sctp"],
)
def test_super_packets(payload: bytes, protocol: int, extra: int) -> None:
    """S-SUP-1."""
    got = packet(ethernet(ipv4(payload, protocol)), segments=3)
    assert (got.packets, got.octets) == (3, 20 + len(payload) + 2 * extra)


def test_super_packets_repeat_ipv6_headers_but_no_transport_of_later_fragments() -> None:
    """S-SUP-1."""
    assert packet(ethernet(ipv6(header(17) + udp(), 60), V6), segments=2).octets == 56 + 40 + 8 + 8
    assert packet(ethernet(ipv4(udp(), fragment=1)), segments=2).octets == 28 + 20


def test_ipv6_fields() -> None:
    """S-REC-1: traffic class, flow label and hop limit."""
    got = packet(ethernet(ipv6(udp(), tos=0xA7, label=0xFEDCB, hops=3), V6))
    assert (got.tos, got.flow_label, got.ttl) == (0xA7, 0xFEDCB, 3)


def test_the_helper_makes_right_checksums() -> None:
    """What S-LNK-3 is tested with."""
    assert checksum(ipv4(udp())[:20]) == 0

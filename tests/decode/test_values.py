# SPDX-License-Identifier: Apache-2.0
"""Every abstract data type of RFC 7011 §6.1 from octets to a value, and to what JSON can have."""

from __future__ import annotations

import pytest

from flowparity.decode.elements import TYPE_SIZES, Element
from flowparity.decode.model import Value
from flowparity.decode.values import decode_value, render

SECOND = 1_000_000_000


def of(kind: str) -> Element:
    return Element(0, 1, "anElement", kind, "-")


@pytest.mark.parametrize(
    ("kind", "octets", "value"),
    [
        ("u8", "ff", 255),
        ("u16", "0102", 0x0102),
        ("u32", "010203", 0x010203),  # reduced size (§6.2)
        ("u64", "0102030405060708", 0x0102030405060708),
        ("u64", "010203040506070809", bytes.fromhex("010203040506070809")),  # no length of any number
        ("u8", "", b""),
        ("s8", "ff", -1),
        ("s16", "fffe", -2),
        ("s32", "ff80", -128),
        ("s64", "7fffffffffffffff", 2**63 - 1),
        ("s64", "000000000000000001", bytes(8) + b"\1"),
        ("f32", "3fc00000", 1.5),
        ("f64", "c004000000000000", -2.5),
        ("f64", "3fc00000", 1.5),  # reduced size
        ("f64", "3fc000", bytes.fromhex("3fc000")),
        ("bool", "01", True),
        ("bool", "02", False),
        ("bool", "0001", b"\0\1"),
        ("mac", "0242ac110002", bytes.fromhex("0242ac110002")),
        ("ipv4", "c0000201", bytes([192, 0, 2, 1])),
        ("ipv6", "00" * 16, bytes(16)),
        ("sec", "00000005", 5 * SECOND),
        ("sec", "0005", b"\0\5"),
        ("ms", "00000000000003e9", 1_001_000_000),
        ("us", "83aa7e8540000000", 5 * SECOND + SECOND // 4),
        ("ns", "83aa7e8540000000", 5 * SECOND + SECOND // 4),
        ("ns", "83aa7e85", bytes.fromhex("83aa7e85")),
        ("octets", "0102", b"\1\2"),
        ("string", "65746830", "eth0"),
        ("list", "ff", b"\xff"),
    ],
)
def test_value(kind: str, octets: str, value: Value) -> None:
    found, rule, text = decode_value(of(kind), bytes.fromhex(octets))
    assert (found, type(found), rule, text) == (value, type(value), None, None)


def test_every_type_has_a_value_above() -> None:
    marks = test_value.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {kind for kind, _, _ in marks} == set(TYPE_SIZES)


@pytest.mark.parametrize(
    ("kind", "octets", "value", "rule"),
    [
        ("bool", "00", 0, "IPFIX-ENC-04"),
        ("string", "61ff62", "a\N{REPLACEMENT CHARACTER}b", "IPFIX-ENC-05"),
        ("us", "83aa7e8540000001", 5 * SECOND + SECOND // 4, "IPFIX-ENC-09"),
        ("us", "83aa7e85400007ff", 5 * SECOND + SECOND // 4, "IPFIX-ENC-09"),
    ],
)
def test_value_with_a_problem(kind: str, octets: str, value: Value, rule: str) -> None:
    found, broken, text = decode_value(of(kind), bytes.fromhex(octets))
    assert (found, broken) == (value, rule)
    assert text is not None
    assert text.startswith("anElement")


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("u32", 7, 7),
        ("f64", 1.5, 1.5),
        ("bool", True, True),
        ("string", "eth0", "eth0"),
        ("ipv4", bytes([192, 0, 2, 1]), "192.0.2.1"),
        ("ipv6", bytes.fromhex("20010db8000000000000000000000001"), "2001:db8::1"),
        ("ipv4", b"\1\2", "0102"),
        ("mac", bytes.fromhex("0242ac110002"), "02:42:ac:11:00:02"),
        ("octets", b"\0\xff", "00ff"),
    ],
)
def test_rendered(kind: str, value: Value, shown: object) -> None:
    assert render(of(kind), value) == shown

# SPDX-License-Identifier: Apache-2.0
"""Octets of one field to a value, by abstract data type (RFC 7011 §6.1). No octets raise."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from flowparity.decode.elements import Element
from flowparity.decode.model import Value

NTP_EPOCH = 2_208_988_800
"""Seconds from 1900 to 1970."""

SECOND = 1_000_000_000


def ntp_to_ns(data: bytes) -> int:
    """The NTP form of dateTimeMicroseconds and dateTimeNanoseconds (8 octets) to ns since the UNIX epoch, floored (S-EXP-5).

    Seconds before 1970 belong to the era that begins in 2036.
    """
    seconds, fraction = struct.unpack(">II", data)
    if seconds < NTP_EPOCH:
        seconds += 2**32
    return int((seconds - NTP_EPOCH) * SECOND + (fraction * SECOND >> 32))


def decode_value(element: Element, data: bytes) -> tuple[Value, str | None, str | None]:
    """Value, and rule id and text of what is wrong with it (None, None when nothing is). A length that the type cannot have gives the octets as they are."""
    kind, size = element.type, len(data)
    if kind[0] == "u" and kind != "us":
        return (int.from_bytes(data, "big"), None, None) if 0 < size <= 8 else (data, None, None)
    if kind in ("ipv4", "ipv6", "mac", "octets", "list"):
        return data, None, None
    if kind == "string":
        try:
            return data.decode("utf-8"), None, None
        except UnicodeDecodeError as error:
            return data.decode("utf-8", "replace"), "IPFIX-ENC-05", f"{element.name} is not UTF-8: {error.reason} at octet {error.start}"
    if kind in ("s8", "s16", "s32", "s64"):
        return (int.from_bytes(data, "big", signed=True), None, None) if 0 < size <= 8 else (data, None, None)
    if kind == "bool" and size == 1:
        if data[0] in (1, 2):
            return data[0] == 1, None, None
        return data[0], "IPFIX-ENC-04", f"{element.name} is {data[0]}, neither 1 (true) nor 2 (false)"
    if kind in ("f32", "f64") and size in (4, 8):
        return struct.unpack(">f" if size == 4 else ">d", data)[0], None, None
    if kind == "sec" and size == 4:
        return int.from_bytes(data, "big") * SECOND, None, None
    if kind == "ms" and size == 8:
        return int.from_bytes(data, "big") * 1_000_000, None, None
    if kind == "ns" and size == 8:
        return ntp_to_ns(data), None, None
    if kind == "us" and size == 8:
        low = int.from_bytes(data[6:], "big") & 0x7FF
        masked = data[:6] + (int.from_bytes(data[6:], "big") & 0xF800).to_bytes(2, "big")
        if low:
            return ntp_to_ns(masked), "IPFIX-ENC-09", f"{element.name}: the low 11 bits of the fraction are {low:#x}, not zero"
        return ntp_to_ns(masked), None, None
    return data, None, None


def render(element: Element, value: Value) -> Any:
    """A value as JSON can have it: addresses and MACs as text, other octets in hexadecimal, numbers as they are."""
    if not isinstance(value, bytes):
        return value
    if element.type in ("ipv4", "ipv6") and len(value) in (4, 16):
        return str(ipaddress.ip_address(value))
    return value.hex(":") if element.type == "mac" else value.hex()

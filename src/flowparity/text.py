# SPDX-License-Identifier: Apache-2.0
"""Values as people read them: times, addresses with ports, the two ends of a flow."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime

from flowparity.flow import ICMP_OF_VERSION
from flowparity.profile import SECOND


def time_text(ns: int) -> str:
    """A time in UTC with all nine digits; what the calendar cannot hold stays a number."""
    seconds, rest = divmod(ns, SECOND)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}"
    except (ValueError, OverflowError, OSError):
        return f"{seconds}.{rest:09d}"


def socket_text(address: bytes | None, port: int | None) -> str:
    """An address with its port, where there is one."""
    text = "-" if address is None else str(ipaddress.ip_address(address))
    if port is None:
        return text
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def ends_text(source: bytes | None, destination: bytes | None, source_port: int | None, destination_port: int | None, protocol: int | None) -> tuple[str, str]:
    """Source and destination of a flow; of ICMP the destination has type and code in the place of a port."""
    address = source or destination
    icmp = address is not None and protocol == ICMP_OF_VERSION[4 if len(address) == 4 else 6]
    if not icmp:
        return socket_text(source, source_port), socket_text(destination, destination_port)
    kind = "" if destination_port is None else f" {destination_port >> 8}.{destination_port & 255}"
    return socket_text(source, None), socket_text(destination, None) + kind

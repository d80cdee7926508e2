# SPDX-License-Identifier: Apache-2.0
"""What witnesses are compared by: packets, octets and times of a 5-tuple."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from flowparity.flow import ICMP_OF_VERSION, FlowRecord


class Tuple5(NamedTuple):
    """A 5-tuple. ICMP has type * 256 + code as its destination port (S-PRT-4)."""

    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    protocol: int

    def __str__(self) -> str:
        ends = (f"{ipaddress.ip_address(address)} {port}" for address, port in ((self.source, self.source_port), (self.destination, self.destination_port)))
        return f"{' > '.join(ends)} proto {self.protocol}"

    @property
    def without_icmp(self) -> Tuple5:
        """The same with ICMP types left out, for witnesses that encode them in ways of their own."""
        version = 4 if len(self.source) == 4 else 6
        return self._replace(source_port=0, destination_port=0) if self.protocol == ICMP_OF_VERSION[version] else self


class Sum(NamedTuple):
    """The sum of a 5-tuple's records; None is what a witness does not say. Times in nanoseconds."""

    packets: int
    octets: int | None
    first_ns: int | None = None
    last_ns: int | None = None

    def plus(self, other: Sum) -> Sum:
        """Both together."""
        octets = None if self.octets is None or other.octets is None else self.octets + other.octets
        first = None if self.first_ns is None or other.first_ns is None else min(self.first_ns, other.first_ns)
        last = None if self.last_ns is None or other.last_ns is None else max(self.last_ns, other.last_ns)
        return Sum(self.packets + other.packets, octets, first, last)

    def agrees(self, other: Sum, tolerance_ns: int) -> bool:
        """Whether packets and, where both say them, octets are equal and times within the tolerance."""
        if self.packets != other.packets or (self.octets is not None and other.octets is not None and self.octets != other.octets):
            return False
        pairs = ((self.first_ns, other.first_ns), (self.last_ns, other.last_ns))
        return all(ours is None or theirs is None or abs(ours - theirs) <= tolerance_ns for ours, theirs in pairs)

    def __str__(self) -> str:
        return f"{self.packets} packets" + ("" if self.octets is None else f", {self.octets} octets")


Sums = dict[Tuple5, Sum]


def add(sums: Sums, key: Tuple5, value: Sum) -> None:
    """Adds to a key's sum."""
    sums[key] = sums[key].plus(value) if key in sums else value


def of_records(records: Iterable[FlowRecord]) -> Sums:
    """The sums of flow records."""
    sums: Sums = {}
    for r in records:
        key = Tuple5(r.source_address, r.destination_address, r.source_port, r.destination_port, r.protocol)
        add(sums, key, Sum(r.packets, r.octets, r.first_ns, r.last_ns))
    return sums


def merged(sums: Sums) -> Sums:
    """The sums with all ICMP types of two hosts in one (see `Tuple5.without_icmp`)."""
    out: Sums = {}
    for key, value in sums.items():
        add(out, key.without_icmp, value)
    return out

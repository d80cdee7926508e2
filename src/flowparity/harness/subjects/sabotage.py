# SPDX-License-Identifier: Apache-2.0
"""What the saboteur can do to packets and records: small operations with parameters, each of which stands for mistakes that real exporters made.

What it can do to datagrams is in sabotage_wire.py. An operation sets hooks of the reference; `OPERATIONS` has all of them by the name that faults.toml uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flowparity.flow import EndReason, FlowRecord
from flowparity.frame import Frame
from flowparity.harness.subjects.sabotage_wire import DATAGRAM_OPERATIONS, Hooks
from flowparity.links import RAW, Payload, find_ip
from flowparity.packet import Packet, parse
from flowparity.profile import SECOND
from flowparity.reference import ClosedRecord

Packets = list[tuple[Frame, Packet]]
_EXTENSIBLE = 40  # octets of an IPv6 header


def _ip_start(frame: Frame) -> int:
    payload = find_ip(frame)
    return payload.offset if isinstance(payload, Payload) else 0


def _fragment_offset(frame: Frame, packet: Packet) -> int:
    start = _ip_start(frame)
    return int.from_bytes(frame.data[start + 6 : start + 8], "big") & 0x1FFF if len(packet.source) == 4 else 0


def _length(hooks: Hooks, of: str) -> None:
    """Octets by another length.

    `frame` whole, `l2` frame less 14, `padding` to the end of the frame, `captured`, `payload` without the IPv6 header, `claimed`: the total length as it
    stands, also where it is 0.
    """

    def change(frame: Frame, packet: Packet, t: int) -> tuple[Packet, int]:
        start = _ip_start(frame)
        wire = max(frame.wirelen, len(frame.data))
        is4 = len(packet.source) == 4
        octets = {
            "frame": wire,
            "l2": wire - 14,
            "padding": wire - start,
            "captured": min(packet.octets, len(frame.data) - start),
            "payload": packet.octets - (0 if is4 else _EXTENSIBLE),
            "claimed": int.from_bytes(frame.data[start + 2 : start + 4], "big") if is4 else packet.octets,
        }[of]
        return packet._replace(octets=octets), t

    hooks.packet = change


def _field(hooks: Hooks, name: str, operation: str, value: int = 0, protocols: list[int] | None = None, tagged: bool = False, other: str = "") -> None:
    """A field of every packet: `set`, `add`, `and`, `divide`, `swap` (octets of 16 bits), `copy` of `other`; for some protocols, tagged frames, or all."""

    def change(frame: Frame, packet: Packet, t: int) -> tuple[Packet, int]:
        if (protocols is not None and packet.protocol not in protocols) or (tagged and not packet.vlan):
            return packet, t
        old = getattr(packet, name)
        results: dict[str, Callable[[], Any]] = {
            "set": lambda: value,
            "add": lambda: old + value,
            "and": lambda: old & value,
            "divide": lambda: old // value,
            "swap": lambda: (old & 0xFF) << 8 | old >> 8 & 0xFF,
            "copy": lambda: getattr(packet, other) or old,
        }
        return packet._replace(**{name: results[operation]()}), t

    hooks.packet = change


def _lose(hooks: Hooks, which: str) -> None:
    """Packets that are never counted.

    `double_tags`, `mpls`, `pppoe`, `fragments` after the first, IPv6 `extension_headers`, `cut` by the snap length, `backwards` in time, `third` of all.
    """
    seen = 0
    newest = 0

    def change(frame: Frame, packet: Packet, t: int) -> tuple[Packet, int] | None:
        nonlocal seen, newest
        seen += 1
        payload = find_ip(frame)
        start = _ip_start(frame)
        lost = {
            "double_tags": packet.inner_vlan != 0,
            "mpls": isinstance(payload, Payload) and payload.mpls,
            "pppoe": frame.data[12:14] == b"\x88\x64",
            "fragments": _fragment_offset(frame, packet) != 0,
            "extension_headers": len(packet.source) == 16 and frame.data[start + 6] != packet.protocol,
            "cut": len(frame.data) < frame.wirelen,
            "backwards": t < newest,
            "third": seen % 3 == 0,
        }[which]
        newest = max(newest, t)
        return None if lost else (packet, t)

    hooks.packet = change


def _later_ports(hooks: Hooks) -> None:
    """Ports read out of later fragments."""

    def change(frame: Frame, packet: Packet, t: int) -> tuple[Packet, int]:
        if _fragment_offset(frame, packet):
            start = _ip_start(frame)
            at = start + (frame.data[start] & 15) * 4
            return packet._replace(source_port=int.from_bytes(frame.data[at : at + 2], "big"), destination_port=7), t
        return packet, t

    hooks.packet = change


def _reattach(hooks: Hooks) -> None:
    """Later fragments with the ports of the first one."""
    known: dict[tuple[bytes, bytes], tuple[int, int]] = {}

    def change(frame: Frame, packet: Packet, t: int) -> tuple[Packet, int]:
        ends = packet.source, packet.destination
        if not _fragment_offset(frame, packet):
            known[ends] = packet.source_port, packet.destination_port
            return packet, t
        source_port, destination_port = known.get(ends, (0, 0))
        return packet._replace(source_port=source_port, destination_port=destination_port), t

    hooks.packet = change


def _inner(hooks: Hooks) -> None:
    """Tunnels of IP in IP by what is inside of them."""

    def change(frame: Frame, packet: Packet, t: int) -> tuple[Packet, int]:
        if packet.protocol not in (4, 41):
            return packet, t
        data = frame.data[_ip_start(frame) + (20 if len(packet.source) == 4 else 40) :]
        found = parse(replace(frame, data=data, wirelen=len(data), link=RAW, tags=()))
        return (found if isinstance(found, Packet) else packet), t

    hooks.packet = change


def _one_time(hooks: Hooks, step: int) -> None:
    """Times known only to `step` nanoseconds: one stamp for a whole ring."""
    hooks.packet = lambda frame, packet, t: (packet, t // step * step)


def _altered(hooks: Hooks, change: Callable[[FlowRecord, Packets], FlowRecord]) -> None:
    hooks.record = lambda closed, packets: [closed._replace(record=change(closed.record, packets))]


def _of_last(hooks: Hooks, name: str) -> None:
    """A field of the last packet instead of the first's (pmacctd's ToS)."""
    _altered(hooks, lambda record, packets: replace(record, **{name: getattr(packets[-1][1], name)}))


def _record(hooks: Hooks, name: str, operation: str, value: int = 0) -> None:
    """A field of every record: `set`, `add`, `and`."""

    def change(record: FlowRecord, packets: Packets) -> FlowRecord:
        old = getattr(record, name)
        return replace(record, **{name: {"set": value, "add": old + value, "and": old & value}[operation]})

    _altered(hooks, change)


def _swap_times(hooks: Hooks) -> None:
    """First and last exchanged."""
    _altered(hooks, lambda record, packets: replace(record, first_ns=record.last_ns, last_ns=record.first_ns))


def _shift(hooks: Hooks, seconds: int) -> None:
    """Both times of every record by so many seconds."""
    _altered(hooks, lambda record, packets: replace(record, first_ns=record.first_ns + seconds * SECOND, last_ns=record.last_ns + seconds * SECOND))


def _shared_times(hooks: Hooks) -> None:
    """Both directions of a connection share one pair of times."""
    known: dict[frozenset[tuple[bytes, int]], tuple[int, int]] = {}

    def times(frame: Frame, packet: Packet, t: int) -> tuple[Packet, int]:
        ends = frozenset([(packet.source, packet.source_port), (packet.destination, packet.destination_port)])
        first, last = known.get(ends, (t, t))
        known[ends] = min(first, t), max(last, t)
        return packet, t

    def change(record: FlowRecord, packets: Packets) -> FlowRecord:
        first, last = known[frozenset([(record.source_address, record.source_port), (record.destination_address, record.destination_port)])]
        return replace(record, first_ns=first, last_ns=last)

    hooks.packet = times
    _altered(hooks, change)


def _start_of_expiry(hooks: Hooks) -> None:
    """After an active timeout the next record of the key begins where the one before ended."""
    ended: dict[tuple[object, ...], int] = {}

    def change(record: FlowRecord, packets: Packets) -> FlowRecord:
        key = record.source_address, record.destination_address, record.source_port, record.destination_port, record.protocol
        first = ended.pop(key, record.first_ns)
        if record.end_reason == EndReason.ACTIVE:
            ended[key] = record.last_ns
        return replace(record, first_ns=first)

    _altered(hooks, change)


def _drop_records(hooks: Hooks, every: int) -> None:
    """Every n-th record is never exported."""
    seen = 0

    def change(closed: ClosedRecord, packets: Packets) -> list[ClosedRecord]:
        nonlocal seen
        seen += 1
        return [] if seen % every == 0 else [closed]

    hooks.record = change


def _split(hooks: Hooks, protocols: list[int]) -> None:
    """A record for each packet of some protocols."""

    def change(closed: ClosedRecord, packets: Packets) -> list[ClosedRecord]:
        if closed.record.protocol not in protocols:
            return [closed]
        times = ((frame.ts_ns, packet) for frame, packet in packets)
        return [closed._replace(record=replace(closed.record, packets=packet.packets, octets=packet.octets, first_ns=t, last_ns=t)) for t, packet in times]

    hooks.record = change


def _leak(hooks: Hooks, name: str) -> None:
    """What a reused entry held before is still there: `tcp_flags` are ORed, counters added, `first_ns` is the older one."""
    before: Any = None

    def change(record: FlowRecord, packets: Packets) -> FlowRecord:
        nonlocal before
        value = getattr(record, name)
        old, before = before, value
        if old is None:
            return record
        return replace(record, **{name: value | old if name == "tcp_flags" else min(value, old) if name == "first_ns" else value + old})

    _altered(hooks, change)


def _nothing(hooks: Hooks, **_: Any) -> None:
    """Applied elsewhere: `profile` and `account`."""


OPERATIONS: dict[str, Callable[..., None]] = {
    "length": _length,
    "field": _field,
    "lose": _lose,
    "later_ports": _later_ports,
    "reattach": _reattach,
    "inner": _inner,
    "one_time": _one_time,
    "of_last": _of_last,
    "record": _record,
    "swap_times": _swap_times,
    "shift": _shift,
    "shared_times": _shared_times,
    "start_of_expiry": _start_of_expiry,
    "drop_records": _drop_records,
    "split": _split,
    "leak": _leak,
    "profile": _nothing,
    "account": _nothing,
    **DATAGRAM_OPERATIONS,
}

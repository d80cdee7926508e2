# SPDX-License-Identifier: Apache-2.0
"""What the saboteur can do to datagrams: numbers in headers, sequences counted otherwise, templates and sets that are not what they say."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from flowparity.decode import Decoder, Message
from flowparity.frame import Frame
from flowparity.packet import Packet
from flowparity.reference import ClosedRecord


@dataclass(slots=True)
class Hooks:
    """Where an operation changes the reference. All default to doing nothing."""

    packet: Callable[[Frame, Packet, int], tuple[Packet, int] | None] | None = None  # the packet and its time; None: lost without a word
    record: Callable[[ClosedRecord, list[tuple[Frame, Packet]]], list[ClosedRecord]] | None = None
    datagram: Callable[[bytes, int], list[bytes]] | None = None  # the datagram and its ordinal


_WIDTHS = {1: "!B", 2: "!H", 4: "!I"}
_HEADER = {9: 20, 10: 16}
_SEQUENCE_AT = {5: 16, 9: 12, 10: 8}
_TEMPLATE_SETS = {9: 0, 10: 2}


def _header(hooks: Hooks, offset: int, width: int, operation: str, value: int = 0, first: int = 0) -> None:
    """A number in the header of every datagram from the `first` on.

    `add`, `set`, `swap` its octets, `ramp` (adds the ordinal), `stop` at its largest once it has wrapped.
    """

    def change(message: bytes, ordinal: int) -> list[bytes]:
        if ordinal < first:
            return [message]
        most = (1 << 8 * width) - 1
        old = struct.unpack_from(_WIDTHS[width], message, offset)[0]
        swapped = int.from_bytes(old.to_bytes(width, "little"), "big")
        stopped = old if old > most // 2 else most
        new = {"add": old + value, "set": value, "swap": swapped, "ramp": old + value * (ordinal + 1), "stop": stopped}[operation]
        changed = bytearray(message)
        struct.pack_into(_WIDTHS[width], changed, offset, new & most)
        return [bytes(changed)]

    hooks.datagram = change


def _sequence(hooks: Hooks, counts: str) -> None:
    """A sequence of its own making, by domain.

    It counts `datagrams`, `packets` of the flows, `templates` too, `own`: the message's records too, or `nothing`.
    """
    decoder = Decoder()
    sent: dict[int, int] = defaultdict(int)

    def step(message: Message) -> int:
        return {
            "datagrams": 1,
            "packets": sum(int(flow.get("packetDeltaCount")) for flow in message.flows),
            "templates": len(message.records) + len(message.templates),
            "own": len(message.records),
            "nothing": 0,
        }[counts]

    def change(data: bytes, ordinal: int) -> list[bytes]:
        message = decoder.feed(data)
        domain = message.header.domain
        before, sent[domain] = sent[domain], sent[domain] + step(message)
        changed = bytearray(data)
        struct.pack_into("!I", changed, _SEQUENCE_AT[message.version or 10], sent[domain] if counts == "own" else before)
        return [bytes(changed)]

    hooks.datagram = change


def _skip(hooks: Hooks, count: int) -> None:
    """The first datagrams are never sent."""
    hooks.datagram = lambda message, ordinal: [] if ordinal < count else [message]


def _twice(hooks: Hooks) -> None:
    """Every datagram is sent twice."""
    hooks.datagram = lambda message, ordinal: [message, message]


def _rebuilt(message: bytes, change: Callable[[int, bytes], tuple[int, bytes] | None]) -> bytes:
    """The message with `change` done to the number and the body of each set (None: it is left out). Lengths of sets and of an IPFIX message are kept right."""
    version = int.from_bytes(message[:2], "big")
    at = _HEADER[version]
    out = bytearray(message[:at])
    while at < len(message):
        number, length = struct.unpack_from("!HH", message, at)
        changed = change(number, message[at + 4 : at + length])
        if changed is not None:
            out += struct.pack("!HH", changed[0], 4 + len(changed[1])) + changed[1]
        at += length
    if version == 10:
        struct.pack_into("!H", out, 2, len(out))
    return bytes(out)


def _sets(hooks: Hooks, first: int = 256, last: int = 65535, to: int | None = None, cut: int = 0, unpadded: bool = False) -> None:
    """Sets `first` to `last` are numbered `to`, lose `cut` octets at their end, or all of their padding."""
    decoder = Decoder()

    def change(data: bytes, ordinal: int) -> list[bytes]:
        padding = {each.set_id: len(each.padding) for each in decoder.feed(data).sets}

        def one(number: int, body: bytes) -> tuple[int, bytes]:
            if not first <= number <= last:
                return number, body
            gone = padding.get(number, 0) if unpadded else cut
            return (number if to is None else to), body[: len(body) - gone]

        return [_rebuilt(data, one)]

    hooks.datagram = change


def _template_fields(body: bytes, change: Callable[[int, list[tuple[int, int]]], tuple[int, list[tuple[int, int]]]]) -> bytes:
    """The records of a template set with `change` done to the id and the (element, length) pairs of each; no enterprise elements."""
    out, at = b"", 0
    while at + 4 <= len(body):
        number, count = struct.unpack_from("!HH", body, at)
        pairs = [struct.unpack_from("!HH", body, at + 4 + 4 * i) for i in range(count)]
        at += 4 + 4 * count
        number, changed = change(number, [(element, length) for element, length in pairs])
        out += struct.pack("!HH", number, len(changed)) + b"".join(struct.pack("!HH", *pair) for pair in changed)
    return out + body[at:]


def _template(
    hooks: Hooks,
    element: int = 0,
    length: int | None = None,
    to: int | None = None,
    more: int = 0,
    size: int = 1,
    number: int | None = None,
    domains: int | None = None,
) -> None:
    """Templates that say something else than the data have.

    Those with `element` give it another `length`, call it `to`, or end with `size` octets of element `more`. `number` is their id; only so many `domains` have
    any.
    """

    def fields(template: int, pairs: list[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
        if element and element not in [each for each, _ in pairs]:
            return template, pairs
        changed = [((to or each) if each == element else each, length if each == element and length is not None else octets) for each, octets in pairs]
        return (template if number is None else number), changed + ([(more, size)] if more else [])

    def change(data: bytes, ordinal: int) -> list[bytes]:
        version = int.from_bytes(data[:2], "big")
        domain = int.from_bytes(data[_HEADER[version] - 4 : _HEADER[version]], "big")

        def one(kind: int, body: bytes) -> tuple[int, bytes] | None:
            if kind != _TEMPLATE_SETS[version]:
                return kind, body
            if domains is not None and domain > domains:
                return None
            return kind, _template_fields(body, fields)

        return [_rebuilt(data, one)]

    hooks.datagram = change


DATAGRAM_OPERATIONS: dict[str, Callable[..., None]] = {
    "header": _header,
    "sequence": _sequence,
    "skip": _skip,
    "twice": _twice,
    "sets": _sets,
    "template": _template,
}

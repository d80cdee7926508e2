# SPDX-License-Identifier: Apache-2.0
"""Which packet of a capture made a field differ: hypotheses about a difference, each tested exactly against the packets of the record.

A hypothesis is named only when it gives the exporter's value to the unit; otherwise the text says what the packets contribute and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from flowparity.diff import Difference, show
from flowparity.frame import Frame
from flowparity.links import Payload, Refusal, find_ip
from flowparity.packet import Packet, parse
from flowparity.profile import Profile
from flowparity.view import MILLISECOND

NOT_REPORTED = "the exporter does not report {}; if it cannot, take it out of the `fields` of its description"
_ETHERNET = 14
_FCS = 4
_TAGS = frozenset((0x8100, 0x88A8, 0x9100))
_MPLS = frozenset((0x8847, 0x8848))


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a field differs, as far as the packets tell. `frames` are the frames to look at first, `rules` the rules that decide."""

    text: str
    frames: tuple[int, ...] = ()
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Counted:
    """A frame of the record and what the reference counted of it."""

    frame: Frame
    packet: Packet
    start: int  # of the IP header


_Length = Callable[[_Counted], int]
_LENGTHS: tuple[tuple[str, str, _Length], ...] = (
    ("Ethernet padding or trailer counted", "S-LEN-3", lambda c: max(c.frame.wirelen, len(c.frame.data)) - c.start),
    ("frame less its Ethernet header counted (padding, tags or labels)", "S-LEN-3", lambda c: max(c.frame.wirelen, len(c.frame.data)) - _ETHERNET),
    ("the whole frame counted", "S-LEN-3", lambda c: max(c.frame.wirelen, len(c.frame.data))),
    ("the whole frame and its FCS counted", "S-LEN-3", lambda c: max(c.frame.wirelen, len(c.frame.data)) + _FCS),
    ("the captured length taken for the IP length", "S-LEN-4", lambda c: min(len(c.frame.data) - c.start, c.packet.octets)),
    ("all captured octets counted", "S-LEN-4", lambda c: len(c.frame.data) - c.start),
    ("the IP header not counted", "S-LEN-3", lambda c: c.packet.octets - (40 if len(c.packet.source) == 16 else (c.frame.data[c.start] & 15) * 4)),
    ("IPv6 payload length without the 40-octet header counted", "S-LEN-2", lambda c: c.packet.octets - (40 if len(c.packet.source) == 16 else 0)),
    ("an IP length of 0 (segmentation offload) counted as 0", "S-LEN-1", lambda c: 0 if _says_zero(c) else c.packet.octets),
    ("a super-packet counted once", "S-SUP-1", lambda c: _on_wire(c)),
)


def _says_zero(c: _Counted) -> bool:
    at = c.start + (2 if len(c.packet.source) == 4 else 4)
    return c.frame.data[at : at + 2] == b"\0\0"


def _on_wire(c: _Counted) -> int:
    if c.frame.segments == 1:
        return c.packet.octets
    at, base = (c.start + 2, 0) if len(c.packet.source) == 4 else (c.start + 4, 40)
    return base + int.from_bytes(c.frame.data[at : at + 2], "big")


class Explainer:
    """Explains the differences of one case. `frames` by their index, with metadata."""

    def __init__(self, frames: Mapping[int, Frame], profile: Profile) -> None:
        self._frames = frames
        self._profile = profile

    def explain(self, difference: Difference) -> Explanation:
        """The best that can be said of a difference; never empty."""
        counted = list(self._counted(difference.frames))
        if difference.kind == "field":
            found = next(self._of_field(difference, counted), None)
            if found is not None:
                return found
        elif difference.kind == "missing":
            return self._missing(counted, difference.frames)
        elif difference.kind == "extra":
            return self._extra()
        return Explanation(_contribution(difference.field, counted), difference.frames[:1])

    def _counted(self, indices: Sequence[int]) -> Iterator[_Counted]:
        for index in indices:
            frame = self._frames.get(index)
            packet = parse(frame) if frame is not None else None
            payload = find_ip(frame) if frame is not None else None
            if frame is not None and isinstance(packet, Packet) and isinstance(payload, Payload):
                yield _Counted(frame, packet, payload.offset)

    def _of_field(self, d: Difference, counted: list[_Counted]) -> Iterator[Explanation]:
        if d.actual is None:
            yield Explanation(NOT_REPORTED.format(d.field), d.frames[:1])
        elif not counted:
            return
        elif d.field in ("packets", "octets"):
            yield from self._counters(d, counted)
        elif d.field == "tcp_flags":
            yield from _flags(d, counted)
        elif d.field in ("first_ns", "last_ns"):
            yield from _times(d, counted)
        elif d.field == "end_reason":
            yield Explanation(f"the record of {_list(d.frames)} ended for reason {d.expected} by its deadlines, not {d.actual}", d.frames[-1:], ("S-END-2",))
        elif d.field in ("source_port", "destination_port"):
            yield from _ports(d, counted)
        elif d.field in Packet._fields or d.field == "input_interface":
            yield from _openers(d, counted)

    def _counters(self, d: Difference, counted: list[_Counted]) -> Iterator[Explanation]:
        others = d.other_fields or {}
        packets = others.get("packets")
        if packets is None and d.field == "octets":
            for text, rule, length in _LENGTHS:
                if sum(map(length, counted)) == d.actual:
                    culprit = next(c for c in counted if length(c) != c.packet.octets)
                    yield Explanation(
                        f"packet {culprit.frame.index} ({_frame(culprit.frame)}): octets {length(culprit)} instead of {culprit.packet.octets}: {text}",
                        (culprit.frame.index,),
                        (rule,),
                    )
            delta = d.actual - d.expected
            if delta in (2**32, -(2**32)):
                yield Explanation("a 32-bit counter wrapped", d.frames[-1:], ("S-END-4",))
            if delta % len(counted) == 0:
                each = delta // len(counted)
                first = counted[0].packet.octets
                yield Explanation(
                    f"every packet counted {each:+d} octets; first packet {counted[0].frame.index} ({_frame(counted[0].frame)}): "
                    f"{first + each} instead of {first}",
                    d.frames[:1],
                    ("S-LEN-3",),
                )
        octets = others.get("octets")
        short = d.expected - d.actual if d.field == "packets" else (packets[0] - packets[1] if packets else 0)
        if short > 0 and octets is not None:
            for lost, what, rule in _alike(counted, short, octets[0] - octets[1]):
                yield Explanation(f"{_packets(lost)}, {what}, not counted", tuple(c.frame.index for c in lost), (rule,))
            lost = _lost(counted, short, octets[0] - octets[1])
            if lost:
                yield Explanation(f"{_packets(lost)} not counted", tuple(c.frame.index for c in lost))
        elif short < 0 and octets is not None:
            twice = _lost(counted, -short, octets[1] - octets[0])
            if twice:
                yield Explanation(f"{_packets(twice)} counted twice, or another packet counted in", tuple(c.frame.index for c in twice))

    def _missing(self, counted: list[_Counted], indices: tuple[int, ...]) -> Explanation:
        if not counted:
            return Explanation(f"nothing was reported of {_list(indices)}", indices[:1])
        first = counted[0]
        hints = _peculiarities(first)
        rules = tuple(rule for _, rule in hints)
        what = ", ".join(text for text, _ in hints)
        return Explanation(
            f"packet {first.frame.index} ({_frame(first.frame)}{', ' + what if what else ''}) opened a record of {_list(indices)} that was not reported",
            (first.frame.index,),
            rules,
        )

    def _extra(self) -> Explanation:
        refused = [(frame, verdict) for frame in self._frames.values() if isinstance(verdict := parse(frame), Refusal)]
        if not refused:
            return Explanation("every frame of the capture is accounted for by other records: counted twice, split, or keyed wrongly")
        frame, verdict = refused[0]
        many = f" and {len(refused) - 1} others" if len(refused) > 1 else ""
        return Explanation(
            f"perhaps made of packet {frame.index} ({_frame(frame)}){many}, which is {verdict.verdict}: {verdict.why}", (frame.index,), (verdict.rule,)
        )


def _alike(counted: list[_Counted], packets: int, octets: int) -> Iterator[tuple[list[_Counted], str, str]]:
    """Packets that are special in the same way, where all of them together are exactly the shortfall; with what is special and its rule."""
    groups: dict[tuple[str, str], list[_Counted]] = {}
    for c in counted:
        for what, rule in _peculiarities(c):
            groups.setdefault((what, rule), []).append(c)
            groups.setdefault(("", rule), []).append(c)
    for (what, rule), some in groups.items():
        if sum(c.packet.packets for c in some) == packets and sum(c.packet.octets for c in some) == octets:
            yield some, what or f"each with {next(text for text, each in _peculiarities(some[0]) if each == rule)} or the like", rule


def _lost(counted: list[_Counted], packets: int, octets: int) -> list[_Counted]:
    """The first packets that together explain a shortfall; empty when none do or the search is too wide."""
    if packets == sum(c.packet.packets for c in counted[len(counted) - packets :]) and octets == sum(
        c.packet.octets for c in counted[len(counted) - packets :]
    ):
        return counted[len(counted) - packets :]
    if packets == 1:
        return next(([c] for c in counted if c.packet.octets == octets), [])
    if packets == 2 and len(counted) <= 200:
        return next((list(two) for two in combinations(counted, 2) if sum(c.packet.octets for c in two) == octets), [])
    return []


def _flags(d: Difference, counted: list[_Counted]) -> Iterator[Explanation]:
    lacking, added = d.expected & ~d.actual, d.actual & ~d.expected
    for bits, word in ((lacking, "missing"), (added, "in no packet of the record")):
        if not bits:
            continue
        of = [c for c in counted if c.packet.tcp_flags & bits] if bits is lacking else []
        where = f" set by packet {of[0].frame.index} ({_frame(of[0].frame)})" if of else ""
        yield Explanation(f"flags {bits:#04x}{where} are {word}", tuple(c.frame.index for c in of[:1]) or d.frames[:1], ("S-REC-2", "S-PRT-5"))


def _times(d: Difference, counted: list[_Counted]) -> Iterator[Explanation]:
    others = d.other_fields or {}
    if set(others) >= {"first_ns", "last_ns"} and others["first_ns"] == others["last_ns"][::-1]:
        yield Explanation("first and last are swapped", d.frames[:1], ("S-TIM-1",))
    for c in counted:
        if c.frame.ts_ns // MILLISECOND == d.actual // MILLISECOND:
            right = min if d.field == "first_ns" else max
            best = right(counted, key=lambda each: each.frame.ts_ns)
            yield Explanation(
                f"it is the time of packet {c.frame.index}; the {'smallest' if right is min else 'largest'} is that of packet {best.frame.index}",
                (best.frame.index,),
                ("S-TIM-1",),
            )
            return
    yield Explanation(f"off by {(d.actual - d.expected) / 1e9:+.9g} s and the time of no packet of the record", d.frames[:1], ("S-TIM-1", "S-EXP-5"))


def _ports(d: Difference, counted: list[_Counted]) -> Iterator[Explanation]:
    opener = counted[0]
    at = opener.start + (40 if len(opener.packet.source) == 16 else (opener.frame.data[opener.start] & 15) * 4)
    for hint, rule in _peculiarities(opener):
        yield Explanation(f"packet {opener.frame.index} ({_frame(opener.frame)}), {hint}: {d.field} {d.actual} instead of {d.expected}", d.frames[:1], (rule,))
    swapped = int.from_bytes(int(d.expected).to_bytes(2, "big"), "little")
    if d.actual == swapped:
        yield Explanation("the octets of the port are in reverse order", d.frames[:1], ("S-PRT-3",))
    yield Explanation(f"packet {opener.frame.index} has {opener.frame.data[at : at + 4].hex()} where ports may lie (offset {at})", d.frames[:1], ("S-PRT-3",))


def _openers(d: Difference, counted: list[_Counted]) -> Iterator[Explanation]:
    """Fields of the packet that opened the record (S-REC-2)."""
    name = "interface" if d.field == "input_interface" else d.field
    opener = counted[0]
    for c in reversed(counted[1:]):
        if getattr(c.packet, name) == d.actual != getattr(opener.packet, name):
            yield Explanation(
                f"it is the {d.field} of packet {c.frame.index}, not of packet {opener.frame.index} that opened the record", (c.frame.index,), ("S-REC-2",)
            )
    if isinstance(d.actual, int) and isinstance(d.expected, int) and d.expected > 255 and d.actual == int.from_bytes(d.expected.to_bytes(2, "big"), "little"):
        yield Explanation("the octets are in reverse order", d.frames[:1], ("S-REC-3",) if "vlan" in d.field else ())
    rule = {"vlan": "S-REC-3", "inner_vlan": "S-REC-3", "tos": "S-REC-4", "ttl": "S-REC-2"}.get(d.field, "S-REC-1")
    yield Explanation(f"packet {opener.frame.index} ({_frame(opener.frame)}) opened the record with {show(d.field, d.expected)}", d.frames[:1], (rule,))


def _contribution(name: str, counted: list[_Counted]) -> str:
    if not counted:
        return "the packets of the capture do not tell why"
    parts = [f"{c.frame.index}: {getattr(c.packet, name)}" for c in counted[:12]] if name in Packet._fields else [str(c.frame.index) for c in counted[:12]]
    more = f" and {len(counted) - 12} more" if len(counted) > 12 else ""
    return f"no single cause explains it; the reference counted packets {', '.join(parts)}{more}"


def _peculiarities(c: _Counted) -> list[tuple[str, str]]:
    """What is special about a frame, with the rule that treats it."""
    data, out = c.frame.data, []
    if c.frame.link == 1:
        types = [int.from_bytes(data[at : at + 2], "big") for at in range(12, min(c.start, len(data) - 1), 2)]
        tags = 0
        while tags * 2 < len(types) and types[tags * 2] in _TAGS:
            tags += 1
        if tags:
            out.append((f"{tags} VLAN tag{'s' * (tags > 1)}", "S-LNK-2"))
        kind = types[tags * 2] if tags * 2 < len(types) else 0
        if kind in _MPLS:
            out.append((f"{(c.start - _ETHERNET - tags * 4) // 4} MPLS labels", "S-LNK-3"))
        if kind == 0x8864:
            out.append(("a PPPoE session", "S-LNK-4"))
    elif c.frame.link != 1:
        out.append((f"link type {c.frame.link}", "S-LNK-1"))
    if c.frame.tags:
        out.append((f"{len(c.frame.tags)} stripped tags", "S-LNK-2"))
    if len(c.packet.source) == 4:
        fragment = int.from_bytes(data[c.start + 6 : c.start + 8], "big")
        if fragment & 0x1FFF:
            out.append((f"a later fragment at offset {(fragment & 0x1FFF) * 8}", "S-PRT-6"))
        elif fragment & 0x2000:
            out.append(("a first fragment", "S-PRT-6"))
        if _says_zero(c):
            out.append(("an IP length of 0", "S-LEN-1"))
    elif data[c.start + 6] != c.packet.protocol:
        out.append((f"IPv6 extension headers from {data[c.start + 6]}", "S-PRT-2"))
    if len(data) < c.frame.wirelen:
        out.append((f"cut to {len(data)} of {c.frame.wirelen} octets", "S-VER-6"))
    if c.frame.segments > 1:
        out.append((f"{c.frame.segments} coalesced segments", "S-SUP-1"))
    return out


def _frame(frame: Frame) -> str:
    """Packets count from 0, as everywhere in the project; frame.number is Wireshark's and counts from 1."""
    return f"frame.number {frame.index + 1}, {max(frame.wirelen, len(frame.data))} octets"


def _packets(some: Sequence[_Counted]) -> str:
    return f"packet{'s' * (len(some) > 1)} {', '.join(str(c.frame.index) for c in some[:8])}{' …' if len(some) > 8 else ''} ({_frame(some[0].frame)})"


def _list(indices: Sequence[int]) -> str:
    text = ", ".join(map(str, indices[:8]))
    return f"packet{'s' * (len(indices) != 1)} {text}{f' … ({len(indices)} in all)' if len(indices) > 8 else ''}"

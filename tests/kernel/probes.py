# SPDX-License-Identifier: Apache-2.0
"""Holds what a backend declares (struct fp_caps) against what it does on a real link.

`observe` drives the plug-in over a veth and writes down what was sent and what came; `faults` names every declaration that this contradicts. A declaration that
the link cannot show to be true counts as wrong: nobody else would notice.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowparity.native import Player
from tests.kernel.driver import Declared, Log, Seen, Source, source
from tests.kernel.packets import complete, frames, tcp, udp

_SOL_PACKET, _BYPASS, _VNET_HDR = 263, 20, 15
_SO_TXTIME = 61
_NEEDS_CSUM, _GSO_TCPV4 = 1, 1
_GIVEN = (1, 1_234_567_890_123_456_789, 4_294_967_295_999_999_999)  # 1 ns after 1970 to the year 2106
_ASLEEP = 0.05  # seconds that nobody reads: more than any tolerance that is declared
_SEGMENTS = 4  # of the super-packet
_SNAPLEN = 60
_TAKEN = (b"\x81\x00", b"\x88\xa8")  # EtherTypes of tags that are taken out of frames
_SHORTEST = 14  # a packet socket sends nothing shorter


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame, the time around its sending, and the time that was given to it."""

    data: bytes
    before_ns: int
    after_ns: int
    given_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What happened on the link. `sent` and `log.seen` are in order."""

    interface: int
    sent: Sequence[Sent]
    log: Log
    ended_early: bool  # recv said that it was over before it was stopped
    cut: Seen  # the longest of `sent` once more, under a snap length of `_SNAPLEN`
    longest: Seen  # the longest frame that could be shown
    segments: int  # packets counted of a super-packet of `_SEGMENTS`
    overload: tuple[int, int, int | None]  # sent while nobody read, received, dropped as reported


def faults(declared: Declared, seen: Observation) -> list[str]:
    """Every declaration that is not so, by its name in struct fp_caps. Empty when all hold."""
    if len(seen.log.seen) != len(seen.sent):
        return [f"frames: {len(seen.log.seen)} of {len(seen.sent)} arrived"]
    pairs = list(zip(seen.sent, seen.log.seen, strict=True))
    return [*_lengths(declared, seen, pairs), *_times(declared, seen, pairs), *_visibility(declared, seen.log), *_flags(declared, seen, pairs)]


def _lengths(declared: Declared, seen: Observation, pairs: Sequence[tuple[Sent, Seen]]) -> list[str]:
    out = []
    for sent, got in pairs:
        if "LOSES_TAGS" in declared.flags and sent.data[12:14] in _TAKEN:
            continue
        if declared.min_frame <= len(sent.data) <= declared.max_frame and got.data != sent.data:
            what = "LOSES_TAGS" if len(sent.data) - len(got.data) in (4, 8) else "min_frame" if len(sent.data) < 60 else "max_frame"
            out.append(f"{what}: a frame of {len(sent.data)} octets arrives as {got.data[:32].hex()}… of {len(got.data)}")
        if got.wirelen + 4 * len(got.tags) != len(sent.data):
            out.append(f"wirelen: {got.wirelen} of a frame of {len(sent.data)} octets with {len(got.tags)} tags taken out")
    shown = len(seen.longest.data)
    if shown != declared.max_frame:
        out.append(f"max_frame: {declared.max_frame} is declared, a frame of {shown} octets was shown")
    return out


def _times(declared: Declared, seen: Observation, pairs: Sequence[tuple[Sent, Seen]]) -> list[str]:
    out = [f"ts_source: a packet's is {got.ts_source}, not {declared.ts_source}" for _, got in pairs if got.ts_source != declared.ts_source][:1]
    exact = "EXACT_TIME" in declared.flags
    for sent, got in pairs:
        if exact and got.ts_ns != sent.given_ns:
            out.append(f"EXACT_TIME: {got.ts_ns} was given as {sent.given_ns}")
        elif not exact and declared.ts_tolerance is not None:
            error = max(sent.before_ns - got.ts_ns, got.ts_ns - sent.after_ns, 0)
            if error > declared.ts_tolerance:
                out.append(f"ts_tolerance: a stamp is {error} ns beside the time of sending, {declared.ts_tolerance} ns are declared")
    if exact and declared.ts_tolerance != 0:
        out.append("ts_tolerance: not 0 with EXACT_TIME")
    step, stamps = declared.ts_resolution, [got.ts_ns for _, got in pairs]
    if any(stamp % step for stamp in stamps):
        out.append(f"ts_resolution: stamps are finer than {step} ns")
    if not any(stamp % (10 * step) for stamp in stamps):
        out.append(f"ts_resolution: stamps are coarser than {step} ns")
    return out


def _visibility(declared: Declared, log: Log) -> list[str]:
    """S-TIM-4: when a look finds nothing, everything stamped before its `now` less the bound was seen before. Stamps of a sender are of another clock."""
    if declared.ts_source == "sender":
        return []
    worst = 0
    for queue, now, count in log.empty:
        waiting = [each.ts_ns for each in log.seen[count:] if each.queue == queue]
        worst = max(worst, now - min(waiting, default=now))
    return [f"visibility: a packet is not seen {worst} ns after its stamp, {declared.visibility} ns are declared"] if worst > declared.visibility else []


def _flags(declared: Declared, seen: Observation, pairs: Sequence[tuple[Sent, Seen]]) -> list[str]:
    has, out = declared.flags, []
    if "WIRE_LENGTH" in has and seen.cut.wirelen != max(len(sent.data) for sent, _ in pairs):
        out.append(f"WIRE_LENGTH: a frame cut to {len(seen.cut.data)} octets says it had {seen.cut.wirelen}")
    if len(seen.cut.data) != _SNAPLEN:
        out.append(f"snaplen: a frame cut to {_SNAPLEN} octets has {len(seen.cut.data)}")
    if "INTERFACE" in has and {got.interface for _, got in pairs} != {seen.interface}:
        out.append(f"INTERFACE: { ({got.interface for _, got in pairs}) } is not {seen.interface}")
    if "STAMPS_SEQUENCE" in has and [got.seq for _, got in pairs] != list(range(len(pairs))):
        out.append("STAMPS_SEQUENCE: the packets' ordinals are not those of the sender")
    if ("LIVE" in has) == seen.ended_early:
        out.append("LIVE: a live source ends only when it is stopped, any other by itself")
    if "COALESCES" not in has and seen.segments != _SEGMENTS:
        out.append(f"COALESCES: {seen.segments} packets are counted of a super-packet of {_SEGMENTS}, and nothing says so")
    sent, received, dropped = seen.overload
    if "DROPS_KNOWN" in has and (not dropped or sent != received + dropped):
        out.append(f"DROPS_KNOWN: of {sent} frames {received} were received and {dropped} reported as dropped")
    return out


def spread_faults(declared: Declared, spread: Mapping[bytes, set[int]]) -> list[str]:
    """The same for what `spread` found: the queues that each key reached."""
    out = []
    if "SPLITS" not in declared.flags and any(len(queues) > 1 for queues in spread.values()):
        out.append("SPLITS: packets of one key reach several queues")
    reached = set().union(*spread.values())
    if reached != set(range(declared.queues)):
        out.append(f"queues: {declared.queues} are declared, packets came on {sorted(reached)}")
    return out


class Mouth:
    """A packet socket on the sending end. With `encapsulate` frames go as the injector af_packet sends them to AF_XDP: their times and ordinals before them."""

    def __init__(self, interface: str, *, encapsulate: bool = False, bypass: bool = False, vnet: bool = False) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
        for wanted, option in ((bypass, _BYPASS), (vnet, _VNET_HDR)):
            if wanted:
                self._socket.setsockopt(_SOL_PACKET, option, 1)
        self._socket.bind((interface, 0))
        self._encapsulate = encapsulate
        self.sent: list[Sent] = []

    def __enter__(self) -> Mouth:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """One frame, with the clock read around it."""
        given, head = None, b""
        if self._encapsulate:
            given = _GIVEN[len(self.sent) % len(_GIVEN)]
            head = struct.pack("!QI", given, len(self.sent)) + bytes.fromhex("0800450000140000000040fd0000") + struct.pack("!I", 1) + b"FPts"
        before = time.time_ns()
        self._socket.send(head + data)
        self.sent.append(Sent(data, before, time.time_ns(), given))


def _tagged(data: bytes, *tags: int) -> bytes:
    return data[:12] + b"".join(struct.pack("!I", tag) for tag in tags) + data[12:]


def observe(backend: str, transmit: str, receive: str, longest_on: str, **options: str) -> tuple[Declared, Observation]:
    """Everything that `faults` looks at, of one backend over one link, from inside its namespace.

    `longest_on` is where the longest frame is shown: the link itself, or the loopback where a longer one can be sent there.
    """
    encapsulate = options.get("times") == "sender"
    index = socket.if_nametoindex(receive)
    with source(backend, receive, options=options) as it, Mouth(transmit, encapsulate=encapsulate) as mouth:
        declared = it.declared
        ended = _conversation(it, mouth)
        it.drain()
        log, sent = it.log, mouth.sent
    largest = max((each.data for each in sent), key=len)
    with source(backend, receive, options=options, snaplen=_SNAPLEN) as it, Mouth(transmit, encapsulate=encapsulate) as mouth:
        mouth.send(largest)
        it.drain()
        (cut,) = it.log.seen
    return declared, Observation(
        interface=index,
        sent=sent,
        log=log,
        ended_early=ended,
        cut=cut,
        longest=_longest(backend, longest_on if longest_on == "lo" else transmit, longest_on, declared.max_frame, options),
        segments=_super_packet(backend, transmit, receive, options),
        overload=_overload(backend, transmit, receive, options),
    )


def _conversation(it: Source, mouth: Mouth) -> bool:
    """Frames of all kinds while somebody reads, then some while nobody does. Whether the source ended by itself."""
    plain = udp(7)
    ended = False
    for data in (
        plain,
        _tagged(plain, 0x8100_0007),
        _tagged(plain, 0x8100_0000),  # a priority tag: VLAN 0 is a tag too
        _tagged(plain, 0x88A8_0005, 0x8100_0006),
        _tagged(plain, 0x9100_0005),
        plain[:_SHORTEST],
        plain[:59],
        *(udp(port) for port in range(100, 130)),
        udp(8, os.urandom(1400)),
    ):
        mouth.send(data)
        for _ in range(20):
            ended |= it.read() < 0
        if len(it.log.seen) < len(mouth.sent):
            ended |= it.read(1) < 0
    while len(it.log.seen) < len(mouth.sent) and not ended:
        ended |= it.read(100) < 0
    for port in range(20):
        mouth.send(udp(200 + port))
    time.sleep(_ASLEEP)
    return ended


def _longest(backend: str, transmit: str, receive: str, length: int, options: Mapping[str, str]) -> Seen:
    """A frame of the declared greatest length, or of the longest that can be sent."""
    with source(backend, receive, options=options) as it:
        while True:
            try:
                with Mouth(transmit, encapsulate=options.get("times") == "sender") as mouth:
                    mouth.send(bytes(12) + b"\x88\xb5" + os.urandom(length - 14))
                break
            except OSError:
                length -= 1
        it.drain()
        return max(it.log.seen, key=lambda each: len(each.data))


def _super_packet(backend: str, transmit: str, receive: str, options: Mapping[str, str]) -> int:
    """The link's ends have their offloads on."""
    with source(backend, receive, options={key: value for key, value in options.items() if key != "times"}) as it, Mouth(transmit, vnet=True) as mouth:
        mouth.send(struct.pack("<BBHHHH", _NEEDS_CSUM, _GSO_TCPV4, 54, 1000, 34, 16) + tcp(b"x" * (1000 * (_SEGMENTS - 1) + 500)))
        it.drain()
        return sum(each.segments for each in it.log.seen)


_FEW = {"af_packet": {"blocks": "2"}, "af_xdp": {"frames": "256"}, "socket": {}}
_TOO_MANY = {"af_packet": 30, "af_xdp": 5, "socket": 2}  # thousands of frames
_TOO_MANY_FOR_64_MIB = 50


def _overload(backend: str, transmit: str, receive: str, options: Mapping[str, str]) -> tuple[int, int, int | None]:
    """Nobody reads until more has come than there is room for."""
    count = _TOO_MANY_FOR_64_MIB if options.get("mode") == "tuned" else _TOO_MANY[backend]
    many = frames([udp(port, b"x" * 2900) for port in range(1000)] * count)
    with source(backend, receive, options={**options, **_FEW[backend]}) as it:
        sender = {"time": "none"} | ({"encapsulate": "1"} if options.get("times") == "sender" else {})
        sent = Player("af_packet", transmit, sender).play(many, timeout=20).sent
        it.drain()
        received, dropped = it.stats()
        assert received == len(it.log.seen)
    return sent, received, dropped


def spread(backend: str, transmit: str, receive: str, queues: int, **options: str) -> tuple[Declared, dict[bytes, set[int]]]:
    """What several queues declare, and which of them each of many pairs of addresses reaches, sent from every processor that there is."""
    out: defaultdict[bytes, set[int]] = defaultdict(set)
    here = os.sched_getaffinity(0)
    with source(backend, receive, options=options, queues=queues) as it:
        try:
            for cpu in sorted(here):
                os.sched_setaffinity(0, {cpu})
                for bypass in (False, True):
                    with Mouth(transmit, bypass=bypass) as mouth:
                        for host in range(1, 66):  # an odd number: taking turns must not come out even
                            mouth.send(udp(1000, host=host))
        finally:
            os.sched_setaffinity(0, here)
        it.drain()
        for each in it.log.seen:
            out[each.data[26:34]].add(each.queue)
        return it.declared, dict(out)


def merged(backend: str, transmit: str, receive: str, **options: str) -> tuple[Declared, int, int]:
    """What is declared, and of 20 TCP segments that GRO may merge: the frames that came, and the packets that they say they are."""
    with source(backend, receive, options=options) as it, Mouth(transmit) as mouth:
        for number in range(20):
            mouth.send(complete(tcp(bytes([number]) * 1000, 1 + 1000 * number)))
        time.sleep(_ASLEEP)  # longer than the receiver holds segments back
        it.drain()
        return it.declared, len(it.log.seen), sum(each.segments for each in it.log.seen)

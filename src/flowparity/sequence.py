# SPDX-License-Identifier: Apache-2.0
"""Sequence numbers of exports as a collector reads them, stream by stream: what was lost, and steps that no loss can explain.

v5 counts flow records before the datagram (Cisco), v9 datagrams (RFC 3954 §5.1), IPFIX Data Records before the message (RFC 7011 §3.1); each by exporter
and observation domain. A number beyond the expected one is a loss, which a late datagram fills again. A number before it is a late datagram, a repeated one, a
restarted exporter, or else impossible: the numbers that it names have already been used.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from flowparity.decode import Message, Problem

_UINT32 = 2**32
_RULES = {5: ("V5-HDR-08", 16, "flow records"), 9: ("V9-HDR-05", 12, "datagrams"), 10: ("IPFIX-HDR-04", 8, "data records")}
"""By version: the rule of the step, where the number stands, and what it counts."""

_UNSURE = ("DEC-LIM", "IPFIX-SET-02", "IPFIX-HDR-02", "IPFIX-ENC-14")
"""Problems after which the number of records of a message is not known."""

_MISTAKES = {
    9: ("V9-HDR-05", "the sequence grows by the records of each datagram, not by one"),
    10: ("IPFIX-HDR-06", "the sequence counts Template Records as Data Records"),
}
"""Exporters that count too much: every step looks like a loss, but is exactly this."""
_ENOUGH = 3  # such steps, after which it is no chance

_REBOOT_MS = 5_000  # the instant of boot moves by less than this when only clocks are adjusted
_HOLES = 1_024  # kept of a stream; older ones stay lost
_REMEMBERED = 1_024  # datagrams of a stream whose repetition is recognised


@dataclass(slots=True)
class StreamSequence:
    """One exporter's stream of one version and domain. Numbers are counted on over 2^32."""

    source: Hashable
    version: int
    domain: int
    received: int = 0  # in what the sequence counts
    lost: int = 0
    datagrams: int = 0
    late: int = 0  # datagrams that filled a hole or came before the first
    repeated: int = 0
    restarts: int = 0
    broken: int = 0  # steps that loss cannot explain
    began_late: bool = False  # the first number seen is not the stream's first
    _first: int = 0
    _expected: int | None = None  # None: not known
    _previous: int = 0
    _boot_ms: int | None = None
    _mistaken: int = 0  # steps that are no proper ones, but exactly what the mistake of its version makes
    _mistake: bool = True  # so far it explains every step
    _mistaken_step: int = 0
    _holes: list[tuple[int, int]] = field(default_factory=list)
    _edges: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _seen: deque[bytes] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def unit(self) -> str:
        """What the sequence counts."""
        return _RULES[self.version][2]

    @property
    def incomplete(self) -> bool:
        """Whether something of the stream was not received, so that a template may have been in it."""
        return self.began_late or self.lost > 0

    def take(self, message: Message, payload: bytes) -> Problem | None:
        """The next datagram in order of arrival; a Problem if its number cannot be."""
        sequence, step = message.header.sequence or 0, _step(message)
        digest = hashlib.blake2b(payload, digest_size=16).digest()
        self.datagrams += 1
        if self.datagrams == 1:
            self._begin(message, sequence, step)
            self.began_late = sequence != 0
            self._seen.append(digest)
            return None
        if digest in self._seen and step != 0:  # templates alone may be sent twice in a second, under one number
            self.repeated += 1
            return None
        self._seen.append(digest)
        if self._expected is None:
            self._begin(message, sequence, step)
            return None
        gap = (sequence - self._expected + _UINT32 // 2) % _UINT32 - _UINT32 // 2
        if gap == 0:
            self._judge(self._expected)
            self._advance(self._expected, step)
            self._remember(message)
            return None
        if self._restarted(message, sequence, gap):
            self.restarts += 1
            self._begin(message, sequence, step)
            return None
        at = self._expected + gap
        if gap > 0:
            self._judge(at)
            self._miss(self._expected, at)
            self._advance(at, step)
            self._remember(message)
            return None
        if self._fits(at, step or 0):
            self.late += 1
            self.received += step or 0
            return None
        self.broken += 1
        rule, offset, unit = _RULES[self.version]
        expected = self._expected % _UINT32
        self._begin(message, sequence, step)
        return Problem(offset, rule, f"sequence is {sequence}, not {expected}: {gap:+d} {unit} in domain {self.domain}; these numbers were used before")

    def _begin(self, message: Message, sequence: int, step: int | None) -> None:
        self._first = sequence
        self._holes.clear()
        self._edges.clear()
        self._advance(sequence, step)
        self._remember(message)

    def _advance(self, at: int, step: int | None) -> None:
        self._previous = at
        self._edges.append(at)
        self._expected = None if step is None else at + step
        self.received += step or 0

    def _remember(self, message: Message) -> None:
        self._boot_ms = _boot(message)
        self._mistaken_step = len(message.records) + (len(message.templates) if self.version == 10 else 0)

    def _judge(self, at: int) -> None:
        if at != self._previous + self._mistaken_step:
            self._mistake = False
        elif at != self._expected:
            self._mistaken += 1

    def mistake(self) -> Problem | None:
        """What its losses were all along, if they were none: an exporter that counts something else. To be asked at the end."""
        if not self._mistake or self._mistaken < _ENOUGH or self.version not in _MISTAKES:
            return None
        rule, text = _MISTAKES[self.version]
        return Problem(_RULES[self.version][1], rule, f"{text}, in all of {self.datagrams} datagrams")

    def _miss(self, start: int, end: int) -> None:
        self.lost += end - start
        self._holes.append((start, end))
        if len(self._holes) > _HOLES:
            self._first = self._holes.pop(0)[1]

    def _restarted(self, message: Message, sequence: int, gap: int) -> bool:
        """v5 and v9: the instant of boot moved on. IPFIX has none: it begins again at 0, with its templates, where it had come further (RFC 7011 §8.4)."""
        boot = _boot(message)
        if boot is not None and self._boot_ms is not None:
            return (boot - self._boot_ms + _UINT32 // 2) % _UINT32 - _UINT32 // 2 > _REBOOT_MS
        return gap < 0 and sequence == 0 and self._previous != 0 and bool(message.templates)

    def _fits(self, at: int, step: int) -> bool:
        """Whether a datagram with an earlier number was on its way for long: it fills a hole, or came before the first. Fills it."""
        if at + step <= self._first:
            return True
        for index, (start, end) in enumerate(self._holes):
            if start <= at and at + step <= end:
                self._holes[index : index + 1] = [each for each in ((start, at), (at + step, end)) if each[0] < each[1]]
                self.lost -= step
                return True
        return step == 0 and at in self._edges  # of templates alone: it takes no number


class Sequences:
    """All streams, in order of their first datagram."""

    def __init__(self) -> None:
        self._streams: dict[tuple[Hashable, int, int], StreamSequence] = {}

    @property
    def streams(self) -> list[StreamSequence]:
        """Each with its counts."""
        return list(self._streams.values())

    def take(self, message: Message, payload: bytes) -> tuple[StreamSequence | None, Problem | None]:
        """The stream of a decoded datagram (None if its header is not whole), and what is impossible in its sequence number."""
        if message.version not in _RULES or message.header.sequence is None:
            return None, None
        key = (message.source, message.version, message.header.domain)
        stream = self._streams.setdefault(key, StreamSequence(*key))
        return stream, stream.take(message, payload)


def _step(message: Message) -> int | None:
    """By how much a message moves its sequence; None when its records could not all be counted."""
    if message.version == 9:
        return 1
    if message.version == 5:
        return message.header.count
    if message.undecoded or any(problem.rule_id.startswith(_UNSURE) for problem in message.problems):
        return None
    return len(message.records)


def _boot(message: Message) -> int | None:
    """The instant of boot in ms modulo 2^32; None for IPFIX, which has no uptime."""
    header = message.header
    if header.sys_uptime is None or header.seconds is None:
        return None
    return (header.seconds * 1000 + (header.nanoseconds or 0) // 1_000_000 - header.sys_uptime) % _UINT32

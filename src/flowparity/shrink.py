# SPDX-License-Identifier: Apache-2.0
"""The smallest capture that still fails the same way: delta debugging over packets, then simplification of each packet that is left."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flowparity.anonymise import anonymise_frames
from flowparity.capture import write_capture
from flowparity.errors import InputError
from flowparity.frame import Frame
from flowparity.harness.cases import Case
from flowparity.harness.engine import Bench, Settings
from flowparity.harness.interfaces import Level, Metadata
from flowparity.harness.results import Problem, Status
from flowparity.links import Payload, find_ip

Test = Callable[[Sequence[Frame]], bool]
"""Whether frames still fail the same way."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What came of it."""

    frames: tuple[Frame, ...]
    before: int
    tries: int
    problem: Problem  # of the smallest capture


def ddmin(frames: Sequence[Frame], fails: Test) -> list[Frame]:
    """The minimising delta debugging of Zeller and Hildebrandt: what is left fails, and no single packet of it can go."""
    kept = list(frames)
    parts = 2
    while len(kept) >= 2:
        size = -(-len(kept) // parts)
        chunks = [kept[at : at + size] for at in range(0, len(kept), size)]
        for number, chunk in enumerate(chunks):
            rest = [frame for other, each in enumerate(chunks) if other != number for frame in each]
            candidates = [rest] if len(chunks) != 2 else [chunk, rest]
            smaller = next((each for each in candidates if each and fails(each)), None)
            if smaller is not None:
                kept = smaller
                parts = max(parts - 1, 2) if smaller is rest else 2
                break
        else:
            if parts >= len(kept):
                break
            parts = min(len(kept), parts * 2)
    return kept


def simplify(frames: Sequence[Frame], fails: Test) -> list[Frame]:
    """Each packet as plain as it can be: earlier times, payload zeroed, then cut short, then tags removed."""
    kept = list(frames)
    start = kept[0].ts_ns // 1_000_000_000 * 1_000_000_000
    for index in range(len(kept)):
        for change in (_zero_payload, _shorten, lambda frame: replace(frame, ts_ns=start), lambda frame: replace(frame, ts_ns=frame.ts_ns // 10**9 * 10**9)):
            changed = change(kept[index])
            if changed is not None and changed != kept[index]:
                candidate = [*kept[:index], changed, *kept[index + 1 :]]
                if fails(candidate):
                    kept = candidate
    return kept


def _transport(frame: Frame) -> tuple[int, int, int] | None:
    """Start of the IP header, start of the transport header and its size, of a plain IPv4 or IPv6 packet."""
    payload = find_ip(frame)
    if not isinstance(payload, Payload) or len(frame.data) < payload.offset + 20:
        return None
    start, data = payload.offset, frame.data
    version = data[start] >> 4
    if version == 4:
        protocol, at = data[start + 9], start + (data[start] & 15) * 4
    elif version == 6 and len(data) >= start + 40:
        protocol, at = data[start + 6], start + 40
    else:
        return None
    size = {6: (data[at + 12] >> 4) * 4 if at + 12 < len(data) else 20, 17: 8, 1: 8, 58: 8}.get(protocol)
    return None if size is None else (start, at, size)


def has_payload(frame: Frame) -> bool:
    """Whether anything but zeros follows the transport header, or the frame is none whose headers are known."""
    found = _transport(frame)
    return any(frame.data[found[1] + found[2] :]) if found is not None else True


def _zero_payload(frame: Frame) -> Frame | None:
    found = _transport(frame)
    if found is None:
        return None
    end = found[1] + found[2]
    return replace(frame, data=frame.data[:end] + bytes(max(0, len(frame.data) - end)))


def _shorten(frame: Frame) -> Frame | None:
    """The packet without payload; its IP length (and UDP length) say so."""
    found = _transport(frame)
    if found is None or len(frame.data) < frame.wirelen:
        return None
    start, at, size = found
    end = at + size
    if end >= len(frame.data):
        return None
    data = bytearray(frame.data[:end])
    if data[start] >> 4 == 4:
        struct.pack_into("!H", data, start + 2, end - start)
        header = data[start:at]
        header[10:12] = b"\0\0"
        total = sum(struct.unpack(f"!{len(header) // 2}H", header))
        while total > 0xFFFF:
            total = (total & 0xFFFF) + (total >> 16)
        struct.pack_into("!H", data, start + 10, ~total & 0xFFFF)
    else:
        struct.pack_into("!H", data, start + 4, end - at)
    return replace(frame, data=bytes(data), wirelen=len(data))


def shrink(
    case: Case,
    subject: str,
    format: str,
    settings: Settings,
    *,
    signature: tuple[str, str] | None = None,
    anonymise: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Shrunk:
    """Shrinks a case that fails. Without `signature` (level and field or rule) the first problem found is the one to keep.

    An InputError if the capture does not fail. `progress` hears of packets left and tries made.
    """
    if signature is not None:
        settings = replace(settings, levels=frozenset({Level(signature[0])}))
    settings = replace(settings, formats=_formats(settings, format), artefacts=None)
    frames = case.frames()
    tries = 0
    with Bench([subject]) as bench, tempfile.TemporaryDirectory(prefix="flowparity-shrink-") as directory:
        found: Problem | None = None

        def problems(some: Sequence[Frame]) -> list[Problem]:
            nonlocal tries
            tries += 1
            path = Path(directory) / f"{tries}.{_suffix(some)}"
            renumbered = [replace(frame, index=index, tags=(), segments=1) for index, frame in enumerate(some)]
            write_capture(path, renumbered)
            metadata = {index: Metadata(frame.tags, frame.segments) for index, frame in enumerate(some) if frame.tags or frame.segments > 1}
            smaller = replace(case, capture=path, metadata=metadata, assignment=(), formats=None)
            try:
                cell = next(each for each in bench.run(smaller, subject, settings) if each.format == format)
            finally:
                path.unlink()
            if cell.status is Status.UNAVAILABLE:
                raise InputError(f"{subject}: {cell.reason}")
            return list(cell.problems)

        first = problems(frames)
        if signature is None and first:
            signature = first[0].signature
        if signature is None or not any(each.signature == signature for each in first):
            how = f" {' '.join(signature)}" if signature else ""
            raise InputError(f"{case.capture}: {subject} does not fail{how} in format {format}; nothing to shrink")
        wanted = signature

        def fails(some: Sequence[Frame]) -> bool:
            nonlocal found
            same = next((each for each in problems(some) if each.signature == wanted), None)
            if progress is not None:
                progress(len(some), tries)
            if same is not None:
                found = same
            return same is not None

        kept = simplify(ddmin(frames, fails), fails)
        if anonymise:
            renamed = anonymise_frames(kept)
            if fails(renamed):
                kept = renamed
            else:
                raise InputError("the failure depends on the addresses themselves: it cannot be kept under --anonymise")
        fails(kept)
        assert found is not None
        return Shrunk(tuple(replace(frame, index=index) for index, frame in enumerate(kept)), len(frames), tries, found)


def _formats(settings: Settings, format: str) -> tuple[str, ...]:
    """A difference between formats needs both."""
    return (format,) if Level.CROSS not in settings.levels else tuple(each for each in settings.formats if each in (format, settings.formats[-1]))


def _suffix(frames: Sequence[Frame]) -> str:
    """Pcapng where pcap cannot hold the frames."""
    return "pcapng" if len({(frame.link, frame.interface) for frame in frames}) > 1 else "pcap"

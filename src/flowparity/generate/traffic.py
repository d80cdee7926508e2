# SPDX-License-Identifier: Apache-2.0
"""Seeded traffic to a capture or to memory, and the records that must come of it.

The records follow from the parameters and from the seeded draw alone: no octet of a frame is looked at, nothing is metered.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from flowparity.errors import SystemFault, UsageError
from flowparity.flow import FlowRecord
from flowparity.frame import Frame
from flowparity.generate.expected import Schedule, expected_records, tally
from flowparity.generate.packets import ACK, FIN, SYN, Flow, flow_of, frame_of
from flowparity.generate.spec import TrafficSpec
from flowparity.profile import Profile

_FCS = 4
_CHUNK = 8192
_KEPT = 200_000  # frames that are kept for the next packet alike


@dataclass(frozen=True, slots=True)
class Flat:
    """All frames of a stream behind one another, for sources that read memory. Frame i: lengths[i] octets from offsets[i], received at times[i] (ns)."""

    data: bytearray
    offsets: array[int]  # "Q"
    lengths: array[int]  # "I"
    times: array[int]  # "q"


class Traffic:
    """The traffic of a TrafficSpec. Every method begins anew and gives the same packets."""

    def __init__(self, spec: TrafficSpec) -> None:
        self.spec = spec

    def flow(self, number: int) -> Flow:
        """A flow by its number: stream + flows * generation."""
        spec = self.spec
        return flow_of(number, spec.seed, spec.ipv6, spec.vlan, spec.tcp)

    def octets(self) -> Iterator[bytes]:
        """The octets of each frame; packet i is due at start_ns + i * gap_ns."""
        spec = self.spec
        plain = not spec.tcp and not spec.lifetime
        totals = self._totals() if spec.tcp else Counter[int]()
        keep = spec.lifetime != 1
        seed, ipv6, vlan, tcp = spec.seed, spec.ipv6, spec.vlan, spec.tcp
        seen = [0] * (0 if plain else spec.flows)
        kept: dict[tuple[int, int, int], bytes] = {}
        get = kept.get
        number, flags, place = 0, 0, 0
        for streams, sizes in self._draws():
            for stream, size in zip(streams, sizes, strict=True):
                number = stream
                if not plain:
                    place = seen[stream]
                    seen[stream] = place + 1
                    number, flags = self._place(stream, place, totals[stream]) if spec.tcp else (stream + spec.flows * (place // spec.lifetime), 0)
                octets = get((number, size, flags))
                if octets is None:
                    flow = flow_of(number, seed, ipv6, vlan, tcp)
                    octets = frame_of(flow, size if flow[0] == 4 else max(size, flow.header), flags)  # 60 octets hold every header of IPv4
                    if keep:
                        if len(kept) >= _KEPT:
                            kept.clear()
                        kept[number, size, flags] = octets
                yield octets

    def frames(self) -> Iterator[Frame]:
        """The frames, one at a time."""
        start, gap = self.spec.start_ns, self.spec.gap_ns
        for index, octets in enumerate(self.octets()):
            yield Frame(start + index * gap, octets, len(octets), index=index)

    def flat(self) -> Flat:
        """All frames in one buffer."""
        spec = self.spec
        data, offsets, lengths = bytearray(), array("Q"), array("I")
        for octets in self.octets():
            offsets.append(len(data))
            lengths.append(len(octets))
            data += octets
        return Flat(data, offsets, lengths, array("q", (spec.start_ns + index * spec.gap_ns for index in range(spec.packets))))

    def write(self, path: str | Path) -> int:
        """Writes a pcap capture with nanoseconds; returns the number of frames. UsageError or SystemFault when it cannot be written."""
        opened = False
        try:
            with Path(path).open("wb") as file:
                opened = True
                self._write(file)
        except OSError as error:
            if opened:
                raise SystemFault(f"{path}: writing failed: {error.strerror}; make room and run again") from None
            raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
        return self.spec.packets

    def _write(self, file: BinaryIO) -> None:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1))
        pack = struct.Struct("<IIII").pack
        when, gap = self.spec.start_ns, self.spec.gap_ns
        pieces: list[bytes] = []
        for octets in self.octets():
            length = len(octets)
            pieces.append(pack(when // 1_000_000_000, when % 1_000_000_000, length, length))
            pieces.append(octets)
            when += gap
            if len(pieces) >= _CHUNK:
                file.write(b"".join(pieces))
                pieces.clear()
        file.write(b"".join(pieces))

    def draws(self) -> Iterator[tuple[int, int, int]]:
        """The plan behind the frames: flow number, TCP flags (0 for UDP) and IP length of each packet."""
        totals, seen = self._totals(), Counter[int]()
        flows: dict[int, Flow] = {}
        for streams, sizes in self._draws():
            for stream, size in zip(streams, sizes, strict=True):
                number, flags = self._place(stream, seen[stream], totals[stream])
                seen[stream] += 1
                flow = flows.get(number)
                if flow is None:
                    flow = flows[number] = self.flow(number)
                yield number, flags if flow.protocol == 6 else 0, max(size, flow.header) - 14 - 4 * (flow.vlan > 0)

    def expected(self, profile: Profile | None = None) -> list[FlowRecord]:
        """The records that an exporter with this profile must give.

        UsageError when they have no closed form: sampling, eviction, timeouts inside drawn flows.
        """
        spec = self.spec
        last = spec.start_ns + (spec.packets - 1) * spec.gap_ns
        period = spec.flows if spec.distribution == "equidistant" else 0
        flows = ((self.flow(number), known) for number, known in tally(self.draws()).items())
        return list(expected_records(flows, Schedule(spec.start_ns, spec.gap_ns, last, period), profile or Profile()))

    def _place(self, stream: int, place: int, total: int) -> tuple[int, int]:
        """The flow number and TCP flags of a stream's packet with the ordinal `place` of `total`."""
        lifetime = self.spec.lifetime
        generation, ordinal = divmod(place, lifetime) if lifetime else (0, place)
        last = place == total - 1 or (lifetime and ordinal == lifetime - 1)
        return stream + self.spec.flows * generation, (SYN if ordinal == 0 else ACK) | (FIN if last and self.spec.close else 0)

    def _totals(self) -> Counter[int]:
        totals = Counter[int]()
        for streams, _ in self._draws():
            totals.update(streams)
        return totals

    def _draws(self) -> Iterator[tuple[list[int], list[int]]]:
        """Stream and captured length of each packet, in chunks."""
        spec = self.spec
        draw = self._stream_draw()
        lengths, weights = [size - _FCS for size, _ in spec.sizes], list(accumulate(weight for _, weight in spec.sizes))
        rng = random.Random(spec.seed ^ 0x5A5A)
        for begin in range(0, spec.packets, _CHUNK):
            count = min(_CHUNK, spec.packets - begin)
            yield draw(begin, count), lengths * count if len(lengths) == 1 else rng.choices(lengths, cum_weights=weights, k=count)

    def _stream_draw(self) -> Callable[[int, int], list[int]]:
        spec = self.spec
        if spec.distribution == "equidistant":
            return lambda begin, count: [index % spec.flows for index in range(begin, begin + count)]
        rng = random.Random(spec.seed)
        streams = range(spec.flows)
        weights = list(accumulate((rank + 1) ** -spec.exponent for rank in streams)) if spec.distribution == "zipf" else None
        return lambda _, count: rng.choices(streams, cum_weights=weights, k=count)

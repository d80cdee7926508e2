# SPDX-License-Identifier: Apache-2.0
"""The expected records of generated traffic, by arithmetic on its parameters and its seeded draw (S-END-1, S-TIM-5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flowparity.errors import UsageError
from flowparity.flow import FlowRecord
from flowparity.generate.packets import FIN, Flow
from flowparity.profile import Profile


@dataclass(slots=True)
class Tally:
    """What the draw says of one flow; ordinals are of packets in the stream."""

    packets: int
    octets: int
    first: int
    last: int
    widest: int  # the largest distance between two packets
    flags: int


def tally(draws: Iterable[tuple[int, int, int]]) -> dict[int, Tally]:
    """Counts a plan (flow number, TCP flags, IP length of each packet) by flow."""
    out: dict[int, Tally] = {}
    for ordinal, (number, flags, octets) in enumerate(draws):
        known = out.get(number)
        if known is None:
            out[number] = Tally(1, octets, ordinal, ordinal, 0, flags)
            continue
        known.packets += 1
        known.octets += octets
        known.widest = max(known.widest, ordinal - known.last)
        known.last = ordinal
        known.flags |= flags
    return out


@dataclass(frozen=True, slots=True)
class Schedule:
    """Where packets lie in time: ordinal i at start + i * gap, the last one at `final` (all ns)."""

    start: int
    gap: int
    final: int
    period: int  # ordinals between two packets of every flow; 0 = no fixed distance


def expected_records(flows: Iterable[tuple[Flow, Tally]], schedule: Schedule, profile: Profile) -> Iterator[FlowRecord]:
    """The records of all flows, in no order that matters. UsageError when profile and traffic together have no closed form."""
    if profile.sampling is not None:
        raise UsageError("traffic: expected records are not known under sampling; leave it out of the profile")
    resident = {4: 0, 6: 0}
    for flow, known in flows:
        resident[flow.version] += 1
        if resident[flow.version] > profile.cache_size:
            raise UsageError(f"traffic: more than cache_size = {profile.cache_size} flows; expected records are not known when some are evicted")
        yield from _records(flow, known, schedule, profile)


def _records(flow: Flow, known: Tally, schedule: Schedule, profile: Profile) -> Iterator[FlowRecord]:
    gap = schedule.gap
    times = schedule.start + known.first * gap, schedule.start + known.last * gap
    fits_idle = not profile.idle_timeout or known.widest * gap < profile.idle_timeout
    fits_active = not profile.active_timeout or times[1] - times[0] < profile.active_timeout
    if known.octets >= 2**profile.counter_bits:
        raise UsageError("traffic: a flow's octets do not fit counter_bits; expected records are not known then")
    if fits_idle and fits_active:
        yield _record(flow, known.packets, known.octets, *times, known.flags, _reason(*times, known.flags, schedule.final, profile), profile)
        return
    if not schedule.period or flow.protocol != 17 or known.octets % known.packets:
        raise UsageError("traffic: expected records under timeouts are known for equidistant UDP flows of one frame size only; raise the timeouts or the rate")
    yield from _split(flow, known, times[0], schedule, profile)


def _split(flow: Flow, known: Tally, first: int, schedule: Schedule, profile: Profile) -> Iterator[FlowRecord]:
    """An equidistant flow under a timeout: every record but the last has the same number of packets (RFC 6645 §4.9)."""
    distance = schedule.period * schedule.gap
    size = known.octets // known.packets
    idle = profile.idle_timeout != 0 and distance >= profile.idle_timeout
    each = 1 if idle else -(-profile.active_timeout // distance)
    for begin in range(0, known.packets, each):
        count = min(each, known.packets - begin)
        times = first + begin * distance, first + (begin + count - 1) * distance
        judged = times[1] + distance if begin + count < known.packets else schedule.final
        yield _record(flow, count, count * size, *times, 0, _reason(*times, 0, judged, profile), profile)


def _reason(first: int, last: int, flags: int, judged: int, profile: Profile) -> int:
    """The end reason of a record that is judged at a time: its earliest deadline, ties 3, 1, 2 (S-END-2); 4 if none has passed."""
    deadlines = []
    if flags & FIN and profile.tcp_end is not None:
        deadlines.append((last + profile.tcp_end, 0, 3))
    if profile.idle_timeout:
        deadlines.append((last + profile.idle_timeout, 1, 1))
    if profile.active_timeout:
        deadlines.append((first + profile.active_timeout, 2, 2))
    due = min(deadlines, default=(judged + 1, 0, 4))
    return due[2] if due[0] <= judged else 4


def _record(flow: Flow, packets: int, octets: int, first: int, last: int, flags: int, reason: int, profile: Profile) -> FlowRecord:
    width = 4 if flow.version == 4 else 16
    return FlowRecord(
        source_address=flow.source.to_bytes(width, "big"),
        destination_address=flow.destination.to_bytes(width, "big"),
        source_port=flow.source_port,
        destination_port=flow.destination_port,
        protocol=flow.protocol,
        tos=flow.tos & profile.tos_mask,
        input_interface=profile.input_interface or 0,
        packets=packets,
        octets=octets,
        first_ns=first,
        last_ns=last,
        tcp_flags=flags,
        end_reason=reason,
        ttl=flow.ttl,
        vlan=flow.vlan,
        flow_label=flow.label,
    )

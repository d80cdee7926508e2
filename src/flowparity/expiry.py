# SPDX-License-Identifier: Apache-2.0
"""When a record ends (S-END of docs/semantics.md): pure functions of a resident record, the profile and a time."""

from __future__ import annotations

from flowparity.cache import Entry
from flowparity.flow import EndReason
from flowparity.packet import Packet
from flowparity.profile import Profile

NEVER = 1 << 80
"""Later than any deadline."""

SYN, FIN_OR_RST = 0x02, 0x05


def deadline(entry: Entry, profile: Profile) -> tuple[int, EndReason]:
    """The earliest deadline and its reason; equal deadlines: 3, then 1, then 2 (S-END-1, S-END-2). `(NEVER, ACTIVE)` if the record has none."""
    due, reason = NEVER, EndReason.ACTIVE
    if profile.active_timeout:
        due = entry.first + profile.active_timeout
    if profile.idle_timeout and entry.last + profile.idle_timeout <= due:
        due, reason = entry.last + profile.idle_timeout, EndReason.IDLE
    if entry.ended and profile.tcp_end is not None and entry.last + profile.tcp_end <= due:
        due, reason = entry.last + profile.tcp_end, EndReason.END_OF_FLOW
    return due, reason


def is_late(t: int, clock: int, profile: Profile) -> bool:
    """Whether a packet at `t` comes too late for any record (S-TIM-3)."""
    return profile.idle_timeout != 0 and t + profile.idle_timeout <= clock


def ends_before(entry: Entry, packet: Packet, t: int, now: int, profile: Profile) -> EndReason | None:
    """Why the resident record ends before this packet of its key, which is not late; None if the packet belongs to it (S-END-2 to S-END-5)."""
    due, reason = deadline(entry, profile)
    if due <= now:
        return reason
    if entry.ended and profile.tcp_end is not None and packet.tcp_flags & SYN and t >= entry.last:
        return EndReason.END_OF_FLOW
    most = (1 << profile.counter_bits) - 1
    if entry.packets + packet.packets > most or entry.octets + packet.octets > most:
        return EndReason.ACTIVE
    return None

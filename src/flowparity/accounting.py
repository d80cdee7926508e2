# SPDX-License-Identifier: Apache-2.0
"""What became of every frame, packet and record: the invariants S-INV-1 and S-INV-2 as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StreamAccount:
    """One export stream (one format to one destination): packets in records, records, datagrams and octets."""

    exported_packets: int = 0  # packets in records that the transport took
    exported_records: int = 0
    queued_packets: int = 0  # in records not yet offered to the transport
    not_sent_packets: int = 0  # in records that the transport refused
    not_sent_records: int = 0
    unrepresentable_packets: int = 0  # S-INV-3
    unrepresentable_records: int = 0
    datagrams: int = 0
    datagram_octets: int = 0


@dataclass(frozen=True, slots=True)
class Accounting:
    """Verdicts in frames, then packets, of one worker or of the sum of all."""

    received: int = 0
    filtered: int = 0
    sampled_out: int = 0
    non_ip: int = 0
    malformed: int = 0
    shed: int = 0
    metered: int = 0
    metered_packets: int = 0  # metered + sum of (segments - 1)
    late: int = 0  # S-TIM-3
    clock_steps: int = 0  # timestamps replaced because of max_clock_step
    evicted: int = 0  # records closed with reason 5
    resident_packets: int = 0
    dropped: int | None = None  # the source's own count; None = unknown
    streams: Mapping[str, StreamAccount] = field(default_factory=dict)  # by "5", "9", "ipfix"

    def broken(self) -> list[str]:
        """The invariants that do not hold, each as one line that names its rule; empty when all hold."""
        out = []
        verdicts = self.filtered + self.sampled_out + self.non_ip + self.malformed + self.shed + self.metered
        if self.received != verdicts:
            out.append(f"S-INV-1: received {self.received} frames, but the verdicts sum to {verdicts}")
        for name, s in self.streams.items():
            total = s.exported_packets + self.resident_packets + s.queued_packets + s.not_sent_packets + s.unrepresentable_packets
            if total != self.metered_packets:
                out.append(f"S-INV-2: metered {self.metered_packets} packets, but stream {name} accounts for {total}")
        return out

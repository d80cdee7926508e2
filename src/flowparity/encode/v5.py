# SPDX-License-Identifier: Apache-2.0
"""NetFlow v5: a 24-octet header and 1 to 30 records of 48 octets, IPv4 only; no templates, no options, no padding."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from flowparity.encode import Domain, Encoder, Message
from flowparity.errors import UsageError
from flowparity.fields import uptime
from flowparity.flow import FlowRecord
from flowparity.profile import SECOND

_HEADER = struct.Struct("!HHIIIIBBH")  # version, count, sysUptime, secs, nsecs, sequence, engine type, engine id, sampling
_RECORD = struct.Struct("!4s4s4sHHIIIIHHxBBBHHBBxx")
_MOST_RECORDS = 30
_NOWHERE = bytes(4)  # next hop, unknown


class V5Encoder(Encoder):
    """The datagrams of one engine."""

    def __init__(self, domain: Domain) -> None:
        if domain.worker > 255:
            raise UsageError(f"NetFlow v5 has 8 bits for the worker: {domain.worker} is above 255 (S-EXP-2)")
        self._most = min(_MOST_RECORDS, (domain.max_message - _HEADER.size) // _RECORD.size)
        if self._most < 1:
            raise UsageError(f"a NetFlow v5 record needs {_HEADER.size + _RECORD.size} octets and the MTU leaves {domain.max_message}; raise the MTU")
        self._boot_ms = domain.boot * 1000
        self._engine = domain.worker
        sampling = domain.profile.sampling
        self._sampling = 0 if sampling is None else (2 if sampling.mode == "random" else 1) << 14 | sampling.interval
        self._sequence = domain.first_sequence  # flows before this datagram (S-EXP-1)
        self._held: list[FlowRecord] = []

    def carries(self, record: FlowRecord) -> bool:
        """IPv4 only."""
        return record.ip_version == 4

    def add(self, record: FlowRecord, now_ns: int) -> Iterator[Message]:
        """A datagram when it is full."""
        self._held.append(record)
        if len(self._held) == self._most:
            yield self._message(now_ns)

    def flush(self, now_ns: int) -> Iterator[Message]:
        """The datagram that is not full."""
        if self._held:
            yield self._message(now_ns)

    def finish(self, now_ns: int) -> Iterator[Message]:
        """The same: v5 has no statistics."""
        return self.flush(now_ns)

    def refused(self) -> None:
        """Nothing: a format without templates."""

    @property
    def queued_packets(self) -> int:
        """Packets in the records held back."""
        return sum(record.packets for record in self._held)

    def _message(self, now_ns: int) -> Message:
        held, self._held = self._held, []
        seconds, ns = divmod(now_ns, SECOND)
        parts = [_HEADER.pack(5, len(held), uptime(now_ns, self._boot_ms), seconds % 2**32, ns, self._sequence, 0, self._engine, self._sampling)]
        parts += [self._record(each) for each in held]
        self._sequence = (self._sequence + len(held)) % 2**32
        return Message(b"".join(parts), len(held), sum(each.packets for each in held), sum(each.octets for each in held))

    def _record(self, record: FlowRecord) -> bytes:
        return _RECORD.pack(
            record.source_address,
            record.destination_address,
            _NOWHERE,
            record.input_interface & 0xFFFF,  # S-EXP-6
            0,  # output interface, unknown
            record.packets,
            record.octets,
            uptime(record.first_ns, self._boot_ms),
            uptime(record.last_ns, self._boot_ms),
            record.source_port,
            record.destination_port,
            record.tcp_flags & 0xFF,  # S-PRT-5
            record.protocol,
            record.tos,
            0,  # source and destination AS and prefix length, unknown
            0,
            0,
            0,
        )

# SPDX-License-Identifier: Apache-2.0
"""Encoders: records in, datagrams out. No sockets and no clocks: every call says what time it is.

An encoder serves one observation domain (one worker) of one stream. Messages come from iterators and are built as they are asked for, so that each can tell
what became of those before it: exhaust every iterator, and hand each message to the transport before asking for the next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from flowparity.fields import Statistics
from flowparity.flow import FlowRecord
from flowparity.profile import Profile


@dataclass(frozen=True, slots=True)
class Message:
    """One export message (a datagram over UDP)."""

    data: bytes
    flow_records: int
    packets: int  # in those records
    octets: int  # in those records


@dataclass(frozen=True, slots=True)
class Domain:
    """What an encoder is told of its observation domain and its stream."""

    worker: int
    boot: int  # seconds since the UNIX epoch (S-TIM-7)
    profile: Profile
    max_message: int  # octets that the transport takes whole: MTU less IP and UDP headers
    reliable: bool  # the transport loses nothing: templates go once (RFC 7011 §8.1)
    statistics: Callable[[], Statistics]
    interfaces: Mapping[int, str] = field(default_factory=dict)  # names by number
    nanoseconds: bool = False  # IPFIX times
    first_sequence: int = 0  # so that a test can see the sequence wrap


class Encoder(ABC):
    """One observation domain of one stream. `now_ns` is the export time (S-TIM-6)."""

    @abstractmethod
    def carries(self, record: FlowRecord) -> bool:
        """Whether the format can carry the record (S-INV-3)."""

    @abstractmethod
    def add(self, record: FlowRecord, now_ns: int) -> Iterator[Message]:
        """Takes a record that the format carries; gives the messages that are full."""

    @abstractmethod
    def flush(self, now_ns: int) -> Iterator[Message]:
        """Gives what is held back, and templates and options that are due by time."""

    @abstractmethod
    def finish(self, now_ns: int) -> Iterator[Message]:
        """The end: what is held back, then the final statistics (S-EXP-7)."""

    @abstractmethod
    def refused(self) -> None:
        """A message was refused: who listens later may not have had the templates (S-EXP-3)."""

    @property
    @abstractmethod
    def queued_packets(self) -> int:
        """Packets in the records held back."""


def make_encoder(name: str, domain: Domain) -> Encoder:
    """The encoder of a format: "5", "9" or "ipfix". A UsageError if `max_message` is too small for its largest record."""
    from flowparity.encode.ipfix import IpfixEncoder
    from flowparity.encode.v5 import V5Encoder
    from flowparity.encode.v9 import V9Encoder

    kinds: dict[str, type[V5Encoder] | type[V9Encoder] | type[IpfixEncoder]] = {"5": V5Encoder, "9": V9Encoder, "ipfix": IpfixEncoder}
    return kinds[name](domain)

# SPDX-License-Identifier: Apache-2.0
"""The resident records of one worker and address family, and the queue of the moments at which each is next to be looked at.

The queue is lazy: a record stands in it at a time that is never after its deadline. Deadlines that move later are noticed when the record's turn comes; only
those that move earlier (FIN, an older packet) are queued anew. So the cost of a sweep follows the records that may be due, not the resident ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from flowparity.packet import Packet

Key = tuple[Any, ...]


class Entry:
    """One resident record: the packet that opened it (S-REC-2), the sums and the extremes."""

    __slots__ = ("due", "ended", "first", "indices", "key", "last", "octets", "opened", "packets", "resident", "tcp_flags")

    def __init__(self, key: Key, packet: Packet, t: int, indices: list[int] | None) -> None:
        self.key = key
        self.opened = packet
        self.packets = packet.packets
        self.octets = packet.octets
        self.first = self.last = t
        self.tcp_flags = packet.tcp_flags
        self.ended = bool(packet.tcp_flags & 0x05)  # a FIN or RST was metered into this record (S-END-1)
        self.indices = indices  # of the frames, when traced
        self.due = 0  # the moment at which the queue holds it
        self.resident = True

    def update(self, packet: Packet, t: int) -> bool:
        """Adds a packet (S-REC-2, S-TIM-1). True if a deadline may have come nearer."""
        self.packets += packet.packets
        self.octets += packet.octets
        nearer = False
        if t > self.last:
            self.last = t
        elif t < self.first:
            self.first = t
            nearer = True
        flags = packet.tcp_flags
        if flags:
            self.tcp_flags |= flags
            if flags & 0x05 and not self.ended:
                self.ended = nearer = True
        return nearer


class Cache:
    """Entries by key. `deadline` gives the moment at which an entry is due as it stands."""

    def __init__(self, deadline: Callable[[Entry], int]) -> None:
        self._deadline = deadline
        self._entries: dict[Key, Entry] = {}
        self._queue: list[tuple[int, int, Entry]] = []
        self._ordinal = 0  # breaks ties in the queue by age

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, key: Key) -> Entry | None:
        """The resident record of a key."""
        return self._entries.get(key)

    def add(self, entry: Entry) -> None:
        """Makes a record resident; its key has none."""
        self._entries[entry.key] = entry
        self._enqueue(entry)

    def remove(self, entry: Entry) -> None:
        """Ends residence. What the queue still holds of it is forgotten when its turn comes, or when the leftovers outnumber the resident records."""
        del self._entries[entry.key]
        entry.resident = False
        if len(self._queue) > 2 * len(self._entries) + 1024:
            self._queue = [item for item in self._queue if item[2].resident and item[0] == item[2].due]
            heapq.heapify(self._queue)

    def hasten(self, entry: Entry) -> None:
        """To be called when an entry's deadline may have come nearer."""
        if self._deadline(entry) < entry.due:
            self._enqueue(entry)

    def due(self, clock: int) -> Iterator[Entry]:
        """The entries whose deadline is at or before `clock`; the caller removes each before it asks for the next."""
        while self._queue and self._queue[0][0] <= clock:
            queued, _, entry = heapq.heappop(self._queue)
            if not entry.resident or queued != entry.due:
                continue
            if self._deadline(entry) <= clock:
                yield entry
            else:
                self._enqueue(entry)

    def victim(self) -> Entry:
        """The entry to evict from a full cache: the one queued for the earliest moment (S-FUL-2 leaves the choice open)."""
        while True:
            queued, _, entry = self._queue[0]
            if entry.resident and queued == entry.due:
                return entry
            heapq.heappop(self._queue)

    def _enqueue(self, entry: Entry) -> None:
        entry.due = self._deadline(entry)
        self._ordinal += 1
        heapq.heappush(self._queue, (entry.due, self._ordinal, entry))

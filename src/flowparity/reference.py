# SPDX-License-Identifier: Apache-2.0
"""The reference Metering Process: docs/semantics.md as a program, without sockets, clocks or randomness.

Frames and times go in, closed records come out of the same call. Every choice is the profile's. What a record holds never depends on when a sweep runs, so the
cadence of sweeps is a parameter that tests vary at will.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import NamedTuple

from flowparity.accounting import Accounting
from flowparity.cache import Cache, Entry, Key
from flowparity.errors import UsageError
from flowparity.expiry import deadline, ends_before, is_late
from flowparity.flow import EndReason, FlowRecord
from flowparity.frame import Frame
from flowparity.links import Refusal
from flowparity.packet import Packet, parse
from flowparity.profile import SECOND, Profile, Sampling

_MASK = 2**64 - 1
_FILTERED = Refusal("filtered", "S-VER-2", "the user's filter or the exporter's own export rejects it")
_SAMPLED_OUT = Refusal("sampled_out", "S-VER-3", "sampling did not take it")
_SHED = Refusal("shed", "S-VER-7", "it needs a new record and the cache is full")


class ClosedRecord(NamedTuple):
    """A record that left the cache."""

    record: FlowRecord
    indices: tuple[int, ...] | None  # of its frames, in their order of arrival; None without `trace`
    closed_at_ns: int  # the worker's clock when it left; the only thing here that depends on sweeps


class MeteringStatistics(NamedTuple):
    """What became of a worker's frames so far. Times are nanoseconds, 0 = never."""

    received: int
    observed: int  # frames that sampling looked at
    selected: int  # frames that sampling took
    metered_packets: int
    metered_octets: int
    ignored_packets: int  # malformed or shed
    ignored_octets: int  # of these frames on the wire
    first_ignored_ns: int
    last_ignored_ns: int


class ReferenceExporter:
    """The Metering Process of one run.

    `workers` have caches, clocks and sampling of their own (S-CMP-2). `clock` is "packet" or "wall" (S-TIM-4); `started_ns` is the wall clock at start.
    `is_filtered` is the user's filter (S-VER-2). `trace` keeps the frame indices of each record. A sweep runs whenever a worker's clock has risen by
    `sweep_every` nanoseconds: 0 = at each frame, None = never but at the end.
    """

    def __init__(
        self,
        profile: Profile,
        workers: int = 1,
        *,
        clock: str = "packet",
        started_ns: int = 0,
        trace: bool = False,
        sweep_every: int | None = SECOND,
        is_filtered: Callable[[Frame], bool] | None = None,
    ) -> None:
        if workers < 1:
            raise UsageError(f"workers: {workers} is below 1")
        if clock not in ("packet", "wall"):
            raise UsageError(f"clock: {clock!r} is neither packet nor wall")
        self.profile = profile
        self.clock_kind = clock
        self._trace = trace
        self._workers = [_Worker(profile, number, trace, sweep_every, is_filtered) for number in range(workers)]
        self._final: int | None = None
        if clock == "wall":
            for worker in self._workers:
                worker.boot_ns = worker.export_ns = started_ns

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self._workers)

    @property
    def final_clock_ns(self) -> int | None:
        """The clock at the end of input (S-TIM-5); None before `flush` and if no frame was received."""
        return self._final

    def feed(self, frame: Frame, worker: int = 0, source_clock_ns: int | None = None) -> list[ClosedRecord]:
        """Meters one frame and returns the records that closed on it.

        `source_clock_ns` is the packet source's own clock, live only: a timestamp further from it than `max_clock_step` is counted and replaced by it.
        """
        receiver = self._workers[worker]
        t = frame.ts_ns
        if source_clock_ns is not None and abs(t - source_clock_ns) > self.profile.max_clock_step:
            receiver.clock_steps += 1
            t = source_clock_ns
        receiver.receive(frame, t)
        if self.clock_kind == "packet":
            receiver.export_ns = receiver.newest
        else:  # S-TIM-6: the wall clock, but never before what a record ends with
            receiver.export_ns = max(t, receiver.export_ns or t)
        return receiver.take()

    def verdict(self, worker: int = 0) -> Refusal | None:
        """Why the frame last fed to this worker was not metered; None if it was."""
        return self._workers[worker].verdict

    def advance(self, now_ns: int, worker: int | None = None, delay_ns: int = 0) -> list[ClosedRecord]:
        """The wall clock, given while the worker's queues (None: all workers') are empty (S-TIM-4); returns what fell due.

        `delay_ns` is at least the packet source's bound from a packet's stamp to its being visible.
        """
        if self.clock_kind != "wall":
            raise UsageError("the clock of this run is the packets': only a run with clock = wall can be advanced (S-TIM-4)")
        out = []
        for each in self._workers if worker is None else [self._workers[worker]]:
            each.export_ns = now_ns if each.export_ns is None else max(each.export_ns, now_ns)
            each.raise_clock(now_ns - delay_ns - self.profile.reorder)
            each.sweep()
            out += each.take()
        return out

    def sweep(self, worker: int | None = None) -> list[ClosedRecord]:
        """Closes what is due at the clock as it stands (S-END-6)."""
        out = []
        for each in self._workers if worker is None else [self._workers[worker]]:
            each.sweep()
            out += each.take()
        return out

    def flush(self) -> list[ClosedRecord]:
        """The end of input (S-TIM-5): the clocks rise to the largest timestamp, a complete sweep runs, and what remains closes with reason 4."""
        ends = [worker.newest for worker in self._workers]
        if self.clock_kind == "wall":
            ends += [worker.clock for worker in self._workers]
        self._final = max((each for each in ends if each is not None), default=None)
        out = []
        for worker in self._workers:
            if self._final is not None:
                worker.raise_clock(self._final)
                if self.clock_kind == "packet":
                    worker.export_ns = self._final  # S-TIM-6
            worker.sweep()
            worker.close_all(EndReason.FORCED)
            out += worker.take()
        return out

    def export_ns(self, worker: int = 0) -> int:
        """The export time of a message built now (S-TIM-6). A worker that received nothing has none (UsageError)."""
        value = self._workers[worker].export_ns
        if value is None:
            raise UsageError(f"worker {worker} has received nothing and has no export time")
        return value

    def boot(self, worker: int = 0) -> int:
        """The epoch of v5 and v9 uptimes in seconds (S-TIM-7). A worker that received nothing has none (UsageError)."""
        if self.profile.boot is not None:
            return self.profile.boot
        value = self._workers[worker].boot_ns
        if value is None:
            raise UsageError(f"worker {worker} has received nothing and has no boot time")
        return value // SECOND

    def has_received(self, worker: int) -> bool:
        """Whether the worker has received any frame."""
        return self._workers[worker].received > 0

    def metering(self, worker: int) -> MeteringStatistics:
        """What the worker's options records say (S-EXP-7); cheap."""
        each = self._workers[worker]
        return MeteringStatistics(
            each.received,
            each.received - each.refused["filtered"],
            each.received - each.refused["filtered"] - each.refused["sampled_out"],
            each.metered_packets,
            each.metered_octets,
            each.refused["malformed"] + each.refused["shed"],
            each.ignored_octets,
            each.first_ignored_ns,
            each.last_ignored_ns,
        )

    def accounting(self, worker: int | None = None) -> Accounting:
        """The verdicts of one worker or of all; `streams` is for those who export. Takes time in proportion to the resident records."""
        if worker is not None:
            return self._workers[worker].accounting()
        return add_accounts([each.accounting() for each in self._workers])


class _Worker:
    """One worker: its clock, its sampling and its two caches (S-REC-5, S-CMP-2)."""

    def __init__(self, profile: Profile, number: int, trace: bool, sweep_every: int | None, is_filtered: Callable[[Frame], bool] | None) -> None:
        self.profile = profile
        self.number = number
        self.trace = trace
        self.sweep_every = sweep_every
        self.keys_tos_and_interface = profile.keys_tos_and_interface
        self.keys_vlan = profile.keys_vlan
        self.is_filtered = is_filtered
        self.ipv4 = Cache(lambda entry: deadline(entry, profile)[0])
        self.ipv6 = Cache(lambda entry: deadline(entry, profile)[0])
        self.closed: list[ClosedRecord] = []
        self.newest: int | None = None  # the largest timestamp received
        self.clock: int | None = None  # S-TIM-2
        self.next_sweep: int | None = None
        self.export_ns: int | None = None
        self.boot_ns: int | None = None
        self.verdict: Refusal | None = None
        self.sampler = Sampler(profile.sampling, number) if profile.sampling else None
        self.received = self.metered = self.metered_packets = self.late = self.clock_steps = self.evicted = 0
        self.metered_octets = self.ignored_octets = self.first_ignored_ns = self.last_ignored_ns = 0
        self.refused = {"filtered": 0, "sampled_out": 0, "non_ip": 0, "malformed": 0, "shed": 0}

    def receive(self, frame: Frame, t: int) -> None:
        """Gives a frame its verdict (S-VER-1). The clock sees every frame, whatever its verdict (S-TIM-2)."""
        self.received += 1
        if self.newest is None or t > self.newest:
            self.newest = t
            self.raise_clock(t - self.profile.reorder)
        if self.boot_ns is None:
            self.boot_ns = t  # S-TIM-7: the first received frame
        if self.is_filtered is not None and self.is_filtered(frame):
            self.verdict = _FILTERED
        elif self.sampler is not None and not self.sampler.takes():
            self.verdict = _SAMPLED_OUT
        else:
            packet = parse(frame)
            self.verdict = packet if isinstance(packet, Refusal) else self.meter(packet, t, frame.index)
        if self.verdict is not None:
            self.refused[self.verdict.verdict] += 1
            if self.verdict.verdict in ("malformed", "shed"):
                self.ignored_octets += max(frame.wirelen, len(frame.data))
                self.first_ignored_ns = min(t, self.first_ignored_ns or t)
                self.last_ignored_ns = max(t, self.last_ignored_ns)
        assert self.clock is not None
        if self.sweep_every is not None and (self.next_sweep is None or self.clock >= self.next_sweep):
            self.next_sweep = self.clock + self.sweep_every
            self.sweep()

    def meter(self, packet: Packet, t: int, index: int) -> Refusal | None:
        """One packet into the cache (S-TIM-3, S-END-2 to S-END-5, S-FUL); the refusal if it is shed."""
        profile = self.profile
        clock = self.clock
        assert clock is not None
        indices = [index] if self.trace else None
        tos = packet.tos & profile.tos_mask  # S-REC-4
        interface = packet.interface if profile.input_interface is None else profile.input_interface
        key = self.key_of(packet, tos, interface)
        if is_late(t, clock, profile):  # S-TIM-3: touches no resident record and needs no place
            self.late += 1
            self.hand_over(Entry(key, packet._replace(tos=tos, interface=interface), t, indices), EndReason.IDLE)
        else:
            cache = self.ipv4 if len(packet.source) == 4 else self.ipv6
            entry = cache.get(key)
            if entry is not None:
                reason = ends_before(entry, packet, t, max(t, clock), profile)
                if reason is None:  # S-END-5
                    if entry.update(packet, t):
                        cache.hasten(entry)
                    if entry.indices is not None:
                        entry.indices.append(index)
                else:
                    self.close(cache, entry, reason)
                    entry = None
            if entry is None:
                if len(cache) >= profile.cache_size and not self.make_room(cache, clock):
                    return _SHED
                cache.add(Entry(key, packet._replace(tos=tos, interface=interface), t, indices))
        self.metered += 1
        self.metered_packets += packet.packets
        self.metered_octets += packet.octets
        return None

    def key_of(self, packet: Packet, tos: int, interface: int) -> Key:
        """The Flow Key of the profile. IPv4 and IPv6 differ by the length of the addresses (S-REC-5)."""
        key: Key = packet[:5]
        if self.keys_tos_and_interface:
            key += (tos, interface)
        if self.keys_vlan:
            key += packet[7:9]
        return key

    def make_room(self, cache: Cache, clock: int) -> bool:
        """A full cache: what is due leaves with its own reason (S-FUL-1), else one record is evicted (S-FUL-2), or there is no room (S-FUL-3)."""
        self.sweep_cache(cache, clock)
        if len(cache) >= self.profile.cache_size:
            if self.profile.on_full == "refuse":
                return False
            self.evicted += 1
            self.close(cache, cache.victim(), EndReason.RESOURCES)
        return True

    def raise_clock(self, to: int) -> None:
        """The clock never goes back."""
        if self.clock is None or to > self.clock:
            self.clock = to

    def sweep(self) -> None:
        """Closes exactly what S-END-2 would close at `clock` (S-END-6)."""
        if self.clock is not None:
            self.sweep_cache(self.ipv4, self.clock)
            self.sweep_cache(self.ipv6, self.clock)

    def sweep_cache(self, cache: Cache, clock: int) -> None:
        for entry in cache.due(clock):
            self.close(cache, entry, deadline(entry, self.profile)[1])

    def close_all(self, reason: EndReason) -> None:
        for cache in (self.ipv4, self.ipv6):
            for entry in list(cache):
                self.close(cache, entry, reason)

    def close(self, cache: Cache, entry: Entry, reason: EndReason) -> None:
        cache.remove(entry)
        self.hand_over(entry, reason)

    def hand_over(self, entry: Entry, reason: EndReason) -> None:
        """Makes the Flow Record (S-REC-1); what is no sum or extreme comes from the packet that opened it (S-REC-2)."""
        opened = entry.opened
        record = FlowRecord(
            source_address=opened.source,
            destination_address=opened.destination,
            source_port=opened.source_port,
            destination_port=opened.destination_port,
            protocol=opened.protocol,
            tos=opened.tos,
            input_interface=opened.interface,
            packets=entry.packets,
            octets=entry.octets,
            first_ns=entry.first,
            last_ns=entry.last,
            tcp_flags=entry.tcp_flags,
            end_reason=reason,
            ttl=opened.ttl,
            vlan=opened.vlan,
            inner_vlan=opened.inner_vlan,
            flow_label=opened.flow_label,
            worker=self.number,
        )
        assert self.clock is not None
        self.closed.append(ClosedRecord(record, None if entry.indices is None else tuple(entry.indices), self.clock))

    def take(self) -> list[ClosedRecord]:
        """What closed since the last call."""
        out, self.closed = self.closed, []
        return out

    def accounting(self) -> Accounting:
        """What became of every frame; the resident packets are counted, not inferred, so that S-INV-2 can fail."""
        return Accounting(
            received=self.received,
            filtered=self.refused["filtered"],
            sampled_out=self.refused["sampled_out"],
            non_ip=self.refused["non_ip"],
            malformed=self.refused["malformed"],
            shed=self.refused["shed"],
            metered=self.metered,
            metered_packets=self.metered_packets,
            late=self.late,
            clock_steps=self.clock_steps,
            evicted=self.evicted,
            resident_packets=sum(entry.packets for cache in (self.ipv4, self.ipv6) for entry in cache),
        )


class Sampler:
    """Packet sampling by the index of the frame, counted per worker from 0 over frames not filtered (S-VER-3)."""

    def __init__(self, sampling: Sampling, worker: int) -> None:
        self._interval = sampling.interval
        self._random = sampling.mode == "random"
        self._state = (sampling.seed + worker) & _MASK
        self._index = 0

    def takes(self) -> bool:
        """Whether the next frame is taken."""
        i = self._index
        self._index += 1
        return (splitmix64(self._state, i) if self._random else i) % self._interval == 0


def splitmix64(state: int, i: int) -> int:
    """Output `i` of SplitMix64 that starts at `state`, as S-VER-3 writes it."""
    z = (state + (i + 1) * 0x9E3779B97F4A7C15) & _MASK
    z ^= z >> 30
    z = z * 0xBF58476D1CE4E5B9 & _MASK
    z ^= z >> 27
    z = z * 0x94D049BB133111EB & _MASK
    return z ^ z >> 31


def verdict_of(frame: Frame) -> Refusal | None:
    """Why the frame in itself cannot be metered (S-VER-4, S-VER-5); None if it can.

    Filter, sampling and a full cache are the run's: see `ReferenceExporter.verdict`.
    """
    packet = parse(frame)
    return packet if isinstance(packet, Refusal) else None


def add_accounts(accounts: list[Accounting]) -> Accounting:
    """The sum of several workers' accounts, without their streams."""
    return Accounting(**{name: sum(getattr(each, name) for each in accounts) for name in _SUMMED})


_SUMMED = tuple(each.name for each in fields(Accounting) if each.name not in ("dropped", "streams"))

# SPDX-License-Identifier: Apache-2.0
"""The reference's Exporting Process: closed records through the encoders to the streams, with an account of every packet (S-INV-2), and whole runs of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from zlib import crc32

from flowparity.accounting import Accounting, StreamAccount
from flowparity.encode import Domain, Encoder, Message, make_encoder
from flowparity.errors import InputError, UsageError
from flowparity.fields import Statistics
from flowparity.frame import Frame
from flowparity.links import Refusal
from flowparity.packet import parse
from flowparity.profile import SECOND, Profile
from flowparity.reference import ClosedRecord, ReferenceExporter, add_accounts
from flowparity.transport import ExportStream, Fate

OnClosed = Callable[[ClosedRecord], None]


class StreamExport:
    """One format to one stream, all workers."""

    def __init__(
        self,
        name: str,
        stream: ExportStream,
        exporter: ReferenceExporter,
        *,
        interfaces: Mapping[int, str] | None = None,
        nanoseconds: bool = False,
        first_sequence: int = 0,
    ) -> None:
        self.name = name
        self.stream = stream
        self._exporter = exporter
        self._interfaces = dict(interfaces or {})
        self._nanoseconds = nanoseconds
        self._first_sequence = first_sequence
        self._domains: dict[int, _DomainExport] = {}
        self._encoder(exporter.workers - 1, 0)  # refuses an impossible MTU or number of workers at start

    def add(self, worker: int, closed: Iterable[ClosedRecord]) -> None:
        """Takes a worker's closed records; sends what is full."""
        domain = self._domain(worker)
        now = self._exporter.export_ns(worker)
        for each in closed:
            domain.add(each, now)

    def flush(self, worker: int) -> None:
        """Sends what the worker has waiting, and what is due by time (S-END-6)."""
        domain = self._domain(worker)
        domain.send_all(domain.encoder.flush(self._exporter.export_ns(worker)))

    def finish(self) -> None:
        """The end of input: sends everything and the final statistics (S-EXP-7). A worker that received nothing has nothing to say."""
        for worker in range(self._exporter.workers):
            if self._exporter.has_received(worker):
                domain = self._domain(worker)
                domain.send_all(domain.encoder.finish(self._exporter.export_ns(worker)))

    def account(self, worker: int | None = None) -> StreamAccount:
        """The account of one worker or of all."""
        accounts = [domain.account() for number, domain in self._domains.items() if worker in (None, number)]
        return StreamAccount(**{each.name: sum(getattr(account, each.name) for account in accounts) for each in fields(StreamAccount)})

    def _domain(self, worker: int) -> _DomainExport:
        if worker not in self._domains:
            self._domains[worker] = domain = _DomainExport(self.stream)
            domain.encoder = self._encoder(worker, self._exporter.boot(worker))
        return self._domains[worker]

    def _encoder(self, worker: int, boot: int) -> Encoder:
        return make_encoder(
            self.name,
            Domain(
                worker=worker,
                boot=boot,
                profile=self._exporter.profile,
                max_message=self.stream.max_message,
                reliable=self.stream.reliable,
                statistics=lambda: self._statistics(worker),
                interfaces=self._interfaces,
                nanoseconds=self._nanoseconds,
                first_sequence=self._first_sequence,
            ),
        )

    def _statistics(self, worker: int) -> Statistics:
        return Statistics(worker + 1, *self._exporter.metering(worker), *self._domains[worker].exporting())


class _DomainExport:
    """One worker's share of a stream: its encoder and what became of its messages."""

    encoder: Encoder

    def __init__(self, stream: ExportStream) -> None:
        self._stream = stream
        self._account = StreamAccount()
        self._sent_octets = 0
        self._not_sent_octets = 0  # of the packets in the records
        self._first_not_sent_ns = self._last_not_sent_ns = 0
        self._now_ns = 0

    def add(self, closed: ClosedRecord, now_ns: int) -> None:
        record = closed.record
        self._now_ns = now_ns
        if self.encoder.carries(record):
            self.send_all(self.encoder.add(record, now_ns))
        else:  # S-INV-3
            old = self._account
            self._account = replace(
                old,
                unrepresentable_packets=old.unrepresentable_packets + record.packets,
                unrepresentable_records=old.unrepresentable_records + 1,
            )

    def send_all(self, messages: Iterator[Message]) -> None:
        """Each message meets its fate before the next is built, so that statistics are true when they are said."""
        for message in messages:
            self._send(message)

    def account(self) -> StreamAccount:
        return replace(self._account, queued_packets=self.encoder.queued_packets)

    def exporting(self) -> tuple[int, ...]:
        """The exporting half of `Statistics`."""
        a = self._account
        sent = (a.datagrams, a.datagram_octets, a.exported_records)
        return (*sent, a.not_sent_records, a.not_sent_packets, self._not_sent_octets, self._first_not_sent_ns, self._last_not_sent_ns)

    def _send(self, message: Message) -> None:
        old = self._account
        if self._stream.send(message.data) is Fate.SENT:
            self._account = replace(
                old,
                exported_packets=old.exported_packets + message.packets,
                exported_records=old.exported_records + message.flow_records,
                datagrams=old.datagrams + 1,
                datagram_octets=old.datagram_octets + len(message.data),
            )
        else:  # S-EXP-3: the message keeps its numbers, so that the collector sees the gap
            self.encoder.refused()
            self._account = replace(
                old,
                not_sent_packets=old.not_sent_packets + message.packets,
                not_sent_records=old.not_sent_records + message.flow_records,
            )
            self._not_sent_octets += message.octets
            self._first_not_sent_ns = self._first_not_sent_ns or self._now_ns
            self._last_not_sent_ns = self._now_ns


@dataclass(frozen=True, slots=True)
class ReferenceOutcome:
    """A whole run of the reference."""

    accounting: Accounting
    workers: tuple[Accounting, ...]
    final_clock_ns: int | None
    warnings: tuple[str, ...]
    error: InputError | None  # why the input ended early; all that came before it was metered and exported


def run_reference(
    frames: Iterable[Frame],
    profile: Profile,
    streams: Mapping[str, ExportStream],
    *,
    workers: int = 1,
    assignment: Sequence[Sequence[int]] | None = None,
    trace: bool = False,
    on_closed: OnClosed | None = None,
    interfaces: Mapping[int, str] | None = None,
    nanoseconds: bool = False,
    first_sequence: int = 0,
    is_filtered: Callable[[Frame], bool] | None = None,
) -> ReferenceOutcome:
    """Meters a capture on packet time and exports it: `streams` by format ("5", "9", "ipfix"), possibly none.

    `assignment` gives for each worker the indices of the frames that it received, in its order (S-CMP-2); frames that it leaves out were never received.
    Without it, frames go to workers by their addresses. `on_closed` sees every record, with frame indices under `trace`. The streams are not closed.
    A UsageError if the profile does not fit the formats; an InputError in the middle of the input ends it and is in the outcome.
    """
    profile.check_formats(tuple(streams))
    if assignment is not None:
        workers = len(assignment)
    exporter = ReferenceExporter(profile, workers, trace=trace, is_filtered=is_filtered)
    exports = [
        StreamExport(name, stream, exporter, interfaces=interfaces, nanoseconds=nanoseconds, first_sequence=first_sequence) for name, stream in streams.items()
    ]
    warnings = ["NetFlow v5 cannot carry IPv6: such flows are counted as unrepresentable (S-INV-3)"] if "5" in streams else []
    error: InputError | None = None
    next_flush = [0] * workers

    def hand_over(worker: int, closed: list[ClosedRecord]) -> None:
        if on_closed is not None:
            for each in closed:
                on_closed(each)
        for export in exports:
            export.add(worker, closed)

    try:
        for worker, frame in assigned(frames, workers, assignment):
            closed = exporter.feed(frame, worker)
            if closed:
                hand_over(worker, closed)
            if exports and frame.ts_ns >= next_flush[worker]:
                next_flush[worker] = frame.ts_ns + SECOND
                for export in exports:
                    export.flush(worker)
    except InputError as reason:
        error = reason
    for each in exporter.flush():
        hand_over(each.record.worker, [each])
    for export in exports:
        export.finish()
    accounts = tuple(replace(exporter.accounting(worker), streams={export.name: export.account(worker) for export in exports}) for worker in range(workers))
    total = replace(add_accounts(list(accounts)), streams={export.name: export.account() for export in exports})
    for export in exports:
        lost = export.account()
        if lost.not_sent_records:
            warnings.append(f"format {export.name}: {lost.not_sent_records} records with {lost.not_sent_packets} packets not sent: {export.stream.last_error}")
    return ReferenceOutcome(total, accounts, exporter.final_clock_ns, tuple(warnings), error)


def assigned(frames: Iterable[Frame], workers: int, assignment: Sequence[Sequence[int]] | None) -> Iterator[tuple[int, Frame]]:
    """Each frame with its worker, in an order that keeps every worker's own.

    Streams wherever it can: only an assignment that reorders frames makes it hold the capture in memory. A UsageError if a frame is assigned twice.
    """
    if assignment is None:
        for frame in frames:
            yield (worker_of(frame, workers) if workers > 1 else 0), frame
        return
    owner: dict[int, int] = {}
    for worker, indices in enumerate(assignment):
        for index in indices:
            if index in owner:
                raise UsageError(f"assignment: frame {index} is given to two workers or twice to one")
            owner[index] = worker
    if all(a < b for indices in assignment for a, b in pairwise(indices)):
        for frame in frames:
            if frame.index in owner:
                yield owner[frame.index], frame
        return
    held = {frame.index: frame for frame in frames if frame.index in owner}
    for worker, indices in enumerate(assignment):
        for index in indices:
            if index in held:
                yield worker, held[index]


def worker_of(frame: Frame, workers: int) -> int:
    """A worker by the addresses, the same for both directions and for all fragments; 0 for what is not IP."""
    packet = parse(frame)
    if isinstance(packet, Refusal):
        return 0
    return crc32(b"".join(sorted((packet.source, packet.destination)))) % workers

# SPDX-License-Identifier: Apache-2.0
"""An export stream under test, what is known about it, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flowparity.collector import Datagram
from flowparity.decode import Decoder, Message

UINT32 = 2**32
VERSION_OF = {"5": 5, "9": 9, "ipfix": 10}
GROUP_OF = {"5": "v5", "9": "v9", "ipfix": "ipfix"}


@dataclass(frozen=True, slots=True)
class Context:
    """What the checker may take for granted. None = not known: rules that need it are then not applicable."""

    mtu: int | None = 1500  # octets of an IP packet on the export path
    workers: int | None = None  # observation domains that the exporter should show
    clock_tolerance_ns: int | None = None  # arrival times and header times are of one clock within this
    boot_tolerance_ms: int = 10
    complete: bool = True  # the stream begins with the exporter's first datagram and has no loss of ours
    sampling_interval: int | None = None  # 0 or 1: the exporter does not sample
    template_packets: int | None = None
    template_seconds: int | None = None
    transport: str = "udp"  # udp, tcp, file
    span_ns: int | None = None  # from the first packet that was metered to the last; None: less than 2^31 ms

    @property
    def uptimes_ordered(self) -> bool:
        """Whether of two uptimes it is known which is the earlier: they are counted modulo 2^32 ms, so over more than half of that it is not."""
        return self.span_ns is None or self.span_ns < 2**31 * 1_000_000

    @property
    def sampling_known(self) -> bool:
        """Whether it is known how the exporter samples, if it does."""
        return self.sampling_interval is not None

    @property
    def reliable(self) -> bool:
        """Whether template withdrawals are legal."""
        return self.transport != "udp"


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation. `datagram` counts from 0; `offset` is octets from the first of the payload; `level` is the catalogue's."""

    rule_id: str
    datagram: int
    offset: int
    text: str
    level: str

    @property
    def advisory(self) -> bool:
        """Whether it is a remark and no fault."""
        return self.level in ("MAY", "guideline", "practice")


@dataclass(frozen=True, slots=True)
class Report:
    """The findings, and which rules they are the findings of. `not_applicable` and `undecidable` say why."""

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    not_applicable: Mapping[str, str]
    undecidable: Mapping[str, str]
    datagrams: int
    records: int

    def broken(self, rule_id: str) -> bool:
        """Whether this rule has a finding."""
        return any(f.rule_id == rule_id for f in self.findings)


@dataclass(frozen=True, slots=True)
class Hit:
    """What a check yields; the registry adds the level."""

    rule_id: str
    datagram: int
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """One datagram of the stream and what was decoded of it."""

    index: int
    datagram: Datagram
    message: Message


@dataclass(slots=True)
class Stream:
    """The whole stream, in order of arrival. `items` holds the datagrams of the right version with a whole header."""

    version: int
    items: list[Item] = field(default_factory=list)
    others: list[Item] = field(default_factory=list)
    domains: dict[tuple[Hashable, int], list[Item]] = field(default_factory=dict)
    sources: dict[Hashable, list[Item]] = field(default_factory=dict)

    @classmethod
    def of(cls, datagrams: Iterable[Datagram], version: int, context: Context) -> Stream:
        """Decodes the datagrams, each source a session of its own."""
        stream = cls(version)
        decoder = Decoder(reliable=context.reliable)
        for index, datagram in enumerate(datagrams):
            item = Item(index, datagram, decoder.feed(datagram.payload, datagram.source, datagram.arrival_ns))
            if item.message.version != version or item.message.header.sequence is None:
                stream.others.append(item)
                continue
            stream.items.append(item)
            stream.domains.setdefault((datagram.source, item.message.header.domain), []).append(item)
            stream.sources.setdefault(datagram.source, []).append(item)
        return stream

    @property
    def everything(self) -> list[Item]:
        """All datagrams, also those of another version."""
        return sorted(self.items + self.others, key=lambda item: item.index)


Check = Callable[[Stream, Context], Iterator[Hit]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A check and the ids it may find; `needs` names the fields of the context that must be known."""

    ids: tuple[str, ...]
    formats: frozenset[str]
    needs: tuple[str, ...]
    check: Check

    def missing(self, context: Context) -> str:
        """Why the rule does not apply under this context; empty when it does."""
        absent = [name for name in self.needs if getattr(context, name) in (None, False)]
        return f"needs {' and '.join(absent)}" if absent else ""


RULES: list[Rule] = []


def rule(*ids: str, formats: Iterable[str] | None = None, needs: Iterable[str] = ()) -> Callable[[Check], Check]:
    """Registers a check. Without `formats` they follow from the ids' group."""
    named = {"V5": "5", "V9": "9", "IPFIX": "ipfix"}
    of = frozenset(formats) if formats is not None else frozenset(named[rule_id.split("-")[0]] for rule_id in ids)

    def register(check: Check) -> Check:
        RULES.append(Rule(ids, of, tuple(needs), check))
        return check

    return register

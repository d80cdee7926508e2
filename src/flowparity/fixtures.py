# SPDX-License-Identifier: Apache-2.0
"""Fixtures: captures with the records that they must give, written by hand from the packets and docs/semantics.md.

A fixture is `<topic>/<case>.toml` beside its capture. fixtures/README.md describes the schema; `parse` enforces it. Loading runs no code: the recipe that
made the capture is only run by `flowparity.generate.recipe`.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flowparity.accounting import Accounting
from flowparity.capture import read_capture
from flowparity.errors import InputError, UsageError
from flowparity.flow import FlowRecord
from flowparity.frame import Frame
from flowparity.profile import FORMATS, Profile, profile_from

SECOND = 1_000_000_000
EPOCH = 1_700_000_000
VERDICTS = ("filtered", "sampled_out", "non_ip", "malformed", "shed")
COUNTS = ("metered_packets", "late", "evicted")
LEVELS = ("conserved", "merged", "records")
ELEMENTS = frozenset(
    [
        "sourceIPv4Address",
        "destinationIPv4Address",
        "sourceIPv6Address",
        "destinationIPv6Address",
        "sourceTransportPort",
        "destinationTransportPort",
        "protocolIdentifier",
        "ipClassOfService",
        "ingressInterface",
        "packetDeltaCount",
        "octetDeltaCount",
        "flowStartNanoseconds",
        "flowEndNanoseconds",
        "tcpControlBits",
        "flowEndReason",
        "ipTTL",
        "dot1qVlanId",
        "dot1qCustomerVlanId",
        "flowLabelIPv6",
        "observationDomainId",
        "icmpTypeCodeIPv4",
        "icmpTypeCodeIPv6",
    ]
)
"""What an expected record may speak of: the names of FlowRecord.elements()."""

_TOP = {"description", "rules", "example", "level", "formats", "workers", "profile", "run", "capture", "metadata", "assignment", "expect"}
_CAPTURE = {"recipe", "epoch", "format", "link", "resolution", "interfaces"}
_EXPECT = {"records", "verdicts", "counts", "refused", "final_clock", "partial", "wire"}
_RUN = {"mtu", "first_sequence"}
_WIRE = {"at_least", "records", "most_records", "most_octets"}


@dataclass(frozen=True, slots=True)
class ExpectedRecord:
    """One expected Flow Record, or at level `merged` the sum of a key's records."""

    frames: tuple[int, ...]  # the frames that it counts, by index
    elements: Mapping[str, Any]  # the elements under test; times absolute in nanoseconds
    unlike_tshark: str = ""  # why tshark's IP lengths of the frames do not sum to octetDeltaCount

    def differences(self, record: FlowRecord) -> dict[str, tuple[Any, Any]]:
        """The elements under test that the record has otherwise: name to (expected, actual)."""
        actual = record.elements()
        return {name: (value, actual.get(name)) for name, value in self.elements.items() if actual.get(name) != value}


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a fixture says must come out."""

    records: tuple[ExpectedRecord, ...] = ()
    verdicts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # verdict to the frames; what is not named is metered
    counts: Mapping[str, int] = field(default_factory=dict)  # metered_packets, late, evicted where under test
    refused: str = ""  # the run is refused with a message that holds this text
    final_clock_ns: int | None = None
    partial: str = ""  # why records are not all listed
    wire: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by format: bounds on the datagrams


@dataclass(frozen=True, slots=True)
class Fixture:
    """One case. Indices are of frames, from 0."""

    name: str  # topic/case
    path: Path
    capture_path: Path
    description: str
    rules: tuple[str, ...]
    example: str  # the rule of docs/semantics.md that names this fixture as an example; empty for most
    level: str
    formats: tuple[str, ...]
    workers: int
    profile_table: Mapping[str, Any]  # as written, with counter_bits = 32 unless it says otherwise
    run: Mapping[str, Any]  # run parameters beside the profile: mtu of the path to the collector, first_sequence of each stream and worker
    capture: Mapping[str, Any]  # how the capture is made: recipe, epoch, format, link, resolution, interfaces
    tags: Mapping[int, tuple[tuple[int, int], ...]]  # stripped tags (TPID, TCI) by frame, outermost first
    segments: Mapping[int, int]  # super-packets by frame
    assignment: tuple[int, ...]  # the worker of each frame; empty = the harness chooses
    expected: Expectation

    @property
    def topic(self) -> str:
        """The directory."""
        return self.name.rpartition("/")[0]

    @property
    def profile(self) -> Profile:
        """The profile; a UsageError is what a fixture with `expected.refused` may be about."""
        return profile_from(self.profile_table)

    @property
    def needs_metadata(self) -> bool:
        """Whether frames carry what a capture file cannot: stripped tags or segment counts."""
        return bool(self.tags or self.segments)

    @property
    def needs_assignment(self) -> bool:
        """Whether the expectation holds only for the given assignment of frames to workers."""
        return bool(self.assignment)

    def frames(self) -> list[Frame]:
        """The frames of the capture with their metadata."""
        return [replace(frame, tags=self.tags.get(frame.index, ()), segments=self.segments.get(frame.index, 1)) for frame in read_capture(self.capture_path)]

    def worker_of(self, index: int) -> int:
        """The worker that takes a frame when nothing else assigns it."""
        return self.assignment[index] if self.assignment else 0


def load_fixtures(root: Path) -> list[Fixture]:
    """All fixtures below a directory, sorted by name; InputError when there is none or one is wrong."""
    found = [load_fixture(path, root) for path in sorted(root.glob("*/*.toml"))]
    if not found:
        raise InputError(f"{root}: no fixtures (<topic>/<case>.toml) here")
    return found


def load_fixture(path: Path, root: Path | None = None) -> Fixture:
    """Reads one fixture; InputError names the file and what is wrong with it."""
    name = path.relative_to(root or path.parent.parent).with_suffix("").as_posix()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"fixture {path}: {error}") from None
    try:
        return parse(name, path, table)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"fixture {name}: {reason}") from None


def parse(name: str, path: Path, table: Mapping[str, Any]) -> Fixture:
    """A fixture from its table; ValueError, KeyError or UsageError say what is wrong."""
    _only("fixture", table, _TOP)
    capture = table["capture"]
    _only("capture", capture, _CAPTURE)
    if not isinstance(capture["recipe"], str):
        raise ValueError("capture.recipe is not text")
    suffix = capture.get("format", "pcap")
    if suffix not in ("pcap", "pcapng"):
        raise ValueError(f"capture.format is pcap or pcapng, not {suffix!r}")
    epoch = seconds(capture.get("epoch", EPOCH))
    profile_table = {"counter_bits": 32, **table.get("profile", {})}
    formats = tuple(table.get("formats", FORMATS if profile_table["counter_bits"] == 32 else FORMATS[1:]))
    level = table.get("level", "records")
    for value, allowed in ((level, LEVELS), *((name, FORMATS) for name in formats)):
        if value not in allowed:
            raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
    _only("run", table.get("run", {}), _RUN)
    tags: dict[int, tuple[tuple[int, int], ...]] = {}
    segments: dict[int, int] = {}
    for entry in table.get("metadata", []):
        _only("metadata", entry, {"frame", "tags", "segments"})
        if "tags" in entry:
            tags[entry["frame"]] = tuple((tpid, tci) for tpid, tci in entry["tags"])
        if "segments" in entry:
            segments[entry["frame"]] = entry["segments"]
    if not table["description"].strip() or not table["rules"]:
        raise ValueError("description and rules are not empty")
    return Fixture(
        name=name,
        path=path,
        capture_path=path.with_suffix(f".{suffix}"),
        description=table["description"],
        rules=tuple(table["rules"]),
        example=table.get("example", ""),
        level=level,
        formats=formats,
        workers=table.get("workers", 1),
        profile_table=profile_table,
        run=table.get("run", {}),
        capture=capture,
        tags=tags,
        segments=segments,
        assignment=tuple(table.get("assignment", ())),
        expected=_expectation(table["expect"], epoch),
    )


def _expectation(table: Mapping[str, Any], epoch: int) -> Expectation:
    _only("expect", table, _EXPECT)
    _only("expect.verdicts", table.get("verdicts", {}), VERDICTS)
    _only("expect.counts", table.get("counts", {}), COUNTS)
    for name, bounds in table.get("wire", {}).items():
        _only("expect.wire", {name: bounds}, FORMATS)
        _only(f"expect.wire.{name}", bounds, _WIRE)
    return Expectation(
        records=tuple(_expected_record(entry, epoch) for entry in table.get("records", [])),
        verdicts={verdict: tuple(indices) for verdict, indices in table.get("verdicts", {}).items()},
        counts=dict(table.get("counts", {})),
        refused=table.get("refused", ""),
        final_clock_ns=epoch + seconds(table["final_clock"]) if "final_clock" in table else None,
        partial=table.get("partial", ""),
        wire=table.get("wire", {}),
    )


def _expected_record(entry: Mapping[str, Any], epoch: int) -> ExpectedRecord:
    elements = dict(entry)
    frames = tuple(elements.pop("frames"))
    unlike = elements.pop("unlike_tshark", "")
    for short, element in (("start", "flowStartNanoseconds"), ("end", "flowEndNanoseconds")):
        if short in elements:
            elements[element] = epoch + seconds(elements.pop(short))
    _only("expect.records", elements, ELEMENTS)
    for name in elements:
        if name.endswith("Address"):
            elements[name] = str(ipaddress.ip_address(elements[name]))  # as FlowRecord.elements() spells it
    for needed in ("packetDeltaCount", "octetDeltaCount"):
        if needed not in elements:
            raise ValueError(f"an expected record of frames {list(frames)} has no {needed}")
    if not frames or len(set(frames)) != len(frames):
        raise ValueError("an expected record cites at least one frame, and none twice")
    return ExpectedRecord(frames, elements, unlike)


def seconds(value: object) -> int:
    """Whole seconds, or decimal text, to nanoseconds (ValueError)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value * SECOND
    if not isinstance(value, str):
        raise ValueError(f"time {value!r}: write whole seconds, or decimal text such as '0.25'")
    sign = -1 if value.startswith("-") else 1
    whole, _, fraction = value.lstrip("-").partition(".")
    if len(fraction) > 9:
        raise ValueError(f"time {value!r} is finer than a nanosecond")
    return sign * (int(whole) * SECOND + int(fraction.ljust(9, "0")))


def _only(what: str, table: Mapping[str, Any], allowed: Sequence[str] | set[str] | frozenset[str]) -> None:
    for key in table:
        if key not in allowed:
            raise ValueError(f"{what} has {key!r}, which is none of {', '.join(sorted(allowed))}")


def disagreements(fixture: Fixture, records: Sequence[FlowRecord], accounting: Accounting | None = None, final_clock_ns: int | None = None) -> list[str]:
    """Where an outcome contradicts the fixture, one line each; empty when it agrees.

    Expected and actual records are paired one to one so that as many as possible agree in every element under test. At level `merged` give merged records.
    """
    expected = fixture.expected
    out = list(_record_disagreements(expected, records)) if fixture.level != "conserved" else []
    if accounting is not None:
        out += accounting.broken()
        for verdict in VERDICTS:
            wanted, got = len(expected.verdicts.get(verdict, ())), getattr(accounting, verdict)
            if wanted != got:
                out.append(f"verdict {verdict}: expected {wanted} frames, got {got}")
        out += [
            f"{name}: expected {wanted}, got {getattr(accounting, name)}" for name, wanted in expected.counts.items() if getattr(accounting, name) != wanted
        ]
    if final_clock_ns is not None and expected.final_clock_ns is not None and final_clock_ns != expected.final_clock_ns:
        out.append(f"final clock: expected {expected.final_clock_ns}, got {final_clock_ns}")
    return [f"{fixture.name}: {line}" for line in out]


def _record_disagreements(expected: Expectation, records: Sequence[FlowRecord]) -> Iterator[str]:
    fits = [[index for index, record in enumerate(records) if not wanted.differences(record)] for wanted in expected.records]
    taken: dict[int, int] = {}  # record to expected record

    def place(which: int, seen: set[int]) -> bool:
        for index in fits[which]:
            if index not in seen:
                seen.add(index)
                if index not in taken or place(taken[index], seen):
                    taken[index] = which
                    return True
        return False

    missing = [which for which in range(len(expected.records)) if not place(which, set())]
    spare = [record for index, record in enumerate(records) if index not in taken]
    for which in missing:
        wanted = expected.records[which]
        if not spare:
            yield f"no record for frames {list(wanted.frames)}: expected {dict(wanted.elements)}"
            continue
        nearest = min(spare, key=lambda record: len(wanted.differences(record)))
        spare.remove(nearest)
        for element, (want, got) in wanted.differences(nearest).items():
            yield f"frames {list(wanted.frames)}: {element}: expected {want}, got {got}"
    if not expected.partial:
        for record in spare:
            yield f"a record that nothing expects: {record.elements()}"

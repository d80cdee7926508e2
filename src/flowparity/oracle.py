# SPDX-License-Identifier: Apache-2.0
"""The reference on trial: what it says of a capture beside what witnesses say (`flowparity oracle`).

An exception names capture, flow and cause, and is believed for at most `MOST_EXCEPTED` of the flows of a witness.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

from flowparity.capture import read_capture
from flowparity.errors import InputError
from flowparity.export import run_reference
from flowparity.flow import FlowRecord
from flowparity.profile import Profile
from flowparity.transport import ExportStream
from flowparity.witness import logs, nfdump, tshark
from flowparity.witness.sums import Sum, Sums, merged, of_records

MOST_EXCEPTED = 0.03
ONE_RECORD_A_FLOW = Profile(key="five", idle_timeout=0, active_timeout=0, tcp_end=None, counter_bits=32)


@dataclass(frozen=True, slots=True)
class Exemption:
    """A flow of a capture in which a witness is known to be wrong."""

    capture: str  # file name
    witness: str
    flow: str  # as Tuple5 prints it
    cause: str


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One flow; None where a side has no such flow."""

    flow: str
    ours: Sum | None
    theirs: Sum | None
    cause: str = ""  # of an exemption

    def __str__(self) -> str:
        return (
            f"{self.flow}: reference {self.ours or 'has no such flow'}, witness {self.theirs or 'has no such flow'}{f' ({self.cause})' if self.cause else ''}"
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a witness said of a capture."""

    capture: str
    witness: str
    flows: int  # of either side
    disagreements: tuple[Disagreement, ...] = ()
    exempted: tuple[Disagreement, ...] = ()

    @property
    def too_many_exempted(self) -> bool:
        """Whether exemptions cover more than MOST_EXCEPTED of the flows."""
        return len(self.exempted) > MOST_EXCEPTED * self.flows

    @property
    def agrees(self) -> bool:
        """Whether nothing is left to explain."""
        return not self.disagreements and not self.too_many_exempted


@dataclass(frozen=True, slots=True)
class Given:
    """Outputs of meters that ran elsewhere on the same capture."""

    zeek: Path | None = None
    argus: Path | None = None
    nfpcapd: Path | None = None


def oracle(capture: Path, given: Given | None = None, exemptions: tuple[Exemption, ...] = ()) -> Iterator[Agreement]:
    """Hears every witness on a capture, one after the other. InputError for what cannot be read, UnavailableError without tshark or nfdump."""
    ours = of_records(_metered(capture))
    yield _compare(capture, "tshark", ours, tshark.sums(capture), exemptions)
    for name, witness in (("5", "nfdump v5"), ("9", "nfdump v9"), ("ipfix", "nfdump IPFIX")):
        theirs = nfdump.through_nfcapd(partial(_export, capture, name))
        sums = {key: value for key, value in ours.items() if name != "5" or len(key.source) == 4}
        if name == "9":  # nfdump knows no element of v9 for ICMPv6 types and shows 0
            sums, theirs = merged(sums), merged(theirs)
        yield _compare(capture, witness, sums, theirs, exemptions, nfdump.TIMES_WITHIN_NS)
    given = given or Given()
    if given.zeek is not None:
        yield _compare(capture, "zeek", merged(ours), logs.zeek(given.zeek), exemptions)
    if given.argus is not None:
        yield _compare(capture, "argus", merged(ours), logs.argus(given.argus), exemptions)
    if given.nfpcapd is not None:
        yield _compare(capture, "nfpcapd", merged(ours), merged(nfdump.read(given.nfpcapd)), exemptions, nfdump.TIMES_WITHIN_NS)


def _export(capture: Path, name: str, stream: ExportStream) -> None:
    run_reference(read_capture(capture), ONE_RECORD_A_FLOW, {name: stream})


def _metered(capture: Path) -> list[FlowRecord]:
    records: list[FlowRecord] = []
    outcome = run_reference(read_capture(capture), replace(ONE_RECORD_A_FLOW, counter_bits=64), {}, on_closed=lambda closed: records.append(closed.record))
    if outcome.error is not None:
        raise outcome.error
    return records


def _compare(capture: Path, witness: str, ours: Sums, theirs: Sums, exemptions: tuple[Exemption, ...], tolerance_ns: int = 0) -> Agreement:
    causes = {each.flow: each.cause for each in exemptions if (each.capture, each.witness) == (capture.name, witness)}
    flows = sorted(ours.keys() | theirs.keys())
    differing = [
        Disagreement(str(flow), ours.get(flow), theirs.get(flow), causes.get(str(flow), ""))
        for flow in flows
        if flow not in ours or flow not in theirs or not ours[flow].agrees(theirs[flow], tolerance_ns)
    ]
    return Agreement(capture.name, witness, len(flows), tuple(d for d in differing if not d.cause), tuple(d for d in differing if d.cause))


def load_exemptions(path: Path) -> tuple[Exemption, ...]:
    """Reads [[exemption]] tables with capture, witness, flow and cause; InputError when it cannot."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        found = tuple(Exemption(**entry) for entry in table.get("exemption", []))
        if any(not str(value).strip() for each in found for value in astuple(each)):
            raise ValueError("an exemption names capture, witness, flow and cause")
        return found
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a list of exemptions: {error}") from None

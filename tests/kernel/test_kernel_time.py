# SPDX-License-Identifier: Apache-2.0
"""Conformance where the packets' own times do not travel: on plain kernel time at the declared tolerance, and where offloads merge packets on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from flowparity.decode import DecodedFlow
from flowparity.diff import compare_records
from flowparity.flow import FlowRecord
from flowparity.frame import Frame
from flowparity.harness.oracle import meter
from flowparity.harness.rigs.veth import VethLink, VethRig
from flowparity.native import RunConfig
from flowparity.profile import Profile
from flowparity.view import view
from tests.kernel.bench import ROWS, Case, Row, all_cases, in_band, inside, play, reference_records, save, verdict, why_left_out, windows
from tests.kernel.driver import source
from tests.kernel.packets import complete, frames, tcp, udp
from tests.kernel.probes import Mouth, Sent
from tests.kernel.tap import Tap

Rigs = Callable[[str], VethRig]
_TOPICS = ("recorded", "vlan")
_SHORTEST = 14


def _plain(case: Case) -> bool:
    """Whether its frames go over a link as they are: whole, and not so short that they end inside a tag."""
    return all(len(frame.data) == frame.wirelen and len(frame.data) >= _SHORTEST for frame in case.frames)


CASES = [case for case in all_cases() if case.name.partition("/")[0] in _TOPICS and not why_left_out(case, ROWS[0]) and _plain(case)]


def _config(row: Row, case: Case) -> RunConfig:
    return RunConfig(row.backend, "", case.profile, options=row.options, huge_pages=False)


def _send(link: VethLink, every: Sequence[Frame], out: list[Sent], window: int | None, wait_for: Callable[[int], None]) -> None:
    assert link.transmit is not None
    with Mouth(link.transmit) as mouth:
        for piece in windows(every, window) if window is not None else [every]:
            for frame in piece:
                mouth.send(frame.data)
            if window is not None:
                wait_for(len(mouth.sent))
        out += mouth.sent


@pytest.mark.parametrize(("row", "case"), [pytest.param(row, case, id=f"{row.name}-{case.name}") for row in ROWS for case in CASES])
def test_on_kernel_time(rigs: Rigs, row: Row, case: Case) -> None:
    """The reference meters each frame at the time of its sending. All is equal; times within the declared tolerance and what is not known of that time."""
    rig, every, sent = rigs("none"), in_band(case.frames), list[Sent]()
    with rig.link(case.capture) as link:
        assert link.times == "none"
        tolerance = inside(rig.namespace, lambda: _tolerance(row, link.receive))
        played = play(link, rig.namespace, _config(row, case), [], formats=case.formats, act=lambda wait_for: _send(link, every, sent, row.window, wait_for))
    assert played.problems == []
    assert played.result.accounting.broken() == []
    assert played.result.accounting.received == len(every)
    unknown = max(each.after_ns - each.before_ns for each in sent)
    truth = meter([replace(frame, ts_ns=each.before_ns) for frame, each in zip(case.frames, sent, strict=True)], case.profile)
    for version, flows in played.flows.items():
        found = compare_records(truth.records, flows, view(version, flows, None, tolerance + unknown))
        assert [str(each) for each in found] == [], version


def _tolerance(row: Row, interface: str) -> int:
    with source(row.backend, interface, options=row.options) as it:
        assert it.declared.ts_source == "kernel"
        assert it.declared.ts_tolerance is not None
        return it.declared.ts_tolerance


def _everything_on(rig: VethRig, link: VethLink) -> None:
    for feature in ("tx", "gso", "gro", "tso"):
        rig.namespace.ask("offload", name=link.receive, feature=feature, on=True)
    for feature in ("tx", "gso"):  # a veth merges only what comes from an end without tso
        rig.namespace.ask("offload", name=link.transmit, feature=feature, on=True)
    rig.namespace.ask("hold_segments", name=link.receive, nanoseconds=20_000_000)


@pytest.mark.parametrize(("row", "case"), [pytest.param(row, case, id=f"{row.name}-{case.name}") for row in ROWS for case in CASES])
def test_with_all_offloads_on(rigs: Rigs, row: Row, case: Case) -> None:
    """Also generic receive offload, waiting for segments that it can merge."""
    sent, came = _with_offloads(rigs(row.carrier), row, case)
    assert came <= sent


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_segments_that_are_merged(rigs: Rigs, row: Row, tmp_path: Path) -> None:
    """Two runs of TCP segments, the end of the connection, and other traffic between them; before AF_XDP nothing is merged."""
    segments = [complete(tcp(bytes([n]) * 500, 1 + 500 * n)) for n in range(40)] + [complete(tcp(b"", 20_001, 0x11))]
    mixed = frames([*segments[:20], udp(53), *segments[20:], udp(53)])
    case = Case("merged", save(mixed, tmp_path / "merged.pcap"), Profile(counter_bits=32))
    sent, came = _with_offloads(rigs(row.carrier), row, case)
    assert (came < sent) == (row.backend != "af_xdp"), "nothing was merged: this case shows nothing"


def _with_offloads(rig: VethRig, row: Row, case: Case) -> tuple[int, int]:
    """How many frames were sent, and how many of them came. The reference meters those that the kernel made of them, as a second ear heard them."""
    every = in_band(case.frames)
    with rig.bare_link() as link:
        _everything_on(rig, link)
        if row.backend == "af_xdp":  # comes before the merging, or turns it off: every frame arrives by itself
            played = play(link, rig.namespace, _config(row, case), every, formats=case.formats)
            assert verdict(case, case.frames, played) == []
            return len(every), played.result.accounting.received
        with inside(rig.namespace, lambda: Tap(link.receive)) as tap:
            played = play(link, rig.namespace, _config(row, case), every, formats=case.formats, window=row.window)
            heard = tap.frames()
    assert played.injection.sent == sum(each.segments for each in heard) == len(every)
    assert verdict(case, heard, played) == []
    for version, flows in played.flows.items():
        assert _sums(reference_records(case.frames, case.profile), version) == _sums(flows, version), version
    return len(every), len(heard)


def _sums(records: Iterable[FlowRecord | DecodedFlow], version: str) -> Counter[tuple[object, ...]]:
    """Packets and octets by 5-tuple, whatever was merged (S-SUP-1)."""
    out: Counter[tuple[object, ...]] = Counter()
    for each in records:
        if version != "5" or len(each.source_address or b"") == 4:
            key = (each.source_address, each.destination_address, each.source_port, each.destination_port, each.protocol)
            out[(*key, "packets")] += each.packets or 0
            out[(*key, "octets")] += each.octets or 0
    return out

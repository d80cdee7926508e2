# SPDX-License-Identifier: Apache-2.0
"""Seeded misbehaviours of the backends: each is caught, by the stand-in's abort or by the comparison; the faultless build passes the very same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flowparity.capture import write_capture
from flowparity.frame import Frame
from flowparity.harness.cases import Case, cases_of
from flowparity.harness.engine import Bench, Settings
from flowparity.harness.interfaces import Job, Level
from flowparity.harness.results import Cell, Status
from flowparity.harness.rigs.sims import WHOLE, Row
from flowparity.profile import Profile
from tests.sims.build import ROOT, place

NETMAP = Row("netmap@sim:4/1", "netmap", rings=4)
ZC = Row("pfring_zc@sim", "pfring_zc", options=WHOLE)
KEPT_FCS = Row("pfring_zc@sim", "pfring_zc", options={**WHOLE, "fcs": "keep"})
UNTIMED = Row("pfring_zc@sim", "pfring_zc", options={**WHOLE, "time": "none"})
LOSSY = Row("pfring_zc@sim", "pfring_zc", settings={"drop": "5"}, options=WHOLE)
ABORT = "illegal use"

# What each misbehaviour is, by its number in the backend, and what catches it: a word of the stand-in's last line, or None for the comparison.
FAULTS: list[tuple[Row, int, str, str | None]] = [
    (NETMAP, 1, "reads past tail", ABORT),
    (NETMAP, 2, "gives slots back while the core still reads them", None),
    (NETMAP, 3, "ignores NS_MOREFRAG", None),
    (NETMAP, 4, "takes flag bits for NS_MOREFRAG's", None),
    (NETMAP, 5, "ignores the offset of a slot", None),
    (NETMAP, 6, "does not say what it has seen: poll spins", "polls in a row"),
    (NETMAP, 7, "writes tail", "was written"),
    (NETMAP, 8, "writes an illegal head", "are not between"),
    (NETMAP, 9, "registers without exclusivity", "not exclusive"),
    (NETMAP, 10, "takes the host's ring for a NIC's", None),
    (NETMAP, 11, "believes that buffers stay at their slots", None),
    (NETMAP, 13, "wraps one slot too late", None),
    (NETMAP, 14, "delivers half a frame", None),
    (NETMAP, 15, "looks at the first ring only", None),
    (ZC, 1, "ignores that handles were swapped", ABORT),
    (ZC, 2, "releases a handle that the core still reads", ABORT),
    (ZC, 3, "believes that data follows its handle", None),
]


def _frame(index: int, ts_ns: int, size: int) -> Frame:
    """A UDP packet of one of several flows, over one of several pairs of addresses, with octets that tell a reader who strays."""
    host, payload = index % 7 + 1, bytes((index + i) % 251 for i in range(size))
    udp = (1000 + host).to_bytes(2, "big") + (2000).to_bytes(2, "big") + (8 + size).to_bytes(2, "big") + bytes(2) + payload
    ip = bytes((0x45, 0)) + (28 + size).to_bytes(2, "big") + bytes(4) + bytes((64, 17, 0, 0)) + bytes((192, 0, 2, host, 198, 51, 100, 7)) + udp
    data = bytes(12) + b"\x08\x00" + ip
    return Frame(index=index, ts_ns=ts_ns, data=data, wirelen=len(data))


def _case(path: Path, start_ns: int, count: int = 400) -> Case:
    """Frames from small to several slots long, half a second apart."""
    write_capture(path, [_frame(i, start_ns + i * 500_000_000, 18 + i * 97 % 9000) for i in range(count)])
    return Case("traffic", "sims", path)


def _status(cells: list[Cell]) -> set[Status]:
    return {cell.status for cell in cells}


def _run(built: Path, row: Row, fault: int, case: Case, *, trailer: bool = True) -> list[Cell]:
    where = place(built, row, fault, trailer=trailer)
    try:
        with Bench([row.name], {row.name: where}) as bench:
            return bench.run(case, row.name, Settings(timeout=3))
    finally:
        where.rig.close()  # type: ignore[attr-defined]


@pytest.fixture
def traffic(tmp_path: Path) -> Case:
    return _case(tmp_path / "traffic.pcap", 1_700_000_000_000_000_000)


@pytest.fixture
def present(tmp_path: Path) -> Case:
    """Frames of this moment, 100 µs apart, for paths that stamp frames when they see them."""
    start = time.time_ns() // 1000 * 1000
    write_capture(path := tmp_path / "present.pcap", [_frame(i, start + i * 100_000, 100) for i in range(200)])
    return Case("present", "sims", path)


@pytest.mark.parametrize("row", [NETMAP, ZC, KEPT_FCS], ids=["netmap", "zc", "zc-fcs"])
def test_the_faultless_build_passes(built: Path, traffic: Case, row: Row) -> None:
    cells = _run(built, row, 0, traffic)
    assert _status(cells) == {Status.PASS}, [line for cell in cells for line in cell.lines()]


@pytest.mark.parametrize(("row", "fault", "what", "word"), FAULTS, ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else None)
def test_caught(built: Path, traffic: Case, row: Row, fault: int, what: str, word: str | None) -> None:
    cells = _run(built, row, fault, traffic)
    assert _status(cells) <= {Status.FAIL, Status.ERROR}, f"not caught: {what}"
    if word is not None:
        assert all(word in cell.reason for cell in cells), [cell.reason for cell in cells]


def test_there_are_enough() -> None:
    assert len({(row.backend, fault) for row, fault, _, _ in FAULTS}) >= 17


@pytest.mark.parametrize(("fault", "status"), [(0, Status.PASS), (12, Status.FAIL)])
def test_a_ring_time_is_not_a_packets(built: Path, present: Case, fault: int, status: Status) -> None:
    """Without the trailer, compared within what the backend itself declares of its times: one that calls them exact is caught."""
    cells = _run(built, NETMAP, fault, present, trailer=False)
    assert _status(cells) == {status}, [line for cell in cells for line in cell.lines()]


@pytest.mark.parametrize(("fault", "near"), [(0, True), (5, False)])
def test_no_time_is_not_1970(built: Path, present: Case, fault: int, near: bool) -> None:
    """A device without timestamps: records carry the time of reception, which no run of this test is a minute away from."""
    cells = _run(built, UNTIMED, fault, present, trailer=False)
    problems = [problem for cell in cells for problem in cell.problems]
    assert problems
    assert {problem.field for problem in problems} <= {"first_ns", "last_ns", "final_clock"}, "only times may differ"
    assert not any("never received" in problem.text for problem in problems)
    assert all("first_ns is 0," not in problem.text for problem in problems) is near, [problem.text for problem in problems]


@pytest.mark.parametrize(("fault", "status"), [(0, Status.PASS), (4, Status.FAIL)])
def test_the_fcs_is_no_octet_of_a_packet(built: Path, fault: int, status: Status) -> None:
    """Where the frame's length decides (S-LEN-2); without the trailer, whose reader would cut the FCS too."""
    (case,) = cases_of([ROOT / "fixtures/lengths/ipv6-payload-zero.toml"])
    compared = [cell for cell in _run(built, KEPT_FCS, fault, case, trailer=False) if cell.format != "5"]
    assert _status(compared) == {status}, [line for cell in compared for line in cell.lines()]


@pytest.mark.parametrize(("fault", "dropped"), [(0, 5), (6, 0)])
def test_loss_is_accounted(built: Path, traffic: Case, fault: int, dropped: int) -> None:
    """What was sent is received or counted as dropped, by the backend's own counters; one that hides its loss breaks it."""
    where = place(built, LOSSY, fault)
    frames = traffic.frames()
    try:
        with where.rig.link(traffic.capture) as link, Bench([LOSSY.name], {LOSSY.name: where}) as bench:
            session = bench.subjects[LOSSY.name].start(
                Job(link.receive, Profile(), {"ipfix": ("127.0.0.1", 9)}, trailer=True, options=link.subject_options, expected=len(frames) - 5)
            )
            accounting = session.finish(10).accounting
    finally:
        where.rig.close()  # type: ignore[attr-defined]
    assert accounting is not None
    assert accounting.received == len(frames) - 5
    assert accounting.dropped == dropped
    assert (accounting.received + (accounting.dropped or 0) == len(frames)) is (fault == 0)


def test_levels_without_the_trailer_are_still_records(built: Path, present: Case) -> None:
    """The declared tolerance is used, not a weaker level."""
    cells = _run(built, NETMAP, 0, present, trailer=False)
    assert {cell.level for cell in cells} == {Level.RECORDS}
    assert all(cell.records > 0 for cell in cells)

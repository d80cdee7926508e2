# SPDX-License-Identifier: Apache-2.0
"""Seeded misbehaviours of the backends: each is caught, by the stand-in's abort or by the comparison; the faultless build passes the very same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flowparity.capture import write_capture
from flowparity.frame import Frame
from flowparity.harness.cases import Case, cases_of
from flowparity.harness.engine import Bench, Settings
from flowparity.harness.interfaces import Availability, Job, Level
from flowparity.harness.results import Cell, Status
from flowparity.harness.rigs.sims import WHOLE, Row, VethSimRig, stand_in
from flowparity.profile import Profile
from tests.sims.build import ROOT, place, plugins

NETMAP = Row("netmap@sim:4/1", "netmap", rings=4)
BUSY = Row("netmap@sim:4/1", "netmap", rings=4, options={"mode": "busy"})
RING = Row("pfring@sim", "pfring")
ZC = Row("pfring_zc@sim", "pfring_zc", options=WHOLE)
BLOCKING = Row("pfring_zc@sim", "pfring_zc", options={**WHOLE, "wait": "block"})
KEPT_FCS = Row("pfring_zc@sim", "pfring_zc", options={**WHOLE, "fcs": "keep"})
UNTIMED = Row("pfring_zc@sim", "pfring_zc", options={**WHOLE, "time": "none"})
LIVE_RING = Row("pfring@sim:veth", "pfring", live=True)
LIVE_BLOCKING = Row("pfring_zc@sim:veth", "pfring_zc", options={**WHOLE, "wait": "block"}, live=True)
LOSSY = {
    "netmap": Row("netmap@sim", "netmap", settings={"drop": "5"}),
    "pfring": Row("pfring@sim", "pfring", settings={"drop": "5"}),
    "pfring_zc": Row("pfring_zc@sim", "pfring_zc", settings={"drop": "5"}, options=WHOLE),
}
ABORT = "illegal use"
_HANGS = "did not end within"

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
    (NETMAP, 17, "takes a signal for a fault of the port", None),
    (NETMAP, 18, "takes a full ring for an empty one", None),
    (RING, 1, "keeps a frame that is only lent", None),
    (RING, 4, "receives before the ring is enabled", "before enable_ring"),
    (LIVE_RING, 9, "takes a pause for the end", None),
    (ZC, 1, "ignores that handles were swapped", ABORT),
    (ZC, 2, "releases a handle that the core still reads", ABORT),
    (ZC, 3, "believes that data follows its handle", None),
    (BLOCKING, 7, "never ends a blocked receive", _HANGS),
    (LIVE_BLOCKING, 8, "takes the end of a blocked receive for the end of the device", None),
    (ZC, 9, "takes a new handle for each packet and leaks the old one", ABORT),
    (ZC, 10, "offers a handle of its own making", "not of this cluster"),
    (ZC, 11, "destroys the cluster before its devices", "while 1 devices are open"),
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


def _needs_links(row: Row) -> None:
    """Skips, loudly, where a row needs a veth and none can be made."""
    available = VethSimRig(row).probe() if row.live else Availability(True)
    if not available.ok:
        pytest.skip(f"{available.reason}; {available.remedy}: stand-ins over a veth are not tested")


def _status(cells: list[Cell]) -> set[Status]:
    return {cell.status for cell in cells}


def _run(built: Path, row: Row, fault: int, case: Case, *, trailer: bool = True, timeout: float = 60) -> list[Cell]:
    where = place(built, row, fault, trailer=trailer)
    try:
        with Bench([row.name], {row.name: where}) as bench:
            return bench.run(case, row.name, Settings(timeout=timeout))
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


@pytest.mark.parametrize("row", [NETMAP, BUSY, RING, ZC, KEPT_FCS, BLOCKING], ids=["netmap", "netmap-busy", "pfring", "zc", "zc-fcs", "zc-blocking"])
def test_the_faultless_build_passes(built: Path, traffic: Case, row: Row) -> None:
    cells = _run(built, row, 0, traffic)
    assert _status(cells) == {Status.PASS}, [line for cell in cells for line in cell.lines()]


@pytest.mark.parametrize("row", [LIVE_RING, LIVE_BLOCKING], ids=["pfring", "zc-blocking"])
def test_the_faultless_build_passes_over_a_veth(built: Path, traffic: Case, row: Row) -> None:
    _needs_links(row)
    cells = _run(built, row, 0, traffic)
    assert _status(cells) == {Status.PASS}, [line for cell in cells for line in cell.lines()]


@pytest.mark.parametrize(("row", "fault", "what", "word"), FAULTS, ids=[f"{row.backend}-{fault}-{what.replace(' ', '-')}" for row, fault, what, _ in FAULTS])
def test_caught(built: Path, traffic: Case, row: Row, fault: int, what: str, word: str | None) -> None:
    _needs_links(row)
    cells = _run(built, row, fault, traffic, timeout=3 if word == _HANGS else 60)
    assert _status(cells) <= {Status.FAIL, Status.ERROR}, f"not caught: {what}"
    if word is not None:
        assert all(word in cell.reason for cell in cells), [cell.reason for cell in cells]
    else:
        assert not any(_HANGS in cell.reason for cell in cells), "a slow machine catches nothing"


def test_there_are_enough() -> None:
    assert len({(row.backend, fault) for row, fault, _, _ in FAULTS}) >= 27


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
    assert all("first_ns is 1970-" not in problem.text for problem in problems) is near, [problem.text for problem in problems]


@pytest.mark.parametrize(("fault", "status"), [(0, Status.PASS), (4, Status.FAIL)])
def test_the_fcs_is_no_octet_of_a_packet(built: Path, fault: int, status: Status) -> None:
    """Where the frame's length decides (S-LEN-2); without the trailer, whose reader would cut the FCS too."""
    (case,) = cases_of([ROOT / "fixtures/lengths/ipv6-payload-zero.toml"])
    compared = [cell for cell in _run(built, KEPT_FCS, fault, case, trailer=False) if cell.format != "5"]
    assert _status(compared) == {status}, [line for cell in compared for line in cell.lines()]


@pytest.mark.parametrize(
    ("fault", "status"),
    [(0, Status.PASS), (2, Status.FAIL), (5, Status.FAIL), (7, Status.FAIL)],
    ids=["good", "microseconds", "hears-itself", "no-long-header"],
)
def test_without_the_trailer(built: Path, present: Case, fault: int, status: Status) -> None:
    """The library's own times, within the declared 10 ms; frames that this machine sends are none of the interface's."""
    cells = _run(built, RING, fault, present, trailer=False)
    assert _status(cells) == {status}, [line for cell in cells for line in cell.lines()]


@pytest.mark.parametrize(("fault", "status"), [(0, Status.PASS), (3, Status.FAIL)])
def test_what_was_captured_is_less_than_what_was_on_the_wire(built: Path, tmp_path: Path, fault: int, status: Status) -> None:
    """Frames cut inside the ports, which only a reader of what lies behind them can know."""
    start = time.time_ns() // 1000 * 1000
    whole = (_frame(i, start + i * 100_000, 100) for i in range(50))
    write_capture(path := tmp_path / "cut.pcap", [replace(each, data=each.data[:36]) for each in whole])
    cells = _run(built, RING, fault, Case("cut", "sims", path), trailer=False)
    assert _status(cells) == {status}, [line for cell in cells for line in cell.lines()]


@pytest.mark.parametrize(
    ("backend", "fault", "dropped"),
    [("netmap", 0, None), ("pfring", 0, 5), ("pfring", 6, 0), ("pfring_zc", 0, 5), ("pfring_zc", 6, 0)],
    ids=["netmap", "pfring", "pfring-hides", "zc", "zc-hides"],
)
def test_loss_is_accounted(built: Path, traffic: Case, backend: str, fault: int, dropped: int | None) -> None:
    """What was sent is received or counted as dropped, by the backend's own counters; netmap has none and says so; one that hides its loss breaks it."""
    row, sent = LOSSY[backend], len(traffic.frames())
    where = place(built, row, fault)
    try:
        with where.rig.link(traffic.capture) as link, Bench([row.name], {row.name: where}) as bench:
            job = Job(link.receive, Profile(), {"ipfix": ("127.0.0.1", 9)}, trailer=True, options=link.subject_options, expected=sent - 5)
            accounting = bench.subjects[row.name].start(job).finish(10).accounting
    finally:
        where.rig.close()  # type: ignore[attr-defined]
    assert accounting is not None
    assert accounting.received == sent - 5
    assert accounting.dropped == dropped


_STOPPED = """\
import json, sys
from flowparity import native
from flowparity.profile import Profile
where, backend, options = sys.argv[1:]
native.lib.fp_set_plugin_dir(where.encode())
with native.Exporter(native.RunConfig(backend, "sim0", Profile(), (("ipfix", "127.0.0.1", 9),), options=json.loads(options))) as exporter:
    exporter.stop()
    received = exporter.run().accounting.received
    stats = native.ffi.new("struct fp_stats *")
    native.lib.fp_run_source_stats(exporter._run, stats)
    print(received, stats.received)
"""


def _stopped(built: Path, row: Row, fault: int, case: Case) -> list[int]:
    """What core and backend say that they received in a run that is stopped before it has begun."""
    settings = f"capture={case.capture}," + ",".join(f"{key}={value}" for key, value in row.settings.items())
    variable = "LD_PRELOAD" if row.backend == "netmap" else "FLOWPARITY_PFRING_LIBRARY"
    environment = os.environ | {variable: str(stand_in(row.backend)), "FLOWPARITY_NETMAP_SIM": settings, "FLOWPARITY_PFRING_SIM": settings}
    argv = [sys.executable, "-c", _STOPPED, str(plugins(built, row.backend, fault)), row.backend, json.dumps(dict(row.options))]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.parametrize(
    ("row", "fault", "kept"),
    [(NETMAP, 0, True), (NETMAP, 16, False), (RING, 0, True), (RING, 10, False), (ZC, 0, True), (BLOCKING, 0, True)],
    ids=["netmap", "netmap-forgets", "pfring", "pfring-forgets", "zc", "zc-blocking"],
)
def test_a_stop_loses_nothing_that_had_come(built: Path, traffic: Case, row: Row, fault: int, kept: bool) -> None:
    """Stopped at once, it still delivers what was there, the rest of a frame that a tail had cut included."""
    received, _ = _stopped(built, row, fault, traffic)
    assert (received == len(traffic.frames())) is kept, received


@pytest.mark.parametrize(("backend", "fault", "kept"), [("pfring", 0, True), ("pfring", 8, False), ("pfring_zc", 0, True), ("pfring_zc", 12, False)])
def test_the_librarys_count_of_received_frames_is_not_believed(built: Path, traffic: Case, backend: str, fault: int, kept: bool) -> None:
    """It may count what was lost, too: the backend counts what it hands on."""
    received, counted = _stopped(built, LOSSY[backend], fault, traffic)
    assert received == len(traffic.frames()) - 5
    assert (counted == received) is kept


def test_levels_without_the_trailer_are_still_records(built: Path, present: Case) -> None:
    """The declared tolerance is used, not a weaker level."""
    cells = _run(built, NETMAP, 0, present, trailer=False)
    assert {cell.level for cell in cells} == {Level.RECORDS}
    assert all(cell.records > 0 for cell in cells)

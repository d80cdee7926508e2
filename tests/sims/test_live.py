# SPDX-License-Identifier: Apache-2.0
"""The stand-ins fed by a veth: recorded captures with every record exact, and the service with a replay at the other end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from flowparity.capture import read_capture
from flowparity.decode import DecodedFlow, Decoder, Normaliser
from flowparity.export import run_reference
from flowparity.flow import FlowRecord
from flowparity.harness.cases import Case, cases_of
from flowparity.harness.engine import Bench, Settings
from flowparity.harness.interfaces import Tier
from flowparity.harness.live import live_places
from flowparity.harness.results import Status
from flowparity.harness.rigs.sims import LIVE_ROWS, Row, stand_in
from flowparity.harness.rigs.veth import VethRig
from flowparity.profile import Profile
from tests.sims.build import ROOT

CASES = [
    case
    for name in ("recorded/dns.pcap", "recorded/ping-fragments.pcap", "recorded/vlan.pcap", "vlan/tpids.toml", "verdicts/runt.toml", "lengths/padding.toml")
    for case in cases_of([ROOT / "fixtures" / name])
]
VLAN = ROOT / "fixtures/recorded/vlan.pcap"
_LOST = 3

_available = VethRig().probe()
pytestmark = pytest.mark.skipif(not _available.ok, reason=f"{_available.reason}; {_available.remedy}: stand-ins over a veth are not tested")


@pytest.fixture(scope="module")
def benches() -> Iterator[Mapping[str, Bench]]:
    with live_places([row.name for row in LIVE_ROWS]) as places:
        made = {row.name: Bench([row.name], places) for row in LIVE_ROWS}
        yield made
        for each in made.values():
            each.close()


@pytest.mark.parametrize("row", LIVE_ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_parity(benches: Mapping[str, Bench], case: Case, row: Row) -> None:
    cells = benches[row.name].run(case, row.name, Settings())
    assert {cell.status for cell in cells} == {Status.PASS}, [line for cell in cells for line in cell.lines()]
    assert {cell.tier for cell in cells} == {Tier.SIM}


def _flow(record: FlowRecord | DecodedFlow) -> tuple[object, ...]:
    times = (record.first_ns // 1_000_000, record.last_ns // 1_000_000)  # what IPFIX carries without --ipfix-ns
    return (record.source_port, record.destination_port, record.protocol, record.packets, record.octets, *times)


def _received(mouth: socket.socket) -> list[DecodedFlow]:
    decoder, normaliser, out = Decoder(), Normaliser(), []
    mouth.setblocking(False)
    while True:
        try:
            data, source = mouth.recvfrom(65536)
        except BlockingIOError:
            return out
        out += normaliser.flows(decoder.feed(data, source, 0))


@pytest.mark.parametrize("backend", ["netmap", "pfring", "pfring_zc"])
def test_the_service_and_a_replay(backend: str) -> None:
    """`export` at one end of a veth, `replay` at the other, a few frames lost between: every record is exact, and the loss is told by whoever knows it."""
    variable, framework = ("LD_PRELOAD", "NETMAP") if backend == "netmap" else ("FLOWPARITY_PFRING_LIBRARY", "PFRING")
    with VethRig("trailer") as rig, rig.bare_link() as link, rig.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        assert link.transmit is not None
        mouth.bind(("127.0.0.1", 0))
        command = (sys.executable, "-m", "flowparity")
        arguments = ["--backend", backend, "--interface", f"netmap:{link.receive}" if backend == "netmap" else link.receive, "--trailer", "--json"]
        arguments += ["-o", "buffer=16384"] if backend == "pfring_zc" else []
        environment = os.environ | {variable: str(stand_in("netmap" if backend == "netmap" else "pfring")), f"FLOWPARITY_{framework}_SIM": f"drop={_LOST}"}
        export = subprocess.Popen(
            [*rig.namespace.prefix, *command, "export", "--collector", f"127.0.0.1:{mouth.getsockname()[1]}", *arguments, "--metrics", "127.0.0.1:9100"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _until(rig, len(list(read_capture(VLAN))) - _LOST, [*rig.namespace.prefix, *command, "replay", str(VLAN), "--interface", link.transmit])
            export.send_signal(signal.SIGTERM)
            output, errors = export.communicate(timeout=20)
        finally:
            if export.poll() is None:
                export.kill()
                export.communicate()
        flows = _received(mouth)
    assert export.returncode == 0, errors
    said = json.loads(output)
    closed: list[FlowRecord] = []
    run_reference(list(read_capture(VLAN))[_LOST:], Profile(), {}, on_closed=lambda each: closed.append(each.record))
    assert Counter(map(_flow, flows)) == Counter(map(_flow, closed))
    assert said["received"] == len(list(read_capture(VLAN))) - _LOST
    assert said["dropped"] == (None if backend == "netmap" else _LOST)
    assert said["counters"]["lost"] == _LOST
    if backend == "netmap":
        assert said["counters"]["interface_packets"] == said["received"] + _LOST


def _until(rig: VethRig, frames: int, replay: list[str]) -> None:
    """Replays once the service serves its metrics, and returns when it has received so many frames."""
    wait = """
import sys, time, urllib.request
def received():
    try:
        page = urllib.request.urlopen("http://127.0.0.1:9100/metrics", timeout=10).read().decode()
    except OSError:
        return -1
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith("flowparity_frames_received_total"))
end = time.monotonic() + 20
while received() < int(sys.argv[1]):
    if time.monotonic() > end:
        sys.exit(f"still {received()}")
    time.sleep(0.02)
"""

    def run(argv: list[str]) -> None:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    run([*rig.namespace.prefix, sys.executable, "-c", wait, "0"])
    run([*replay, "--trailer", "--top"])
    run([*rig.namespace.prefix, sys.executable, "-c", wait, str(frames)])


def test_an_interface_that_goes_away_is_said(tmp_path: Path) -> None:
    """The port's error while it is in use: status 4 and what to do."""
    environment = os.environ | {"LD_PRELOAD": str(stand_in("netmap")), "FLOWPARITY_NETMAP_SIM": "fail=ENODEV"}
    argv = [sys.executable, "-m", "flowparity", "export", "--collector", "127.0.0.1:9", "--backend", "netmap", "-i", "sim0"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "the port was reset or its interface went away: check `ip link` and start again" in done.stderr
    assert done.returncode == 4, done.stderr

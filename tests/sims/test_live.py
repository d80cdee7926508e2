# SPDX-License-Identifier: Apache-2.0
"""The stand-ins fed by a veth: recorded captures with every record exact, and the service with a replay at the other end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from flowparity.harness.cases import Case, cases_of
from flowparity.harness.engine import Bench, Settings
from flowparity.harness.interfaces import Tier
from flowparity.harness.results import Status
from flowparity.harness.rigs.sims import LIVE_ROWS, Row, stand_in
from flowparity.harness.rigs.veth import VethRig
from tests.sims.benches import benches_of
from tests.sims.build import ROOT
from tests.sims.service import frames_of, seen, serve, wanted

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
    with benches_of(LIVE_ROWS) as made:
        yield made


@pytest.mark.parametrize("row", LIVE_ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_parity(benches: Mapping[str, Bench], case: Case, row: Row) -> None:
    cells = benches[row.name].run(case, row.name, Settings())
    assert {cell.status for cell in cells} == {Status.PASS}, [line for cell in cells for line in cell.lines()]
    assert {cell.tier for cell in cells} == {Tier.SIM}


@pytest.mark.parametrize("backend", ["netmap", "pfring", "pfring_zc"])
def test_the_service_and_a_replay(backend: str) -> None:
    """`export` at one end of a veth, `replay` at the other, a few frames lost between: every record is exact, and the loss is told by whoever knows it."""
    variable, framework = ("LD_PRELOAD", "NETMAP") if backend == "netmap" else ("FLOWPARITY_PFRING_LIBRARY", "PFRING")
    environment = {variable: str(stand_in("netmap" if backend == "netmap" else "pfring")), f"FLOWPARITY_{framework}_SIM": f"drop={_LOST}"}
    frames = frames_of(VLAN)
    with VethRig("trailer") as rig, rig.bare_link() as link, rig.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        assert link.transmit is not None
        receive = ["--backend", backend, "--interface", f"netmap:{link.receive}" if backend == "netmap" else link.receive]
        receive += ["-o", "buffer=16384"] if backend == "pfring_zc" else []
        transmit = ("--interface", link.transmit, "--top")
        served = serve(VLAN, transmit, receive, mouth, expected=len(frames) - _LOST, environment=environment, prefix=rig.namespace.prefix)
    assert sorted(map(seen, served.flows), key=repr) == wanted(frames[_LOST:])
    assert served.said["received"] == len(frames) - _LOST
    assert served.said["dropped"] == (None if backend == "netmap" else _LOST)
    assert served.said["counters"]["lost"] == _LOST
    if backend == "netmap":
        assert served.said["counters"]["interface_packets"] == len(frames)


@pytest.mark.parametrize("taken", [False, True], ids=["in-the-frame", "taken-out"])
def test_a_card_that_takes_tags_out_is_warned_of(taken: bool) -> None:
    """A slot of netmap's has no place for them."""
    environment = {"LD_PRELOAD": str(stand_in("netmap"))}
    with VethRig("trailer") as rig, rig.bare_link() as link, rig.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        rig.namespace.ask("tags", name=link.receive, on=taken)
        receive = ("--backend", "netmap", "--interface", f"netmap:{link.receive}")
        transmit = ("--interface", link.transmit or "", "--top")
        served = serve(VLAN, transmit, receive, mouth, expected=len(frames_of(VLAN)), environment=environment, prefix=rig.namespace.prefix)
    assert any("VLAN tags that the interface takes out of frames do not arrive" in each for each in served.said["warnings"]) is taken


def test_an_interface_that_goes_away_is_said() -> None:
    """The port's error while it is in use: status 4 and what to do."""
    environment = os.environ | {"LD_PRELOAD": str(stand_in("netmap")), "FLOWPARITY_NETMAP_SIM": "fail=ENODEV"}
    argv = [sys.executable, "-m", "flowparity", "export", "--collector", "127.0.0.1:9", "--backend", "netmap", "-i", "sim0"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "the port was reset or its interface went away: check `ip link` and start again" in done.stderr
    assert done.returncode == 4, done.stderr

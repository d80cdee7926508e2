# SPDX-License-Identifier: Apache-2.0
"""Where subjects run: every thread of the engine has places of its own, and a name without a place is told what there is."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowparity.errors import UsageError
from flowparity.harness import engine
from flowparity.harness.cases import cases_of
from flowparity.harness.engine import Place, Settings, parity
from flowparity.harness.interfaces import Availability, Link
from flowparity.harness.live import live_places, places_of_all
from flowparity.harness.results import Status
from flowparity.harness.rigs import dpdk
from flowparity.harness.rigs.dpdk import AfPacketPmdRig, AfXdpPmdRig
from flowparity.harness.rigs.file import FileRig

RECORDED = Path(__file__).parents[2] / "fixtures" / "recorded"
CASES = cases_of([RECORDED / "dns.pcap", RECORDED / "vlan.pcap", RECORDED / "http-ipv4.pcap", RECORDED / "ping-fragments.pcap"])


class OneThreadRig(FileRig):
    """Remembers who takes links from it, and waits until another thread has come to its own."""

    def __init__(self, met: threading.Barrier) -> None:
        self.threads: set[int] = set()
        self._met = met

    def link(self, capture: Path, queues: int = 1) -> Link:
        if threading.get_ident() not in self.threads:
            self.threads.add(threading.get_ident())
            self._met.wait(60)
        return super().link(capture, queues)


def test_threads_share_no_place() -> None:
    rigs: list[OneThreadRig] = []
    open_now: list[OneThreadRig] = []
    met = threading.Barrier(2)

    @contextmanager
    def places() -> Iterator[Mapping[str, Place]]:
        rig = OneThreadRig(met)
        rigs.append(rig)
        open_now.append(rig)
        yield {"reference": Place(rig)}
        open_now.remove(rig)

    results = parity(CASES, ["reference"], Settings(formats=("9",)), jobs=2, places=places)
    assert [cell.status for cell in results.cells] == [Status.PASS] * len(CASES)
    assert [len(rig.threads) for rig in rigs] == [1, 1]
    assert not open_now


def test_a_fault_closes_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    @contextmanager
    def places() -> Iterator[Mapping[str, Place]]:
        try:
            yield {}
        finally:
            closed.append(True)

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(engine.Bench, "run", broken)
    with pytest.raises(RuntimeError, match="broken"):
        parity(CASES, ["reference"], Settings(), jobs=2, places=places)
    assert closed


def test_unknown_places_are_told_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"no place 'dpdk@moon'; known of dpdk: dpdk@ring, dpdk@ring:4, .*dpdk@af_xdp"), live_places(["dpdk@moon"]):
        pass
    with pytest.raises(UsageError, match="no place 'pcap@sim'; known of pcap: none"), live_places(["pcap@sim"]):
        pass


def test_all_means_what_is_real_and_names_what_is_not_here() -> None:
    assert places_of_all(["pcap", "socket", "netmap"]) == ["af_packet", "socket", "af_xdp", "dpdk"]
    found = places_of_all(["dpdk", "af_packet"])
    assert found[:3] == ["af_packet", "socket", "af_xdp"]
    assert {"dpdk@ring", "dpdk@virtio:4", "dpdk@af_xdp"} < set(found)


@pytest.mark.parametrize("rig", [AfPacketPmdRig, AfXdpPmdRig])
def test_an_ordinary_user_with_little_lockable_memory_hears_so_before_the_run(monkeypatch: pytest.MonkeyPatch, rig: type[AfPacketPmdRig]) -> None:
    monkeypatch.setattr(dpdk, "_backend", lambda: Availability(True))
    monkeypatch.setattr(dpdk.VethRig, "probe", lambda self: Availability(True))
    monkeypatch.setattr(dpdk, "privileged", lambda: False)
    for limit, ok in ((8 << 20, False), (1 << 30, True), (resource.RLIM_INFINITY, True)):
        monkeypatch.setattr(resource, "getrlimit", lambda _which, limit=limit: (limit, limit))
        found = rig().probe()
        assert found.ok is ok
        assert ok or ("8192 KiB" in found.reason and "ulimit -l" in found.remedy)

# SPDX-License-Identifier: Apache-2.0
"""What the kernel does to frames on their way, and how the backends undo it: offloads, fanout, copies, filters; and loss that is known to the frame."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from flowparity.harness.rigs.veth import VethLink, VethRig
from flowparity.native import Exporter, Player, RunConfig, RunResult
from flowparity.profile import Profile
from tests.kernel.bench import ROWS, Played, Row, inside, play
from tests.kernel.packets import frames, ipv4, tcp, udp

Rigs = Callable[[str], VethRig]
PACKET_ROWS = [row for row in ROWS if row.backend != "af_xdp"]
PROFILE = Profile(counter_bits=32)
_SOL_PACKET, _VNET_HDR = 263, 15
_NEEDS_CSUM, _GSO_TCPV4 = 1, 1
_MORE = 0x2000


def _config(row: Row, **changes: object) -> RunConfig:
    return replace(RunConfig(row.backend, "", PROFILE, options=row.options, huge_pages=False), **changes)  # type: ignore[arg-type]


def _totals(played: Played) -> Counter[tuple[int | None, int | None]]:
    """Packets and octets of each flow."""
    return Counter((flow.packets, flow.octets) for flow in played.flows["ipfix"])


@pytest.mark.parametrize("offload", [True, False], ids=["offloads-on", "offloads-off"])
@pytest.mark.parametrize("row", PACKET_ROWS, ids=lambda row: row.name)
def test_a_super_packet_counts_its_segments(rigs: Rigs, row: Row, offload: bool) -> None:
    """S-SUP-1: 3,500 octets in segments of 1,000 are four packets, whether the kernel cuts them or not (FLOW-CNT-08, FLOW-FW-01)."""
    rig = rigs("txtime")
    with rig.bare_link() as link:
        assert link.transmit is not None
        for feature in ("tx", "tso", "gso"):
            rig.namespace.ask("offload", name=link.transmit, feature=feature, on=offload)
            rig.namespace.ask("offload", name=link.receive, feature=feature, on=offload)
        with rig.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW) as mouth:
            mouth.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
            mouth.bind((link.transmit, 0))
            offloaded = struct.pack("<BBHHHH", _NEEDS_CSUM, _GSO_TCPV4, 54, 1000, 34, 16) + tcp(b"x" * 3500)
            played = _with(link, rig, _config(row), lambda: mouth.send(offloaded))
        assert played.result.accounting.received == (1 if offload else 4)
        assert played.result.accounting.metered_packets == 4
        assert _totals(played) == {(4, 3500 + 4 * 40): 1}


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in ("af_packet", "socket-tuned")], ids=lambda row: row.name)
def test_a_key_meets_one_worker(rigs: Rigs, row: Row) -> None:
    """Whole packets, first fragments and later ones, behind tags, labels and PPPoE: one pair of addresses, one worker; nothing is reassembled (S-CMP-2)."""
    whole = [udp(1000 + n, host=host) for host in range(1, 40) for n in range(3)]
    first = [ipv4(17, struct.pack("!HHHH", 1000, 53, 28, 0) + b"x" * 16, fragment=_MORE, host=host) for host in range(1, 40)]
    later = [ipv4(17, b"y" * 24, fragment=3, host=host) for host in range(1, 40)]
    plain = udp(1000)
    behind = [bytes.fromhex(each) for each in ("88a80005810000068100000708 00", "88470001014000020140", "8864110000000020 0021")]
    wrapped = [plain[:12] + each + plain[14:] for each in behind]
    every = frames(whole + first + later + wrapped)
    rig = rigs("trailer")
    with rig.bare_link() as link:
        played = play(link, rig.namespace, _config(row, workers=4, log_assignment=True), every, formats=("ipfix",))
    assert played.result.accounting.received == len(every)
    hosts: dict[bytes | None, set[int]] = {}
    for flow in played.flows["ipfix"]:
        hosts.setdefault(flow.source_address, set()).add(flow.worker)
    assert len(hosts) == 39
    assert all(len(workers) == 1 for workers in hosts.values())
    assert len(set.union(*hosts.values())) > 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("taken", [True, False], ids=["tags-taken-out", "tags-left-in"])
def test_who_loses_tags_says_so(rigs: Rigs, row: Row, taken: bool) -> None:
    """An XDP program sees no tag that the interface holds beside the frame; the other backends put it back (S-LNK-2)."""
    rig = rigs("txtime")
    with rig.bare_link() as link:
        rig.namespace.ask("tags", name=link.receive, on=taken)

        def declared() -> tuple[bool, bool]:
            with Exporter(_config(row, input=link.receive)) as exporter:
                return exporter.capabilities.loses_tags, any("S-LNK-2" in warning for warning in exporter.warnings)

        says = taken and row.backend == "af_xdp"
        assert inside(rig.namespace, declared) == (says, says)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("row", PACKET_ROWS, ids=lambda row: row.name)
def test_outgoing_copies_are_not_received(rigs: Rigs, row: Row, workers: int) -> None:
    """A frame that leaves by the metered interface is no frame of it (FLOW-CNT-17), nor of a group of workers that share it."""
    rig = rigs("txtime")
    with rig.bare_link() as link, rig.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW) as outgoing:
        outgoing.bind((link.receive, 0))
        played = _with(link, rig, _config(row, workers=workers), lambda: outgoing.send(udp(7)))
    assert played.result.accounting.received == 0


@pytest.mark.parametrize("row", PACKET_ROWS, ids=lambda row: row.name)
def test_a_filter_of_the_kernel(rigs: Rigs, row: Row) -> None:
    """What it takes away was never received (S-VER-2); a tag that the kernel strips is still found."""
    rig = rigs("txtime")
    tagged = udp(2)[:12] + bytes.fromhex("81000007") + udp(2)[12:]
    with rig.bare_link() as link:
        played = play(link, rig.namespace, _config(row, filter="vlan 7"), frames([udp(1), tagged]), formats=("ipfix",))
    assert [(flow.source_port, flow.vlan) for flow in played.flows["ipfix"]] == [(2, 7)]


_SMALL = {"af_packet": {"blocks": "2"}, "af_xdp": {"frames": "256"}}
_LONG = {"socket-tuned": 2900}  # octets that fill its 64 MiB with as many frames


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_loss_is_known_to_the_frame(rigs: Rigs, row: Row) -> None:
    """Nobody reads while 50,000 frames arrive: sent = received + dropped, and the trailers' sequence misses exactly the dropped ones."""
    rig, each = rigs("trailer"), [udp(port, b"x" * _LONG.get(row.name, 100)) for port in range(1000)]
    many = frames(each * 50)
    last = frames([udp(1)], first=len(many))

    def work() -> tuple[RunResult, int]:
        config = _config(row, options={**row.options, **_SMALL.get(row.backend, {})}, trailer=True, input=link.receive, block=False)
        with Exporter(config) as exporter:
            player = Player("af_packet", link.transmit or "", link.injector_options)
            sent = player.play(many, trailer=True, timeout=20).sent
            results: list[RunResult] = []
            thread = threading.Thread(target=lambda: results.append(exporter.run()))
            thread.start()
            held = -1
            while held != (held := exporter.snapshot().accounting.received) or held == 0:
                thread.join(0.2)
            sent += player.play(last, trailer=True, timeout=20).sent
            exporter.stop()
            thread.join()
        return results[0], sent

    with rig.bare_link() as link:
        result, sent = inside(rig.namespace, work)
    counters = result.counters
    dropped = sum(value for name, value in counters.items() if name.endswith(("tp_drops", "rx_dropped", "rx_ring_full")))
    assert dropped > 0
    assert sent == len(many) + 1 == result.accounting.received + dropped
    assert counters["lost"] == dropped
    assert result.accounting.dropped == (None if row.backend == "af_xdp" else dropped)
    assert result.accounting.broken() == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_loss_that_nobody_reports_is_shown(rigs: Rigs, row: Row) -> None:
    """Frames that vanish before the framework are in no counter of it: the trailers' sequence tells them (S-INV-2), and nothing takes them for dropped."""
    rig, every = rigs("trailer"), frames([udp(port) for port in range(100)])
    with rig.bare_link() as link:
        config = _config(row, trailer=True)
        rest = [each for each in every if each.index not in (40, 41, 42, 70)]
        played = play(link, rig.namespace, config, rest, formats=("ipfix",))
    assert played.result.accounting.received == len(rest)
    assert played.result.counters["lost"] == 4
    assert played.result.accounting.dropped == (None if row.backend == "af_xdp" else 0)


def _with(link: VethLink, rig: VethRig, config: RunConfig, act: Callable[[], object]) -> Played:
    """As `play`, but what arrives is sent by `act`."""
    return play(link, rig.namespace, config, [], formats=("ipfix",), act=lambda _: act())

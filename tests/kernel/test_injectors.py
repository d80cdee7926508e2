# SPDX-License-Identifier: Apache-2.0
"""The injectors: what leaves arrives as it is, in order, and what does not is told. AF_XDP also under busy polling."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flowparity.frame import Frame
from flowparity.harness.interfaces import Injection
from flowparity.harness.rigs.veth import VethLink, VethRig
from flowparity.native import Player, RunConfig
from flowparity.profile import Profile
from tests.kernel.bench import inside, play, save
from tests.kernel.driver import Log, source
from tests.kernel.packets import frames, udp

Rigs = Callable[[str], VethRig]
_BUSY_POLL = 2  # FP_OPEN_BUSY_POLL
_LONGEST = 3400
_SECOND = 1_000_000_000
_MANY = frames([udp(1 + n % 60_000, bytes([n % 256]) * (18 + n * 7 % 1200)) for n in range(3000)])


def _reads(rig: VethRig, link: VethLink, options: dict[str, str], act: Callable[[], object], *, backend: str = "af_xdp", flags: int = 0) -> Log:
    """What a backend on the link's receiving end sees while `act` sends; everything is sent before it is read."""

    def work() -> Log:
        with source(backend, link.receive, options=options, flags=flags) as it:
            act()
            it.drain()
            return it.log

    return inside(rig.namespace, work)


def _sends(link: VethLink, many: list[Frame], **options: str) -> Callable[[], object]:
    return lambda: Player("xdp_live", link.transmit or "", options).play(many, timeout=20)


def test_live_frames_into_native_xdp(rigs: Rigs) -> None:
    """Frames of all lengths, with their times and ordinals; twice over with `loop`."""
    rig = rigs("none")
    with rig.bare_link() as link:
        log = _reads(rig, link, {"mode": "native", "times": "sender"}, _sends(link, _MANY, encapsulate="1", loop="2"))
    assert [(each.data, each.ts_ns, each.seq) for each in log.seen] == [(frame.data, frame.ts_ns, frame.index) for frame in _MANY] * 2


def test_live_frames_into_the_stack(rigs: Rigs) -> None:
    """As if the named interface had received them."""
    rig = rigs("none")
    with rig.bare_link() as link:

        def act() -> object:
            return Player("xdp_live", link.receive, {"into": "stack"}).play(_MANY, timeout=20)

        log = _reads(rig, link, {}, act, backend="af_packet")
    assert [each.data for each in log.seen] == [frame.data for frame in _MANY]


def test_live_frames_keep_a_rate(rigs: Rigs) -> None:
    """The program sends no frame before it is due, and the report says how long it really took, not how long it took to collect the frames."""
    rig, few, pps = rigs("none"), _MANY[:1000], 10_000
    with rig.bare_link() as link:
        done: list[Injection] = []
        started = time.time_ns()
        log = _reads(rig, link, {"mode": "native"}, lambda: done.append(Player("xdp_live", link.transmit or "", {"rate": str(pps)}).play(few, timeout=20)))
    assert [each.data for each in log.seen] == [frame.data for frame in few]
    assert all(each.ts_ns >= started + index * _SECOND // pps for index, each in enumerate(log.seen))
    assert done[0].sent == len(few)
    assert done[0].lost == 0
    assert abs(done[0].seconds - 999 / pps) * _SECOND <= done[0].worst_lateness_ns


def test_live_frames_report_how_long_they_took(rigs: Rigs) -> None:
    """At full speed frames leave after they were collected: the report is of their leaving, however often each is sent."""
    rig = rigs("none")
    with rig.bare_link() as link:

        def work() -> tuple[Injection, float]:
            started = time.monotonic()
            return Player("xdp_live", link.receive, {"into": "nothing", "loop": "1000"}).play(_MANY, timeout=20), time.monotonic() - started

        done, around = inside(rig.namespace, work)
    assert done.sent == 1000 * len(_MANY)
    assert around / 2 < done.seconds < around  # nearly all of the time is theirs


def test_a_peer_that_does_not_poll_loses_live_frames_and_that_is_told(rigs: Rigs, tmp_path: Path) -> None:
    """Neither an XDP program nor GRO at the other end: the kernel takes the frames and delivers none. One line, status 1."""
    rig = rigs("none")
    capture = save(_MANY[:100], tmp_path / "few.pcap")
    with rig.bare_link() as link:
        argv = [*rig.namespace.prefix, sys.executable, "-m", "flowparity", "replay", str(capture), "--interface", link.transmit or ""]
        told = subprocess.run([*argv, "--injector", "xdp_live", "--top"], capture_output=True, text=True, check=False, timeout=300)
    assert told.returncode == 1
    assert "lost behind the injector: 100 frames" in told.stderr


def test_a_frame_that_live_frames_cannot_carry(rigs: Rigs) -> None:
    """Longer than a page allows: reported by its index, and the others arrive."""
    rig = rigs("none")
    mixed = frames([udp(1), udp(2, b"x" * _LONGEST), udp(3)])
    with rig.bare_link() as link:
        told: list[dict[str, tuple[int, ...]]] = []
        log = _reads(rig, link, {"mode": "native"}, lambda: told.append(dict(Player("xdp_live", link.transmit or "").play(mixed, timeout=20).not_sent)))
    assert [each.data for each in log.seen] == [mixed[0].data, mixed[2].data]
    assert told == [{"longer than the link takes": (1,)}]


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_busy_polling(rigs: Rigs, mode: str) -> None:
    """SO_PREFER_BUSY_POLL: the reader polls the driver itself. Everything arrives, by itself and through the whole exporter."""
    rig = rigs("metadata")
    with rig.bare_link() as link:
        log = _reads(rig, link, {"mode": mode}, lambda: [Player("af_packet", link.transmit or "", {"time": "none"}).play(_MANY)], flags=_BUSY_POLL)
        assert [each.data for each in log.seen] == [frame.data for frame in _MANY]
        config = RunConfig("af_xdp", "", Profile(counter_bits=32), options={"mode": mode}, huge_pages=False, busy_poll=True)
        played = play(link, rig.namespace, config, _MANY, formats=("ipfix",))
    assert played.result.accounting.received == len(_MANY)
    assert played.result.accounting.broken() == []


def test_the_gaps_of_a_capture(rigs: Rigs) -> None:
    """`--speed`: no frame leaves before its time, by an absolute schedule."""
    rig = rigs("none")
    spaced = [Frame(frame.ts_ns + frame.index * 1_000_000, frame.data, len(frame.data), index=frame.index) for frame in _MANY[:50]]
    with rig.bare_link() as link:
        started: list[int] = []

        def act() -> object:
            started.append(time.time_ns())
            return Player("af_packet", link.transmit or "", {"time": "none"}).play(spaced, speed=2.0, timeout=20)

        log = _reads(rig, link, {}, act, backend="af_packet")
    assert [each.data for each in log.seen] == [frame.data for frame in spaced]
    due = [started[0] + (frame.ts_ns - spaced[0].ts_ns) // 2 for frame in spaced]
    assert all(each.ts_ns >= at for each, at in zip(log.seen, due, strict=True))


def test_a_rate(rigs: Rigs, tmp_path: Path) -> None:
    """`--rate`: an absolute schedule, and the report of what was achieved beside what was wanted."""
    rig, few, pps = rigs("none"), _MANY[:200], 2000
    capture = save(few, tmp_path / "few.pcap")
    with rig.bare_link() as link:
        argv = [*rig.namespace.prefix, sys.executable, "-m", "flowparity", "replay", str(capture), "--interface", link.transmit or "", "--rate", str(pps)]
        argv += ["--option", "time=none"]
        told: list[str] = []
        started = time.time_ns()
        log = _reads(
            rig, link, {}, lambda: told.append(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=300).stderr), backend="af_packet"
        )
    assert [each.data for each in log.seen] == [frame.data for frame in few]
    assert all(each.ts_ns >= started + index * _SECOND // pps for index, each in enumerate(log.seen))
    found = re.search(r"^200 frames in ([\d.]+) s.*^rate: ([+-][\d.]+) % of 2000; worst lateness [\d.]+ us$", told[0], re.MULTILINE | re.DOTALL)
    assert found is not None, told
    assert abs((len(few) - 1) / float(found[1]) / pps * 100 - 100 - float(found[2])) < 0.01

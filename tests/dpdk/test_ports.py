# SPDX-License-Identifier: Apache-2.0
"""What arrives through DPDK's ports is what the capture holds, whatever the port did to it on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from flowparity.capture import read_capture, write_capture
from flowparity.errors import InputError, SystemFault, UsageError
from flowparity.fixtures import load_fixtures
from flowparity.harness.interfaces import Injection
from flowparity.harness.rigs.dpdk import (
    AfPacketPmdRig,
    AfXdpPmdRig,
    DpdkInjector,
    DpdkLink,
    DpdkRig,
    FedLink,
    PcapRig,
    RingRig,
    VirtioRig,
    queue_of,
)
from flowparity.harness.rigs.feeder import Feeder
from flowparity.harness.rigs.hugepages import Hugepages

from .conftest import Steps, run_steps, udp_frame

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="capability: only as root")
QINQ = b"\x88\xa8\x00\x64\x81\x00\x00\xc8"


def ethernet_fixtures() -> list[Path]:
    """The captures of all fixtures that a classic capture of Ethernet can hold, as far as libpcap, the witness here, reads its times (before 2038)."""
    out = []
    for each in load_fixtures(ROOT / "fixtures"):
        try:
            frames = each.frames()
        except InputError:
            continue  # a fixture of what is refused
        if frames and all(frame.link == 1 and not frame.tags and frame.segments == 1 and frame.ts_ns < 2**31 * 10**9 for frame in frames):
            out.append(each.capture_path)
    return out


def over(rig: DpdkRig, capture: Path, queues: int = 1, **step: Any) -> tuple[dict[str, Any], Injection | None]:
    """Runs the exporter over a link of a rig."""
    with rig.link(capture, queues) as link:
        assert isinstance(link, DpdkLink)
        answers: list[dict[str, Any]] = []
        asked = {"input": link.receive, "workers": queues, "options": dict(link.subject_options), "trailer": link.trailer, **step}
        thread = threading.Thread(target=lambda: answers.extend(run_steps(asked, prefix=link.prefix)))
        thread.start()
        injection = DpdkInjector().inject(capture, link) if isinstance(link, FedLink) else None
        thread.join(60)
        assert answers, "the exporter's process failed; see above"
        return answers[0], injection


@pytest.mark.parametrize(
    ("given", "workers", "options"),
    [
        ("{}", 1, {}),
        ("{}", 4, {"spread": "flow"}),
        ("{}", 2, {"spread": "toeplitz"}),
        ("feed:{}", 1, {}),
        ("feed:{}", 4, {}),
        ("feed:{}", 16, {}),
        ("feed:{}", 4, {"spread": "toeplitz"}),
        ("feed:{}", 1, {"segment": "16"}),
        ("feed:{}", 4, {"segment": "31", "strip": "1"}),
        ("feed:{}", 1, {"strip": "2"}),
        ("feed:{}", 2, {"huge": "off"}),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value).replace(":{}", ""),
)
def test_generated_traffic(steps: Steps, capture: Path, given: str, workers: int, options: dict[str, str]) -> None:
    """Every frame once, in order within its worker, and the records of the backend pcap, on any number of workers."""
    frames = [udp_frame(i * 1000, host=1 + i % 50, size=60 + i % 900, tag=(b"", QINQ[4:], QINQ)[i % 3]) for i in range(1000)]
    write_capture(capture, frames)
    right, ours = steps({"backend": "pcap", "input": str(capture)}, {"input": given.format(capture), "workers": workers, "options": options})
    assert ours["error"] is None
    assert ours["broken"] == []
    assert ours["dropped"] == 0
    assert sorted(chain(*ours["assignment"])) == list(range(1000))
    assert all(each == sorted(each) for each in ours["assignment"])
    assert ours["flows"] == right["flows"] if given.startswith("feed") else len(ours["flows"]) == len(right["flows"])
    if workers > 1:
        assert sum(map(bool, ours["assignment"])) > 1
    assert ours["counters"]["rx_good_packets"] == 1000
    assert ours["tier"] == "vdev"


@pytest.mark.parametrize(("workers", "options"), [(1, {}), (4, {}), (1, {"segment": "16"}), (2, {"segment": "20", "strip": "2"})])
def test_every_fixture_through_the_ring(steps: Steps, tmp_path: Path, workers: int, options: dict[str, str]) -> None:
    """The odd frames too: runts, truncated frames, stacks of tags, in pieces, with their tags in metadata."""
    given = []
    for number, fixture in enumerate(ethernet_fixtures()):
        path = tmp_path / f"{number}.pcap"
        write_capture(path, read_capture(fixture))
        given.append((fixture, path))
    right = steps(*({"backend": "pcap", "input": str(path)} for _, path in given))
    ours = steps(*({"input": f"feed:{path}", "workers": workers, "options": options} for _, path in given))
    verdicts = ("received", "metered", "non_ip", "malformed", "clock", *(("flows",) if workers == 1 else ()))
    differ = {fixture.name: (r, o) for (fixture, _), r, o in zip(given, right, ours, strict=True) if any(r.get(v) != o.get(v) for v in verdicts)}
    assert differ == {}
    assert len(given) > 50


def test_seeds_of_difference_are_seen(steps: Steps, tmp_path: Path) -> None:
    """The comparison above can fail: one octet, one nanosecond."""
    first, second, third = tmp_path / "a.pcap", tmp_path / "b.pcap", tmp_path / "c.pcap"
    write_capture(first, [udp_frame(0)])
    write_capture(second, [udp_frame(0, size=61)])
    write_capture(third, [udp_frame(1)])
    answers = steps(*({"input": f"feed:{path}"} for path in (first, second, third)))
    assert len({str(each["flows"]) for each in answers}) == 3


def test_net_pcap_gives_microseconds(steps: Steps, tmp_path: Path) -> None:
    """The PMD's own times, floored to its unit."""
    path = tmp_path / "one.pcap"
    write_capture(path, [udp_frame(5)])
    (ours,) = steps({"input": str(path)})
    assert ours["clock"] == udp_frame(5).ts_ns // 1000 * 1000
    assert ours["clock"] != udp_frame(5).ts_ns


def test_infinite_capture_runs_until_stopped(steps: Steps, capture: Path) -> None:
    """infinite_rx=1 is live: it has no end of its own and a stop ends it in good order."""
    (ours,) = steps({"input": f"net_pcap0,rx_pcap={capture},infinite_rx=1", "stop_after": 0.3})
    assert ours["error"] is None
    assert ours["broken"] == []
    assert ours["received"] > 1000


def test_snap_length(steps: Steps, tmp_path: Path) -> None:
    """A snap length cuts chained frames too, and the octets stay those of the wire."""
    path = tmp_path / "long.pcap"
    write_capture(path, [udp_frame(0, size=1400)])
    whole, cut, chained = steps(
        {"input": f"feed:{path}"},
        {"input": f"feed:{path}", "snaplen": 50},
        {"input": f"feed:{path}", "snaplen": 50, "options": {"segment": "16"}},
    )
    assert whole["flows"] == cut["flows"] == chained["flows"]
    (short,) = steps({"input": f"feed:{path}", "snaplen": 33, "options": {"segment": "16"}})
    assert short["malformed"] == 1


@pytest.mark.parametrize("queues", [1, 2, 4])
def test_virtio(steps: Steps, capture: Path, queues: int) -> None:
    """Every frame arrives from the first on, in order within its queue."""
    with VirtioRig() as rig:
        ours, injection = over(rig, capture, queues)
    assert injection is not None
    assert injection.sent == 1000
    assert ours["error"] is None
    assert ours["queues"] == queues
    assert sorted(chain(*ours["assignment"])) == list(range(1000))
    assert all(each == sorted(each) for each in ours["assignment"])
    assert ours["counters"]["lost"] == ours["counters"]["strays"] == 0
    (right,) = steps({"backend": "pcap", "input": str(capture)})
    assert ours["flows"] == right["flows"]


def test_virtio_takes_long_and_short_frames(tmp_path: Path) -> None:
    """From a runt, padded on the way, to what a virtio queue holds at most with its trailer."""
    path = tmp_path / "sizes.pcap"
    frames = [udp_frame(i, size=size) for i, size in enumerate((60, 1514, 9000, 65_535 - 24))]
    write_capture(path, [*frames, udp_frame(9, size=50), udp_frame(10, size=65_535)])
    with VirtioRig() as rig:
        ours, injection = over(rig, path)
    assert injection is not None
    assert injection.not_sent == {"longer than the link takes": (5,)}
    assert ours["assignment"] == [[0, 1, 2, 3, 4]]


def test_virtio_in_ordinary_memory(capture: Path) -> None:
    """The fallback without hugepages."""
    with VirtioRig() as rig:
        ours, _ = over(rig, capture, 2, options={"hello": "1", "huge": "off"})
    assert ours["received"] == 1000


def test_virtio_queues_must_agree(capture: Path) -> None:
    """An exporter that answers on fewer queues than the sender has is told so, by the sender's error."""
    with VirtioRig() as rig, rig.link(capture, 2) as link:
        thread = threading.Thread(target=lambda: run_steps({"input": link.receive.replace("queues=2", "queues=1"), "options": {"hello": "1"}, "stop_after": 8}))
        thread.start()
        assert isinstance(link, FedLink)
        with pytest.raises(SystemFault, match="answer"):
            raise_unsent(DpdkInjector().inject(capture, link, timeout=5))
        thread.join(60)


def raise_unsent(injection: Injection) -> None:
    """Frames not sent as an error."""
    if injection.not_sent:
        raise SystemFault(f"no answer: {injection.not_sent}")


def test_vhost_peer_gone(steps: Steps, capture: Path) -> None:
    """What came before is exported, and the line says what to do."""
    with VirtioRig() as rig, rig.link(capture, 1) as link:
        assert isinstance(link, FedLink)
        answers: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: answers.extend(run_steps({"input": link.receive}, {"input": str(capture)})))
        thread.start()
        sender = DpdkInjector()
        sender.inject(capture, link, timeout=20)
        thread.join(60)
    gone, after = answers
    assert gone["error"][0] == "SystemFault"
    assert "start it again" in gone["error"][1]
    assert gone["received"] >= 0
    assert after["received"] == 1000


@as_root
@pytest.mark.parametrize("rig_class", [AfPacketPmdRig, AfXdpPmdRig])
def test_pmds_on_veth(steps: Steps, capture: Path, rig_class: type[DpdkRig]) -> None:
    """Every frame arrives through the kernel, under tier kernel."""
    with rig_class() as rig:
        available = rig.probe()
        if not available.ok:
            pytest.skip(f"capability: {available.reason}")
        ours, injection = over(rig, capture)
    assert injection is not None
    assert injection.sent == 1000
    assert sorted(chain(*ours["assignment"])) == list(range(1000))
    assert ours["tier"] == "kernel"
    (right,) = steps({"backend": "pcap", "input": str(capture)})
    assert ours["flows"] == right["flows"]


@as_root
@pytest.mark.parametrize("port", ["net_af_packet0,iface=near", "net_pcap0,iface=near"])
def test_frames_that_leave_are_not_received(port: str) -> None:
    """S-VER-1, through PMDs whose sockets see both directions; and the kernel may have merged what they give (S-SUP-2)."""
    command = ["unshare", "--net", "sh", "-c", 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; exec "$@"', "sh"]
    command += [sys.executable, "-m", "tests.dpdk.incoming", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"received": 3, "coalesces": True}


def test_dealing_keeps_keys_together(capture: Path) -> None:
    """The rig's choice of queues: one for each key, and all of them used."""
    chosen: dict[int, set[int]] = {}
    for frame in read_capture(capture):
        chosen.setdefault(frame.data[29], set()).add(queue_of(frame, 4))
    assert all(len(queues) == 1 for queues in chosen.values())
    assert set.union(*chosen.values()) == {0, 1, 2, 3}


def test_pcap_rig_uses_every_queue(capture: Path) -> None:
    """One file for each queue, all read."""
    with PcapRig() as rig:
        ours, _ = over(rig, capture, 4)
    assert all(ours["assignment"])
    assert sorted(chain(*ours["assignment"])) == list(range(1000))


def test_rigs_leave_nothing(capture: Path) -> None:
    """Links remove their files, rigs their directory and their process."""
    with RingRig() as rig:
        with rig.link(capture) as link:
            path = Path(link.receive.removeprefix("feed:"))
            assert path.exists()
        assert not path.exists()
    assert not path.parent.exists()
    with pytest.raises(UsageError, match="1 to 16"):
        RingRig().link(capture, 17)


def test_feeder_is_replaced_after_its_death(capture: Path) -> None:
    """A crash of the sender is the error of one play."""
    with VirtioRig() as rig:
        with rig.link(capture) as link:
            process = rig.feeder._process
            assert process is not None
            process.kill()
            assert isinstance(link, FedLink)
            with pytest.raises(SystemFault, match="ended with signal 9"):
                DpdkInjector().inject(capture, link)
        ours, _ = over(rig, capture)
    assert ours["received"] == 1000


def test_feeder_passes_errors_on(capture: Path) -> None:
    """A wrong output is the plug-in's line in the harness's process."""
    feeder = Feeder("dpdk")
    try:
        with pytest.raises(UsageError, match="neither a PCI address"):
            feeder.open("nowhere", {}, capture, trailer=False)
    finally:
        feeder.close()


def test_hugepages_are_shared_and_put_back(tmp_path: Path) -> None:
    """The first raises the number, the last puts it back; a number that is high enough stays."""
    count, lock = tmp_path / "nr", tmp_path / "lock"
    count.write_text("3\n", encoding="ascii")
    first = Hugepages(8, count, lock)
    second = Hugepages(8, count, lock)
    assert count.read_text(encoding="ascii") == "8"
    first.close()
    assert count.read_text(encoding="ascii") == "8"
    second.close()
    assert count.read_text(encoding="ascii") == "3"
    with Hugepages(2, count, lock):
        assert count.read_text(encoding="ascii") == "3"
    assert count.read_text(encoding="ascii") == "3"


def test_nothing_is_left_in_the_file_system(capture: Path) -> None:
    """DPDK's runtime directory and sockets go with the start, not with the end."""
    before = set(Path("/var/run/dpdk").glob("*")) if Path("/var/run/dpdk").exists() else set()
    run_steps({"input": str(capture)}, {"input": str(capture), "options": {"huge": "off"}})
    code = f"from flowparity import native; native.Exporter(native.RunConfig('dpdk', {str(capture)!r})); import os; os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    after = set(Path("/var/run/dpdk").glob("*")) if Path("/var/run/dpdk").exists() else set()
    assert after <= before


def test_parity_by_name_alone(tmp_path: Path) -> None:
    """What a user types first: nanoseconds, wire lengths and IPv6 survive, under tier vdev."""
    report = tmp_path / "cells.json"
    captures = [ROOT / "fixtures" / "recorded" / name for name in ("http-ipv6.pcapng", "iperf3-udp.pcapng")]
    command = [sys.executable, "-m", "flowparity", "parity", *captures, "--backend", "dpdk", "--json", report]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = json.loads(report.read_text())["cells"]
    assert {(cell["status"], cell["tier"]) for cell in cells} == {("pass", "vdev")}
    assert len(cells) == 6

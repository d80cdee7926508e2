# SPDX-License-Identifier: Apache-2.0
"""The backends `netmap` and `pfring` over the real kernel modules: `python -m tests.sims.real [NIC NIC [WIRE…]]`, as root, with the modules loaded.

Frames go through a netmap pipe, between two ports of a VALE switch, over a veth pair with four queues of its own, and from the first NIC to the second (which
must be wired to each other), with the replay trailer, and what was exported is compared with the reference at every level. A switch learns addresses: a frame
whose destination was seen to send goes to that one's port alone, so no port, a third one neither, receives both directions of a capture: the run over VALE
has captures of one direction. Then the service and a replay as two programs, over PF_RING also while the exporter sleeps, so that frames are lost and counted
(netmap keeps the sender's frames while it sleeps, and the sender waits). With names of wires, or `services`, only those. Prints a transcript with the tier of
each result; status 1 if anything differs.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from flowparity.capture import write_capture
from flowparity.frame import Frame
from flowparity.harness.cases import Case, cases_of
from flowparity.harness.engine import Bench, Place, Settings
from flowparity.harness.interfaces import Availability, Capabilities, Injection, Injector, Link, Rig
from flowparity.harness.results import Status
from flowparity.native import Player
from tests.sims.service import frames_of, seen, serve, wanted

ROOT = Path(__file__).resolve().parents[2]
CASES = (
    "recorded/dns.pcap",
    "recorded/http-ipv4.pcap",
    "recorded/ping-fragments.pcap",
    "vlan/padded.toml",
    "vlan/qinq.toml",
    "vlan/priority-tag.toml",
    "verdicts/runt.toml",
    "lengths/padding.toml",
)
_TRAILER = 24
_ETHERNET = 14
_SERVICES = "services"
_MANY, _LARGE = 30_000, 1450  # frames and octets of each while nobody reads: 44 MB; PF_RING's ring has 34
_PAIR = ("fpra", "fprb")


def carrier(nic: str) -> None:
    """Waits until an interface has its carrier."""
    end = time.monotonic() + 20
    while Path(f"/sys/class/net/{nic}/operstate").read_text(encoding="ascii").strip() != "up" and time.monotonic() < end:
        time.sleep(0.1)


@dataclass
class Wire(Rig):
    """Two ports that are wired to each other, whatever they are."""

    name: str
    transmit: str
    receive: str
    longest: int
    workers: int = 1
    mtu: int = 0  # of both ends; 0 if they are no interfaces
    priority_tags: bool = True  # a tag with VLAN ID 0 arrives
    learns: bool = False  # a switch: does not carry a frame to where its destination was seen to send from

    def fits(self, case: Case) -> bool:
        """Whether every frame reaches the other end."""
        sources: set[bytes] = set()
        for frame in case.frames():
            sources.add(frame.data[6:12])
            if self.learns and frame.data[:6] in sources:
                return False
        return True

    def up(self) -> None:
        """Brings both ends up and waits for their carrier."""
        for nic in (self.transmit, self.receive.removeprefix("netmap:")) if self.mtu else ():
            Path(f"/proc/sys/net/ipv6/conf/{nic}/disable_ipv6").write_text("1", encoding="ascii")
            for feature in ("rxvlan", "rx-vlan-filter"):  # a native netmap driver leaves tags to the card; one that cannot be switched off stays
                subprocess.run(["ethtool", "-K", nic, feature, "off"], check=False, capture_output=True)
            subprocess.run(["ip", "link", "set", nic, "up", "promisc", "on", "mtu", str(self.mtu)], check=True)
            carrier(nic)

    def probe(self) -> Availability:
        return Availability(True)

    def restrict(self, capabilities: Capabilities) -> Capabilities:
        return replace(
            capabilities,
            links=frozenset({1}),
            max_frame=self.longest - _TRAILER,
            exact_time=True,
            time_resolution=1,
            time_tolerance=0,
            wire_length=True,
            truncated=True,
            priority_tags=self.priority_tags,
            interface_source=False,
            run=capabilities.run - {"filter"},
        )

    def link(self, capture: Path, queues: int = 1) -> Link:
        return _WireLink(self)


class _WireLink(Link):
    def __init__(self, wire: Wire) -> None:
        self.transmit, self.receive = wire.transmit, wire.receive
        self.collector_address = "127.0.0.1"
        self.prefix = ()
        self.trailer = True
        self.times = "trailer"
        self.nic = wire.receive.removeprefix("netmap:") if wire.mtu else ""

    def __enter__(self) -> _WireLink:
        return self

    def __exit__(self, *_: object) -> None: ...


class Sender(Injector):
    """An injector of this process. A port of a native driver has lost its carrier at its opening: it waits for that."""

    def __init__(self, name: str) -> None:
        self.name = name

    def probe(self) -> Availability:
        return Availability(True)

    def inject(self, capture: Path, link: Link, *, rate_pps: float | None = None, timeout: float = 60.0) -> Injection:
        assert link.transmit is not None
        assert isinstance(link, _WireLink)
        if link.nic:
            carrier(link.nic)
        return Player(self.name, link.transmit).play(capture, trailer=True, rate_pps=rate_pps or 2000.0, timeout=timeout)


def wires(nics: tuple[str, str] | None) -> dict[str, tuple[str, Wire, Sender]]:
    """By name: the backend, its wire and its sender."""
    out = {
        "netmap pipe": ("netmap", Wire("netmap pipe", "fpreal{1", "fpreal}1", 65_535), Sender("netmap")),
        "netmap VALE": ("netmap", Wire("netmap VALE", "vale7:a", "vale7:b", 65_535, learns=True), Sender("netmap")),
    }
    here, there = _PAIR
    over = Sender("af_packet")
    out["netmap veth"] = ("netmap", Wire("netmap veth", here, f"netmap:{there}", 1500 + _ETHERNET, mtu=1500), over)
    out["netmap veth, 4 workers"] = ("netmap", Wire("netmap veth:4/4", here, f"netmap:{there}", 1500 + _ETHERNET, workers=4, mtu=1500), over)
    out["pfring veth"] = ("pfring", Wire("pfring veth", here, there, 4000 + _ETHERNET, mtu=4000, priority_tags=False), over)
    if nics is not None:
        sending, receiving = nics
        out["pfring NIC"] = ("pfring", Wire("pfring NIC", sending, receiving, 4000 + _ETHERNET, mtu=4000, priority_tags=False), Sender("af_packet"))
        out["netmap NIC"] = ("netmap", Wire("netmap NIC", sending, f"netmap:{receiving}", 1500 + _ETHERNET, mtu=1500), Sender("af_packet"))
    return out


@contextmanager
def pair() -> Iterator[None]:
    """A veth pair with four queues."""
    create = ["ip", "link", "add", _PAIR[0], "numrxqueues", "4", "numtxqueues", "4", "type", "veth", "peer", "name", _PAIR[1]]
    subprocess.run([*create, "numrxqueues", "4", "numtxqueues", "4"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "del", _PAIR[0]], check=False)


def services() -> Iterator[tuple[str, bool]]:
    """What the service said over each framework, at leisure and overloaded, and whether it is right."""
    for backend, receive, overloads in (("netmap", f"netmap:{_PAIR[1]}", (False,)), ("pfring", _PAIR[1], (False, True))):
        Wire("", _PAIR[0], receive, 0, mtu=1500).up()
        for overloaded in overloads:
            with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
                capture = ROOT / "fixtures/recorded/dns.pcap"
                if overloaded:
                    some = frames_of(capture)
                    padded = [each.data.ljust(_LARGE, b"\0") for each in some]
                    many = (Frame(index=i, ts_ns=some[0].ts_ns + i * 1000, data=padded[i % len(some)], wirelen=_LARGE) for i in range(_MANY))
                    write_capture(capture := Path(directory) / "many.pcap", many)
                frames = frames_of(capture)
                transmit = ("--interface", _PAIR[0], *(("--top",) if overloaded else ("--rate", "1000")))
                served = serve(capture, transmit, ("--backend", backend, "--interface", receive), mouth, expected=None if overloaded else len(frames))
            said, counters = served.said, served.said["counters"]
            received, dropped, lost = said["received"], said["dropped"], counters["lost"]
            accounted = (dropped is None if backend == "netmap" else received + dropped == len(frames)) and received + lost <= len(frames)
            exact = overloaded or sorted(map(seen, served.flows), key=repr) == wanted(frames)
            right = accounted and exact and not said["broken"] and (received < len(frames)) == overloaded
            what = f"of {len(frames)} frames {'some' if overloaded else 'none'} lost, dropped {'unknown' if dropped is None else 'known to the frame'}"
            yield f"{backend} service: {what}{'' if overloaded else ', every record exact'}: {'right' if right else f'WRONG: {said}'}", right


def main(arguments: list[str]) -> int:
    """Every case over every wire."""
    with pair():
        return _all((arguments[0], arguments[1]) if len(arguments) > 1 else None, arguments[2:])


def _all(nics: tuple[str, str] | None, only: list[str]) -> int:
    cases = [case for name in CASES for case in cases_of([ROOT / "fixtures" / name])]
    bad = 0
    for title, (backend, wire, sender) in wires(nics).items():
        if only and title not in only:
            continue
        wire.up()
        with Bench([backend], {backend: Place(wire, sender, workers=wire.workers)}) as bench:
            for case in filter(wire.fits, cases):
                for cell in bench.run(case, backend, Settings(timeout=60)):
                    told = cell.reason or "; ".join(str(problem) for problem in cell.problems[:2]) or f"{cell.records} records at {cell.level}"
                    print(f"{title} [{cell.tier}]: {case.name} in {cell.format}: {cell.status}: {told}", flush=True)
                    bad += cell.status not in (Status.PASS, Status.LEFT_OUT)
    for line, right in services() if not only or _SERVICES in only else ():
        print(line, flush=True)
        bad += not right
    print(f"{bad} failed" if bad else "parity", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

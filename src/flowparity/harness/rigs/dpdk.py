# SPDX-License-Identifier: Apache-2.0
"""Links into the backend `dpdk` without a NIC.

Captures on net_ring and net_pcap, virtio-user fed by vhost from a process of its own, and DPDK's af_packet and af_xdp PMDs on veth.

How packets' own times travel: net_ring carries them in the mbuf (`own`); everywhere else they travel in the trailer, which also keeps wire lengths and tells
each frame's ordinal.
"""

from __future__ import annotations

import itertools
import resource
import socket
import tempfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from flowparity.capture import read_capture, write_capture
from flowparity.errors import UnavailableError, UsageError
from flowparity.frame import Frame
from flowparity.harness.interfaces import Availability, Capabilities, Injection, Injector, Link, Rig, Tier
from flowparity.harness.rigs.feeder import Feeder
from flowparity.harness.rigs.hugepages import Hugepages
from flowparity.harness.rigs.namespace import privileged
from flowparity.harness.rigs.veth import VethLink, VethRig
from flowparity.packet import Packet, parse

_TRAILER = 24
_LONGEST_WITH_TRAILER = 65_535 - _TRAILER
_RING_QUEUES = 16
_ETHERNET = frozenset({1})
_VETH_MTU = 3498  # the most at which a veth takes a native XDP program
_LOCKED = 64 << 20  # octets; the rings of both PMDs are below
_XDP_ROOM = 3648  # octets of a buffer: with its headers it just fits into a page, as an XDP frame must
_PACE = 20_000.0  # frames per second into the PMDs over kernel interfaces, which lose without saying so above some 100,000
_FANOUT_TRIES = 4
_numbers = itertools.count()


class DpdkRig(Rig):
    """What the rigs have in common: a temporary directory, hugepages, and what is left of the backend's capabilities."""

    tier = Tier.VDEV
    queues = _RING_QUEUES
    trailer = True
    fragments = True  # IPv4 fragments arrive as they were sent
    longest = _LONGEST_WITH_TRAILER
    latest = 2**63 - 1  # ns

    def __init__(self) -> None:
        self._stack: ExitStack | None = None
        self._directory = Path()

    def __enter__(self) -> DpdkRig:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes everything that was made. The rig may be used again."""
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.close()

    @property
    def held(self) -> ExitStack:
        """What lives as long as the rig; made when it is first needed."""
        if self._stack is None:
            self._stack = ExitStack()
            self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="flowparity-dpdk-")))
            self._stack.enter_context(Hugepages())
        return self._stack

    def scratch(self, name: str) -> Path:
        """The path of a file of the rig's own, without the characters that a vdev's arguments cannot hold."""
        assert self.held is not None
        return self._directory / name

    def probe(self) -> Availability:
        """Whether the backend is built and DPDK is there."""
        return _backend()

    def restrict(self, capabilities: Capabilities) -> Capabilities:
        """What is left over this rig's links."""
        return replace(
            capabilities,
            tier=self.tier,
            links=capabilities.links & _ETHERNET,
            min_frame=0,
            max_frame=min(262_144, self.longest),
            exact_time=True,
            time_resolution=1,
            time_tolerance=0,
            earliest_time=max(0, capabilities.earliest_time),
            latest_time=min(self.latest, capabilities.latest_time),
            wire_length=True,
            truncated=True,
            interface_source=False,
            fragments=self.fragments,
            workers=min(capabilities.workers, self.queues),
            splits=False,  # the sender chooses the queue, by key
            run=capabilities.run - {"filter"},
        )


class DpdkLink(Link):
    """A link whose receive end is a port of the backend `dpdk`."""

    def __init__(self, rig: DpdkRig, capture: Path, queues: int) -> None:
        if not 1 <= queues <= rig.queues:
            raise UsageError(f"rig {rig.name}: {queues} queues; it has 1 to {rig.queues}")
        self.rig, self.capture, self.queues = rig, capture, queues
        self.number = next(_numbers)
        self.receive = ""
        self.transmit = None
        self.collector_address = "127.0.0.1"
        self.prefix = ()
        self.trailer = rig.trailer
        self.times = "trailer" if rig.trailer else "own"
        self._files: list[Path] = []

    def __enter__(self) -> DpdkLink:
        self.set_up()
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._files:
            path.unlink(missing_ok=True)

    def set_up(self) -> None:
        """Makes the link and names its ends."""

    def file(self, name: str) -> Path:
        """A file that goes with the link."""
        path = self.rig.scratch(f"{self.number}-{name}")
        self._files.append(path)
        return path


class RingRig(DpdkRig):
    """A capture played into a net_ring port of the exporter's own process (feed:FILE)."""

    name = "dpdk@ring"
    trailer = False
    longest = 262_144
    latest = 2**32 * 1_000_000_000 - 1  # classic pcap

    def link(self, capture: Path, queues: int = 1) -> Link:
        """The capture as classic pcap in nanoseconds."""
        return _RingLink(self, capture, queues)


class _RingLink(DpdkLink):
    def set_up(self) -> None:
        path = self.file("feed.pcap")
        write_capture(path, read_capture(self.capture))
        self.receive = f"feed:{path}"


class PcapRig(DpdkRig):
    """A capture through net_pcap, one file for each queue. With the trailer: the PMD gives microseconds, no wire length and no order over several files."""

    name = "dpdk@pcap"

    def link(self, capture: Path, queues: int = 1) -> Link:
        """The capture dealt out to one file a queue."""
        return _PcapLink(self, capture, queues)


class _PcapLink(DpdkLink):
    def set_up(self) -> None:
        from flowparity.native import append_trailer

        dealt: list[list[Frame]] = [[] for _ in range(self.queues)]
        for frame in read_capture(self.capture):
            data = append_trailer(frame.data, frame.wirelen, frame.ts_ns, frame.index)
            dealt[queue_of(frame, self.queues)].append(replace(frame, ts_ns=0, data=data, wirelen=len(data)))
        arguments = []
        for queue, frames in enumerate(dealt):
            path = self.file(f"queue{queue}.pcap")
            write_capture(path, frames)
            arguments.append(f"rx_pcap={path}")
        self.receive = ",".join([f"net_pcap{self.number}", *arguments])


class VirtioRig(DpdkRig):
    """virtio-user in the exporter against vhost in a feeding process, over a unix socket."""

    name = "dpdk@virtio"
    queues = 8

    def __init__(self) -> None:
        super().__init__()
        self._feeder: Feeder | None = None

    @property
    def feeder(self) -> Feeder:
        """The process at the other end of this rig's links, one after the other."""
        held = self.held
        if self._feeder is None:
            self._feeder = Feeder("dpdk")
            held.callback(self._end_feeder, self._feeder)
        return self._feeder

    def _end_feeder(self, feeder: Feeder) -> None:
        feeder.close()
        self._feeder = None

    def link(self, capture: Path, queues: int = 1) -> Link:
        """The vhost side opens with the link, because the virtio side must find it; frames flow when the exporter has answered on every queue."""
        return _VirtioLink(self, capture, queues)


class FedLink(DpdkLink):
    """A link whose other end a `Feeder` plays into."""

    feeder: Feeder
    output: str
    rate_pps: float | None = None
    _open = False

    def open(self, rate_pps: float | None, timeout: float) -> None:
        """Opens the transmit end, unless it is open."""
        if self._open:
            if rate_pps != self.rate_pps:
                raise UsageError(f"{self.rig.name}: the rate is chosen with the link, not for each play")
            return
        self.feeder.open(self.output, self.injector_options, self.capture, trailer=self.trailer, rate_pps=rate_pps, timeout=timeout)
        self._open = True

    def play(self, timeout: float) -> Injection:
        """Plays the capture and closes the transmit end."""
        self._open = False
        return self.feeder.play(timeout)

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._open = False
            self.feeder.cancel()
        super().__exit__()


class _VirtioLink(FedLink):
    def set_up(self) -> None:
        assert isinstance(self.rig, VirtioRig)
        path = self.file("vhost.sock")
        self.feeder = self.rig.feeder
        self.output = self.transmit = f"net_vhost{self.number},iface={path},queues={self.queues},client=0"
        self.receive = f"net_virtio_user{self.number},path={path},queues={self.queues}"
        self.injector_options = MappingProxyType({"hello": "1", "queues": str(self.queues), "link_wait": "20000"})
        self.subject_options = MappingProxyType({"hello": "1"})
        self.open(None, timeout=60.0)


class _VethPmdRig(DpdkRig):
    """A PMD of DPDK over a kernel interface: a veth pair, fed by DPDK's af_packet PMD at its other end, paced."""

    tier = Tier.KERNEL
    queues = 1
    vdev: str
    buffer: int  # octets

    def __init__(self) -> None:
        super().__init__()
        self._veth: VethRig | None = None
        self._feeder: Feeder | None = None

    def veth(self) -> VethRig:
        """The rig that makes the pairs."""
        if self._veth is None:
            self._veth = VethRig("trailer")
            self.held.callback(self._end_veth, self._veth)
        return self._veth

    def _end_veth(self, veth: VethRig) -> None:
        if self._feeder is not None:
            self._feeder.close()
        self._feeder = self._veth = None
        veth.close()

    def feeder(self, prefix: tuple[str, ...]) -> Feeder:
        """The process that sends, inside the namespace."""
        if self._feeder is None:
            self._feeder = Feeder("dpdk", prefix)
        return self._feeder

    def probe(self) -> Availability:
        """Whether DPDK is there and a veth pair can be made."""
        for found in (super().probe(), VethRig().probe()):
            if not found.ok:
                return found
        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        if privileged() or limit == resource.RLIM_INFINITY or limit >= _LOCKED:
            return Availability(True)
        reason = f"its rings are locked memory, of which an ordinary user may have {limit >> 10} KiB here"
        return Availability(False, reason, f"run as root, or raise the limit to {_LOCKED >> 10} KiB (ulimit -l, /etc/security/limits.conf)")

    def prefix(self) -> tuple[str, ...]:
        """The way into the namespace."""
        return self.veth().prefix() if self.probe().ok else ()

    def link(self, capture: Path, queues: int = 1) -> Link:
        """A fresh veth pair."""
        return _VethPmdLink(self, capture, queues)


class AfPacketPmdRig(_VethPmdRig):
    """DPDK's af_packet PMD.

    It joins a fanout group with PACKET_FANOUT_FLAG_DEFRAG, whether it has one queue or more: the kernel puts IPv4 fragments together before it sees them.
    """

    name = "dpdk@af_packet"
    fragments = False
    vdev = "net_af_packet{number},iface={interface},framesz=4096,framecnt=2048,blocksz=8192"
    buffer = 4096
    longest = _VETH_MTU + 14 - _TRAILER


class AfXdpPmdRig(_VethPmdRig):
    """DPDK's af_xdp PMD."""

    name = "dpdk@af_xdp"
    vdev = "net_af_xdp{number},iface={interface},start_queue=0,queue_count=1"
    buffer = _XDP_ROOM
    longest = _XDP_ROOM - 256 - _TRAILER


class _VethPmdLink(FedLink):
    def open(self, rate_pps: float | None, timeout: float) -> None:
        """Opens the transmit end; again from another process where the PMD's fanout groups, which it numbers by process id XOR interface, collide."""
        assert isinstance(self.rig, _VethPmdRig)
        for attempt in range(_FANOUT_TRIES):
            try:
                super().open(rate_pps, timeout)
                return
            except UnavailableError as error:
                if "PACKET_FANOUT" not in str(error) or attempt == _FANOUT_TRIES - 1:
                    raise
                self.feeder.close()

    def set_up(self) -> None:
        assert isinstance(self.rig, _VethPmdRig)
        self._pair: VethLink = self.rig.veth().bare_link(queues=1, mtu=_VETH_MTU)
        self._pair.__enter__()
        self.prefix = self.transmit_prefix = self._pair.prefix
        self.feeder = self.rig.feeder(self._pair.prefix)
        self.receive = self.rig.vdev.format(number=self.number, interface=self._pair.receive)
        self.output = self.transmit = AfPacketPmdRig.vdev.format(number=self.number, interface=self._pair.transmit)
        self.injector_options = MappingProxyType({"hello": "1", "mbuf": str(AfPacketPmdRig.buffer), "link_wait": "20000"})
        self.subject_options = MappingProxyType({"hello": "1", "mbuf": str(self.rig.buffer), "descriptors": "2048"})

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._pair.__exit__()

    def socket(self, family: int, kind: int) -> socket.socket:
        """An unbound socket in the namespace."""
        return self._pair.socket(family, kind)


class DpdkInjector(Injector):
    """DPDK as the sender of a link of this module."""

    name = "dpdk"

    def probe(self) -> Availability:
        """As the backend's."""
        return _backend()

    def inject(self, capture: Path, link: Link, *, rate_pps: float | None = None, timeout: float = 60.0) -> Injection:
        """Plays the link's capture. On the PMDs over kernel interfaces at 20,000 frames a second unless told otherwise."""
        if not isinstance(link, FedLink) or link.capture != capture:
            raise UsageError("injector dpdk: it plays the capture of a link of dpdk@virtio, dpdk@af_packet or dpdk@af_xdp")
        if rate_pps is None and isinstance(link, _VethPmdLink):
            rate_pps = _PACE
        link.open(rate_pps, timeout)
        return link.play(timeout)


def queue_of(frame: Frame, queues: int) -> int:
    """A queue by the key of the frame's packet, so that a key stays in one queue in order; 0 for what is not metered."""
    packet = parse(frame)
    if queues == 1 or not isinstance(packet, Packet):
        return 0
    key = repr((packet.source, packet.destination, packet.source_port, packet.destination_port, packet.protocol))
    return zlib.crc32(key.encode()) % queues


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the matrix: a way into the backend, with as many queues as workers."""

    rig: Callable[[], DpdkRig]
    workers: int
    place: str
    tier: Tier
    fed: bool  # an injector sends into it; else it reads the capture itself

    @property
    def name(self) -> str:
        """dpdk@PLACE[:WORKERS]."""
        return f"dpdk@{self.place}" + (f":{self.workers}" if self.workers > 1 else "")


ROWS = (
    *(Row(RingRig, workers, "ring", Tier.VDEV, fed=False) for workers in (1, 4)),
    *(Row(PcapRig, workers, "pcap", Tier.VDEV, fed=False) for workers in (1, 4)),
    *(Row(VirtioRig, workers, "virtio", Tier.VDEV, fed=True) for workers in (1, 4)),
    Row(AfPacketPmdRig, 1, "af_packet", Tier.KERNEL, fed=True),
    Row(AfXdpPmdRig, 1, "af_xdp", Tier.KERNEL, fed=True),
)
"""Every way into DPDK without a NIC."""


def _backend() -> Availability:
    from flowparity import native

    for each in native.backends():
        if each.name == "dpdk":
            return Availability(each.available, each.reason, each.remedy)
    return Availability(False, "the backend dpdk is not registered", "reinstall flowparity")

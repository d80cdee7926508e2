# SPDX-License-Identifier: Apache-2.0
"""Links over a veth pair, both ends in one private namespace (across namespaces the kernel takes a packet's own time away).

How packets' own times travel is chosen for each link and proven by a handshake at its creation:

- `txtime`: SO_TXTIME, for whatever reads the kernel's stamps;
- `metadata`: before the frame, turned into metadata by the XDP program, for AF_XDP;
- `trailer`: behind the frame, for everything else, for kernels that fail the handshake, and for captures that the others cannot carry: frames too short for
  the link, frames that a snap length cut, and runs of several workers, which need to know each frame's ordinal;
- `none`: the kernel's own stamps, within a tolerance.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from flowparity.capture import read_capture
from flowparity.errors import UsageError
from flowparity.frame import Frame
from flowparity.harness.interfaces import Availability, Capabilities, Link, Rig
from flowparity.harness.rigs import namespace
from flowparity.harness.rigs.namespace import Namespace

CARRIERS = ("txtime", "metadata", "trailer", "none")

_MTU = 65_535  # the most a veth takes
_ETHERNET = 14
_TAG = 4
_ADDED = {"txtime": 0, "metadata": 34, "trailer": 24, "none": 0}  # octets that go with a frame
_TAGS_TAKEN = (0x8100, 0x88A8)  # the kernel takes these out of a frame, or loses a frame that ends inside
_ETHERNET_LINK = frozenset({1})
_names = itertools.count()


class VethRig(Rig):
    """A source of veth links, all in one namespace of this rig's own. `close` removes everything; so does the end of this process, however it comes."""

    name = "veth"

    def __init__(self, carrier: str = "txtime") -> None:
        """`carrier`: how packets' own times shall travel where the link and the capture allow it."""
        if carrier not in CARRIERS:
            raise UsageError(f"veth: carrier {carrier!r} is none of {', '.join(CARRIERS)}")
        self.carrier = carrier
        self._namespace: Namespace | None = None
        self._exact: bool | None = None

    def __enter__(self) -> VethRig:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes all links and the namespace. The rig may be used again."""
        if self._namespace is not None:
            self._namespace.close()
            self._namespace = None

    @property
    def namespace(self) -> Namespace:
        """The namespace, made when it is first needed."""
        if self._namespace is None:
            self._namespace = Namespace()
        return self._namespace

    def probe(self) -> Availability:
        """Whether namespaces and veth pairs can be made here."""
        return namespace.probe()

    def restrict(self, capabilities: Capabilities) -> Capabilities:
        """What is left over a veth: Ethernet up to the MTU. Cut frames and frames too short for a link are carried with the trailer."""
        exact = self.carrier != "none"
        return replace(
            capabilities,
            links=capabilities.links & _ETHERNET_LINK,
            min_frame=capabilities.min_frame if exact else max(capabilities.min_frame, _ETHERNET),
            max_frame=min(capabilities.max_frame, _ETHERNET + _MTU - _ADDED[self.carrier]),
            exact_time=exact,
            time_resolution=1,
            time_tolerance=0 if exact else capabilities.time_tolerance,
            earliest_time=max(capabilities.earliest_time, 0),
            wire_length=exact and capabilities.wire_length,
            truncated=exact and capabilities.truncated,
            interface_source=False,
        )

    def link(self, capture: Path, queues: int = 1) -> VethLink:
        """A link fit for the capture, not yet made; `queues` receive queues (and as many transmit queues)."""
        carrier = self.carrier
        if carrier in ("txtime", "metadata") and (_needs_trailer(read_capture(capture)) or (carrier == "txtime" and queues > 1)):
            carrier = "trailer"
        return VethLink(self, carrier, queues)

    def bare_link(self, queues: int = 1, mtu: int = _MTU) -> VethLink:
        """A link for traffic that is no capture's."""
        return VethLink(self, self.carrier, queues, mtu)


class VethLink(Link):
    """One veth pair. `transmit` and `receive` are its ends' names inside the namespace."""

    def __init__(self, rig: VethRig, carrier: str, queues: int, mtu: int = _MTU) -> None:
        self._rig = rig
        self._queues, self._mtu = queues, mtu
        self.times = carrier
        number = next(_names)
        self.transmit: str = f"fpt{number}"
        self.receive = f"fpr{number}"
        self.collector_address = "127.0.0.1"
        self._made = False

    def __enter__(self) -> VethLink:
        inside = self._rig.namespace
        self.prefix = self.transmit_prefix = inside.prefix
        inside.ask("pair", transmit=self.transmit, receive=self.receive, queues=self._queues, mtu=self._mtu)
        self._made = True
        try:
            exact = bool(inside.ask("handshake", transmit=self.transmit, receive=self.receive)["exact"])
        except BaseException:
            self.__exit__()
            raise
        if self.times == "txtime" and not exact:
            self.times = "trailer"
        self.trailer = self.times == "trailer"
        encapsulated = {"encapsulate": "1"} if self.times == "metadata" else {}
        own = {"time": "own" if self.times == "txtime" else "none"}
        self.injector_options = MappingProxyType(own | encapsulated)
        self.subject_options = MappingProxyType({"times": "sender"} if self.times == "metadata" else {})
        return self

    def __exit__(self, *_: object) -> None:
        if self._made:
            self._made = False
            self._rig.namespace.ask("remove", name=self.transmit)

    def socket(self, family: int, kind: int) -> socket.socket:
        """An unbound socket in the namespace."""
        return self._rig.namespace.socket(family, kind)


def _needs_trailer(frames: Iterable[Frame]) -> bool:
    """Whether a frame would not arrive as it is: too short, ending inside a tag that the kernel takes, cut by a snap length, or at time 0."""
    return any(frame.wirelen > len(frame.data) or frame.ts_ns <= 0 or _too_short(frame.data) for frame in frames)


def _too_short(data: bytes) -> bool:
    if len(data) < _ETHERNET:
        return True
    return int.from_bytes(data[12:14], "big") in _TAGS_TAKEN and len(data) < _ETHERNET + _TAG + 2

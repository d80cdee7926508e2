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
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from flowparity.capture import read_capture
from flowparity.errors import SystemFault, UsageError
from flowparity.frame import Frame
from flowparity.harness.interfaces import Availability, Capabilities, Link, Rig
from flowparity.harness.rigs import namespace
from flowparity.harness.rigs.namespace import Namespace

CARRIERS = ("txtime", "metadata", "trailer", "none")

MTU = 65_535  # octets; the most a veth takes
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
        self._making = threading.Lock()
        self._idle: dict[int, list[Pair]] = {}  # pairs between two links, by number of queues

    def __enter__(self) -> VethRig:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes all links and the namespace. The rig may be used again."""
        self._idle.clear()
        if self._namespace is not None:
            self._namespace.close()
            self._namespace = None

    def acquire(self, queues: int, mtu: int = MTU) -> Pair:
        """A pair that was proven to carry frames; making one takes as long as a whole case, so they are used again."""
        if mtu == MTU and self._idle.get(queues):
            return self._idle[queues].pop()
        number = next(_names)
        transmit, receive = f"fpt{number}", f"fpr{number}"
        self.namespace.ask("pair", transmit=transmit, receive=receive, queues=queues, mtu=mtu)
        try:
            exact = bool(self.namespace.ask("handshake", transmit=transmit, receive=receive)["exact"])
        except BaseException:
            self.remove(transmit)
            raise
        return Pair(transmit, receive, queues, exact)

    def give_back(self, pair: Pair) -> None:
        """A pair as it was acquired, for the next link."""
        self._idle.setdefault(pair.queues, []).append(pair)

    def remove(self, name: str) -> None:
        """Removes an interface and its peer; one that is gone already is no fault."""
        with suppress(SystemFault):
            self.namespace.ask("remove", name=name)

    @property
    def namespace(self) -> Namespace:
        """The namespace, made when it is first needed, by whichever thread needs it first."""
        with self._making:
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
            max_frame=min(capabilities.max_frame, _ETHERNET + MTU - _ADDED[self.carrier]),
            exact_time=exact,
            time_resolution=1,
            time_tolerance=0 if exact else capabilities.time_tolerance,
            earliest_time=max(capabilities.earliest_time, 0),
            wire_length=exact and capabilities.wire_length,
            truncated=exact and capabilities.truncated,
            interface_source=False,
        )

    def prefix(self) -> tuple[str, ...]:
        """The way into the namespace."""
        return self.namespace.prefix if self.probe().ok else ()

    def link(self, capture: Path, queues: int = 1, *, ordinals: bool = False) -> VethLink:
        """A link fit for the capture, not yet made; `queues` receive queues (and as many transmit queues). With `ordinals` each frame's ordinal travels too."""
        carrier = self.carrier
        if carrier in ("txtime", "metadata") and (_needs_trailer(read_capture(capture)) or (carrier == "txtime" and (ordinals or queues > 1))):
            carrier = "trailer"
        return VethLink(self, carrier, queues)

    def bare_link(self, queues: int = 1, mtu: int = MTU) -> VethLink:
        """A link for traffic that is no capture's. Its pair is its own and removed with it: it may be changed at will."""
        return VethLink(self, self.carrier, queues, mtu, fresh=True)


@dataclass(frozen=True, slots=True)
class Pair:
    """A veth pair inside the namespace. `exact`: packets' own times go through it."""

    transmit: str
    receive: str
    queues: int
    exact: bool


class VethLink(Link):
    """One veth pair in use. `transmit` and `receive` are its ends' names inside the namespace."""

    def __init__(self, rig: VethRig, carrier: str, queues: int, mtu: int = MTU, *, fresh: bool = False) -> None:
        self._rig, self._queues, self._mtu, self._fresh = rig, queues, mtu, fresh
        self._carrier = carrier
        self._pair: Pair | None = None
        self.collector_address = "127.0.0.1"

    def __enter__(self) -> VethLink:
        self.prefix = self.transmit_prefix = self._rig.namespace.prefix
        pair = self._pair = self._rig.acquire(self._queues, self._mtu)
        self.transmit: str | None = pair.transmit
        self.receive = pair.receive
        self.times = "trailer" if self._carrier == "txtime" and not pair.exact else self._carrier
        self.trailer = self.times == "trailer"
        encapsulated = {"encapsulate": "1"} if self.times == "metadata" else {}
        self.injector_options = MappingProxyType({"time": "own" if self.times == "txtime" else "none"} | encapsulated)
        self.subject_options = MappingProxyType({"times": "sender"} if self.times == "metadata" else {})
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        pair, self._pair = self._pair, None
        if pair is None:
            return
        if self._fresh or kind is not None:  # nobody knows what a failure left on it
            self._rig.remove(pair.transmit)
        else:
            self._rig.give_back(pair)

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

# SPDX-License-Identifier: Apache-2.0
"""The three interfaces of the harness. A new framework, exporter, rig or traffic source is one of these (or a backend plug-in) and nothing more.

- A **Subject** is an exporter under test. It is started with a `Job` and gives a `Session`.
- A **Rig** gives links: a transmit and a receive endpoint, and a place for the collector and for the subject's process.
- An **Injector** plays a capture into a link's transmit endpoint.

What a case needs of a link is computed from its capture (`Needs`), never declared; what a link and a subject can do is probed (`Capabilities`).
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from flowparity.accounting import Accounting
from flowparity.profile import Profile


class Tier(StrEnum):
    """How real a result is. It stands on every result; a simulated or emulated pass never prints as a native one."""

    FILE = "file"
    SIM = "sim"
    VDEV = "vdev"
    KERNEL = "kernel"
    EMULATED = "emulated"
    HW = "hw"


class Level(StrEnum):
    """The comparison levels of docs/semantics.md."""

    CONSERVED = "conserved"
    MERGED = "merged"
    RECORDS = "records"
    WIRE = "wire"
    CROSS = "cross"


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether something works here; when it does not, why, and the command that mends it."""

    ok: bool
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a subject over a link can take and give. Lengths in octets, times in nanoseconds."""

    tier: Tier
    links: frozenset[int] = frozenset({1})  # LINKTYPE_ numbers
    min_frame: int = 0  # shortest frame that arrives as it was sent
    max_frame: int = 262_144
    exact_time: bool = True
    time_resolution: int = 1
    time_tolerance: int | None = 0  # None = unbounded
    earliest_time: int = 0  # the first timestamp the path can carry
    latest_time: int = 2**63 - 1
    wire_length: bool = True  # the wire length of truncated frames survives
    truncated: bool = True  # frames cut by a snap length can be given at all
    interface_source: bool = False
    mixed_links: bool = True  # captures with several link types
    fragments: bool = True  # IPv4 fragments arrive as they were sent
    priority_tags: bool = True  # an outermost tag with VLAN ID 0 arrives
    workers: int = 1
    coalesces: bool = False
    splits: bool = False
    drops_known: bool = False
    formats: tuple[str, ...] = ("5", "9", "ipfix")
    fields: frozenset[str] | None = None  # FlowRecord fields that it reports; None = all that the format carries
    metadata: bool = False  # stripped tags and segment counts can be given beside the frames
    assignment: bool = False  # frames can be given to chosen workers
    run: frozenset[str] = frozenset()  # run parameters beside the profile that it honours: mtu, filter, …
    truthful: bool = True  # it speaks for itself: accounting, verdicts; False for exporters that only export


@dataclass(frozen=True, slots=True)
class Needs:
    """What a capture asks of a link; computed by `flowparity.harness.needs`."""

    links: frozenset[int]
    shortest: int
    longest: int
    time_resolution: int  # the coarsest resolution that loses nothing
    earliest: int
    latest: int
    truncated: bool
    interfaces: int
    fragments: bool = False  # some are IPv4 fragments
    priority_tags: bool = False  # some have an outermost tag with VLAN ID 0
    metadata: bool = False  # frames carry stripped tags or segment counts


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a capture file cannot carry of a frame."""

    tags: tuple[tuple[int, int], ...] = ()  # stripped tags (TPID, TCI), outermost first
    segments: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a subject."""

    source: str  # what the subject reads: a capture's path or an interface, as the link's receive endpoint says
    profile: Profile
    collectors: Mapping[str, tuple[str, int]]  # format -> (address, port)
    workers: int = 1
    trailer: bool = False  # frames carry the replay trailer
    clock: str = "packet"  # packet, wall
    options: Mapping[str, str] = field(default_factory=dict)  # of the packet source
    run: Mapping[str, str] = field(default_factory=dict)  # run parameters: mtu, filter, ipfix_ns
    metadata: Mapping[int, Metadata] = field(default_factory=dict)  # by frame
    assignment: tuple[int, ...] = ()  # the worker of each frame; empty = the subject chooses
    prefix: tuple[str, ...] = ()  # argv that puts a process in its place (namespace, ssh, guest)
    expected: int | None = None  # frames that will come, where the link knows: a live source is stopped when they have


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a subject said of its run when it had ended."""

    accounting: Accounting | None = None  # summed; None for subjects that do not say
    workers: tuple[Accounting, ...] = ()
    assignment: tuple[tuple[int, ...], ...] | None = None  # per worker, the indices of the frames it received, in its order
    final_clock_ns: int | None = None
    warnings: tuple[str, ...] = ()
    cpu_seconds: float = 0.0
    error: str = ""  # why the input ended early; everything before it was exported


class Session(ABC):
    """A started subject."""

    @abstractmethod
    def wait_ready(self, timeout: float) -> None:
        """Returns when frames sent from now on will be received; raises SystemFault after `timeout` seconds."""

    @abstractmethod
    def finish(self, timeout: float) -> Outcome:
        """Ends the run in good order (a live subject is stopped, a file reader waited for); raises SystemFault after `timeout` seconds."""

    @abstractmethod
    def kill(self) -> None:
        """Ends the run at once; nothing is left behind. Safe to call twice."""


class Subject(ABC):
    """An exporter under test."""

    name: str

    @abstractmethod
    def probe(self) -> Availability:
        """Whether the subject works on this machine."""

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What it can take and give, probed; raises UnavailableError when `probe` fails."""

    @abstractmethod
    def refusals(self, profile: Profile, formats: tuple[str, ...], workers: int) -> list[str]:
        """Why it cannot honour this (S-PRO-1); empty if it can."""

    def adapt(self, profile: Profile) -> Profile:
        """The profile under which it is compared: its own where it has no choice. What it is asked for and cannot honour is a refusal, not an adaptation."""
        return profile

    def known(self, format: str, rule: str, field: str) -> str:
        """The reason for which a failure of this rule or field is expected; empty if it is none."""
        return ""

    @abstractmethod
    def start(self, job: Job) -> Session:
        """Starts a run; raises UsageError, InputError or UnavailableError with one line that says what to do."""


class Link(ABC):
    """One acquired path from an injector to a subject. Used as a context manager; nothing is left behind on exit."""

    receive: str  # what the subject is to read
    transmit: str | None  # where the injector is to send; None = the subject reads the capture itself
    collector_address: str
    prefix: tuple[str, ...]  # argv for processes on the subject's side
    transmit_prefix: tuple[str, ...] = ()  # argv for processes on the injector's side
    trailer: bool = False  # times travel in the replay trailer: the injector adds it, the subject strips it
    times: str = "own"  # how packets' own times travel, as the handshake found it: own, txtime, metadata, trailer, none
    injector_options: Mapping[str, str] = MappingProxyType({})  # what this path needs of the injector …
    subject_options: Mapping[str, str] = MappingProxyType({})  # … and of the subject (added to Job.options)
    expected: int | None = None  # frames that it will carry, where it knows when it is entered

    def socket(self, family: int, kind: int) -> socket.socket:
        """An unbound socket in the collector's place."""
        return socket.socket(family, kind)

    @abstractmethod
    def __enter__(self) -> Link: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...


class Rig(ABC):
    """A source of links."""

    name: str

    @abstractmethod
    def probe(self) -> Availability:
        """Whether the rig works on this machine."""

    @abstractmethod
    def restrict(self, capabilities: Capabilities) -> Capabilities:
        """What is left of a subject's capabilities over this rig's links."""

    def prefix(self) -> tuple[str, ...]:
        """The argv that puts a process on the subject's side of every link of this rig; empty if that is here, or if the rig does not work."""
        return ()

    @abstractmethod
    def link(self, capture: Path, queues: int = 1) -> Link:
        """A link fit for the capture."""


@dataclass(frozen=True, slots=True)
class Injection:
    """What an injector did. `not_sent` maps the reason to the indices of the frames."""

    sent: int
    not_sent: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seconds: float = 0.0  # from the first frame to the last
    worst_lateness_ns: int = 0
    lost: int | None = None  # sent, but lost behind the injector, as it counts them; None = it cannot tell


class Injector(ABC):
    """A player of captures into a transmit endpoint."""

    name: str

    @abstractmethod
    def probe(self) -> Availability:
        """Whether it works on this machine."""

    @abstractmethod
    def inject(self, capture: Path, link: Link, *, rate_pps: float | None = None, timeout: float = 60.0) -> Injection:
        """Plays the whole capture into the link's transmit end, in the way the link asks for (trailer, options, prefix).

        A frame that cannot be sent is reported, never dropped silently.
        """

# SPDX-License-Identifier: Apache-2.0
"""Links into the backends `netmap`, `pfring` and `pfring_zc` over the project's stand-ins for what a test machine cannot load. Tier `sim`.

Most rows feed the stand-in from a capture: the frames with the replay trailer, or as they are. For each link a file of settings names that capture and the
number of rings; its path is the name of the port or device, so that one worker process serves any number of captures. The rows of a veth let the stand-in read
what an injector sends into the other end, live, with the trailer.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from flowparity.capture import read_capture, write_capture
from flowparity.errors import UsageError
from flowparity.harness.interfaces import Availability, Capabilities, Link, Rig, Tier
from flowparity.harness.rigs.veth import VethLink, VethRig

_TRAILER = 24
_LONGEST_WITH_TRAILER = 65_535 - _TRAILER
_MOST_RINGS = 16
_LATEST = 2**32 * 1_000_000_000 - 1  # classic pcap, ns
_NAME_ROOM = 63  # octets of a netmap port's name
_ETHERNET = frozenset({1})
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the matrix: a backend over its stand-in. `prefix` comes before the device's name."""

    name: str
    backend: str
    rings: int = 1
    workers: int = 1
    prefix: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)  # of the stand-in, beside what each link says
    options: Mapping[str, str] = field(default_factory=dict)  # of the backend
    live: bool = False  # fed by a veth


WHOLE = {"buffer": "16384"}
"""Options of `pfring_zc` under which the longest frame that it declares arrives whole."""


def stand_in(backend: str) -> Path:
    """The shared object that stands in for the backend's framework, where this package has it beside its native core."""
    from flowparity import _core

    return Path(_core.__file__).parent / "sims" / ("netmap_sim.so" if backend == "netmap" else "pfring_sim.so")


ROWS = (
    Row("netmap@sim", "netmap"),
    Row("netmap@sim:4/1", "netmap", rings=4),
    Row("netmap@sim:4/4", "netmap", rings=4, workers=4),
    Row("pfring@sim", "pfring"),
    Row("pfring@sim:4/4", "pfring", rings=4, workers=4),
    Row("pfring_zc@sim", "pfring_zc", options=WHOLE),
    Row("pfring_zc@sim:4/4", "pfring_zc", rings=4, workers=4, options=WHOLE),
    Row("pfring_zc@sim:zc", "pfring_zc", prefix="zc:", options=WHOLE),
    Row("pfring_zc@sim:zc:4/4", "pfring_zc", rings=4, workers=4, prefix="zc:", options=WHOLE),
)
"""BACKEND@sim[:RINGS/WORKERS]."""

LIVE_ROWS = (
    Row("netmap@sim:veth", "netmap", live=True),
    Row("netmap@sim:veth:4/4", "netmap", rings=4, workers=4, live=True),
    Row("pfring@sim:veth", "pfring", live=True),
    Row("pfring@sim:veth:4/4", "pfring", rings=4, workers=4, live=True),
    Row("pfring_zc@sim:veth", "pfring_zc", options=WHOLE, live=True),
    Row("pfring_zc@sim:zc:veth", "pfring_zc", prefix="zc:", options=WHOLE, live=True),
)
"""BACKEND@sim[:zc]:veth[:RINGS/WORKERS]."""


def _available(backend: str) -> Availability:
    path = stand_in(backend)
    return Availability(True) if path.exists() else Availability(False, f"the stand-in {path} is not installed", "reinstall flowparity")


def _preload(row: Row) -> tuple[str, ...]:
    """What puts the stand-in into a process."""
    return ("env", f"{'LD_PRELOAD' if row.backend == 'netmap' else 'FLOWPARITY_PFRING_LIBRARY'}={stand_in(row.backend)}")


class SimRig(Rig):
    """A source of links for one row. `close` removes its files."""

    def __init__(self, row: Row, *, trailer: bool = True) -> None:
        """Without the trailer the packets' own times do not travel, and what the backend declares of its times counts."""
        self.name = row.name
        self.row, self.trailer = row, trailer
        self._stack: ExitStack | None = None
        self._directory = Path()

    def __enter__(self) -> SimRig:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes everything that was made. The rig may be used again."""
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.close()

    def scratch(self, name: str) -> Path:
        """The path of a file of the rig's own, short enough for the name of a port."""
        if self._stack is None:
            self._stack = ExitStack()
            self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="fpsim-")))
        path = self._directory / name
        if len(str(path)) > _NAME_ROOM:
            raise UsageError(f"rig {self.name}: the directory for temporary files has too long a name for a port: set TMPDIR to a shorter one")
        return path

    def probe(self) -> Availability:
        """Whether the stand-in was installed."""
        return _available(self.row.backend)

    def prefix(self) -> tuple[str, ...]:
        """What puts the stand-in into the worker's process."""
        return _preload(self.row)

    def restrict(self, capabilities: Capabilities) -> Capabilities:
        """What is left over a stand-in."""
        zero_copy = self.row.backend == "pfring_zc"
        return replace(
            capabilities,
            tier=Tier.SIM,
            links=capabilities.links & _ETHERNET,
            max_frame=capabilities.max_frame - _TRAILER if zero_copy else min(capabilities.max_frame, _LONGEST_WITH_TRAILER),
            exact_time=self.trailer or capabilities.exact_time,
            time_resolution=1 if self.trailer else capabilities.time_resolution,
            time_tolerance=0 if self.trailer else capabilities.time_tolerance,
            latest_time=min(capabilities.latest_time, _LATEST),
            wire_length=self.trailer or capabilities.wire_length,
            truncated=self.trailer or capabilities.wire_length,
            interface_source=False,
            workers=min(capabilities.workers, _MOST_RINGS),
            run=capabilities.run - {"filter"},  # netmap has none, and the stand-in for PF_RING compiles none
        )

    def link(self, capture: Path, queues: int = 1) -> Link:
        """The capture as the stand-in reads it; several queues are as many rings, one queue takes all rings of the row."""
        return SimLink(self, capture, queues if queues > 1 else self.row.rings)


class SimLink(Link):
    """A port or device of a stand-in."""

    def __init__(self, rig: SimRig, capture: Path, rings: int) -> None:
        if rings > _MOST_RINGS:
            raise UsageError(f"rig {rig.name}: {rings} rings; the stand-in has at most {_MOST_RINGS}")
        self._rig, self._capture, self._rings = rig, capture, rings
        self._files: list[Path] = []
        self.receive = ""
        self.transmit = None
        self.collector_address = "127.0.0.1"
        self.prefix = ()
        self.trailer = rig.trailer
        self.times = "trailer" if rig.trailer else "none"
        self.subject_options = MappingProxyType(dict(rig.row.options))

    def __enter__(self) -> SimLink:
        from flowparity.native import append_trailer

        frames = list(read_capture(self._capture))
        if self.trailer:
            with_trailer = ((frame, append_trailer(frame.data, frame.wirelen, frame.ts_ns, frame.index)) for frame in frames)
            frames = [replace(frame, ts_ns=0, data=data, wirelen=len(data)) for frame, data in with_trailer]
        number = next(_numbers)
        capture, settings = self._rig.scratch(f"{number}.pcap"), self._rig.scratch(str(number))
        self._files += [capture, settings]
        write_capture(capture, frames)
        row = self._rig.row
        said = {"capture": str(capture), "rings" if row.backend == "netmap" else "queues": str(self._rings), **row.settings}
        settings.write_text(",".join(f"{key}={value}" for key, value in said.items()), encoding="utf-8")
        self.receive = row.prefix + str(settings)
        self.expected = len(frames)
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._files:
            path.unlink(missing_ok=True)


class VethSimRig(VethRig):
    """A source of veth links for one row, whose receive ends a stand-in reads. `close` removes everything."""

    def __init__(self, row: Row) -> None:
        super().__init__("trailer")
        self.name = row.name
        self.row = row

    def probe(self) -> Availability:
        """Whether the stand-in was installed, and links can be made."""
        available = _available(self.row.backend)
        return super().probe() if available.ok else available

    def prefix(self) -> tuple[str, ...]:
        """The way into the namespace, with the stand-in and the number of its rings."""
        variable, key = ("NETMAP", "rings") if self.row.backend == "netmap" else ("PFRING", "queues")
        return (*super().prefix(), *_preload(self.row), f"FLOWPARITY_{variable}_SIM={key}={self.row.rings}")

    def restrict(self, capabilities: Capabilities) -> Capabilities:
        """What is left over a veth and a stand-in."""
        zero_copy = self.row.backend == "pfring_zc"
        left = super().restrict(capabilities)
        return replace(
            left,
            tier=Tier.SIM,
            max_frame=min(left.max_frame, capabilities.max_frame - _TRAILER) if zero_copy else min(left.max_frame, _LONGEST_WITH_TRAILER),
            wire_length=True,  # the trailer says it
            priority_tags=self.row.backend == "netmap" or self.row.prefix == "zc:",
            workers=min(capabilities.workers, _MOST_RINGS),
            run=capabilities.run - {"filter"},
        )

    def link(self, capture: Path, queues: int = 1, *, ordinals: bool = False) -> VethLink:
        """A link for a capture with the trailer; its frames are dealt to the rings by the stand-in."""
        return _VethSimLink(self, "trailer", 1)


class _VethSimLink(VethLink):
    def __init__(self, rig: VethSimRig, carrier: str, queues: int) -> None:
        super().__init__(rig, carrier, queues)
        self._row = rig.row

    def __enter__(self) -> VethLink:
        super().__enter__()
        self.receive = self._row.prefix + self.receive
        self.subject_options = MappingProxyType(dict(self._row.options))
        return self

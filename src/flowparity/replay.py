# SPDX-License-Identifier: Apache-2.0
"""Playing a capture into an interface with the native injectors: by its own gaps, at a rate, or as fast as it goes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flowparity.capture import read_capture
from flowparity.errors import FlowparityError, InputError, SystemFault, UnavailableError, UsageError
from flowparity.harness.interfaces import Availability, Injection, Injector, Link
from flowparity.native import InjectorCaps, Player, injectors

_PER_CENT = 100.0
_HIGHEST_RATE = 1e9


@dataclass(frozen=True, slots=True)
class ReplayConfig:
    """One replay. `rate_pps` and `speed` exclude each other; neither means as fast as it goes."""

    capture: Path
    interface: str
    injector: str = "af_packet"
    options: Mapping[str, str] = field(default_factory=dict)  # of the injector
    trailer: bool = False  # append the replay trailer (docs/trailer.md)
    rate_pps: float | None = None
    speed: float | None = None
    timeout: float = 60.0  # seconds without progress

    def __post_init__(self) -> None:
        """Refuses impossible schedules (UsageError)."""
        if self.rate_pps is not None and self.speed is not None:
            raise UsageError("--rate and --speed exclude each other; give one of them, or --top")
        if self.rate_pps is not None and not 0 < self.rate_pps <= _HIGHEST_RATE:
            raise UsageError(f"--rate: {self.rate_pps:g} is not above 0 and at most {_HIGHEST_RATE:g} packets per second")
        if self.speed is not None and not 0 < self.speed <= _HIGHEST_RATE:
            raise UsageError(f"--speed: {self.speed:g} is not above 0 and at most {_HIGHEST_RATE:g}")
        if self.timeout <= 0:
            raise UsageError("--timeout: not above 0")


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did. `times` is how the packets' own times went: beside them (own), in the trailer, or not at all (none)."""

    injection: Injection
    times: str

    @property
    def achieved_pps(self) -> float:
        """Frames a second that left."""
        return self.injection.sent / self.injection.seconds if self.injection.seconds > 0 else 0.0

    def rate_error(self, wanted: float) -> float:
        """How far the achieved rate is from the wanted one, in per cent; n frames have n - 1 gaps."""
        if self.injection.sent < 2 or self.injection.seconds <= 0:
            return 0.0
        return ((self.injection.sent - 1) / self.injection.seconds / wanted - 1) * _PER_CENT

    def document(self) -> dict[str, Any]:
        """For programs: what `--json` prints."""
        i = self.injection
        return {
            "sent": i.sent,
            "notSent": {reason: list(indices) for reason, indices in i.not_sent.items()},
            "lost": i.lost,
            "seconds": i.seconds,
            "packetsPerSecond": self.achieved_pps,
            "worstLatenessNanoseconds": i.worst_lateness_ns,
            "times": self.times,
        }


class Replay:
    """A replay that can be stopped from a signal handler."""

    def __init__(self, config: ReplayConfig) -> None:
        self.config = config
        self._exact = False
        options = dict(config.options)
        if config.injector == "xdp_live" and config.rate_pps is not None:
            options["rate"] = str(max(1, round(config.rate_pps)))  # its program keeps the schedule, the player would only fill its table
        self._player = Player(config.injector, config.interface, options)

    def run(self) -> ReplayReport:
        """Plays the whole capture; raises InputError, UsageError, UnavailableError or SystemFault with one line."""
        c = self.config
        by_program = c.injector == "xdp_live"
        if by_program and c.speed is not None:
            raise UsageError("--speed: the injector xdp_live keeps a rate, not a capture's gaps; use --rate, --top or the injector af_packet")
        injection = self._player.play(
            c.capture, trailer=c.trailer, rate_pps=None if by_program else c.rate_pps, speed=c.speed, timeout=c.timeout, on_open=self._opened
        )
        return ReplayReport(injection, "trailer" if c.trailer else "own" if self._exact else "none")

    def _opened(self, caps: InjectorCaps) -> None:
        self._exact = caps.exact_time
        room = caps.max_frame
        for frame in read_capture(self.config.capture):
            length = max(len(frame.data), 60) + 24 if self.config.trailer else len(frame.data)
            if frame.link == 1 and length > room:
                raise UsageError(
                    f"interface {self.config.interface}: frame {frame.index} of {self.config.capture} needs {length} octets, it takes {room};"
                    f" 'ip link set {self.config.interface} mtu {length - 14}', or give --allow-not-sent"
                )

    def stop(self) -> None:
        """Ends a running replay."""
        self._player.stop()


class TolerantReplay(Replay):
    """Sends what fits and reports the rest."""

    def _opened(self, caps: InjectorCaps) -> None:
        self._exact = caps.exact_time


class KernelInjector(Injector):
    """Plays captures into a link's transmit end by a process of its own on the link's side of the world."""

    def __init__(self, name: str = "af_packet", rate_pps: float | None = None) -> None:
        """`rate_pps`: how fast it plays when it is not told otherwise; None = as fast as it goes."""
        self.name = name
        self._rate = rate_pps

    def probe(self) -> Availability:
        """Whether the plug-in works here."""
        for each in injectors():
            if each.name == self.name:
                return Availability(each.available, each.reason, each.remedy)
        return Availability(False, f"there is no injector {self.name}", "")

    def inject(self, capture: Path, link: Link, *, rate_pps: float | None = None, timeout: float = 60.0) -> Injection:
        """Plays the whole capture as the link asks; frames that cannot go are in the result."""
        if link.transmit is None:
            raise UsageError("this link has no transmit end: the subject reads the capture itself")
        rate = rate_pps or self._rate
        argv = [*link.transmit_prefix, sys.executable, "-m", "flowparity", "replay", str(capture), "--interface", link.transmit, "--injector", self.name]
        argv += ["--json", "--allow-not-sent", "--timeout", f"{timeout:g}", *(["--rate", repr(rate)] if rate else ["--top"])]
        argv += ["--trailer"] if link.trailer else []
        for key, value in link.injector_options.items():
            argv += ["--option", f"{key}={value}"]
        with _process(argv) as process:
            try:
                output, errors = process.communicate(timeout=timeout + 30)
            except subprocess.TimeoutExpired:
                raise SystemFault(f"injector {self.name}: not ready within {timeout + 30:g} s") from None
        if process.returncode:
            _raise(process.returncode, errors.strip().splitlines()[-1] if errors.strip() else f"injector {self.name} ended with status {process.returncode}")
        return injection_from(json.loads(output))


@contextmanager
def _process(argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A child that does not outlive the block."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _raise(status: int, line: str) -> None:
    message = line.removeprefix("flowparity: ")
    kinds: dict[int, type[FlowparityError]] = {2: InputError, 3: UnavailableError}
    raise kinds.get(status, SystemFault)(message)


def injection_from(document: Mapping[str, Any]) -> Injection:
    """What `replay --json` printed, as a value."""
    injection = Injection(document["sent"], {}, document["seconds"], document["worstLatenessNanoseconds"], document["lost"])
    return replace(injection, not_sent={reason: tuple(indices) for reason, indices in document["notSent"].items()})

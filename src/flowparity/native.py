# SPDX-License-Identifier: Apache-2.0
"""The native core as a typed Python interface over the generated module `flowparity._core`."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowparity import _core
from flowparity.harness.interfaces import Tier

lib: Any = _core.lib
ffi: Any = _core.ffi

_TIERS = tuple(Tier)
_TS_SOURCES = ("capture", "hardware", "kernel", "software", "sync", "sender")

lib.fp_set_plugin_dir(str(Path(_core.__file__).parent / "plugins").encode())


@dataclass(frozen=True, slots=True)
class BackendCaps:
    """What a backend declares (struct fp_caps). Lengths in octets, times in nanoseconds."""

    tier: Tier
    exact_time: bool
    wire_length: bool
    drops_known: bool
    coalesces: bool
    splits: bool
    live: bool
    interface: bool
    stamps_sequence: bool
    ts_source: str
    queues: int
    min_frame: int
    max_frame: int
    ts_resolution: int
    ts_tolerance: int | None  # None = unbounded
    visibility: int


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """One line of `flowparity backends`; `capabilities` is None when the backend does not work here."""

    name: str
    summary: str
    tier: Tier | None
    available: bool
    reason: str = ""
    remedy: str = ""
    capabilities: BackendCaps | None = None


@dataclass(frozen=True, slots=True)
class InjectorInfo:
    """A plug-in's transmit side. `rate_pps` is what it is known to reach, 0 = unknown."""

    name: str
    summary: str
    available: bool
    reason: str = ""
    remedy: str = ""
    exact_time: bool = False
    queues: int = 0
    min_frame: int = 0
    max_frame: int = 0
    rate_pps: int = 0


def _text(value: Any) -> str:
    return bytes(ffi.string(value)).decode("utf-8", "replace")


def _caps(c: Any) -> BackendCaps:
    def has(flag: int) -> bool:
        return bool(c.flags & flag)

    return BackendCaps(
        tier=_TIERS[c.tier],
        exact_time=has(lib.FP_CAP_EXACT_TIME),
        wire_length=has(lib.FP_CAP_WIRE_LENGTH),
        drops_known=has(lib.FP_CAP_DROPS_KNOWN),
        coalesces=has(lib.FP_CAP_COALESCES),
        splits=has(lib.FP_CAP_SPLITS),
        live=has(lib.FP_CAP_LIVE),
        interface=has(lib.FP_CAP_INTERFACE),
        stamps_sequence=has(lib.FP_CAP_STAMPS_SEQUENCE),
        ts_source=_TS_SOURCES[c.ts_source],
        queues=c.queues,
        min_frame=c.min_frame,
        max_frame=c.max_frame,
        ts_resolution=c.ts_resolution,
        ts_tolerance=None if c.ts_tolerance == lib.FP_NS_NONE else c.ts_tolerance,
        visibility=c.visibility,
    )


def _registry() -> list[tuple[str, str]]:
    lines = (lib.fp_registry_line(i) for i in range(lib.fp_registry_count()))
    return [(_text(line.name), _text(line.summary)) for line in lines]


def _probe(name: str, probe: Callable[[bytes, Any, Any], int], caps: Any) -> tuple[int, str, str]:
    """The result, the reason and the remedy; messages have the form "reason; remedy"."""
    error = ffi.new("char[]", lib.FP_ERRLEN)
    code = probe(name.encode(), caps, error)
    reason, _, remedy = _text(error).partition("; ")
    return code, reason, remedy


def backends() -> list[BackendInfo]:
    """Every backend of the registry, probed on this machine."""
    out = []
    for name, summary in _registry():
        caps = ffi.new("struct fp_caps *")
        code, reason, remedy = _probe(name, lib.fp_backend_probe, caps)
        if code == 0:
            known = _caps(caps)
            out.append(BackendInfo(name, summary, known.tier, True, capabilities=known))
        elif code != -errno.EOPNOTSUPP:
            out.append(BackendInfo(name, summary, None, False, reason, remedy))
    return out


def injectors() -> list[InjectorInfo]:
    """Every plug-in of the registry that can transmit, probed on this machine."""
    out = []
    for name, summary in _registry():
        caps = ffi.new("struct fp_injector_caps *")
        code, reason, remedy = _probe(name, lib.fp_injector_probe, caps)
        if code == 0:
            exact = bool(caps.flags & lib.FP_CAP_EXACT_TIME)
            out.append(InjectorInfo(name, summary, True, "", "", exact, caps.queues, caps.min_frame, caps.max_frame, caps.rate_pps))
        elif code != -errno.EOPNOTSUPP:
            out.append(InjectorInfo(name, summary, False, reason, remedy))
    return out

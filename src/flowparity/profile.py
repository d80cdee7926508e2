# SPDX-License-Identifier: Apache-2.0
"""Every choice on which real exporters legitimately differ, as one frozen value (S-PRO-1 to S-PRO-4)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from flowparity.errors import InputError, UsageError

SECOND = 1_000_000_000
FORMATS = ("5", "9", "ipfix")


@dataclass(frozen=True, slots=True)
class Sampling:
    """Packet sampling (S-VER-3). `mode` is "systematic" or "random"; one frame in `interval` is taken."""

    mode: str
    interval: int
    seed: int = 0


_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("key", "on_full"), (str,)),
    **dict.fromkeys(("input_interface", "tcp_end", "boot"), (int, type(None))),
    "sampling": (Sampling, type(None)),
}
_KIND_NAMES: Mapping[type, str] = {int: "a whole number", str: "text", Sampling: "a table {mode, interval, seed}", type(None): "absent"}


@dataclass(frozen=True, slots=True)
class Profile:
    """Times are nanoseconds. The defaults are those of docs/semantics.md."""

    key: str = "classic"  # classic, five, classic+vlan, five+vlan
    tos_mask: int = 0xFF
    input_interface: int | None = 1  # None = "source"
    idle_timeout: int = 15 * SECOND
    active_timeout: int = 1800 * SECOND
    tcp_end: int | None = 5 * SECOND  # None = "off"
    reorder: int = SECOND // 10
    max_clock_step: int = 60 * SECOND
    counter_bits: int = 64
    cache_size: int = 1_048_576
    on_full: str = "evict"  # evict, refuse
    sampling: Sampling | None = None
    boot: int | None = None  # seconds since the UNIX epoch; None = S-TIM-7
    template_packets: int = 20
    template_seconds: int = 600

    def __post_init__(self) -> None:
        """Refuses impossible values with a UsageError that names the field (exit status 2)."""
        for item in fields(self):
            value, kinds = getattr(self, item.name), _KINDS.get(item.name, (int,))
            if type(value) not in kinds:  # a bool is no number here
                raise UsageError(f"profile: {item.name}: {value!r} is not {' or '.join(_KIND_NAMES[kind] for kind in kinds)}")
        checks = [
            (self.key in ("classic", "five", "classic+vlan", "five+vlan"), f"key: {self.key!r} is none of classic, five, classic+vlan, five+vlan"),
            (0 <= self.tos_mask <= 0xFF, f"tos_mask: {self.tos_mask} is not 0 to 255"),
            (self.input_interface is None or 0 <= self.input_interface < 2**32, f"input_interface: {self.input_interface} is not 0 to 4294967295"),
            (self.idle_timeout >= 0, "idle_timeout: negative"),
            (self.active_timeout >= 0, "active_timeout: negative"),
            (self.tcp_end is None or self.tcp_end >= 0, "tcp_end: negative; use 'off' for none"),
            (self.reorder >= 0, "reorder: negative"),
            (self.max_clock_step > 0, "max_clock_step: not above 0"),
            (self.counter_bits in (32, 64), f"counter_bits: {self.counter_bits} is neither 32 nor 64"),
            (1 <= self.cache_size <= 2**28, f"cache_size: {self.cache_size} is not 1 to 268435456"),
            (self.on_full in ("evict", "refuse"), f"on_full: {self.on_full!r} is neither evict nor refuse"),
            (self.boot is None or 0 <= self.boot < 2**32, "boot: not a 32-bit number of seconds"),
            (self.template_packets >= 1, "template_packets: below 1"),
            (self.template_seconds >= 1, "template_seconds: below 1"),
            (max(self.idle_timeout, self.active_timeout, self.tcp_end or 0, self.reorder, self.max_clock_step) < 2**62, "a time is beyond 146 years"),
        ]
        if self.sampling is not None:
            checks.append((self.sampling.mode in ("systematic", "random"), f"sampling: {self.sampling.mode!r} is neither systematic nor random"))
            checks.append((1 <= self.sampling.interval < 2**32, f"sampling: interval {self.sampling.interval} is not 1 to 4294967295"))
            checks.append((0 <= self.sampling.seed < 2**64, "sampling: the seed is not a 64-bit number"))
        for good, message in checks:
            if not good:
                raise UsageError(f"profile: {message}")
        if self.tcp_end is not None and self.idle_timeout and self.tcp_end > self.idle_timeout:
            raise UsageError("profile: tcp_end is greater than idle_timeout; lower it or turn one of them off (S-PRO-2)")

    @property
    def keys_tos_and_interface(self) -> bool:
        """Whether ToS and input interface are key (`classic`)."""
        return self.key.startswith("classic")

    @property
    def keys_vlan(self) -> bool:
        """Whether the VLAN ids are key (`+vlan`)."""
        return self.key.endswith("+vlan")

    def check_formats(self, formats: tuple[str, ...]) -> None:
        """Refuses what the export formats of a run cannot have (S-PRO-3, S-PRO-4) with a UsageError."""
        for name in formats:
            if name not in FORMATS:
                raise UsageError(f"format {name!r} is none of {', '.join(FORMATS)}")
        if "5" in formats:
            if self.counter_bits != 32:
                raise UsageError("profile: NetFlow v5 has 32-bit counters: set counter_bits = 32 for every format of this run (S-PRO-3)")
            if self.sampling is not None and self.sampling.interval > 16_383:
                raise UsageError(f"profile: NetFlow v5 carries a sampling interval of at most 16383, not {self.sampling.interval} (S-PRO-4)")


_SECONDS = ("idle_timeout", "active_timeout", "reorder", "max_clock_step")


def profile_from(table: Mapping[str, Any]) -> Profile:
    """Builds a profile from a table with times in seconds (as TOML files and fixtures write them).

    Every field of `Profile` is a key; `tcp_end` also takes "off", `input_interface` also "source", `sampling` a table {mode, interval, seed},
    `template_refresh` a pair [packets, seconds]. `fragments`, `tunnels` and `biflow` accept their only implemented value. An unknown key is a UsageError.
    """
    known = {f.name for f in fields(Profile)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name == "template_refresh":
            if not isinstance(value, list | tuple) or len(value) != 2:
                raise UsageError(f"profile: template_refresh: {value!r} is not a pair [packets, seconds]")
            values["template_packets"], values["template_seconds"] = value
        elif name in ("fragments", "tunnels", "biflow"):
            only = {"fragments": "stateless", "tunnels": "outer", "biflow": False}[name]
            if value != only:
                raise UsageError(f"profile: {name} = {value!r} is specified but not implemented yet; only {only!r} is (S-PRO-1)")
        elif name not in known:
            raise UsageError(f"profile: unknown field {name!r}; known: {', '.join(sorted(known))}")
        elif name == "tcp_end":
            values[name] = None if value == "off" else nanoseconds(name, value)
        elif name == "input_interface":
            values[name] = None if value == "source" else value
        elif name in _SECONDS:
            values[name] = nanoseconds(name, value)
        elif name == "sampling":
            values[name] = _sampling_from(value)
        else:
            values[name] = value
    return Profile(**values)


def _sampling_from(value: Any) -> Sampling | None:
    if not value:
        return None
    if not isinstance(value, Mapping) or not {"mode", "interval"} <= value.keys() <= {"mode", "interval", "seed"}:
        raise UsageError(f"profile: sampling: {value!r} is not a table {{mode, interval, seed}}")
    for name in ("interval", "seed"):
        if type(value.get(name, 0)) is not int:
            raise UsageError(f"profile: sampling: {name}: {value[name]!r} is not a whole number")
    return Sampling(**value)


def nanoseconds(name: str, seconds: Any) -> int:
    """Seconds (int, float or decimal text) to whole nanoseconds; a UsageError names the field."""
    try:
        return round(float(seconds) * SECOND) if not isinstance(seconds, int) else seconds * SECOND
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"profile: {name}: {seconds!r} is not a number of seconds") from None


def load_profile(path: Path) -> Profile:
    """Reads a profile from a TOML file (InputError when it cannot be read)."""
    return profile_from(profile_table(path))


def profile_table(path: Path) -> dict[str, Any]:
    """The table that a TOML file holds, for `profile_from` (InputError when it cannot be read)."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"profile {path}: {error}") from None

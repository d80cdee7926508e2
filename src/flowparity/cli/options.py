# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share: the profile, the NetFlow versions, addresses."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from flowparity.errors import UsageError
from flowparity.profile import FORMATS, Profile, profile_from, profile_table

PANEL = "Profile (see docs/semantics.md; times in seconds)"
Command = TypeVar("Command", bound=Callable[..., Any])


def _option(name: str, help_text: str, metavar: str | None = None) -> Any:
    return typer.Option(name, help=help_text, metavar=metavar, rich_help_panel=PANEL, show_default=False)


_OPTIONS: dict[str, Any] = {
    "profile_file": Annotated[Path | None, _option("--profile", "A TOML file with the fields of a profile; the options below override it.", "FILE")],
    "key": Annotated[str | None, _option("--key", "Flow key: classic, five, classic+vlan, five+vlan. (default: classic)", "KEY")],
    "tos_mask": Annotated[str | None, _option("--tos-mask", "ToS bits that key and record see; 0xFC ignores ECN. (default: 0xFF)", "BITS")],
    "input_interface": Annotated[str | None, _option("--input-interface", "A number for every packet, or 'source'. (default: 1)", "N|source")],
    "idle_timeout": Annotated[str | None, _option("--idle-timeout", "0 = never. (default: 15)", "S")],
    "active_timeout": Annotated[str | None, _option("--active-timeout", "0 = never. (default: 1800)", "S")],
    "tcp_end": Annotated[str | None, _option("--tcp-end", "How long a record stays after FIN or RST, or 'off'. (default: 5)", "S|off")],
    "reorder": Annotated[str | None, _option("--reorder", "Disorder of timestamps that cannot change a record. (default: 0.1)", "S")],
    "max_clock_step": Annotated[str | None, _option("--max-clock-step", "Live: a timestamp further off is replaced. (default: 60)", "S")],
    "counter_bits": Annotated[int | None, _option("--counter-bits", "64 or 32. (default: 64; 32 when NetFlow v5 is among the versions)", "BITS")],
    "cache_size": Annotated[int | None, _option("--cache-size", "Flows per worker and address family. (default: 1048576)", "N")],
    "on_full": Annotated[str | None, _option("--on-full", "Full cache: evict or refuse. (default: evict)", "WHAT")],
    "sampling": Annotated[str | None, _option("--sampling", "systematic:N or random:N[:SEED]: one frame in N. (default: none)", "HOW")],
    "boot": Annotated[int | None, _option("--boot", "The epoch of v5 and v9 uptimes. (default: the second of the first frame)", "UNIX_SECONDS")],
    "template_refresh": Annotated[
        str | None, _option("--template-refresh", "Templates again after so many packets and seconds. (default: 20,600)", "PACKETS,S")
    ],
}

Versions = Annotated[str, typer.Option("--version", help="NetFlow versions, separated by commas: 5, 9, ipfix, or all.", metavar="LIST")]


def takes_profile(command: Command) -> Command:
    """Gives a command the profile options in place of its parameter `profile`, which receives a `ProfileChoice`."""

    @functools.wraps(command)
    def wrapper(**values: Any) -> Any:
        chosen = {name: values.pop(name) for name in _OPTIONS}
        return command(profile=_choice(chosen), **values)

    signature = inspect.signature(command, eval_str=True)
    own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in signature.parameters.values() if each.name != "profile"]
    shared = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint) for name, hint in _OPTIONS.items()]
    wrapper.__signature__ = signature.replace(parameters=own + shared)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {each.name: each.annotation for each in own + shared}
    return wrapper  # type: ignore[return-value]


class ProfileChoice:
    """What the user chose; becomes a `Profile` once the formats of the run are known, because v5 decides the default of `counter_bits` (S-PRO-3)."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.table = table

    def resolve(self, formats: tuple[str, ...] = ()) -> Profile:
        """The profile, checked with the formats (UsageError)."""
        table = dict(self.table)
        if "5" in formats:
            table.setdefault("counter_bits", 32)
        profile = profile_from(table)
        profile.check_formats(formats)
        return profile


def _choice(chosen: dict[str, Any]) -> ProfileChoice:
    path = chosen.pop("profile_file")
    table = profile_table(path) if path is not None else {}
    for name, value in chosen.items():
        if value is not None:
            table[name] = _PARSERS[name](value) if name in _PARSERS else value
    return ProfileChoice(table)


def _number(name: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"--{name}: {text!r} is not a whole number") from None


def _interface(text: str) -> int | str:
    return text if text == "source" else _number("input-interface", text)


def _sampling(text: str) -> dict[str, Any] | None:
    if text == "none":
        return None
    mode, *rest = text.split(":")
    if mode not in ("systematic", "random") or not 1 <= len(rest) <= (2 if mode == "random" else 1):
        raise UsageError(f"--sampling: {text!r} is none of systematic:N, random:N, random:N:SEED, none")
    numbers = [_number("sampling", each) for each in rest]
    return {"mode": mode, "interval": numbers[0], "seed": numbers[1] if len(numbers) == 2 else 0}


def _refresh(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2:
        raise UsageError(f"--template-refresh: {text!r} is not PACKETS,SECONDS")
    return _number("template-refresh", parts[0]), _number("template-refresh", parts[1])


_PARSERS: dict[str, Callable[[str], Any]] = {
    "tos_mask": functools.partial(_number, "tos-mask"),
    "input_interface": _interface,
    "sampling": _sampling,
    "template_refresh": _refresh,
}


def formats_of(text: str) -> tuple[str, ...]:
    """The formats in a list such as "5,9,ipfix" or "all", in the project's order (UsageError)."""
    names = {{"v5": "5", "v9": "9", "10": "ipfix"}.get(each, each) for each in (part.strip().lower() for part in text.split(",")) if each}
    if "all" in names:
        return FORMATS
    unknown = sorted(names.difference(FORMATS))
    if unknown or not names:
        raise UsageError(f"--version: {', '.join(unknown) or 'nothing'} is none of {', '.join(FORMATS)}, all")
    return tuple(name for name in FORMATS if name in names)


def endpoint(text: str, option: str) -> tuple[str, int]:
    """HOST:PORT or [V6]:PORT as a pair (UsageError)."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError(f"{option}: write an IPv6 address as [{host}]:{port}")
    if not colon or not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise UsageError(f"{option}: {text!r} is not HOST:PORT with a port from 1 to 65535")
    return host, int(port)

# SPDX-License-Identifier: Apache-2.0
"""A profile as the words of a command line, so that a printed command does what was done."""

from __future__ import annotations

from flowparity.profile import SECOND, Profile


def _seconds(ns: int) -> str:
    whole, rest = divmod(ns, SECOND)
    return f"{whole}.{rest:09d}".rstrip("0") if rest else str(whole)


def profile_options(profile: Profile) -> list[str]:
    """The options that make this profile out of the default one."""
    default = Profile()
    out: list[str] = []
    for name in ("key", "tos_mask", "counter_bits", "cache_size", "on_full", "boot"):
        if getattr(profile, name) != getattr(default, name):
            out += [f"--{name.replace('_', '-')}", str(getattr(profile, name))]
    for name in ("idle_timeout", "active_timeout", "reorder", "max_clock_step"):
        if getattr(profile, name) != getattr(default, name):
            out += [f"--{name.replace('_', '-')}", _seconds(getattr(profile, name))]
    if profile.tcp_end != default.tcp_end:
        out += ["--tcp-end", "off" if profile.tcp_end is None else _seconds(profile.tcp_end)]
    if profile.input_interface != default.input_interface:
        out += ["--input-interface", "source" if profile.input_interface is None else str(profile.input_interface)]
    if profile.sampling is not None:
        seed = f":{profile.sampling.seed}" if profile.sampling.mode == "random" else ""
        out += ["--sampling", f"{profile.sampling.mode}:{profile.sampling.interval}{seed}"]
    if (profile.template_packets, profile.template_seconds) != (default.template_packets, default.template_seconds):
        out += ["--template-refresh", f"{profile.template_packets},{profile.template_seconds}"]
    return out

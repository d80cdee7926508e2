# SPDX-License-Identifier: Apache-2.0
"""`replay`: a capture into an interface."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowparity.cli.output import note, print_json, progress
from flowparity.cli.signals import run_stoppable
from flowparity.errors import UsageError

Capture = Annotated[Path, typer.Argument(help="The capture (pcap or pcapng, Ethernet).", readable=False, show_default=False)]
Interface = Annotated[str, typer.Option("--interface", "-i", help="Where to send.", show_default=False)]
Rate = Annotated[float | None, typer.Option("--rate", help="Packets per second, on an absolute schedule.", metavar="PPS", show_default=False)]
Speed = Annotated[float | None, typer.Option("--speed", help="The capture's own gaps, so many times faster (default 1).", metavar="X", show_default=False)]
Top = Annotated[bool, typer.Option("--top", help="As fast as it goes.")]
Trailer = Annotated[bool, typer.Option("--trailer", help="Append the replay trailer (docs/trailer.md), for paths that lose the packets' own times.")]
Name = Annotated[str, typer.Option("--injector", help="af_packet, or xdp_live for speed; 'flowparity backends' lists them.", metavar="NAME")]
Options = Annotated[list[str] | None, typer.Option("--option", help="Of the injector (docs/kernel.md), repeatable.", metavar="KEY=VALUE", show_default=False)]
Tolerant = Annotated[bool, typer.Option("--allow-not-sent", help="Send what the interface takes and report the rest.")]
Timeout = Annotated[float, typer.Option(help="Seconds without progress after which it gives up.", metavar="S")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report for programs.")]


_TRUNCATED = "truncated in the capture"  # as the injector says it


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(rich_help_panel="Traffic")(replay)


def replay(
    capture: Capture,
    interface: Interface,
    rate: Rate = None,
    speed: Speed = None,
    top: Top = False,
    trailer: Trailer = False,
    injector: Name = "af_packet",
    option: Options = None,
    allow_not_sent: Tolerant = False,
    timeout: Timeout = 60.0,
    json: AsJson = False,
) -> int:
    """Plays a capture into an interface and reports the achieved rate and every frame that could not be sent.

    Each packet's own time goes with it where the kernel carries it (SO_TXTIME), else with --trailer behind it. The status is 1 if a frame was not sent,
    or lost as far as the injector can tell.
    """
    from flowparity.cli.exporting import options_of
    from flowparity.replay import Replay, ReplayConfig, TolerantReplay

    if top and (rate is not None or speed is not None):
        raise UsageError("--top excludes --rate and --speed; give one of them")
    if not top and rate is None and speed is None:
        speed = 1.0
    config = ReplayConfig(capture, interface, injector, options_of(option or [], "--option"), trailer, rate, speed, timeout)
    run = (TolerantReplay if allow_not_sent else Replay)(config)
    with progress(f"playing {capture}"):
        report = run_stoppable(run.run, run.stop)
    missing = sum(len(indices) for indices in report.injection.not_sent.values())
    if json:
        print_json(report.document())
        return 0
    i = report.injection
    note(f"{i.sent} frames in {i.seconds:.6f} s, {report.achieved_pps:.0f} packets per second; times: {report.times}")
    if rate is not None:
        note(f"rate: {report.rate_error(rate):+.4f} % of {rate:g}; worst lateness {i.worst_lateness_ns / 1e3:.1f} us")
    elif speed is not None:
        note(f"worst lateness {i.worst_lateness_ns / 1e3:.1f} us")
    for reason, indices in i.not_sent.items():
        shown = ", ".join(map(str, indices[:10])) + (", …" if len(indices) > 10 else "")
        note(f"not sent, {reason}: {len(indices)} (frames {shown})")
    if _TRUNCATED in i.not_sent and not trailer:
        note("a snap length cut these frames when they were captured; --trailer sends what is left of them with their lengths, which 'export --trailer' reads")
    if i.lost:
        note(f"lost behind the injector: {i.lost} frames; is a reader with an XDP program, or GRO, at the other end?")
    return 1 if missing or i.lost else 0

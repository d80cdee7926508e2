# SPDX-License-Identifier: Apache-2.0
"""`generate`: seeded traffic with the records that must come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowparity.cli.guard import naming
from flowparity.cli.options import ProfileChoice, takes_profile
from flowparity.cli.output import Format, errors_console, progress, record_printer
from flowparity.errors import UsageError
from flowparity.generate.spec import TrafficSpec, sizes_from
from flowparity.profile import SECOND, nanoseconds

_MOST_FRAMES_A_SECOND = SECOND

Target = Annotated[Path, typer.Argument(help="The capture to write: pcap with nanoseconds.", show_default=False)]
Flows = Annotated[int, typer.Option(help="Streams active at a time.")]
Packets = Annotated[int, typer.Option(help="Packets in all.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same octets on every machine.")]
Distribution = Annotated[str, typer.Option(help="equidistant (RFC 6645 §4.9), uniform or zipf.", metavar="NAME")]
Exponent = Annotated[float, typer.Option(help="Of zipf.")]
Lifetime = Annotated[int, typer.Option(help="Packets after which a stream goes on as a new flow; 1: one-packet flows; 0: never.")]
Sizes = Annotated[str, typer.Option(help="Frame sizes with FCS, 64 to 9000: 64 or 64,1518 or 64:7,594:4 (weights) or imix.")]
Ipv6 = Annotated[float, typer.Option(help="Share of IPv6 flows, 0 to 1.")]
Vlan = Annotated[float, typer.Option(help="Share of tagged flows, 0 to 1.")]
Tcp = Annotated[float, typer.Option(help="Share of TCP flows, 0 to 1; the others are UDP.")]
Close = Annotated[bool, typer.Option("--close/--no-close", help="The last packet of a TCP flow has FIN.")]
Rate = Annotated[float, typer.Option(help="Packets per second of packet time.", metavar="PPS")]
Start = Annotated[str, typer.Option(help="Time of the first packet, in seconds since 1970.", metavar="S")]
Expected = Annotated[Path | None, typer.Option(help="Write the records that must come of it as JSON lines.", metavar="FILE", show_default=False)]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(rich_help_panel="Traffic")(generate)


@takes_profile
def generate(
    target: Target,
    flows: Flows = 1000,
    packets: Packets = 10_000,
    seed: Seed = 1,
    distribution: Distribution = "uniform",
    exponent: Exponent = 1.0,
    lifetime: Lifetime = 0,
    sizes: Sizes = "64",
    ipv6: Ipv6 = 0.0,
    vlan: Vlan = 0.0,
    tcp: Tcp = 0.0,
    close: Close = True,
    rate: Rate = 100_000.0,
    start: Start = "1700000000",
    expected: Expected = None,
    *,
    profile: ProfileChoice,
) -> int:
    """Writes seeded traffic to a capture; with --expected also its flow records, known from the parameters alone."""
    from flowparity.generate.traffic import Traffic

    if expected is not None and expected.absolute() == target.absolute():
        raise UsageError(f"--expected: {expected} is the capture itself; give another file")
    if not 0 < rate <= _MOST_FRAMES_A_SECOND:
        raise UsageError(f"--rate: {rate:g} is not above 0 and at most {_MOST_FRAMES_A_SECOND:g} packets per second")
    spec = TrafficSpec(
        flows=flows,
        packets=packets,
        seed=seed,
        distribution=distribution,
        exponent=exponent,
        lifetime=lifetime,
        sizes=sizes_from(sizes),
        ipv6=ipv6,
        vlan=vlan,
        tcp=tcp,
        close=close,
        gap_ns=round(SECOND / rate),
        start_ns=nanoseconds("start", start),
    )
    chosen = profile.resolve()
    traffic = Traffic(spec)
    records = None
    if expected is not None:
        with progress("working out the records"):
            records = traffic.expected(chosen)
    with progress(f"writing {packets} packets"):
        traffic.write(target)
    if expected is not None and records is not None:
        with naming(expected), expected.open("w", encoding="utf-8") as file:
            show = record_printer(Format.JSONL, file)
            for record in records:
                show(record)
    known = "" if records is None else f"; {len(records)} records in {expected}"
    errors_console().print(f"{target}: {packets} packets in {spec.packets * spec.gap_ns / SECOND:.6g} s of packet time{known}", soft_wrap=True, markup=False)
    return 0

# SPDX-License-Identifier: Apache-2.0
"""`bench`: what a packet costs here."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from flowparity.cli.output import console, print_json

Flows = Annotated[str, typer.Option("--flows", help="Numbers of flows, such as 1k,64k,1M.", metavar="N,…")]
Passes = Annotated[int, typer.Option("--passes", help="How often the frames (a million at least) are metered.", min=1, max=1000)]
Every = Annotated[bool, typer.Option("--table", help="All loads of docs/performance.md instead: new flows, Zipf, two workers (3 GiB, minutes).")]
AsJson = Annotated[bool, typer.Option("--json", help="A JSON document instead of a table.")]

bench = typer.Typer(no_args_is_help=True, help="What a packet costs here. Absolute times move with the machine: compare ratios of one run.")


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    bench.command()(core)
    app.add_typer(bench, name="bench", rich_help_panel="This machine")


def core(flows: Flows = "1k,64k,1M", passes: Passes = 4, every: Every = False, json: AsJson = False) -> int:
    """Parse, hash, update and sweep in memory, beside a probe that touches the same lines of memory and does nothing else."""
    from flowparity.bench import TABLE, Load, bench_core, flow_counts

    loads = TABLE if every else [Load(f"{count:,} flows", count) for count in flow_counts(flows)]
    results = bench_core(loads, passes)
    if json:
        print_json([each.as_json() for each in results])
        return 0
    table = Table("load", "core ns", "best 5 %", "probe ns", "ratio", "one load ns", "octets a flow", box=None, pad_edge=False)
    for each in results:
        figures = (each.core_median, each.core_p5, each.probe_median, each.ratio, each.latency_median, each.table_octets)
        table.add_row(each.load.name, *(f"{figure:.1f}" for figure in figures))
    console().print(table)
    return 0

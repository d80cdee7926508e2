# SPDX-License-Identifier: Apache-2.0
"""`doctor` and `backends`: what works on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from flowparity.cli.output import console, print_json

AsJson = Annotated[bool, typer.Option("--json", help="A JSON document instead of a table.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(rich_help_panel="This machine")(doctor)
    app.command(rich_help_panel="This machine")(backends)


def doctor(json: AsJson = False) -> int:
    """One screen of what works here, and the command that mends the rest. Status 3 if what everything needs is missing."""
    from flowparity.doctor import findings

    seen = list(findings())
    if json:
        print_json([asdict(each) for each in seen])
    else:
        table = Table("", "what", "found", "to mend it", box=None, pad_edge=False)
        for each in seen:
            mark = Text("yes", "green") if each.ok else Text("NO", "bold red") if each.needed else Text("no", "yellow")
            table.add_row(mark, each.name, Text(each.detail), Text(each.remedy))
        console().print(table)
    return 3 if any(each.needed and not each.ok for each in seen) else 0


def backends(json: AsJson = False) -> int:
    """Packet frameworks: which are available, why others are not and what mends it, what each can do, how real its results are."""
    from flowparity import native

    known = native.backends()
    if json:
        print_json([asdict(each) for each in known])
        return 0
    table = Table("backend", "tier", "available", "what it is, or what is missing", "can", box=None, pad_edge=False)
    for each in known:
        if each.available:
            table.add_row(each.name, str(each.tier or ""), Text("yes", "green"), Text(each.summary), Text(_abilities(each.capabilities)))
        else:
            missing = each.reason + (f"; {each.remedy}" if each.remedy else "")
            table.add_row(each.name, str(each.tier or ""), Text("no", "yellow"), Text(f"{each.summary}: {missing}"), "")
    console().print(table)
    return 0


def _abilities(caps: Any) -> str:
    if caps is None:
        return ""
    words = ["exact times" if caps.exact_time else "times to the bound" if caps.ts_tolerance is not None else "times unbounded", f"{caps.queues} queues"]
    words += [name for name in ("live", "coalesces", "splits", "loses_tags") if getattr(caps, name)]
    words += ["drops counted"] if caps.drops_known else []
    return ", ".join(words)

# SPDX-License-Identifier: Apache-2.0
"""`oracle`: what independent programs say of a capture beside the reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from flowparity.cli.output import console, print_json, progress
from flowparity.errors import UsageError

if TYPE_CHECKING:
    from flowparity.oracle import Agreement, Disagreement
    from flowparity.witness.sums import Sum

_MISMATCH = 1

Captures = Annotated[list[Path], typer.Argument(help="pcap or pcapng captures.", readable=False, show_default=False)]
Zeek = Annotated[Path | None, typer.Option(help="Zeek's conn.log of the capture, TSV or JSON.", metavar="FILE", show_default=False)]
Argus = Annotated[
    Path | None,
    typer.Option(help="What `ra -nn -c, -s saddr daddr proto sport dport spkts dpkts` printed of it.", metavar="FILE", show_default=False),
]
Nfpcapd = Annotated[Path | None, typer.Option(help="A file or directory that nfpcapd wrote of it.", metavar="PATH", show_default=False)]
Exemptions = Annotated[
    Path | None,
    typer.Option(
        help="A TOML file of exemptions, a table each: capture, witness, flow, cause. Believed for 3 % of the flows.",
        metavar="FILE",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="A JSON document instead of a table.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(rich_help_panel="Trust")(oracle)


def oracle(
    captures: Captures,
    zeek: Zeek = None,
    argus: Argus = None,
    nfpcapd: Nfpcapd = None,
    exemptions: Exemptions = None,
    json: AsJson = False,
) -> int:
    """Sets the reference beside witnesses: tshark counts the same capture, nfdump decodes what the reference exports. Status 1 if a flow differs."""
    from flowparity import oracle as trial

    if len(captures) > 1 and (zeek or argus or nfpcapd):
        raise UsageError("--zeek, --argus and --nfpcapd are of one capture; give that one alone")
    given = trial.Given(zeek, argus, nfpcapd)
    known = trial.load_exemptions(exemptions) if exemptions is not None else ()
    heard: list[Agreement] = []
    for capture in captures:
        with progress(f"hearing witnesses on {capture.name}"):
            heard += trial.oracle(capture, given, known)
    if json:
        print_json([_document(each) for each in heard])
        return 0 if all(each.agrees for each in heard) else _MISMATCH
    table = Table("capture", "witness", "flows", "agree", "exempted", "", box=None, pad_edge=False)
    for each in heard:
        mark = Text("agrees", "green") if each.agrees else Text("DIFFERS", "bold red")
        agreed = each.flows - len(each.disagreements) - len(each.exempted)
        table.add_row(Text(each.capture), each.witness, str(each.flows), str(agreed), str(len(each.exempted)), mark)
    console().print(table)
    for each in heard:
        for line in (*each.disagreements, *each.exempted):
            console().print(Text(f"{each.capture}: {each.witness}: {line}"), soft_wrap=True)
        if each.too_many_exempted:
            console().print(Text(f"{each.capture}: {each.witness}: {len(each.exempted)} of {each.flows} flows are exempted; more than 3 % are not believed"))
    return 0 if all(each.agrees for each in heard) else _MISMATCH


def _document(heard: Agreement) -> dict[str, Any]:
    return {
        "capture": heard.capture,
        "witness": heard.witness,
        "flows": heard.flows,
        "agrees": heard.agrees,
        "disagreements": [_flow(each) for each in heard.disagreements],
        "exempted": [_flow(each) for each in heard.exempted],
    }


def _flow(each: Disagreement) -> dict[str, Any]:
    return {"flow": each.flow, "reference": _sum(each.ours), "witness": _sum(each.theirs), "cause": each.cause}


def _sum(sums: Sum | None) -> dict[str, int | None] | None:
    if sums is None:
        return None
    first, last = sums.first_ns, sums.last_ns
    return {"packetDeltaCount": sums.packets, "octetDeltaCount": sums.octets, "flowStartNanoseconds": first, "flowEndNanoseconds": last}

# SPDX-License-Identifier: Apache-2.0
"""`reference` and `export`: captures to flow records, by the definition and by the native core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from flowparity.cli.options import ProfileChoice, takes_profile
from flowparity.cli.output import Format, accounting_text, errors_console, record_printer
from flowparity.flow import FlowRecord

Capture = Annotated[Path, typer.Argument(help="A pcap or pcapng file.", readable=False, show_default=False)]
Style = Annotated[Format, typer.Option("--format", help="How records are printed; JSON and CSV are named by IPFIX elements, times in ns.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No accounting at the end.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(rich_help_panel="Flows")(reference)


@takes_profile
def reference(capture: Capture, format: Style = Format.TABLE, quiet: Quiet = False, *, profile: ProfileChoice) -> int:
    """The flow records of a capture, as the definition has them (the pure-Python reference)."""
    from flowparity.capture import read_capture
    from flowparity.reference import ReferenceExporter

    exporter = ReferenceExporter(profile.resolve())
    frames = read_capture(capture)
    show = record_printer(format)

    def records() -> Iterator[FlowRecord]:
        for frame in frames:
            for closed in exporter.feed(frame):
                yield closed.record
        for closed in exporter.flush():
            yield closed.record

    for record in records():
        show(record)
    if not quiet:
        errors_console().print(accounting_text(exporter.accounting()), soft_wrap=True, markup=False)
    return 0

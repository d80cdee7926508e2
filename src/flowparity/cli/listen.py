# SPDX-License-Identifier: Apache-2.0
"""`collect` and `decode`: exports as the strict decoder reads them, from the network or out of a capture."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flowparity.cli.options import endpoint
from flowparity.cli.output import errors_console
from flowparity.cli.signals import stop_requests
from flowparity.errors import UsageError

_POLL = 0.2  # seconds until a wish to stop is noticed


class Form(StrEnum):
    """How decoded records are printed."""

    TABLE = "table"
    JSONL = "jsonl"


Listen = Annotated[str, typer.Option("--listen", help="Where to listen; an IPv6 address in brackets.", metavar="HOST:PORT")]
Shape = Annotated[Form, typer.Option("--format", help="jsonl is named by IPFIX elements, times in ns.")]
Count = Annotated[int | None, typer.Option("--count", help="Stop after so many flow records.", min=1, metavar="N", show_default=False)]
Seconds = Annotated[float | None, typer.Option("--seconds", help="Stop after so many seconds.", min=0.0, metavar="S", show_default=False)]
Port = Annotated[int | None, typer.Option("--port", help="Only datagrams to this port.", min=1, max=65535, metavar="PORT", show_default=False)]
ExportCapture = Annotated[Path, typer.Argument(help="A capture of NetFlow or IPFIX datagrams.", readable=False, show_default=False)]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(rich_help_panel="Flows")(collect)
    app.command(rich_help_panel="Flows")(decode)


def collect(listen: Listen = "127.0.0.1:2055", format: Shape = Form.TABLE, count: Count = None, seconds: Seconds = None) -> int:
    """Receives NetFlow v5, v9 and IPFIX over UDP and prints the flow records, until stopped. Status 1 if the exporter broke a rule.

    What was lost on the way is told at the end, for each exporter, version and observation domain, by the sequence numbers.
    """
    from flowparity.cli.exports import ExportPrinter
    from flowparity.collector import Collector

    host, port = endpoint(listen, "--listen")
    deadline = None if seconds is None else time.monotonic() + seconds
    insisted: list[int] = []

    def wanted() -> bool:
        return count is None or printer.flows < count

    with Collector(host, port, own_thread=False) as collector, stop_requests(on_insist=insisted.append) as stopping:
        printer = ExportPrinter(format is Form.TABLE)
        errors_console().print(f"listening on {host} port {port}; Ctrl-C ends", highlight=False)
        while not stopping.is_set() and (deadline is None or time.monotonic() < deadline) and wanted():
            datagram = collector.get(timeout=_POLL if deadline is None else max(0.0, min(_POLL, deadline - time.monotonic())))
            if datagram is not None:
                printer.take(datagram, most=None if count is None else count - printer.flows)
                sys.stdout.flush()
        received = collector.stop()
        left = len(received)
        for datagram in received:  # it arrived in time
            if insisted or not wanted():
                break
            printer.take(datagram, most=None if count is None else count - printer.flows)
            left -= 1
        dropped = collector.dropped
    notes = f"; the kernel had no room for {dropped} datagrams: run as root or raise net.core.rmem_max" if dropped else ""
    status = printer.end(notes + (f"; {left} more datagrams were received and not decoded" if insisted else ""))
    return 128 + insisted[0] if insisted else status


def decode(capture: ExportCapture, format: Shape = Form.TABLE, port: Port = None) -> int:
    """Decodes the exports in a capture. Status 1 if the exporter broke a rule; each violation names the datagram, the offset and the rule."""
    from flowparity.cli.exports import ExportPrinter, looks_like_an_export
    from flowparity.collector import CaptureReport, read_capture
    from flowparity.segments import split

    report = CaptureReport()
    printer = ExportPrinter(format is Form.TABLE)
    foreign = whole = pieces = 0
    for packet in read_capture(capture, port, report):
        datagrams = split(packet)
        if port is None and not looks_like_an_export(datagrams[0].payload):
            foreign += 1
            continue
        if len(datagrams) > 1:
            whole, pieces = whole + 1, pieces + len(datagrams)
        for datagram in datagrams:
            printer.take(datagram)
    if printer.datagrams == 0:
        raise UsageError(f"{capture}: holds no NetFlow or IPFIX datagram{' to port ' + str(port) if port else ''} ({report.packets} packets)")
    notes = {"other datagrams": foreign, "packets that are not UDP": report.other, "cut packets": report.truncated, "incomplete": report.incomplete_fragments}
    told = "".join(f"; {name}: {number}" for name, number in notes.items() if number)
    if whole:
        told += f"; {whole} packets were captured before segmentation (UDP segmentation offload) and are read as the {pieces} datagrams that left"
    return printer.end(told)

# SPDX-License-Identifier: Apache-2.0
"""`reference` and `export`: captures and interfaces to flow records, by the definition and by the native core."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flowparity.cli.options import ProfileChoice, Versions, formats_of, takes_profile
from flowparity.cli.output import Format, accounting_document, accounting_text, note, print_json, record_printer
from flowparity.errors import UsageError

Capture = Annotated[Path, typer.Argument(help="A pcap or pcapng file.", readable=False, show_default=False)]
Style = Annotated[Format, typer.Option("--format", help="How records are printed; JSON and CSV are named by IPFIX elements, times in ns.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No accounting at the end.")]
Backend = Annotated[str, typer.Option(help="What takes the packets: see 'flowparity backends'; or 'reference'.", metavar="NAME")]
Input = Annotated[str, typer.Option("--input", "--interface", "-i", help="What it reads: a capture, an interface, a port.", metavar="WHAT", show_default=False)]
Collectors = Annotated[
    list[str],
    typer.Option(
        "--collector",
        "-c",
        help="Where every version goes, or VERSION=HOST:PORT for one of them; may be repeated.",
        metavar="[VERSION=]HOST:PORT",
        show_default=False,
    ),
]
Workers = Annotated[int, typer.Option(help="Workers, each with a queue, a cache and an observation domain of its own.", min=1, max=64)]
Clock = Annotated[str | None, typer.Option(help="packet or wall (S-TIM-4). [dim](default: wall for live sources)[/]", metavar="KIND", show_default=False)]
Filter = Annotated[str | None, typer.Option(help="A BPF expression; other packets count as filtered or are never received.", metavar="BPF", show_default=False)]
Options = Annotated[list[str] | None, typer.Option("--backend-option", "-o", help="Of the backend; may be repeated.", metavar="KEY=VALUE", show_default=False)]
Mtu = Annotated[int, typer.Option(help="Of the export path, IP and UDP headers included.", min=576, max=65535)]
Nanoseconds = Annotated[bool, typer.Option("--ipfix-ns", help="IPFIX times in nanoseconds instead of milliseconds.")]
Pace = Annotated[int, typer.Option(help="Datagrams per second and version at most; 0: as fast as the socket takes them.", min=0)]
Promiscuous = Annotated[bool, typer.Option("--promiscuous", help="Also frames for other stations.")]
BusyPoll = Annotated[bool, typer.Option("--busy-poll", help="Never sleep for a packet: AF_XDP, DPDK and netmap.")]
AsJson = Annotated[bool, typer.Option("--json", help="The accounting as a JSON document on the standard output.")]
Trailer = Annotated[
    bool, typer.Option("--trailer", help="Of a replay: frames carry the replay trailer (docs/trailer.md), packets' own times come from it; packet time.")
]
Metrics = Annotated[str | None, typer.Option(help="Serve the accounting as Prometheus metrics here while it runs.", metavar="HOST:PORT", show_default=False)]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(rich_help_panel="Flows")(reference)
    app.command(rich_help_panel="Flows")(export)


@takes_profile
def reference(capture: Capture, format: Style = Format.TABLE, quiet: Quiet = False, *, profile: ProfileChoice) -> int:
    """The flow records of a capture, as the definition has them (the pure-Python reference)."""
    from flowparity.capture import read_capture
    from flowparity.export import run_reference

    chosen = profile.resolve()
    frames = read_capture(capture)
    show = record_printer(format)
    outcome = run_reference(frames, chosen, {}, on_closed=lambda closed: show(closed.record))
    if not quiet:
        note(accounting_text(outcome.accounting))
    if outcome.error is not None:
        raise outcome.error
    return 1 if outcome.accounting.broken() else 0


@takes_profile
def export(
    input: Input,
    collector: Collectors,
    backend: Backend = "pcap",
    version: Versions = "ipfix",
    workers: Workers = 1,
    clock: Clock = None,
    filter: Filter = None,
    backend_option: Options = None,
    mtu: Mtu = 1500,
    ipfix_ns: Nanoseconds = False,
    pace: Pace = 0,
    promiscuous: Promiscuous = False,
    busy_poll: BusyPoll = False,
    trailer: Trailer = False,
    json: AsJson = False,
    metrics: Metrics = None,
    *,
    profile: ProfileChoice,
) -> int:
    """Exports the flows of a capture or an interface by NetFlow v5, v9, IPFIX or all of them at once, and accounts for every packet at the end.

    SIGINT and SIGTERM stop it in good order: everything metered is exported first. SIGUSR1 prints the accounting of the moment. What a collector
    refuses is counted.
    """
    from flowparity.cli import exporting

    live, counters = False, {}
    formats = formats_of(version)
    chosen = profile.resolve(formats)
    collectors = exporting.collectors_of(collector, formats)
    if backend != "reference":
        exporting.check_backend(backend)
    exporting.check_input(backend, input, promiscuous=promiscuous)
    if backend == "reference":
        if clock not in (None, "packet") or filter or backend_option or promiscuous or busy_poll or pace or metrics or trailer:
            options = "--clock wall, --filter, --backend-option, --promiscuous, --busy-poll, --pace, --trailer, --metrics"
            raise UsageError(f"the reference reads captures on packet time: it takes no {options}")
        result: Any = exporting.run_reference_export(Path(input), chosen, collectors, workers=workers, mtu=mtu, nanoseconds=ipfix_ns)
    else:
        result = exporting.run_native_export(
            backend,
            input,
            chosen,
            collectors,
            workers=workers,
            clock=clock,
            trailer=trailer,
            filter=filter,
            options=exporting.options_of(backend_option or []),
            mtu=mtu,
            ipfix_ns=ipfix_ns,
            pace=pace,
            promiscuous=promiscuous,
            busy_poll=busy_poll,
            metrics=metrics,
        )
        live, counters = result.live, result.counters
    if json:
        workers_documents = [accounting_document(each) for each in result.workers]
        print_json(accounting_document(result.accounting) | {"workers": workers_documents, "warnings": list(result.warnings), "counters": counters})
    else:
        note(accounting_text(result.accounting, counters, live=live))
    if result.error is not None:
        raise result.error
    return 1 if result.accounting.broken() else 0

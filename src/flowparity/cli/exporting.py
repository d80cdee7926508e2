# SPDX-License-Identifier: Apache-2.0
"""Runs of an exporter under the command line: addresses, signals, the moment's accounting."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from flowparity.cli.options import endpoint, formats_of
from flowparity.cli.output import accounting_text, note, progress
from flowparity.cli.signals import run_stoppable, stop_requests
from flowparity.errors import UnavailableError, UsageError
from flowparity.profile import Profile

Collector = tuple[str, str, int]  # format, numeric address, port


def collectors_of(texts: Sequence[str], formats: Sequence[str]) -> tuple[Collector, ...]:
    """The streams that HOST:PORT and VERSION=HOST:PORT ask for, with the hosts resolved (UsageError)."""
    out: list[Collector] = []
    for text in texts:
        version, equals, place = text.rpartition("=")
        host, port = endpoint(place, "--collector")
        wanted = formats_of(version) if equals else formats
        if not set(wanted) <= set(formats):
            raise UsageError(f"--collector {text}: version {version} is not among those of --version")
        out += [(each, address_of(host), port) for each in wanted]
    unserved = [each for each in formats if each not in {stream[0] for stream in out}]
    if unserved:
        raise UsageError(f"--collector: version {', '.join(unserved)} has no collector; add one or leave it out of --version")
    return tuple(dict.fromkeys(out))


def address_of(host: str) -> str:
    """The numeric address of a host (UsageError if it does not resolve)."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--collector: {host} does not resolve ({getattr(error, 'strerror', error)}); give an address") from None


def options_of(texts: Sequence[str], option: str = "--backend-option") -> dict[str, str]:
    """KEY=VALUE pairs (UsageError)."""
    out = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option}: {text!r} is not KEY=VALUE")
        out[key] = value
    return out


def check_backend(name: str) -> None:
    """UsageError for an unknown backend, UnavailableError for one that does not work here."""
    from flowparity import native

    known = {each.name: each for each in native.backends()}
    if name not in known:
        raise UsageError(f"--backend: {name!r} is none of {', '.join(known)}, reference")
    if not known[name].available:
        remedy = f"; {known[name].remedy}" if known[name].remedy else ""
        raise UnavailableError(f"backend {name} is not available here: {known[name].reason}{remedy}")


def check_input(backend: str, source: str, *, promiscuous: bool) -> None:
    """UsageError for an interface that is given to a reader of captures, and for what only a live source has."""
    from flowparity import native

    if any(each.name == backend and each.capabilities is not None and each.capabilities.live for each in native.backends()):
        return
    if not Path(source).exists() and source in {name for _, name in socket.if_nameindex()}:
        raise UsageError(f"{source} is an interface, and {backend} reads captures; add --backend af_packet (see 'flowparity backends')")
    if promiscuous:
        raise UsageError(f"--promiscuous: {backend} reads captures, which hold what they hold; leave it out")


def run_native_export(backend: str, source: str, profile: Profile, collectors: tuple[Collector, ...], *, metrics: str | None = None, **settings: Any) -> Any:
    """Runs the native exporter to the end of its source or to a signal, and returns its RunResult; `metrics` is where to serve its accounting."""
    from flowparity.live import MetricsServer
    from flowparity.native import Exporter, RunConfig

    config = RunConfig(backend=backend, input=source, profile=profile, collectors=collectors, **settings)
    asked = threading.Event()
    # From before the source is opened: what it has received by then must not be lost to an early signal.
    with stop_requests() as early, _sets(asked, signal.SIGUSR1), Exporter(config) as exporter, ExitStack() as stack, progress(f"exporting {source}"):
        early_warnings = exporter.warnings
        _warn(early_warnings)
        if metrics is not None:
            stack.enter_context(MetricsServer(*endpoint(metrics, "--metrics"), exporter.snapshot))

        def tick() -> None:
            if early.is_set():
                exporter.stop()
            if asked.is_set():
                asked.clear()
                note(accounting_text(exporter.snapshot().accounting, live=exporter.capabilities.live))

        def last() -> None:
            note("interrupted before the end; the accounting so far:\n" + accounting_text(exporter.snapshot().accounting, live=exporter.capabilities.live))

        result = run_stoppable(exporter.run, exporter.stop, tick, last)
        _warn(result.warnings[len(early_warnings) :])
        return result


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        note(f"warning: {warning}")


@contextmanager
def _sets(event: threading.Event, number: signal.Signals) -> Iterator[None]:
    """A signal that sets an event, and goes on meaning what it meant afterwards."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        event.set()

    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def run_reference_export(capture: Path, profile: Profile, collectors: tuple[Collector, ...], *, workers: int, mtu: int, nanoseconds: bool) -> Any:
    """Runs the reference over a capture and returns its ReferenceOutcome."""
    from flowparity.capture import read_capture
    from flowparity.export import run_reference
    from flowparity.transport import ExportStream, UdpStream

    frames = read_capture(capture)
    if len({each[0] for each in collectors}) < len(collectors):
        raise UsageError("--collector: the reference sends each version to one collector")
    with ExitStack() as stack:
        streams: Mapping[str, ExportStream] = {name: stack.enter_context(UdpStream(host, port, mtu=mtu)) for name, host, port in collectors}
        with progress(f"metering {capture}"):
            outcome = run_reference(frames, profile, streams, workers=workers, nanoseconds=nanoseconds)
    _warn(outcome.warnings)
    return outcome

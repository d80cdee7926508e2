# SPDX-License-Identifier: Apache-2.0
"""`flowparity export` at one end of a link and `flowparity replay` at the other, as two programs that know nothing of each other."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowparity.capture import read_capture
from flowparity.decode import DecodedFlow, Decoder, Normaliser
from flowparity.export import run_reference
from flowparity.flow import FlowRecord
from flowparity.frame import Frame
from flowparity.profile import Profile

_COMMAND = (sys.executable, "-m", "flowparity")
_METRICS = "127.0.0.1:9100"
_WAIT = f"""
import sys, time, urllib.request
wanted, seen, since = int(sys.argv[1]), -1, time.monotonic()
while True:
    try:
        page = urllib.request.urlopen("http://{_METRICS}/metrics", timeout=10).read().decode()
        received = sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith("flowparity_frames_received_total"))
    except OSError:
        received = -1
    if received >= wanted >= 0:
        break
    if received != seen:
        seen, since = received, time.monotonic()
    elif time.monotonic() - since > float(sys.argv[2]):
        sys.exit(0 if wanted < 0 else f"still {{received:g}} of {{wanted}} frames")
    time.sleep(0.02)
"""


@dataclass(frozen=True, slots=True)
class Served:
    """What the exporter said at its end, and what its collector received."""

    said: Mapping[str, Any]
    flows: tuple[DecodedFlow, ...]


def serve(
    capture: Path,
    transmit: Sequence[str],
    receive: Sequence[str],
    mouth: socket.socket,
    *,
    expected: int | None,
    environment: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
) -> Served:
    """Runs both; `transmit` and `receive` are their further arguments, `mouth` the collector's socket, `prefix` the way to their place.

    With `expected` None the exporter sleeps while the replay runs, so that frames are lost, and is stopped when no more come.
    """
    mouth.bind(("127.0.0.1", 0))
    argv = [*prefix, *_COMMAND, "export", "--collector", f"127.0.0.1:{mouth.getsockname()[1]}", "--trailer", "--json", "--metrics", _METRICS, *receive]
    export = subprocess.Popen(argv, env=os.environ | (environment or {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        _run([*prefix, sys.executable, "-c", _WAIT, "0", "60"])
        if expected is None:
            export.send_signal(signal.SIGSTOP)
        _run([*prefix, *_COMMAND, "replay", str(capture), "--trailer", *transmit])
        if expected is None:
            export.send_signal(signal.SIGCONT)
        _run([*prefix, sys.executable, "-c", _WAIT, str(-1 if expected is None else expected), "2" if expected is None else "20"])
        export.send_signal(signal.SIGTERM)
        output, errors = export.communicate(timeout=60)
    finally:
        if export.poll() is None:
            export.kill()
            export.communicate()
    assert export.returncode == 0, errors
    return Served(json.loads(output), tuple(_received(mouth)))


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr


def _received(mouth: socket.socket) -> list[DecodedFlow]:
    decoder, normaliser, out = Decoder(), Normaliser(), []
    mouth.setblocking(False)
    while True:
        try:
            data, source = mouth.recvfrom(65536)
        except BlockingIOError:
            return out
        out += normaliser.flows(decoder.feed(data, source, 0))


def seen(record: FlowRecord | DecodedFlow) -> tuple[object, ...]:
    """What of a record has to be exact; times in milliseconds, as IPFIX carries them without --ipfix-ns."""
    times = (record.first_ns // 1_000_000, record.last_ns // 1_000_000)
    return (record.source_port, record.destination_port, record.protocol, record.packets, record.octets, *times)


def wanted(frames: Sequence[Frame]) -> list[tuple[object, ...]]:
    """What the reference has of these frames, sorted."""
    closed: list[FlowRecord] = []
    run_reference(list(frames), Profile(), {}, on_closed=lambda each: closed.append(each.record))
    return sorted(map(seen, closed), key=repr)


def frames_of(capture: Path) -> list[Frame]:
    """The frames of a capture."""
    return list(read_capture(capture))

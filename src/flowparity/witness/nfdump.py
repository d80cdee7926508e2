# SPDX-License-Identifier: Apache-2.0
"""nfdump: an exporter's datagrams through nfcapd over loopback UDP, or files of nfcapd and nfpcapd as they are."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flowparity.errors import InputError, SystemFault, UnavailableError
from flowparity.transport import ExportStream, Fate, UdpStream
from flowparity.witness.sums import Sum, Sums, Tuple5, add

TIMES_WITHIN_NS = 1_000_000_000
"""The tolerance for a foreign collector (S-EXP-5)."""

_PATIENCE = 20.0  # seconds
_BATCH = 32  # datagrams between two looks at nfcapd's queue


def through_nfcapd(export: Callable[[ExportStream], Any]) -> Sums:
    """Runs an export into an nfcapd of our own on loopback and reads what it understood. UnavailableError without nfdump, SystemFault when nfcapd fails."""
    for tool in ("nfcapd", "nfdump"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"{tool} is not installed: apt-get install nfdump")
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="flowparity-") as directory:
        command = ["nfcapd", "-w", directory, "-b", "127.0.0.1", "-p", str(port), "-t", "3600", "-B", "4000000"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                _wait(lambda: _queue(port) is not None or process.poll() is not None)
                if process.poll() is not None:
                    raise SystemFault(f"nfcapd does not start: {process.stderr.read().strip() if process.stderr else ''}")
                stream = _Patient(port)
                with stream:
                    export(stream)
                    stream.finish()
            finally:
                process.terminate()
        return read(Path(directory))


def read(path: Path) -> Sums:
    """The sums of a file of nfcapd or nfpcapd, or of all of them in a directory. InputError when nfdump cannot read it."""
    if shutil.which("nfdump") is None:
        raise UnavailableError("nfdump is not installed: apt-get install nfdump")
    if path.is_dir() and not any(path.rglob("nfcapd.*")):
        raise InputError(f"{path}: holds no files of nfcapd or nfpcapd (nfcapd.…)")
    option = "-R" if path.is_dir() else "-r"
    done = subprocess.run(["nfdump", option, str(path), "-q", "-o", "json"], capture_output=True, text=True, env={**os.environ, "TZ": "UTC"}, check=False)
    if done.returncode:
        raise InputError(f"{path}: nfdump cannot read it: {done.stderr.strip()}")
    text = done.stdout.strip().removeprefix("[").removesuffix("]").strip().strip(",")
    if not text.startswith("{"):  # it says so in words when there is no flow
        return {}
    try:
        flows = json.loads(f"[{text}]")
    except ValueError as error:
        raise InputError(f"{path}: what nfdump prints is no JSON: {error}") from None
    out: Sums = {}
    for flow in flows:
        if flow.get("type") == "FLOW":
            add(out, _key(flow), Sum(flow["in_packets"], flow["in_bytes"], _time(flow["first"]), _time(flow["last"])))
    return out


def _key(flow: dict[str, Any]) -> Tuple5:
    version = 4 if "src4_addr" in flow else 6
    source, destination = (ipaddress.ip_address(flow[f"{side}{version}_addr"]).packed for side in ("src", "dst"))
    port = flow["icmp_type"] * 256 + flow["icmp_code"] if "icmp_type" in flow else flow.get("dst_port", 0)
    return Tuple5(source, destination, flow.get("src_port", 0), port, flow["proto"])


def _time(text: str) -> int:
    """A time of nfdump (ISO 8601 in UTC, milliseconds) in nanoseconds."""
    stamp = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(stamp.replace(microsecond=0).timestamp()) * 1_000_000_000 + stamp.microsecond * 1000


class _Patient(UdpStream):
    """UDP that waits whenever the receiver has fallen behind: nothing of a test may be lost in a queue."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self._port = port
        self._sent = 0

    def finish(self) -> None:
        """Returns when all that was sent has been worked on. What nfcapd has just taken when it is told to stop it forgets, so the last datagram is nothing."""
        super().send(bytes(24))
        _wait(lambda: _queue(self._port) == 0)

    def send(self, message: bytes) -> Fate:
        self._sent += 1
        if self._sent % _BATCH == 0:
            _wait(lambda: _queue(self._port) == 0)
        return super().send(message)


def _queue(port: int) -> int | None:
    """Octets waiting at a loopback UDP port; None when nobody listens. A datagram that was dropped there is a SystemFault."""
    for line in Path("/proc/net/udp").read_text(encoding="ascii").splitlines()[1:]:
        columns = line.split()
        if columns[1] == f"0100007F:{port:04X}":
            if int(columns[-1]):
                raise SystemFault("nfcapd fell behind and lost datagrams; run again on a machine with less load")
            return int(columns[4].partition(":")[2], 16)
    return None


def _wait(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not ready():
        if time.monotonic() > end:
            raise SystemFault(f"nfcapd did not answer within {_PATIENCE:.0f} s")
        time.sleep(0.01)


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

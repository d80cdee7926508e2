# SPDX-License-Identifier: Apache-2.0
"""What is kept of a failed case: the datagrams as a capture that any analyser reads, both sides' records, and what was said of them."""

from __future__ import annotations

import ipaddress
import json
import re
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flowparity.capture import write_capture
from flowparity.collector import Datagram
from flowparity.errors import SystemFault
from flowparity.frame import Frame
from flowparity.harness.checks import Run, Verdict
from flowparity.harness.results import Cell

_RAW = 101
_PORT = {"5": 2055, "9": 9995, "ipfix": 4739}


def keep(root: Path, cell: Cell, run: Run, verdict: Verdict, shrink: str) -> Path:
    """Writes the artefacts of a cell into a directory of its own; SystemFault if the disk refuses."""
    directory = root / re.sub(r"[^A-Za-z0-9._-]+", "-", f"{cell.case}--{cell.subject}--{cell.format}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        frames = [_packet(each, _PORT[cell.format], index) for index, each in enumerate(run.datagrams[cell.format])]
        write_capture(directory / "datagrams.pcap", frames)
        expected = [{**record.elements(), "frames": indices} for record, indices in verdict.truth.records]
        _jsonl(directory / "expected.jsonl", expected)
        _jsonl(directory / "exported.jsonl", [_plain(asdict(flow)) for flow in verdict.flows])
        text = "\n".join([*map(str, verdict.problems), *verdict.notes, f"smallest capture: {shrink}"])
        (directory / "report.txt").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SystemFault(f"artefacts: {directory}: {error.strerror}; give another directory or make room") from None
    return directory


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), encoding="utf-8")


def _plain(flow: dict[str, Any]) -> dict[str, Any]:
    return {
        name: str(ipaddress.ip_address(value)) if isinstance(value, bytes) and len(value) in (4, 16) else value
        for name, value in flow.items()
        if value is not None
    }


def _packet(datagram: Datagram, port: int, index: int) -> Frame:
    """A datagram as a raw IPv4 packet between loopback addresses, with right checksums."""
    source = datagram.source[1] if isinstance(datagram.source[1], int) else 0
    size = 8 + len(datagram.payload)
    addresses = bytes((127, 0, 0, 1)) * 2
    udp = struct.pack("!HHHH", source, port, size, 0) + datagram.payload
    total = _sum(addresses + struct.pack("!HH", 17, size) + udp)
    udp = udp[:6] + struct.pack("!H", total or 0xFFFF) + udp[8:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, index & 0xFFFF, 0, 64, 17, 0) + addresses
    header = header[:10] + struct.pack("!H", _sum(header)) + header[12:]
    data = header + udp
    return Frame(ts_ns=datagram.arrival_ns, data=data, wirelen=len(data), link=_RAW, index=index)


def _sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

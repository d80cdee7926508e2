# SPDX-License-Identifier: Apache-2.0
"""Logs of bidirectional meters: Zeek's conn.log (TSV or JSON) and argus by `ra -nn -c, -s saddr daddr proto sport dport spkts dpkts`."""

from __future__ import annotations

import csv
import ipaddress
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from flowparity.errors import InputError
from flowparity.witness.sums import Sum, Sums, Tuple5, add

_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "ipv6-icmp": 58, "icmp6": 58, "sctp": 132}


def zeek(path: Path) -> Sums:
    """Packets and IP octets of a conn.log, each direction by itself. ICMP types are left out. InputError when it is none."""
    out: Sums = {}
    for row in _zeek_rows(path):
        _both(
            out,
            path,
            (row.get("id.orig_h"), row.get("id.resp_h"), row.get("id.orig_p"), row.get("id.resp_p"), row.get("proto")),
            ((row.get("orig_pkts"), row.get("orig_ip_bytes")), (row.get("resp_pkts"), row.get("resp_ip_bytes"))),
        )
    return out


def argus(path: Path) -> Sums:
    """Packets of what `ra` printed, each direction by itself; argus counts whole frames, so octets are not compared. InputError when it is none."""
    out: Sums = {}
    for row in csv.DictReader(_text(path).splitlines()):
        ends = (row.get("SrcAddr"), row.get("DstAddr"), row.get("Sport"), row.get("Dport"), row.get("Proto"))
        _both(out, path, ends, ((row.get("SrcPkts"), None), (row.get("DstPkts"), None)))
    return out


def _both(out: Sums, path: Path, ends: tuple[str | None, ...], counts: tuple[tuple[str | None, str | None], ...]) -> None:
    try:
        one, other = (ipaddress.ip_address(str(end)).packed for end in ends[:2])
        protocol = _PROTOCOLS[str(ends[4])] if not str(ends[4]).isdigit() else int(str(ends[4]))
        if protocol == 1 and len(one) == 16:
            protocol = 58  # Zeek says icmp for both
        near, far = (int(str(port), 0) if port not in (None, "", "-") else 0 for port in ends[2:4])
        forward, backward = Tuple5(one, other, near, far, protocol), Tuple5(other, one, far, near, protocol)
        for key, (packets, octets) in ((forward, counts[0]), (backward, counts[1])):
            if packets not in (None, "", "-", "0", 0):
                add(out, key.without_icmp, Sum(int(str(packets)), None if octets in (None, "", "-") else int(str(octets))))
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: not a line of a flow log: {error}") from None


def _zeek_rows(path: Path) -> Iterator[Mapping[str, str | None]]:
    names: list[str] = []
    for line in _text(path).splitlines():
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}: not a conn.log: {error}") from None
        elif line.startswith("#fields"):
            names = line.split("\t")[1:]
        elif line and not line.startswith("#"):
            if not names:
                raise InputError(f"{path}: not a conn.log: no #fields line before the first entry")
            yield dict(zip(names, line.split("\t"), strict=False))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None

# SPDX-License-Identifier: Apache-2.0
"""What tshark sees of every frame's outermost IP header: an independent witness for lengths, addresses and ports. Reassembly is off."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from flowparity.errors import InputError, UnavailableError
from flowparity.witness.sums import Sum, Sums, Tuple5, add

_OFF = ("ip.defragment", "ipv6.defragment", "tcp.desegment_tcp_streams", "tcp.reassemble_out_of_order")
_FIELDS = [
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ip.len",
    "ip.frag_offset",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.plen",
    "ipv6.nxt",
    "ipv6.fraghdr.offset",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "sctp.srcport",
    "sctp.dstport",
    "dccp.srcport",
    "dccp.dstport",
    "icmp.type",
    "icmp.code",
    "icmpv6.type",
    "icmpv6.code",
    "frame.time_epoch",
]
_CHECKSUMS = ("ip.checksum.status", "tcp.checksum.status", "udp.checksum.status")
_PORTS = {"tcp": ("tcp", 6), "udp": ("udp", 17), "udplite": ("udp", 136), "sctp": ("sctp", 132), "dccp": ("dccp", 33)}
_WALKED = {
    "ipv6.hopopts": "ipv6.hopopts.nxt",
    "ipv6.routing": "ipv6.routing.nxt",
    "ipv6.fraghdr": "ipv6.fraghdr.nxt",
    "ipv6.dstopts": "ipv6.dstopts.nxt",
    "ah": "ah.next_header",
    "mipv6": "mip6.proto",
    "hip": "hip.proto",
    "shim6": "shim6.nxt",
}
"""Extension headers by tshark's names, each with the field that names what follows."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One frame as tshark shows it. `version` 0 = no IP; ports 0 where tshark shows none directly behind the outermost header."""

    index: int
    protocols: str
    version: int = 0
    source: bytes = b""
    destination: bytes = b""
    octets: int = 0  # the IP length by the header's own fields
    protocol: int = 0
    source_port: int = 0
    destination_port: int = 0
    later_fragment: bool = False
    time: str = ""  # seconds, decimal text
    bad_checksum: bool = False  # a checksum of IP, TCP or UDP that is wrong; only looked at when asked for


def sights(capture: Path, *, checksums: bool = False) -> Iterator[Sight]:
    """Every frame of a capture in order. UnavailableError without tshark, InputError when tshark cannot read the file."""
    if shutil.which("tshark") is None:
        raise UnavailableError("tshark is not installed: apt-get install tshark")
    command = ["tshark", "-n", "-r", str(capture), "-T", "fields", "-E", "occurrence=f", "-E", "separator=/t"]
    for name in _OFF:
        command += ["-o", f"{name}:FALSE"]
    fields = [*_FIELDS, *_WALKED.values(), *(_CHECKSUMS if checksums else ())]
    if checksums:
        for name in ("ip", "tcp", "udp"):
            command += ["-o", f"{name}.check_checksum:TRUE"]
    for name in fields:
        command += ["-e", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for index, line in enumerate(process.stdout):
            yield _sight(index, dict(zip(fields, line.rstrip("\n").split("\t"), strict=True)))
        complaint = process.stderr.read()
    if process.returncode:
        raise InputError(f"{capture}: tshark cannot read it: {complaint.strip().splitlines()[-1] if complaint.strip() else process.returncode}")


def _number(text: str) -> int:
    return int(text, 0) if text else 0


def _sight(index: int, fields: dict[str, str]) -> Sight:
    layers = fields["frame.protocols"].split(":")
    outer = next((layer for layer in layers if layer in ("ip", "ipv6")), "")
    time = fields["frame.time_epoch"]
    if not outer or not fields[f"{outer}.src"] or not fields[f"{outer}.dst"]:
        return Sight(index, fields["frame.protocols"], time=time)
    behind = layers[layers.index(outer) + 1 :]
    passed = list(takewhile(_WALKED.__contains__, behind)) if outer == "ipv6" else []
    transport = behind[len(passed)] if len(behind) > len(passed) else ""
    if outer == "ip":
        octets, protocol, later = _number(fields["ip.len"]), _number(fields["ip.proto"]), _number(fields["ip.frag_offset"]) > 0
    else:
        protocol = _number(fields[_WALKED[passed[-1]]] if passed else fields["ipv6.nxt"])
        octets, later = 40 + _number(fields["ipv6.plen"]), "ipv6.fraghdr" in passed and _number(fields["ipv6.fraghdr.offset"]) > 0
    sport = dport = 0
    if transport in _PORTS and not later:
        prefix, protocol = _PORTS[transport]
        sport, dport = _number(fields[f"{prefix}.srcport"]), _number(fields[f"{prefix}.dstport"])
    elif transport == ("icmp" if outer == "ip" else "icmpv6") and not later:
        dport = _number(fields[f"{transport}.type"]) * 256 + _number(fields[f"{transport}.code"])
    return Sight(
        index,
        fields["frame.protocols"],
        4 if outer == "ip" else 6,
        ipaddress.ip_address(fields[f"{outer}.src"]).packed,
        ipaddress.ip_address(fields[f"{outer}.dst"]).packed,
        octets,
        protocol,
        sport,
        dport,
        later,
        time,
        any(fields.get(name) == "0" for name in _CHECKSUMS),
    )


def sums(capture: Path) -> Sums:
    """Packets and IP octets of every 5-tuple, by tshark's fields. A frame counts by its outermost IP header."""
    out: Sums = {}
    for sight in sights(capture):
        if sight.version:
            key = Tuple5(sight.source, sight.destination, sight.source_port, sight.destination_port, sight.protocol)
            seconds, _, fraction = sight.time.partition(".")
            when = int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])
            add(out, key, Sum(1, sight.octets, when, when))
    return out

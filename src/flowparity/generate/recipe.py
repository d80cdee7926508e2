# SPDX-License-Identifier: Apache-2.0
"""From a fixture's recipe to its capture.

A recipe is a few lines of Python over scapy's layers that call `at(time, packet)` once for each frame. It runs only here, when a capture is built or
checked; reading a fixture never runs anything. Nothing in it may depend on the machine: addresses are always given, and `rng` is seeded with the fixture's
name.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import scapy.all
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from flowparity.errors import InputError, UsageError
from flowparity.generate.capfile import Captured, Interface, pcap, pcapng

SECOND = 1_000_000_000
EPOCH = 1_700_000_000
"""The second in which a fixture's time 0 lies unless it says otherwise: 2023-11-14 22:13:20 UTC."""

MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
A, B, C = "192.0.2.1", "198.51.100.2", "203.0.113.3"
A6, B6, C6 = "2001:db8::1", "2001:db8::2", "2001:db8::3"

_LAYERS = [
    "Ether",
    "Dot3",
    "LLC",
    "SNAP",
    "STP",
    "ARP",
    "Dot1Q",
    "Dot1AD",
    "GRE",
    "ICMP",
    "IP",
    "IPOption",
    "IPv6",
    "IPv6ExtHdrHopByHop",
    "IPv6ExtHdrDestOpt",
    "IPv6ExtHdrRouting",
    "IPv6ExtHdrFragment",
    "Jumbo",
    "Pad1",
    "PadN",
    "ICMPv6EchoRequest",
    "ICMPv6EchoReply",
    "ICMPv6ND_NS",
    "ICMPv6ND_NA",
    "TCP",
    "UDP",
    "UDPerror",
    "IPerror",
    "SCTP",
    "PPPoE",
    "PPPoED",
    "PPP",
    "Raw",
    "CookedLinux",
    "CookedLinuxV2",
    "VXLAN",
]


def parse_time(value: object) -> int:
    """Seconds as an int or as decimal text to nanoseconds; floats are refused because they would round (UsageError)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value * SECOND
    if not isinstance(value, str):
        raise UsageError(f"time {value!r}: write whole seconds, or decimal text such as '0.25'")
    try:
        scaled = Decimal(value) * SECOND
    except InvalidOperation:
        raise UsageError(f"time {value!r} is not a decimal number of seconds") from None
    if scaled != int(scaled):
        raise UsageError(f"time {value!r} is finer than a nanosecond")
    return int(scaled)


def eth(type: int | None = None, **fields: Any) -> Packet:
    """An Ethernet header between the two stations; the type follows the payload unless given."""
    if type is not None:
        fields["type"] = type
    return Ether(**{"src": MAC_A, "dst": MAC_B, **fields})


def ip(**fields: Any) -> Packet:
    """An IPv4 header from A to B."""
    return IP(**{"src": A, "dst": B, "id": 1, **fields})


def ip6(**fields: Any) -> Packet:
    """An IPv6 header from A6 to B6."""
    return IPv6(**{"src": A6, "dst": B6, **fields})


def udp(sport: int = 1000, dport: int = 2000, data: bytes = b"x", **fields: Any) -> Packet:
    """Ethernet, IPv4, UDP; `fields` are those of the IPv4 header. Without data it is 28 octets of IP."""
    return eth() / ip(**fields) / UDP(sport=sport, dport=dport) / Raw(data)


def udp6(sport: int = 1000, dport: int = 2000, data: bytes = b"x", **fields: Any) -> Packet:
    """Ethernet, IPv6, UDP; `fields` are those of the IPv6 header. Without data it is 48 octets of IP."""
    return eth() / ip6(**fields) / UDP(sport=sport, dport=dport) / Raw(data)


def tcp(flags: str | int = "A", sport: int = 1000, dport: int = 2000, data: bytes = b"", **fields: Any) -> Packet:
    """Ethernet, IPv4, TCP; `fields` are those of the IPv4 header. Without data it is 40 octets of IP."""
    return eth() / ip(**fields) / TCP(sport=sport, dport=dport, flags=flags, seq=1) / Raw(data)


def tcp6(flags: str | int = "A", sport: int = 1000, dport: int = 2000, data: bytes = b"", **fields: Any) -> Packet:
    """Ethernet, IPv6, TCP; `fields` are those of the IPv6 header. Without data it is 60 octets of IP."""
    return eth() / ip6(**fields) / TCP(sport=sport, dport=dport, flags=flags, seq=1) / Raw(data)


def icmp(type: int = 8, code: int = 0, data: bytes = b"", **fields: Any) -> Packet:
    """Ethernet, IPv4, ICMP; `fields` are those of the IPv4 header. Without data it is 28 octets of IP."""
    return eth() / ip(**fields) / ICMP(type=type, code=code) / Raw(data)


def vlan(packet: Packet, *tags: tuple[int, int]) -> bytes:
    """The frame with tags (TPID, TCI) after its addresses, outermost first."""
    octets = bytes(packet)
    return octets[:12] + b"".join(struct.pack(">HH", *tag) for tag in tags) + octets[12:]


def mpls(payload: bytes | Packet, *labels: int, type: int = 0x8847) -> bytes:
    """An Ethernet frame with a label stack (bottom of stack on the last one, TTL 64) before the payload."""
    stack = b"".join(struct.pack(">I", label << 12 | (position == len(labels) - 1) << 8 | 64) for position, label in enumerate(labels))
    return bytes(eth(type)) + stack + bytes(payload)


def pppoe(payload: bytes | Packet, protocol: int = 0x0021, *, version_type: int = 0x11, code: int = 0, length: int | None = None) -> bytes:
    """An Ethernet frame of a PPPoE session; `length` is the PPPoE length field, right unless given."""
    inner = struct.pack(">H", protocol) + bytes(payload)
    return bytes(eth(0x8864)) + struct.pack(">BBHH", version_type, code, 1, len(inner) if length is None else length) + inner


def padded(packet: bytes | Packet, to: int = 60) -> bytes:
    """The frame with zeros up to the length that Ethernet asks for."""
    return bytes(packet).ljust(to, b"\0")


def patch(packet: bytes | Packet, offset: int, octets: bytes) -> bytes:
    """The frame with other octets at an offset, and nothing mended."""
    data = bytes(packet)
    return data[:offset] + octets + data[offset + len(octets) :]


def run(script: str, name: str, epoch_ns: int) -> list[Captured]:
    """The frames of a recipe; `name` seeds `rng`. InputError with the line when the recipe fails."""
    frames: list[Captured] = []

    def at(time: object, packet: bytes | Packet, *, cut: int | None = None, wire: int | None = None, interface: int = 0) -> None:
        octets = bytes(packet)
        frames.append(Captured(epoch_ns + parse_time(time), octets[:cut], len(octets) if wire is None else wire, interface))

    names: dict[str, Any] = {layer: getattr(scapy.all, layer) for layer in _LAYERS}
    helpers: tuple[Callable[..., Any], ...] = (eth, ip, ip6, udp, udp6, tcp, tcp6, icmp, vlan, mpls, pppoe, padded, patch)
    names |= {helper.__name__: helper for helper in helpers}
    names |= {"A": A, "B": B, "C": C, "A6": A6, "B6": B6, "C6": C6, "at": at, "rng": random.Random(name), "octets": bytes.fromhex, "struct": struct}
    try:
        exec(compile(script, name, "exec"), names)
    except Exception as error:
        line = error.__traceback__.tb_next.tb_lineno if error.__traceback__ is not None and error.__traceback__.tb_next is not None else "?"
        raise InputError(f"fixture {name}: recipe line {line}: {type(error).__name__}: {error}") from error
    return frames


def build(capture: Mapping[str, Any], name: str) -> bytes:
    """The capture file that the [capture] table of a fixture describes."""
    frames = run(capture["recipe"], name, parse_time(capture.get("epoch", EPOCH)))
    if capture.get("format", "pcap") == "pcap":
        return pcap(frames, Interface(capture.get("link", 1), capture.get("resolution", "ns")))
    return pcapng(frames, [Interface(**table) for table in capture.get("interfaces", [{}])])

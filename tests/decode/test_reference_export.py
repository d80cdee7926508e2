# SPDX-License-Identifier: Apache-2.0
"""What the reference exports decodes to the records that it closed, and breaks no wire rule."""

from __future__ import annotations

from collections import Counter

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from flowparity.collector import Datagram
from flowparity.decode import Decoder, Normaliser
from flowparity.export import run_reference
from flowparity.frame import Frame
from flowparity.profile import Profile
from flowparity.reference import ClosedRecord
from flowparity.transport import ExportStream, Fate
from flowparity.wire import Context, check_stream

START = 1_700_000_000 * 10**9


class Kept(ExportStream):
    max_message = 1472
    reliable = False

    def __init__(self) -> None:
        self.sent: list[Datagram] = []

    def send(self, message: bytes) -> Fate:
        self.sent.append(Datagram(message, ("192.0.2.1", 1), 0))
        return next(iter(Fate))

    def close(self) -> None: ...


def frames() -> list[Frame]:
    link, packets = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02"), []
    for n in range(40):
        packets.append(link / IP(src=f"10.0.0.{n % 5 + 1}", dst="10.1.0.1") / TCP(sport=1000 + n, dport=80, flags="S"))
        packets.append(link / IP(src=f"10.0.0.{n % 5 + 1}", dst="10.1.0.1", tos=8) / TCP(sport=1000 + n, dport=80, flags="FA") / Raw(bytes(n)))
        packets.append(link / IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=53, dport=2000 + n) / Raw(bytes(50)))
    packets.append(link / IP(src="10.0.0.9", dst="10.1.0.9") / ICMP(type=3, code=3))
    return [Frame(START + n * 7_000_000, bytes(packet), len(packet), index=n) for n, packet in enumerate(packets)]


@pytest.mark.parametrize("name", ["5", "9", "ipfix"])
def test_export_decodes_to_the_closed_records(name: str) -> None:
    stream, closed = Kept(), list[ClosedRecord]()
    run_reference(iter(frames()), Profile(counter_bits=32), {name: stream}, on_closed=closed.append)
    decoder, names = Decoder(), ("source_address", "destination_address", "source_port", "destination_port", "protocol", "tos", "packets", "octets")
    decoded = Normaliser().flow_stream(decoder.feed(d.payload) for d in stream.sent)
    want = [each.record for each in closed if name != "5" or each.record.ip_version == 4]
    assert len(want) == (81 if name == "5" else 121)

    def key(flow: object) -> tuple[object, ...]:
        times = (getattr(flow, "first_ns") // 10**6, getattr(flow, "last_ns") // 10**6)  # noqa: B009
        return (*(getattr(flow, each) for each in names), *times, getattr(flow, "tcp_flags") & 0xFF)  # noqa: B009

    assert Counter(map(key, decoded)) == Counter(map(key, want))
    context = Context(workers=1, template_packets=20, template_seconds=600, sampling_interval=0)
    assert check_stream(stream.sent, name, context).findings == ()

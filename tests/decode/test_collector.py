# SPDX-License-Identifier: Apache-2.0
"""Datagrams over loopback and out of captures."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from flowparity.collector import CaptureReport, Collector, read_capture
from flowparity.errors import InputError, SystemFault

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_arrive_in_order_with_kernel_times(host: str) -> None:
    with Collector(host) as collector, socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        before = time.time_ns()
        for number in range(500):
            sender.sendto(number.to_bytes(2, "big"), collector.address)
        first = collector.get(timeout=10)
        rest = collector.stop()
        assert first is not None
        got = [first, *rest]
        assert [int.from_bytes(d.payload, "big") for d in got] == list(range(500))
        assert all(d.source[1] == sender.getsockname()[1] for d in got)
        times = [d.arrival_ns for d in got]
        assert times == sorted(times)
        assert before <= times[0] <= time.time_ns()
        assert collector.dropped == 0
        assert collector.stop() == []


def test_kernel_drops_are_counted() -> None:
    with Collector(receive_buffer=4096) as collector, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sent = 0
        while collector.dropped == 0 and sent < 2_000_000:
            sender.sendto(bytes(1000), collector.address)
            sent += 1
        collector.stop()
        assert collector.dropped > 0


def test_address_in_use_is_one_line() -> None:
    with Collector() as collector, pytest.raises(SystemFault, match="choose another port"):
        Collector(port=collector.address[1])
    with pytest.raises(SystemFault, match="local address"):
        Collector("no.such.host.invalid")


def test_capture_with_fragments_and_other_packets(tmp_path: Path) -> None:
    payload = bytes(range(256)) * 12
    whole = IP(src="192.0.2.1", dst="192.0.2.2", id=7) / UDP(sport=9, dport=2055) / Raw(payload)
    lost = IP(src="192.0.2.1", dst="192.0.2.2", id=8) / UDP(sport=9, dport=2055) / Raw(payload)
    pieces = fragment(whole, 1000)
    packets = [LINK / p for p in [pieces[2], pieces[0], *pieces[3:], pieces[1], fragment(lost, 1000)[0]]]
    packets += [
        LINK / ARP(),
        LINK / IPv6(src="2001:db8::1") / UDP(sport=10, dport=4739) / Raw(b"six"),
        LINK / IP(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=2055, chksum=1) / Raw(b"bad"),
    ]
    wrpcap(str(tmp_path / "x.pcap"), packets)
    report = CaptureReport()
    got = list(read_capture(tmp_path / "x.pcap", report=report))
    assert [d.payload for d in got] == [payload, b"six", b"bad"]
    assert [d.fragmented for d in got] == [True, False, False]
    assert [d.checksum for d in got] == [True, True, False]
    assert (report.other, report.incomplete_fragments, report.overlapping_fragments) == (1, 1, 0)
    assert [d.payload for d in read_capture(tmp_path / "x.pcap", port=4739)] == [b"six"]


def test_no_capture(tmp_path: Path) -> None:
    (tmp_path / "y.pcap").write_bytes(b"no capture at all, but long enough")
    with pytest.raises(InputError, match="neither pcap nor pcapng"):
        list(read_capture(tmp_path / "y.pcap"))
    with pytest.raises(InputError, match="cannot be read"):
        list(read_capture(tmp_path / "absent.pcap"))

# SPDX-License-Identifier: Apache-2.0
"""Frames as a guest hands them to the host: through a TAP device with virtio-net headers, which say more than a wire ever would."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from flowparity.harness.rigs.veth import VethRig
from flowparity.native import Exporter, RunConfig
from flowparity.profile import Profile
from tests.kernel.bench import ROWS, Row, inside
from tests.kernel.packets import tcp, udp

Rigs = Callable[[str], VethRig]
PACKET_ROWS = [row for row in ROWS if row.backend != "af_xdp"]
_TUNSETIFF, _TAP, _NO_INFO, _VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000
_NAME = "fpguest"
_NEEDS_CSUM, _DATA_VALID = 1, 2
_GSO_TCPV4, _GSO_UDP = 1, 3
_UP = 0x1
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_PATIENCE = 20.0
needs_tap = pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="capability: the kernel has no TAP devices")


@dataclass(frozen=True, slots=True)
class Guest:
    """The guest's end of the device."""

    device: int

    def send(self, frame: bytes, *, gso: int = 0, size: int = 0, flags: int = 0, header: int = 0) -> None:
        """One frame with its virtio-net header: kind of segmentation, octets of a segment, flags, octets before the payload."""
        checksum = (header - (8 if gso == _GSO_UDP else 20), 6 if gso == _GSO_UDP else 16) if flags & _NEEDS_CSUM else (0, 0)
        os.write(self.device, struct.pack("=BBHHHH", flags, gso, header, size, *checksum) + frame)


@contextmanager
def _guest(rig: VethRig) -> Iterator[Guest]:
    device = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", _NAME.encode(), _TAP | _NO_INFO | _VNET_HDR))
        with rig.namespace.socket(2, 2) as asks:
            asked = struct.pack("16sH22x", _NAME.encode(), 0)
            (flags,) = struct.unpack_from("H", fcntl.ioctl(asks, _SIOCGIFFLAGS, asked), 16)
            fcntl.ioctl(asks, _SIOCSIFFLAGS, struct.pack("16sH22x", _NAME.encode(), flags | _UP))
        yield Guest(device)
    finally:
        os.close(device)


def _until(exporter: Exporter, received: int) -> None:
    """Waits until so many frames were received or dropped."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        account = exporter.snapshot().accounting
        if account.received + (account.dropped or 0) >= received:
            return
        time.sleep(0.01)


def _meter(rig: VethRig, row: Row, frames: Callable[[Guest], int]) -> tuple[int, int, int | None, str]:
    """What the exporter makes of what the guest sends: received, packets, dropped, error. `frames` sends, and says how many."""

    def work() -> tuple[int, int, int | None, str]:
        with _guest(rig) as guest:
            config = replace(RunConfig(row.backend, _NAME, Profile(), options=row.options, huge_pages=False), clock="wall")
            with Exporter(config) as exporter:
                results = []
                thread = threading.Thread(target=lambda: results.append(exporter.run()))
                thread.start()
                try:
                    _until(exporter, frames(guest))
                finally:
                    exporter.stop()
                    thread.join()
        (result,) = results
        account = result.accounting
        return account.received, account.metered_packets, account.dropped, str(result.error or "")

    return inside(rig.namespace, work)


@needs_tap
@pytest.mark.parametrize("row", PACKET_ROWS, ids=lambda row: row.name)
def test_a_frame_that_cannot_be_described_costs_itself(rigs: Rigs, row: Row) -> None:
    """UDP fragmentation offload fits into no virtio-net header: reading it fails with EINVAL. It is dropped and counted, and the exporter goes on."""

    def frames(guest: Guest) -> int:
        guest.send(udp(1))
        guest.send(udp(2, b"x" * 3000), gso=_GSO_UDP, size=1000, flags=_NEEDS_CSUM, header=42)
        guest.send(udp(3))
        return 3

    assert _meter(rigs("txtime"), row, frames) == (2, 2, 1, "")


@needs_tap
@pytest.mark.parametrize("row", PACKET_ROWS, ids=lambda row: row.name)
def test_nor_does_it_when_it_comes_alone(rigs: Rigs, row: Row) -> None:
    """A block of a ring that holds nothing else is given back."""

    def frames(guest: Guest) -> int:
        for port in range(3):
            guest.send(udp(port, b"x" * 3000), gso=_GSO_UDP, size=1000, flags=_NEEDS_CSUM, header=42)
            time.sleep(0.05)  # longer than a block stays open
        guest.send(udp(9))
        return 4

    assert _meter(rigs("txtime"), row, frames) == (1, 1, 3, "")


@needs_tap
@pytest.mark.parametrize("tag", [b"", bytes.fromhex("81000007"), bytes.fromhex("88a8000581000006")], ids=["plain", "tagged", "two-tags"])
@pytest.mark.parametrize("flags", [_NEEDS_CSUM, _DATA_VALID, 0], ids=["to-be-summed", "checked", "unsaid"])
@pytest.mark.parametrize("row", PACKET_ROWS, ids=lambda row: row.name)
def test_segments_are_counted_whoever_merged(rigs: Rigs, row: Row, flags: int, tag: bytes) -> None:
    """S-SUP-1: a card that merged and checked leaves no checksum to be done, so nothing says where the transport header is."""
    whole = tcp(b"x" * 3000)
    whole = whole[:12] + tag + whole[12:]

    def frames(guest: Guest) -> int:
        guest.send(whole, gso=_GSO_TCPV4, size=1000, flags=flags, header=54 + len(tag))
        return 1

    assert _meter(rigs("txtime"), row, frames) == (1, 3, 0, "")

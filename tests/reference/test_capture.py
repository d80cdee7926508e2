# SPDX-License-Identifier: Apache-2.0
"""The capture reader and writer: every kind of file, and every way in which a file can be bad."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from flowparity.capture import capture_info, read_capture, write_capture
from flowparity.errors import InputError, SystemFault, UsageError
from flowparity.frame import Frame

from .build import udp_frame

DATA = bytes(range(60))


def pcap(magic: int = 0xA1B2C3D4, order: str = "<", link: int = 1, records: bytes = b"") -> bytes:
    return struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link) + records


def entry(order: str = "<", seconds: int = 5, fraction: int = 7, caplen: int = 60, wire: int = 90) -> bytes:
    return struct.pack(f"{order}IIII", seconds, fraction, caplen, wire) + DATA[:caplen]


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order: str = "<", link: int = 1, snaplen: int = 0, options: bytes = b"") -> bytes:
    return block(1, struct.pack(f"{order}HHI", link, 0, snaplen) + options, order)


def packet(order: str = "<", number: int = 0, stamp: int = 7, caplen: int = 60, wire: int = 90) -> bytes:
    return block(6, struct.pack(f"{order}IIIII", number, stamp >> 32, stamp & 0xFFFFFFFF, caplen, wire) + DATA[:caplen], order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "scale"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap(file: Path, order: str, magic: int, scale: int) -> None:
    file.write_bytes(pcap(magic, order, 101, entry(order) + entry(order, caplen=3, wire=2)))
    assert list(read_capture(file)) == [
        Frame(5_000_000_000 + 7 * scale, DATA, 90, 101, 0, 0),
        Frame(5_000_000_000 + 7 * scale, DATA[:3], 2, 101, 0, 1),  # as the file says: S-LNK-6 is the metering's
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_interfaces_resolutions_and_offsets(file: Path, order: str) -> None:
    end = option(0, b"", order)
    file.write_bytes(
        section(order)
        + block(0xBAD, b"skipped", order)
        + interface(order)
        + interface(order, 113, options=option(2, b"eth0", order) + option(9, b"\x09", order) + end)
        + interface(order, options=option(9, b"\x8a", order) + option(14, struct.pack(f"{order}q", 100), order) + end)
        + interface(order, options=option(9, b"\x0c", order))
        + packet(order, 0, 7_000_001)
        + packet(order, 1, 7_000_001)
        + packet(order, 2, 1024 + 1)
        + packet(order, 3, 1999)
    )
    frames = list(read_capture(file))
    assert [each.ts_ns for each in frames] == [7_000_001_000, 7_000_001, 101_000_976_562, 1]
    assert [each.interface for each in frames] == [0, 1, 2, 3]
    assert [each.link for each in frames] == [1, 113, 1, 1]
    assert [each.index for each in frames] == [0, 1, 2, 3]
    info = capture_info(file)
    assert (info.kind, info.frames, info.first_ns, info.last_ns) == ("pcapng", 4, 1, 101_000_976_562)
    assert [each.name for each in info.interfaces] == ["", "eth0", "", ""]


def test_pcapng_sections_of_either_order_simple_and_old_packets(file: Path) -> None:
    simple = block(3, struct.pack("<I", 90) + DATA[:50])
    old = block(2, struct.pack(">HHIIII", 0, 5, 0, 9, 60, 61) + DATA, ">")
    file.write_bytes(section() + interface(snaplen=50) + simple + section(">") + interface(">", options=option(9, b"\x09", ">")) + old)
    assert list(read_capture(file)) == [Frame(0, DATA[:50], 90, 1, 0, 0), Frame(9, DATA, 61, 1, 0, 1)]


BAD = {
    "empty": (b"", "empty", 0),
    "text": (b"#!/bin/sh\n", "neither pcap nor pcapng", 0),
    "short": (b"\xd4\xc3", "neither pcap nor pcapng", 0),
    "gzip": (b"\x1f\x8b\x08\0", "gunzip", 0),
    "cut file header": (pcap()[:20], "truncated at frame 0, offset 20", 0),
    "link": (pcap(link=127), "link type 127 is not supported", 0),
    "cut record header": (pcap(records=entry() + entry()[:10]), "truncated at frame 1, offset 110: ends in a record header", 1),
    "cut data": (pcap(records=entry() * 2)[:-1], "truncated at frame 1, offset 175: ends in its data (59 of 60 octets)", 1),
    "wild length": (pcap(records=entry() + struct.pack("<IIII", 0, 0, 2**31, 60)), "damaged at frame 1", 1),
    "ng cut block": ((section() + interface() + packet() * 2)[:-1], "truncated at frame 1", 1),
    "ng cut header": (section() + interface() + packet() + b"\6\0\0\0", "truncated at frame 1", 1),
    "ng no magic": (block(0x0A0D0D0A, bytes(16)), "byte-order magic", 0),
    "ng lengths differ": (section() + interface()[:-4] + bytes(4), "block lengths that differ", 0),
    "ng odd length": (section() + struct.pack("<II", 6, 13) + bytes(5), "a block length of 13", 0),
    "ng link": (section() + interface(link=147), "link type 147", 0),
    "ng no interface": (section() + interface() + packet() + packet(number=1), "interface 1, which was not described", 1),
    "ng caplen": (section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 0, 61, 61) + DATA), "beyond its block", 0),
    "ng short packet": (section() + interface() + block(6, bytes(8)), "too short", 0),
    "ng short interface": (section() + block(1, bytes(4)), "too short", 0),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(file: Path, name: str) -> None:
    """The frames before the damage come first; then one line that says where."""
    data, message, before = BAD[name]
    file.write_bytes(data)
    got: list[Frame] = []
    with pytest.raises(InputError) as caught:
        got.extend(read_capture(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
    assert len(got) == before


def test_what_start_can_know_is_said_at_start(file: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path, file):
        if path == file:
            file.write_bytes(pcap(link=127))
        with pytest.raises(InputError):
            read_capture(path)


def test_no_frames(file: Path) -> None:
    file.write_bytes(pcap())
    assert list(read_capture(file)) == []
    assert capture_info(file).first_ns is None


def test_write_and_read_back(tmp_path: Path) -> None:
    frames = [Frame(udp_frame().ts_ns + i, DATA[: 20 + i], 90, link, number, i) for i, (link, number) in enumerate([(1, 0), (113, 2), (1, 0)])]
    assert write_capture(tmp_path / "a.pcapng", frames) == 3
    assert list(read_capture(tmp_path / "a.pcapng")) == frames
    ethernet = [each for each in frames if each.link == 1]
    write_capture(tmp_path / "a.pcap", ethernet)
    assert [(each.ts_ns, each.data, each.wirelen) for each in read_capture(tmp_path / "a.pcap")] == [(e.ts_ns, e.data, e.wirelen) for e in ethernet]
    write_capture(tmp_path / "b.pcap", [])
    assert list(read_capture(tmp_path / "b.pcap")) == []


def test_what_cannot_be_written(tmp_path: Path) -> None:
    mixed = [Frame(1, DATA, 60, 1), Frame(1, DATA, 60, 113, index=1)]
    for name, frames in {
        "mixed.pcap": mixed,
        "mixed.pcapng": mixed,
        "tags.pcap": [Frame(1, DATA, 60, tags=((0x8100, 1),))],
        "super.pcapng": [Frame(1, DATA, 60, segments=2)],
        "old.pcap": [Frame(-1, DATA, 60)],
    }.items():
        with pytest.raises(UsageError):
            write_capture(tmp_path / name, frames)
    with pytest.raises(UsageError, match="cannot be written"):
        write_capture(tmp_path / "no" / "a.pcap", [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.pcap").symlink_to("/dev/full")
    with pytest.raises(SystemFault, match="No space left"):
        write_capture(tmp_path / "a.pcap", [Frame(1, DATA, 60)])

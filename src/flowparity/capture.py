# SPDX-License-Identifier: Apache-2.0
"""Capture files: a streaming reader of pcap and pcapng, and a writer.

A reader of our own, because the definition of right flows needs what scapy's raw readers (2.8) do not give: they hand out a packet that the file's end cuts as
if it were whole, end a cut pcapng without a word, tell no interface number and ignore its time offset (if_tsoffset). Formats: draft-ietf-opsawg-pcap and
draft-ietf-opsawg-pcapng. Timestamps are whole nanoseconds since the UNIX epoch, finer ones are floored.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flowparity.errors import InputError, SystemFault, UsageError
from flowparity.frame import Frame
from flowparity.links import LINK_NAMES

_BUFFER = 1 << 20
_LONGEST = 1 << 28  # a record or block beyond this is damage, not data
_PCAP_UNITS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # nanoseconds in a unit of the fraction, by magic
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_MAGIC_NG = 0x1A2B3C4D
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Interface:
    """Where frames of a capture came from."""

    link: int  # LINKTYPE_ number
    units: int = _SECOND  # timestamp units in a second
    offset: int = 0  # seconds added to every timestamp
    snaplen: int = 0  # octets; 0 = no limit
    name: str = ""


@dataclass(frozen=True, slots=True)
class CaptureInfo:
    """What a whole capture holds. Times are nanoseconds, None without frames."""

    kind: str  # "pcap" or "pcapng"
    interfaces: tuple[Interface, ...]
    frames: int
    first_ns: int | None
    last_ns: int | None


def read_capture(path: str | Path) -> Iterator[Frame]:
    """The frames of a capture, one at a time. What can be known at start (absent, not a capture, its link type) is an InputError of this call.

    A file that is cut or damaged gives the frames before the place and then raises an InputError that names the frame and the offset.
    """
    reader = _Reader(Path(path))
    frames = reader.frames()
    first = next(frames, None)
    return iter(()) if first is None else itertools.chain((first,), frames)


def capture_info(path: str | Path) -> CaptureInfo:
    """Reads a whole capture for its summary; raises as `read_capture`."""
    reader = _Reader(Path(path))
    count, first, last = 0, None, None
    for frame in reader.frames():
        count += 1
        first = frame.ts_ns if first is None else min(first, frame.ts_ns)
        last = frame.ts_ns if last is None else max(last, frame.ts_ns)
    return CaptureInfo(reader.kind, tuple(reader.seen), count, first, last)


class _Reader:
    """One pass over one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kind = ""
        self.seen: list[Interface] = []  # of all sections
        self._file: BinaryIO
        self._index = 0
        self._order = "<"

    def frames(self) -> Iterator[Frame]:
        """Opens the file and tells its kind by its first four octets."""
        if self.path.is_dir():
            raise InputError(f"{self.path}: a directory, not a capture; name the files in it")
        try:
            with self.path.open("rb", buffering=_BUFFER) as self._file:
                yield from self._by_magic(self._file.read(4))
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror}") from None

    def _by_magic(self, magic: bytes) -> Iterator[Frame]:
        if not magic:
            raise InputError(f"{self.path}: empty; give a pcap or pcapng file")
        if magic[:2] == b"\x1f\x8b" or magic in (b"\x28\xb5\x2f\xfd", b"\xfd7zX"):
            raise InputError(f"{self.path}: compressed; decompress it first (gunzip, zstd -d, unxz)")
        if magic == b"\x0a\x0d\x0d\x0a":
            self.kind = "pcapng"
            return self._pcapng()
        for order in "<>":
            if len(magic) == 4 and (units := _PCAP_UNITS.get(struct.unpack(f"{order}I", magic)[0])):
                self.kind, self._order = "pcap", order
                return self._pcap(units)
        raise InputError(f"{self.path}: neither pcap nor pcapng; give a capture as tcpdump or Wireshark write it")

    def _pcap(self, scale: int) -> Iterator[Frame]:
        read = self._file.read
        header = struct.unpack(f"{self._order}HHiIII", self._exactly(20, "in the file header"))
        link = header[5] & 0xFFFF  # the upper bits tell of FCS
        self._check_link(link)
        self.seen.append(Interface(link, _SECOND // scale, 0, header[4]))
        unpack = struct.Struct(f"{self._order}IIII").unpack
        while head := read(16):
            if len(head) < 16:
                raise self._cut("in a record header")
            seconds, fraction, caplen, wirelen = unpack(head)
            if caplen > _LONGEST:
                raise self._damaged(f"a captured length of {caplen}")
            data = read(caplen)
            if len(data) < caplen:
                raise self._cut(f"in its data ({len(data)} of {caplen} octets)")
            yield Frame(seconds * _SECOND + fraction * scale, data, wirelen, link, 0, self._index)
            self._index += 1

    def _pcapng(self) -> Iterator[Frame]:
        interfaces: list[Interface] = []
        head = b"\x0a\x0d\x0d\x0a"
        while head:
            head += self._exactly(8 - len(head), "in a block header") if len(head) < 8 else b""
            if head[:4] == b"\x0a\x0d\x0d\x0a":
                interfaces = []
                body = self._section(head[4:8])
            else:
                kind, size = struct.unpack(f"{self._order}II", head)
                body = self._body(size)
                if kind == _INTERFACE:
                    interfaces.append(self._interface(body))
                elif kind in (_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
                    yield self._frame(kind, body, interfaces)
                    self._index += 1
            head = self._file.read(8)

    def _section(self, size: bytes) -> bytes:
        """The section header, which sets the byte order of what follows."""
        magic = self._exactly(4, "in a section header")
        for order in "<>":
            if struct.unpack(f"{order}I", magic)[0] == _MAGIC_NG:
                self._order = order
                return magic + self._body(struct.unpack(f"{order}I", size)[0], already=4)
        raise self._damaged("a section header without the byte-order magic")

    def _body(self, size: int, already: int = 0) -> bytes:
        """The rest of a block of `size` octets whose first 8 and `already` more were read; without the trailing length, which must agree."""
        if size < 12 + already or size % 4 or size > _LONGEST:
            raise self._damaged(f"a block length of {size}")
        body = self._exactly(size - 8 - already, "in a block")
        if struct.unpack(f"{self._order}I", body[-4:])[0] != size:
            raise self._damaged("two block lengths that differ")
        return body[:-4]

    def _interface(self, body: bytes) -> Interface:
        if len(body) < 8:
            raise self._damaged("an interface description that is too short")
        link, _, snaplen = struct.unpack_from(f"{self._order}HHI", body)
        self._check_link(link)
        units, offset, name, at = 1_000_000, 0, "", 8
        while at + 4 <= len(body):
            code, size = struct.unpack_from(f"{self._order}HH", body, at)
            value = body[at + 4 : at + 4 + size]
            if code == 0 or len(value) < size:
                break
            if code == 2:  # if_name
                name = value.rstrip(b"\0").decode("utf-8", "replace")
            elif code == 9 and size == 1:  # if_tsresol: a power of 2 or of 10
                units = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif code == 14 and size == 8:  # if_tsoffset
                offset = struct.unpack(f"{self._order}q", value)[0]
            at += 4 + size + (-size) % 4
        self.seen.append(Interface(link, units, offset, snaplen, name))
        return self.seen[-1]

    def _frame(self, kind: int, body: bytes, interfaces: list[Interface]) -> Frame:
        if len(body) < (4 if kind == _SIMPLE_PACKET else 20):
            raise self._damaged("a packet block that is too short")
        stamp = None
        if kind == _SIMPLE_PACKET:  # interface 0, no time, captured length by the snap length
            number, start = 0, 4
            (wirelen,) = struct.unpack_from(f"{self._order}I", body)
        elif kind == _PACKET:
            number, high, low, caplen, wirelen = struct.unpack_from(f"{self._order}IIIII", body)
            stamp, start = high << 32 | low, 20
        else:
            number, _, high, low, caplen, wirelen = struct.unpack_from(f"{self._order}HHIIII", body)
            stamp, start = high << 32 | low, 20
        if number >= len(interfaces):
            raise self._damaged(f"a packet of interface {number}, which was not described")
        interface = interfaces[number]
        if stamp is None:
            caplen = min(wirelen, interface.snaplen or wirelen, len(body) - start)
        if start + caplen > len(body):
            raise self._damaged(f"a captured length of {caplen} beyond its block")
        time = 0 if stamp is None else stamp * _SECOND // interface.units + interface.offset * _SECOND
        return Frame(time, body[start : start + caplen], wirelen, interface.link, number, self._index)

    def _exactly(self, size: int, where: str) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise self._cut(where)
        return data

    def _check_link(self, link: int) -> None:
        if link not in LINK_NAMES:
            known = ", ".join(f"{name} {number}" for number, name in LINK_NAMES.items())
            raise InputError(f"{self.path}: link type {link} is not supported; known: {known} (S-LNK-1)")

    def _cut(self, where: str) -> InputError:
        return InputError(f"{self.path}: truncated at frame {self._index}, offset {self._file.tell()}: ends {where}; capture it again or use what came before")

    def _damaged(self, what: str) -> InputError:
        return InputError(f"{self.path}: damaged at frame {self._index}, before offset {self._file.tell()}: {what}; capture it again or use what came before")


def write_capture(path: str | Path, frames: Iterable[Frame], *, snaplen: int = 262_144) -> int:
    """Writes frames as pcap with nanoseconds, or as pcapng when the name ends so; returns how many.

    pcap holds one link type and no interfaces; pcapng keeps `Frame.interface`. Neither holds stripped tags, segments or times before 1970 (UsageError).
    """
    target = Path(path)
    try:
        file = target.open("wb", buffering=_BUFFER)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror}") from None
    try:
        with file:
            write = _write_pcapng if target.suffix == ".pcapng" else _write_pcap
            return write(file, frames, snaplen)
    except OSError as error:
        raise SystemFault(f"{target}: writing failed: {error.strerror}; make room and run again") from None


def _write_pcap(file: BinaryIO, frames: Iterable[Frame], snaplen: int) -> int:
    count, link = 0, None
    pack = struct.Struct("<IIII").pack
    for frame in frames:
        if link is None:
            link = frame.link
            file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, snaplen, link))
        _check_writable(frame)
        if frame.link != link or frame.ts_ns >= 2**32 * _SECOND:
            raise UsageError(f"frame {frame.index}: pcap holds one link type and times before 2106; write pcapng")
        seconds, fraction = divmod(frame.ts_ns, _SECOND)
        file.write(pack(seconds, fraction, len(frame.data), frame.wirelen))
        file.write(frame.data)
        count += 1
    if link is None:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, snaplen, 1))
    return count


def _write_pcapng(file: BinaryIO, frames: Iterable[Frame], snaplen: int) -> int:
    file.write(_block(_SECTION, struct.pack("<IHHq", _MAGIC_NG, 1, 0, -1)))
    links: list[int] = []
    count = 0
    for frame in frames:
        _check_writable(frame)
        while len(links) <= frame.interface:
            links.append(frame.link)
            resolution = struct.pack("<HHB3xI", 9, 1, 9, 0)
            file.write(_block(_INTERFACE, struct.pack("<HHI", frame.link, 0, snaplen) + resolution))
        if links[frame.interface] != frame.link:
            raise UsageError(f"frame {frame.index}: interface {frame.interface} has link type {links[frame.interface]}, not {frame.link}")
        stamp = struct.pack("<III", frame.interface, frame.ts_ns >> 32, frame.ts_ns & 0xFFFFFFFF)
        sizes = struct.pack("<II", len(frame.data), frame.wirelen)
        file.write(_block(_PACKET, stamp + sizes + frame.data))
        count += 1
    return count


def _check_writable(frame: Frame) -> None:
    if frame.tags or frame.segments > 1 or frame.ts_ns < 0:
        raise UsageError(f"frame {frame.index}: stripped tags, coalesced segments and times before 1970 have no place in a capture file")


def _block(kind: int, body: bytes) -> bytes:
    """A pcapng block: type, length, body padded to 4, length again."""
    body += b"\0" * (-len(body) % 4)
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size

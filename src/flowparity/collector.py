# SPDX-License-Identifier: Apache-2.0
"""Datagrams of an export: received over UDP with the kernel's timestamps, or read out of a capture."""

from __future__ import annotations

import errno
import ipaddress
import queue
import select
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from flowparity import capture
from flowparity.errors import FlowparityError, SystemFault, UsageError

SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
SO_RXQ_OVFL = getattr(socket, "SO_RXQ_OVFL", 40)
SO_RCVBUFFORCE = 33
_SO_MEMINFO, _MEMINFO_DROPS = 55, 8  # include/uapi/linux/sock_diag.h
MAX_DATAGRAM = 65_535
RECEIVE_BUFFER = 64 * 1024 * 1024

Source = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram of an export. `arrival_ns` counts since the UNIX epoch; `ip_octets` is the size of its IP packet, None when not known or in fragments."""

    payload: bytes
    source: Source
    arrival_ns: int
    ip_octets: int | None = None
    fragmented: bool = False
    checksum: bool | None = None  # True right, False wrong, None absent or not known
    unfinished: bool = False  # captured on the sending host, before the checksum was filled in


class Collector:
    """A UDP socket and the thread that empties it. Datagrams come out in order of arrival; `dropped` is what the kernel had no room for.

    Used as a context manager; port 0 takes a free one, see `address`. `make_socket(family, kind)` puts it elsewhere, into a namespace say. Without `own_thread`
    each `get` empties the socket first: for a caller that computes between two calls, because a thread that waits for the interpreter lock after every datagram
    empties it at 200 datagrams a second. UsageError when the address is not one to listen on, SystemFault when it is taken.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        receive_buffer: int = RECEIVE_BUFFER,
        make_socket: Callable[[int, int], socket.socket] = socket.socket,
        own_thread: bool = True,
    ) -> None:
        try:
            family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)[0]
            self._socket = make_socket(family, kind)
        except OSError as error:
            raise SystemFault(f"collector: {host}: {error}; give a local address to listen on") from None
        try:
            _enlarge(self._socket, receive_buffer)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
            self._socket.bind(where)
        except OSError as error:
            self._socket.close()
            remedy, kind_of_error = _REMEDIES.get(error.errno or 0, ("choose another port", SystemFault))
            raise kind_of_error(f"collector: cannot listen on {host} port {port}: {error.strerror}; {remedy}") from None
        self._socket.setblocking(False)
        self._wake_read, self._wake_write = socket.socketpair()
        self._queue: queue.SimpleQueue[Datagram | None] = queue.SimpleQueue()
        self._ended = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._own_thread = own_thread
        if own_thread:
            self._thread.start()

    @property
    def address(self) -> Source:
        """The address and port that it listens on."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def get(self, timeout: float | None = None) -> Datagram | None:
        """The next datagram; None after `timeout` seconds (None: no limit), or when the collector was stopped and all was given."""
        if self._ended:
            return None
        if not self._own_thread:
            self._drain()
            if self._queue.empty():
                select.select([self._socket], [], [], timeout)
                self._drain()
            timeout = 0
        try:
            found = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        self._ended = found is None
        return found

    def stop(self) -> list[Datagram]:
        """Stops after what the kernel already holds was read, and gives everything not yet taken. Safe to call twice."""
        if self._thread.is_alive():
            self._wake_write.send(b"x")
            self._thread.join()
        left = []
        while self._socket.fileno() >= 0 and (datagram := self.get(timeout=0)) is not None:
            left.append(datagram)
        if self._socket.fileno() >= 0:
            self.dropped = self._drops()
        self._ended = True
        for each in (self._socket, self._wake_read, self._wake_write):
            each.close()
        return left

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def __iter__(self) -> Iterator[Datagram]:
        """Every datagram until the collector is stopped."""
        while (datagram := self.get()) is not None:
            yield datagram

    def _run(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ)
                selector.register(self._wake_read, selectors.EVENT_READ)
                stopping = False
                while not stopping:
                    stopping = any(key.fileobj is self._wake_read for key, _ in selector.select())
                    self._drain()
        finally:
            self._queue.put(None)

    def _drops(self) -> int:
        """The kernel's count as it stands, also when no datagram came after the last that was dropped."""
        try:
            return max(self.dropped, int(struct.unpack_from("@I", self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64), 4 * _MEMINFO_DROPS)[0]))
        except (OSError, struct.error):  # a kernel before 4.12
            return self.dropped

    def _drain(self) -> None:
        while True:
            try:
                payload, ancillary, _, where = self._socket.recvmsg(MAX_DATAGRAM, 256)
            except BlockingIOError:
                return
            except ConnectionRefusedError:  # an ICMP error for something sent before; nothing was received
                continue
            arrival = time.time_ns()
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("@ll", data[:16])
                    arrival = seconds * 1_000_000_000 + nanoseconds
                elif level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
                    self.dropped = struct.unpack("@I", data[:4])[0]
            self._queue.put(Datagram(payload, (where[0], where[1]), arrival))


_REMEDIES: dict[int, tuple[str, type[FlowparityError]]] = {
    errno.EADDRINUSE: ("choose another port or end what uses it", SystemFault),
    errno.EADDRNOTAVAIL: ("that is no address of this machine; give one of its own, or 0.0.0.0 or [::] for all", UsageError),
    errno.EACCES: ("ports below 1024 need root (CAP_NET_BIND_SERVICE); choose a higher one", UsageError),
}


def _enlarge(sock: socket.socket, octets: int) -> None:
    """A receive buffer beyond the system's limit where that is allowed, else the limit."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, octets)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, octets)


@dataclass(slots=True)
class CaptureReport:
    """What of a capture was no whole UDP datagram."""

    packets: int = 0
    other: int = 0  # not UDP over IP
    truncated: int = 0  # cut by the snap length
    incomplete_fragments: int = 0
    overlapping_fragments: int = 0


def read_capture(path: Path, port: int | None = None, report: CaptureReport | None = None) -> Iterator[Datagram]:
    """The UDP payloads of a capture (pcap or pcapng), those to one destination port if given. IP fragments are put together.

    A packet that gives no whole datagram is counted in `report`. InputError when the file cannot be read as a capture, or where it is cut or damaged.
    """
    from scapy.config import conf
    from scapy.layers import inet, inet6, l2  # noqa: F401  (they bind the link types)
    from scapy.packet import Raw

    counts = report if report is not None else CaptureReport()
    fragments: dict[Any, _Fragments] = {}
    for frame in capture.read_capture(path):
        counts.packets += 1
        try:
            packet = conf.l2types.num2layer[frame.link](frame.data)
        except Exception:  # a dissector's, of whatever kind: what it cannot take apart is no datagram
            packet = Raw(frame.data)
        datagram = _datagram(packet, counts, fragments, frame.ts_ns)
        if datagram is not None and (port is None or datagram[1] == port):
            yield datagram[0]
    counts.incomplete_fragments += len(fragments)


class _Fragments:
    """The pieces of one IP packet."""

    LIMIT = 4_096  # packets in pieces at a time; the oldest goes first

    def __init__(self) -> None:
        self.pieces: dict[int, bytes] = {}
        self.end: int | None = None
        self.overlap = False

    def add(self, offset: int, data: bytes, more: bool) -> bytes | None:
        """Takes a piece; the whole payload when it is complete."""
        self.overlap |= offset in self.pieces and self.pieces[offset] != data
        self.pieces.setdefault(offset, data)
        if not more:
            self.end = offset + len(data)
        whole = b""
        for at in sorted(self.pieces):
            if at > len(whole):
                return None
            self.overlap |= at < len(whole)
            whole += self.pieces[at][len(whole) - at :]
        return whole if self.end is not None and len(whole) >= self.end else None


def _datagram(packet: Any, counts: CaptureReport, fragments: dict[Any, _Fragments], arrival: int) -> tuple[Datagram, int] | None:
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment

    ip = packet.getlayer(IP) or packet.getlayer(IPv6)
    if ip is None:
        counts.other += 1
        return None
    raw = bytes(ip.original) if ip.original else bytes(ip)
    if ip.version == 4:
        header, total, protocol = ip.ihl * 4, ip.len, ip.proto
        piece, key = raw[header:total], (4, ip.src, ip.dst, ip.id, protocol)
        offset, more = ip.frag * 8, bool(ip.flags.MF)
        fragmented, ip_octets = bool(offset or more), int(total)
    else:
        fragment = ip.getlayer(IPv6ExtHdrFragment)
        ip_octets = 40 + int(ip.plen)
        header, protocol = 40, ip.nh
        fragmented = fragment is not None and protocol == 44
        total, offset, more, key = ip_octets, 0, False, None
        if fragmented:
            protocol, header = fragment.nh, 48
            offset, more, key = fragment.offset * 8, bool(fragment.m), (6, ip.src, ip.dst, fragment.id, protocol)
        piece = raw[header:total]
    if protocol != 17:
        counts.other += 1
        return None
    if len(raw) < total:
        counts.truncated += 1
        return None
    if fragmented:
        if len(fragments) >= _Fragments.LIMIT and key not in fragments:
            del fragments[next(iter(fragments))]
            counts.incomplete_fragments += 1
        held = fragments.setdefault(key, _Fragments())
        whole = held.add(offset, piece, more)
        if whole is None:
            return None
        del fragments[key]
        counts.overlapping_fragments += held.overlap
        piece = whole
    return _from_udp(piece, str(ip.src), str(ip.dst), arrival, None if fragmented else ip_octets, fragmented, counts)


def _from_udp(
    piece: bytes, source: str, destination: str, arrival: int, ip_octets: int | None, fragmented: bool, counts: CaptureReport
) -> tuple[Datagram, int] | None:
    if len(piece) < 8:
        counts.truncated += 1
        return None
    source_port, destination_port, length, checksum = struct.unpack_from(">HHHH", piece)
    if not 8 <= length <= len(piece):
        counts.truncated += 1
        return None
    pseudo = _pseudo_header(source, destination, length)
    unfinished = checksum != 0 and checksum == _sum(pseudo)  # what Linux leaves to the interface or to segmentation (CHECKSUM_PARTIAL)
    right = _sum(pseudo + piece[:length]) == 0xFFFF if checksum and not unfinished else None
    return Datagram(piece[8:length], (source, source_port), arrival, ip_octets, fragmented, right, unfinished), destination_port


def _pseudo_header(source: str, destination: str, length: int) -> bytes:
    """What a UDP checksum covers besides the segment (RFC 768; RFC 8200 §8.1)."""
    return ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed + struct.pack(">II", length, 17)


def _sum(data: bytes) -> int:
    """The Internet checksum's sum (RFC 1071), not complemented."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total

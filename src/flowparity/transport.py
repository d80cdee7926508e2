# SPDX-License-Identifier: Apache-2.0
"""Export streams: a message goes in, its fate comes out. TCP, TLS and HTTP are further classes of the same shape.

A stream serves every observation domain of one format, so that a collector sees one source address and port. The loss of a message is a fate, never an
exception: a collector that is dead or refuses is the peer's fault and is counted (S-EXP-3). Only what the user or the system must mend raises.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import TracebackType

from flowparity.errors import SystemFault, UsageError

_UDP_HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}
DEFAULT_MTU = 1500


class Fate(Enum):
    """What became of a message."""

    SENT = "sent"
    REFUSED = "refused"


class ExportStream(ABC):
    """Where messages go. A context manager; closing twice is safe."""

    max_message: int  # octets that go in one message
    reliable: bool  # what is sent arrives, once and in order
    last_error: str = ""  # why a message was last refused

    @abstractmethod
    def send(self, message: bytes) -> Fate:
        """Offers one message. A refused one is gone: the caller counts it."""

    @abstractmethod
    def close(self) -> None:
        """Ends the stream."""

    def __enter__(self) -> ExportStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class UdpStream(ExportStream):
    """UDP to one collector from one socket (V5-TX-01). A message that the network or the collector's host refused is not sent again."""

    reliable = False

    def __init__(self, host: str, port: int, *, mtu: int = DEFAULT_MTU) -> None:
        """A UsageError if the name does not resolve or the port or MTU is impossible."""
        if not 1 <= port <= 65535:
            raise UsageError(f"collector {host}:{port}: the port is not 1 to 65535")
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except (OSError, UnicodeError) as error:
            raise UsageError(f"collector {host}:{port}: the address does not resolve: {error}") from None
        self.max_message = min(mtu, 65535) - _UDP_HEADERS[socket.AddressFamily(family)]
        if self.max_message < 1:
            raise UsageError(f"an MTU of {mtu} leaves no room for a message; give 576 or more")
        try:
            self._socket = socket.socket(family, kind, protocol)
        except OSError as error:
            raise SystemFault(f"no socket for the collector {host}:{port}: {error.strerror}") from None
        try:
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise UsageError(f"collector {host}:{port}: {error.strerror}; check the address and the route to it") from None

    @property
    def local(self) -> tuple[str, int]:
        """Address and port that the messages come from."""
        address, port = self._socket.getsockname()[:2]
        return str(address), int(port)

    def send(self, message: bytes) -> Fate:
        """One datagram."""
        try:
            self._socket.send(message)
        except OSError as error:
            self.last_error = error.strerror or str(error)
            return Fate.REFUSED
        return Fate.SENT

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


class MemoryStream(ExportStream):
    """Messages kept in a list, for tests and comparisons. `refuses` says by ordinal which message is lost."""

    def __init__(self, max_message: int = DEFAULT_MTU - 28, *, reliable: bool = False, refuses: Callable[[int], bool] | None = None) -> None:
        self.max_message = max_message
        self.reliable = reliable
        self.messages: list[bytes] = []
        self._refuses = refuses
        self._offered = 0

    def send(self, message: bytes) -> Fate:
        """Keeps the message."""
        ordinal, self._offered = self._offered, self._offered + 1
        if self._refuses is not None and self._refuses(ordinal):
            self.last_error = "refused by the test"
            return Fate.REFUSED
        self.messages.append(message)
        return Fate.SENT

    def close(self) -> None:
        """Nothing to do."""


class IpfixFileStream(ExportStream):
    """An IPFIX file (RFC 5655): messages one after the other, complete after each. For format "ipfix" only."""

    reliable = True
    max_message = 65535

    def __init__(self, path: str | Path) -> None:
        """A UsageError if the file cannot be made."""
        self._path = Path(path)
        try:
            self._file = self._path.open("wb", buffering=0)
        except OSError as error:
            raise UsageError(f"{self._path}: cannot be written: {error.strerror}") from None
        self._size = 0

    def send(self, message: bytes) -> Fate:
        """Appends the message. On failure the file is cut back to the last whole message and a SystemFault says so."""
        view = memoryview(message)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            with suppress(OSError):  # what is no regular file cannot be cut
                self._file.truncate(self._size)
            raise SystemFault(f"{self._path}: writing failed: {error.strerror}; whole up to octet {self._size}; make room and run again") from None
        self._size += len(message)
        return Fate.SENT

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

# SPDX-License-Identifier: Apache-2.0
"""The decoder: datagrams in, messages out. It raises for no octets, and its time and memory are bounded by the datagram's length and the limits of `state`."""

from __future__ import annotations

from collections.abc import Hashable

from flowparity.decode import ipfix, v5, v9
from flowparity.decode.model import Message
from flowparity.decode.state import Pen, Store


class Decoder:
    """Keeps the templates of every transport session and Observation Domain.

    `source` names the transport session (for UDP the exporter's address and port). `reliable` is True for TCP, SCTP and files, where
    template withdrawals are legal.
    """

    def __init__(self, *, reliable: bool = False) -> None:
        self._store = Store()
        self._reliable = reliable

    def feed(self, payload: bytes, source: Hashable = None, arrival_ns: int | None = None) -> Message:
        """Decodes one datagram (or one message of a stream). Whatever is irregular is in `Message.problems`."""
        version = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
        message = Message(version, source, arrival_ns, len(payload))
        if version == 5:
            v5.decode(payload, message)
        elif version == 9:
            v9.decode(payload, message, self._store)
        elif version == 10:
            ipfix.decode(payload, message, self._store, reliable=self._reliable)
        else:
            Pen(message).problem(0, "DEC-VER-01", "the datagram is too short for a version" if version is None else f"version {version} is none of 5, 9 and 10")
        return message

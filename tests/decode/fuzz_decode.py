# SPDX-License-Identifier: Apache-2.0
"""A fuzz target for the decoder: `python tests/decode/fuzz_decode.py [libFuzzer options] [corpus]`, with atheris installed.

An input is datagrams, each behind a 16-bit length, and a first octet that says whether the transport is reliable.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["flowparity.decode"]):
    from flowparity.decode import Decoder, Message, Normaliser
    from flowparity.decode.state import MAX_PROBLEMS, MAX_VALUES


def check(message: Message) -> None:
    """Nothing lies outside of the datagram and the bounds hold."""
    size, values = message.size, 0
    if len(message.problems) > MAX_PROBLEMS:
        raise AssertionError("more problems than are kept")
    for problem in message.problems:
        if not 0 <= problem.offset <= size:
            raise AssertionError(f"{problem} lies outside of {size} octets")
    for each in message.sets:
        if not 0 <= each.offset <= each.offset + each.length <= size:
            raise AssertionError(f"{each} lies outside of {size} octets")
    for record in message.records:
        values += len(record.values)
        if not 0 <= record.offset <= record.offset + record.length <= size:
            raise AssertionError(f"{record} lies outside of {size} octets")
    if values > MAX_VALUES:
        raise AssertionError("more values than are decoded")


def one_input(data: bytes) -> None:
    """Feeds the datagrams of one input; any exception is a finding."""
    decoder, normaliser = Decoder(reliable=bool(data[:1] and data[0] & 1)), Normaliser()
    at = 1
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        message = decoder.feed(data[at + 2 : at + 2 + size])
        check(message)
        if len(normaliser.flows(message)) != len(message.flows):
            raise AssertionError("a Data Record that gave no flow")
        at += 2 + size


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

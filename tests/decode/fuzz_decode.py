# SPDX-License-Identifier: Apache-2.0
"""A fuzz target for the decoder: `python tests/decode/fuzz_decode.py [libFuzzer options] [corpus]`, with atheris installed.

An input is datagrams, each behind a 16-bit length, and a first octet that says whether the transport is reliable.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["flowparity.decode"]):
    from flowparity.decode import Decoder, Normaliser
    from flowparity.decode.state import MAX_PROBLEMS, MAX_VALUES


def one_input(data: bytes) -> None:
    """Feeds the datagrams of one input; any exception is a finding."""
    decoder, normaliser = Decoder(reliable=bool(data[:1] and data[0] & 1)), Normaliser()
    at = 1
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        message = decoder.feed(data[at + 2 : at + 2 + size])
        if len(message.problems) > MAX_PROBLEMS or sum(len(r.values) for r in message.records) > MAX_VALUES:
            raise AssertionError("a bound does not hold")
        normaliser.flows(message)
        at += 2 + size


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

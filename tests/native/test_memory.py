# SPDX-License-Identifier: Apache-2.0
"""The backend `memory`: frames of this process are handed over, never named; its pipe tells the time with every burst."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flowparity.decode import Decoder
from flowparity.native import meter
from flowparity.profile import Profile

from .test_core import START, udp


@pytest.mark.parametrize("name", ["0x10", "1234", "", "pip:a", "/dev/null"])
def test_an_address_is_no_input(name: str) -> None:
    """In a process of its own: this read what the user's number pointed to."""
    code = f"from flowparity.native import *; Exporter(RunConfig('memory', {name!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "UsageError: backend memory: the input" in done.stderr
    assert "pipe:NAME" in done.stderr


def test_equal_frames_give_equal_datagrams() -> None:
    """The interface's name was a heap address."""
    frames = [udp(i, START + i, sport=i) for i in range(100)]
    first, _ = meter(frames, Profile(), ("9", "ipfix"))
    room = [bytes(100_000 * i) for i in range(1, 5)]
    second, _ = meter(frames, Profile(), ("9", "ipfix"))
    assert first == second
    assert room
    decoder = Decoder()
    options = [option for datagram in first["ipfix"] for option in decoder.feed(datagram).options]
    names = {value for option in options for element, value in option.values if element.name == "interfaceName"}
    assert names == {"memory"}

# SPDX-License-Identifier: Apache-2.0
"""The backend `memory`: frames of this process are handed over, never named; its pipe tells the time with every burst."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from flowparity.decode import Decoder
from flowparity.native import Exporter, Player, RunConfig, meter
from flowparity.profile import Profile

from .test_core import SECOND, START, udp


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


def test_a_pipe_tells_the_time_with_its_frames() -> None:
    """max_clock_step holds from the first frame on: the first one is stamped an hour ahead, and the source was never idle."""
    now = time.time_ns()
    frames = [udp(0, now + 3600 * SECOND), udp(1, now), udp(2, now + 1)]
    with Exporter(RunConfig("memory", "pipe:time", clock="wall")) as exporter:
        player = threading.Thread(target=Player("memory", "pipe:time").play, args=(frames,))
        player.start()
        player.join(0.2)  # not for the outcome: only so that the frames mostly are there before the first look
        account = exporter.run().accounting
        player.join()
    assert account.clock_steps == 1
    assert account.late == 0

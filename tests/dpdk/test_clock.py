# SPDX-License-Identifier: Apache-2.0
"""The clock is that of the opened source: a backend that can be live reads files too (S-TIM-4)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flowparity.collector import Collector
from flowparity.decode import Decoder, Normaliser

from .conftest import udp_frame

SECOND = 10**9


def export(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flowparity", "export", "--backend", "dpdk", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("given", ["{}", "feed:{}"])
def test_a_file_is_metered_on_packet_time(capture: Path, given: str) -> None:
    """NetFlow v9 has 32 bits of uptime behind the boot second: that of the first frame, not of this run."""
    with Collector() as collector:
        host, port = collector.address
        done = export("--input", given.format(capture), "--version", "9", "--collector", f"{host}:{port}")
        datagrams = collector.stop()
    assert done.returncode == 0, done.stderr
    assert "dropped before: unknown" not in done.stderr
    decoder, normaliser = Decoder(), Normaliser()
    flows = [flow for each in datagrams for flow in normaliser.flows(decoder.feed(each.payload, each.source))]
    assert len(flows) == 50
    begin = udp_frame(0).ts_ns
    assert all(begin <= flow.first_ns <= flow.last_ns <= begin + 2 * SECOND for flow in flows)


@pytest.mark.parametrize("given", ["{}", "feed:{}"])
def test_a_file_has_no_wall_clock(capture: Path, given: str) -> None:
    done = export("--input", given.format(capture), "--clock", "wall", "--collector", "127.0.0.1:9")
    assert done.returncode == 2, done.stderr
    assert "clock: wall needs a live source" in done.stderr

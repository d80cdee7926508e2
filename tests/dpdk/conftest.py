# SPDX-License-Identifier: Apache-2.0
"""One process for each DPDK run: DPDK starts once in a process, and a crash must stay one failed test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from flowparity import native
from flowparity.capture import write_capture
from flowparity.frame import Frame
from flowparity.harness.rigs.hugepages import Hugepages

SCRIPT = Path(__file__).with_name("steps.py")

Step = Mapping[str, Any]
Steps = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session", autouse=True)
def _dpdk() -> Iterator[None]:
    """Hugepages for the session; without the backend there is nothing to test."""
    if not any(each.name == "dpdk" and each.available for each in native.backends()):
        pytest.skip("the backend dpdk is not built here; apt-get install dpdk libdpdk-dev")
    with Hugepages():
        yield


def run_steps(*steps: Step, prefix: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Runs steps of steps.py one after the other in one process; fails if it crashes or writes anything of its own."""
    done = subprocess.run([*prefix, sys.executable, str(SCRIPT), json.dumps(steps)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    answers: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(steps), done.stdout
    return answers


@pytest.fixture
def steps() -> Steps:
    """`run_steps`."""
    return run_steps


def udp_frame(index: int, *, host: int = 1, size: int = 60, tag: bytes = b"") -> Frame:
    """An Ethernet frame with UDP from 10.0.0.`host`, at index × 1,000,001 ns after the first second of 2024."""
    payload = size - 42 - len(tag)
    ip = bytes([0x45, 0]) + (28 + payload).to_bytes(2, "big") + bytes([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, host, 10, 0, 1, 1])
    udp = (1000 + host).to_bytes(2, "big") + b"\0\x35" + (8 + payload).to_bytes(2, "big") + b"\0\0"
    data = bytes(12) + tag + b"\x08\0" + ip + udp + bytes(payload)
    return Frame(1_704_067_200_000_000_000 + index * 1_000_001, data, len(data), index=index)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """1,000 frames of 50 hosts."""
    path = tmp_path / "thousand.pcap"
    write_capture(path, (udp_frame(i, host=1 + i % 50) for i in range(1000)))
    return path

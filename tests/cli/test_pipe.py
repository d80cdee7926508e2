# SPDX-License-Identifier: Apache-2.0
"""A capture through a pipe whose writer is idle: what it wrote is metered, and a wish to stop is heard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import RECORDED, start

HTTP = RECORDED / "http-ipv4.pcap"


def wait_for_handler(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Until the process catches the signal."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        caught = next(line.split()[1] for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("SigCgt:"))
        if int(caught, 16) >> (number - 1) & 1:
            return
        time.sleep(0.01)
    raise TimeoutError(f"{number.name} is not caught")


@pytest.mark.parametrize("tail", [0, 10], ids=["between records", "in a record"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_pipe_whose_writer_is_idle(tmp_path: Path, number: signal.Signals, tail: int) -> None:
    """What came until then is exported and accounted for; half a record was never received."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = HTTP.read_bytes()
    with start("export", "--input", pipe, "--collector", "127.0.0.1:9", "--json") as process:
        feeder = os.open(pipe, os.O_WRONLY)
        try:
            os.write(feeder, data + data[24 : 24 + tail])
            wait_for_handler(process, signal.SIGTERM)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            os.close(feeder)
            process.kill()
    assert process.returncode == 0, err
    told = json.loads(out)
    assert told["broken"] == []
    assert told["received"] in range(100)
    assert told["resident_packets"] == 0


def test_frames_of_a_pipe_do_not_wait_for_a_full_burst(tmp_path: Path) -> None:
    """The accounting of the moment counts what the idle writer has written."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with start("export", "--input", pipe, "--collector", "127.0.0.1:9") as process:
        feeder = os.open(pipe, os.O_WRONLY)
        try:
            os.write(feeder, HTTP.read_bytes())
            wait_for_handler(process, signal.SIGTERM)
            assert process.stderr is not None
            for _ in range(200):
                process.send_signal(signal.SIGUSR1)
                line = next(line for line in process.stderr if " received " in line)
                if " received 99 = " in line:
                    break
            else:
                pytest.fail(line)
        finally:
            os.close(feeder)
            process.communicate(timeout=60)
    assert process.returncode == 0

# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C: one line, a status, and nothing left behind, whenever it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import RECORDED, start

FORKING = """
name = "forking"
summary = "starts a process of its own and waits for it, for ever"
executable = "sh"
package = "dash"
argv = ["sh", "-c", "sleep 1000 & echo $! > {pid}.new; mv {pid}.new {pid}; wait"]
formats = {{ ipfix = "10" }}
timeout = 600.0
"""


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes to be within a time that only a failure takes."""
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_grandchildren_end_with_parity(tmp_path: Path, number: signal.Signals) -> None:
    pid_file, description, scratch = tmp_path / "pid", tmp_path / "forking.toml", tmp_path / "scratch"
    description.write_text(FORKING.format(pid=pid_file), encoding="utf-8")
    scratch.mkdir()
    arguments = ["parity", RECORDED / "dns.pcap", "--backend", f"{description},memory", "--version", "ipfix", "--timeout", 600]
    heeded = {"preexec_fn": lambda: signal.signal(number, signal.SIG_DFL)}  # whatever the tests themselves run under
    with start(*arguments, env=os.environ | {"TMPDIR": str(scratch)}, **heeded) as process:
        assert eventually(pid_file.exists), process.poll()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in out + err
    assert number != signal.SIGINT or err == "flowparity: interrupted\n"
    grandchild = int(pid_file.read_text(encoding="utf-8"))
    assert eventually(lambda: is_gone(grandchild))
    assert list(scratch.iterdir()) == []


def test_parity_leaves_no_directory(tmp_path: Path) -> None:
    with start("parity", RECORDED / "dns.pcap", "--backend", "memory", env=os.environ | {"TMPDIR": str(tmp_path)}) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert list(tmp_path.iterdir()) == []


AT_IMPORT = """
import sys

class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            raise KeyboardInterrupt
        return None

sys.meta_path.insert(0, Interrupts())
from flowparity.cli import main
main()
"""


def test_before_the_command_has_started() -> None:
    done = subprocess.run([sys.executable, "-c", AT_IMPORT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130
    assert done.stderr == "flowparity: interrupted\n"

# SPDX-License-Identifier: Apache-2.0
"""A command line in this process (fast) or in one of its own (signals, pipes, full disks)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import flowparity.cli

FIXTURES = Path(__file__).parents[2] / "fixtures"
RECORDED = FIXTURES / "recorded"
PROGRAM = [sys.executable, "-m", "flowparity"]


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str

    def is_one_line(self, status: int, *words: str) -> None:
        """The outcome of a user's mistake: the status, one line that holds the words, no traceback, and nothing that looks like a result."""
        assert self.status == status, self
        assert self.err.startswith("flowparity: "), self
        assert self.err.count("\n") == 1, self
        assert "Traceback" not in self.err + self.out
        for word in words:
            assert word in self.err, self


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs a command line in this process."""

    def call(*arguments: Any) -> Result:
        capfd.readouterr()
        status = flowparity.cli.run([str(each) for each in arguments])
        out, err = capfd.readouterr()
        return Result(status, out, err)

    return call


def start(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
    """Starts a command line in a process of its own."""
    return subprocess.Popen([*PROGRAM, *map(str, arguments)], text=True, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})


def spawn(*arguments: Any, **options: Any) -> Result:
    """Runs a command line in a process of its own to its end."""
    with start(*arguments, **options) as process:
        out, err = process.communicate(timeout=120)
        return Result(process.returncode, out or "", err or "")

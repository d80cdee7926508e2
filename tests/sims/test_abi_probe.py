# SPDX-License-Identifier: Apache-2.0
"""The ABI probe prints over the stand-in what the real module printed, and over the real module where there is one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flowparity.harness.rigs.sims import stand_in
from tests.sims.build import NATIVE, program

SOURCE = NATIVE / "sim/netmap/abi_probe.c"
TRANSCRIPT = (NATIVE / "sim/netmap/transcript.txt").read_text(encoding="utf-8")


def _probe(built: Path, **environment: str) -> str:
    done = subprocess.run([program(built, SOURCE)], env=os.environ | environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_stand_in_prints_what_the_module_printed(built: Path) -> None:
    assert _probe(built, LD_PRELOAD=str(stand_in("netmap")), FLOWPARITY_NETMAP_SIM="strict=0,traps=0") == TRANSCRIPT


def test_the_strict_stand_in_aborts_where_the_module_lets_pass(built: Path) -> None:
    environment = os.environ | {"LD_PRELOAD": str(stand_in("netmap")), "FLOWPARITY_NETMAP_SIM": "strict=1,traps=0"}
    done = subprocess.run([program(built, SOURCE)], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert "netmap stand-in: illegal use" in done.stderr
    assert done.returncode < 0


@pytest.mark.skipif(not Path("/dev/netmap").exists(), reason="no netmap module is loaded: the probe ran over the stand-in only")
def test_the_real_module_still_prints_it(built: Path) -> None:
    assert _probe(built) == TRANSCRIPT

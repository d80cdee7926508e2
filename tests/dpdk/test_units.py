# SPDX-License-Identifier: Apache-2.0
"""The DPDK plug-in's arithmetic (units.c), against DPDK's own hash and a clock that the test turns."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines that units.c prints."""
    found = subprocess.run(["pkg-config", "--cflags", "libdpdk"], capture_output=True, text=True, check=False)
    if found.returncode or not shutil.which("cc"):
        pytest.skip("no libdpdk headers; apt-get install libdpdk-dev")
    flags = found.stdout.replace("-I", "-isystem ").split()
    program = tmp_path_factory.mktemp("units") / "units"
    command = ["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}/backends/dpdk", f"-I{NATIVE}/include", *flags]
    subprocess.run([*command, str(HERE / "units.c"), "-o", str(program), "-lrte_eal"], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "name",
    [
        "toeplitz-ipv4-tcp",
        "toeplitz-symmetric",
        "toeplitz-fragment",
        "toeplitz-cut",
        "toeplitz-ipv6-udp",
        "toeplitz-not-ip",
        "ticks-unreadable",
        "ticks-within-2us-of-the-wall",
        "ticks-before-the-reading",
    ],
)
def test_unit(verdicts: list[str], name: str) -> None:
    """Each check of units.c by its name."""
    assert f"ok {name}" in verdicts

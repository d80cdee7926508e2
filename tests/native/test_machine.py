# SPDX-License-Identifier: Apache-2.0
"""On a machine that the core is not written for, the compiler's first line says so."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

INCLUDE = Path(__file__).parents[2] / "native" / "include"


@pytest.mark.parametrize("options", [["-U__BYTE_ORDER__", "-D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__"], []])
def test_another_machine_is_refused(options: list[str]) -> None:
    command = [os.environ.get("CC", "gcc"), "-std=gnu17", "-fsyntax-only", *options, f"-I{INCLUDE}", "-x", "c", "-"]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, input='#include "flowparity/core.h"\n', capture_output=True, text=True, check=False, env=environment)
    assert ("64-bit little-endian machines" in done.stderr) == bool(options), done.stderr

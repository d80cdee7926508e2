# SPDX-License-Identifier: Apache-2.0
"""Keys chosen to collide without knowing the seed cost the table no more than random ones. Counted, not timed: see flood.c."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

NATIVE = Path(__file__).parents[2] / "native"


def test_keys_that_collide_under_another_seed(tmp_path: Path) -> None:
    program = tmp_path / "flood"
    sources = [Path(__file__).parent / "flood.c", *(NATIVE / "core" / name for name in ("parse.c", "table.c"))]
    includes = [f"-DFP_MUTANT_ID={os.environ.get('FLOWPARITY_MUTANT', 0)}", f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'core'}"]
    compiler = os.environ.get("CC", "gcc")
    subprocess.run([compiler, "-std=gnu17", "-O2", "-D_GNU_SOURCE", *includes, *sources, "-o", program], check=True, capture_output=True)
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    (random_stash, random_compared), (stash, compared), (known_stash, _) = (map(int, line.split()) for line in lines)
    assert random_stash == stash == 0
    assert compared <= 2 * max(random_compared, 10)
    assert known_stash > 8_000, "the keys do not collide under the seed that they were chosen for: the test proves nothing"

# SPDX-License-Identifier: Apache-2.0
"""Builds flood.c; `python -m tests.native.flooding` prints what colliding keys cost the meter beside random ones."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

NATIVE = Path(__file__).parents[2] / "native"


def build(directory: Path) -> Path:
    """The program, in this directory."""
    program = directory / "flood"
    sources = [Path(__file__).parent / "flood.c", *(NATIVE / "core" / name for name in ("meter.c", "parse.c", "table.c"))]
    includes = [f"-DFP_MUTANT_ID={os.environ.get('FLOWPARITY_MUTANT', 0)}", f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'core'}"]
    compiler = os.environ.get("CC", "gcc")
    subprocess.run([compiler, "-std=gnu17", "-O3", "-D_GNU_SOURCE", *includes, *sources, "-o", program], check=True, capture_output=True)
    return program


def run(program: Path, *arguments: str) -> list[list[float]]:
    """Its three lines as numbers: random keys, chosen ones, chosen ones under the seed that they were chosen for."""
    lines = subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout.splitlines()
    return [[float(number) for number in line.split()] for line in lines]


def main() -> None:
    """Prints times and ratios of one run."""
    with tempfile.TemporaryDirectory() as directory:
        rows = run(build(Path(directory)), "time")
    print(f"{'keys':<32}{'first packet':>22}{'further packets':>22}")
    for name, row in zip(("random", "chosen for another seed", "chosen for this very seed"), rows, strict=True):
        print(f"{name:<32}" + "".join(f"{ns:>12.1f} ns {ns / base:5.2f} x" for ns, base in zip(row, rows[0], strict=True)))


if __name__ == "__main__":
    main()

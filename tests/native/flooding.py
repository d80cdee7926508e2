# SPDX-License-Identifier: Apache-2.0
"""Runs flood.c; `python -m tests.native.flooding` prints what colliding keys cost the meter beside random ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.native.programs import build, run


def numbers(program: Path, *arguments: str) -> list[list[float]]:
    """Its three lines as numbers: random keys, chosen ones, chosen ones under the seed that they were chosen for."""
    return [[float(number) for number in line.split()] for line in run(program, *arguments)]


def main() -> None:
    """Prints times and ratios of one run."""
    with tempfile.TemporaryDirectory() as directory:
        rows = numbers(build("flood", Path(directory)), "time")
    print(f"{'keys':<32}{'first packet':>22}{'further packets':>22}")
    for name, row in zip(("random", "chosen for another seed", "chosen for this very seed"), rows, strict=True):
        print(f"{name:<32}" + "".join(f"{ns:>12.1f} ns {ns / base:5.2f} x" for ns, base in zip(row, rows[0], strict=True)))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Line coverage of the parts that have to be covered: a table, and status 1 when one is below the bound.

Usage: coverage.py C-JSON PYTHON-JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

BOUND = 95.0
"""Per cent of a file's lines."""

C = {
    "parser": ("parse.c", "parse_hot.h"),
    "cache": ("meter.c", "table.c", "table_hot.h"),
    "encoders": ("enc_ipfix.c", "enc_v5.c", "enc_v9.c", "fields.c", "stream.c", "writer.h"),
}
PYTHON = {
    "parser": ("links.py", "packet.py"),
    "cache": ("cache.py", "expiry.py", "reference.py"),
    "encoders": ("export.py", "fields.py", "encode/*.py"),
    "decoder": ("decode/*.py",),
}


def c_files(report: Path) -> dict[str, float]:
    """Per cent by path below native/core, from gcovr's summary."""
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    return {each["filename"].partition("native/core/")[2]: each["line_percent"] for each in files}


def python_files(report: Path) -> dict[str, float]:
    """Per cent by path below the package, from coverage.py's report."""
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    return {name.partition("module/flowparity/")[2]: each["summary"]["percent_covered"] for name, each in files.items()}


def low(title: str, parts: dict[str, tuple[str, ...]], found: dict[str, float]) -> list[str]:
    """Prints the rows of one language and returns the files below the bound. A pattern that names no file is an error of this list."""
    below = []
    for part, patterns in parts.items():
        for pattern in patterns:
            names = sorted(name for name in found if Path(name).match(pattern) and name.count("/") == pattern.count("/"))
            if not names:
                raise SystemExit(f"ci/coverage.py: no file is {pattern}: correct the list")
            for name in names:
                print(f"{title:<8}{part:<10}{name:<24}{found[name]:>7.1f} %{'  below' if found[name] < BOUND else ''}")
                below += [name] if found[name] < BOUND else []
    return below


def main() -> None:
    """Both languages."""
    below = low("C", C, c_files(Path(sys.argv[1]))) + low("Python", PYTHON, python_files(Path(sys.argv[2])))
    if below:
        raise SystemExit(f"ci/coverage.py: below {BOUND} %: {' '.join(below)}")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Writes left_out.toml anew: `python -m tests.kernel.left_out`. A change of it is to be read, not only committed."""

from pathlib import Path

from tests.kernel.bench import ROWS, all_cases, why_left_out

_HEAD = (
    "# Cases that a link or a backend cannot carry, and why; the suite checks that this list is what it finds. Written by `python -m tests.kernel.left_out`.\n"
)


def main() -> None:
    """Writes the list beside this file."""
    lines = [_HEAD]
    cases = all_cases()
    for row in ROWS:
        lines.append(f"[{row.name}]")
        lines += [f'"{case.name}" = "{why_left_out(case, row)}"' for case in cases if why_left_out(case, row)]
        lines.append("")
    Path(__file__).with_suffix(".toml").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()

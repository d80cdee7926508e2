# SPDX-License-Identifier: Apache-2.0
"""Writes left_out.toml anew: `python -m tests.sims.left_out`. A change of it is to be read, not only committed."""

from __future__ import annotations

from pathlib import Path

from flowparity.harness.cases import cases_of
from flowparity.harness.engine import Bench, Settings
from flowparity.harness.live import live_places
from flowparity.harness.results import Status
from flowparity.harness.rigs.sims import ROWS

ROOT = Path(__file__).resolve().parents[2]
CASES = cases_of([ROOT / "fixtures"])
NOT_ETHERNET = "link type"
REFUSED = ("refused",)  # cases about a run that is not to take place at all
_HEAD = """\
# Cases that a path into these backends cannot carry, and why; the suite checks that this list is what it finds.
# Written by `python -m tests.sims.left_out`.
"""


def reasons(backend: str) -> dict[str, str]:
    """Why cases are left out over the backend's first row."""
    name = next(row.name for row in ROWS if row.backend == backend)
    out = {}
    with live_places([name]) as places, Bench([name], places) as bench:
        for case in CASES:
            for cell in bench.run(case, name, Settings()):
                if cell.status is Status.LEFT_OUT:
                    out[case.name] = cell.reason
    return out


def main() -> None:
    """Writes the list beside this file."""
    lines = [_HEAD]
    for backend in ("netmap", "pfring", "pfring_zc"):
        lines.append(f"[{backend}]")
        lines += [f'"{name}" = "{reason}"' for name, reason in reasons(backend).items()]
        lines.append("")
    Path(__file__).with_suffix(".toml").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()

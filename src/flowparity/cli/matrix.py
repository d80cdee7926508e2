# SPDX-License-Identifier: Apache-2.0
"""The matrix of agreement for a terminal: what was compared down, exporters and formats across."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.table import Table
from rich.text import Text

from flowparity.harness.results import Cell, Results, Status

_MARKS = {
    Status.PASS: ("agree", "green"),
    Status.KNOWN: ("known", "yellow"),
    Status.FAIL: ("DIFFER", "bold red"),
    Status.ERROR: ("ERROR", "bold red"),
    Status.LEFT_OUT: ("left out", "dim"),
    Status.UNAVAILABLE: ("absent", "dim"),
}
_WORST_FIRST = (Status.ERROR, Status.FAIL, Status.KNOWN, Status.PASS, Status.LEFT_OUT, Status.UNAVAILABLE)
_FORMAT_NAMES = {"5": "v5", "9": "v9", "ipfix": "IPFIX"}
_MOST_ROWS = 40  # beyond this, a row is a topic


def matrix(results: Results) -> Table:
    """One row for each case, or for each topic where there are many."""
    by_topic = len({cell.case for cell in results.cells}) > _MOST_ROWS
    columns = list(dict.fromkeys((cell.subject, cell.format) for cell in results.cells))
    tiers = {(cell.subject, cell.format): str(cell.tier or "") for cell in results.cells if cell.tier is not None}
    table = Table("topic" if by_topic else "capture", box=None, pad_edge=False)
    for subject, name in columns:
        tier = tiers.get((subject, name), "")
        table.add_column(Text(f"{subject}{' (' + tier + ')' if tier else ''}\n{_FORMAT_NAMES.get(name, name)}"), justify="left")
    rows: dict[str, list[Cell]] = {}
    for cell in results.cells:
        rows.setdefault(cell.topic if by_topic else cell.case, []).append(cell)
    for title, cells in rows.items():
        table.add_row(Text(title), *(_square([cell for cell in cells if (cell.subject, cell.format) == column], by_topic) for column in columns))
    return table


def _square(cells: list[Cell], counted: bool) -> Text:
    """What a square says: the worst of its cells, with numbers where it holds several."""
    if not cells:
        return Text("")
    counts = Counter(cell.status for cell in cells)
    worst = next(status for status in _WORST_FIRST if counts[status])
    word, style = _MARKS[worst]
    if counted:
        word += f" {counts[worst]}/{len(cells)}"
    elif worst is Status.PASS:
        word += f" ({cells[0].records})"
    return Text(word, style)


def not_compared(cells: Iterable[Cell]) -> Iterator[str]:
    """Why cases were left out, each reason once with how many it concerns."""
    reasons = Counter((cell.status, cell.subject, cell.reason) for cell in cells if cell.status in (Status.LEFT_OUT, Status.UNAVAILABLE))
    for (status, subject, reason), number in reasons.items():
        yield f"{status}, {number} × {subject}: {reason}"

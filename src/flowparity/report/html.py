# SPDX-License-Identifier: Apache-2.0
"""The matrix as one HTML page that needs nothing else: every square opens to its cells and their explanations."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from flowparity import __version__
from flowparity.harness.results import Cell, Results, Status
from flowparity.report.matrix import SHOWN, Matrix, Square, reasons, summary, verdict

_CLASS = {
    Status.PASS: "pass",
    Status.FAIL: "fail",
    Status.ERROR: "fail",
    Status.KNOWN: "known",
    Status.LEFT_OUT: "out",
    Status.UNAVAILABLE: "out",
}
_CSS = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse}th,td{border:1px solid #d0d7de;padding:.3rem .6rem;vertical-align:top;text-align:left}
thead th{position:sticky;top:0;background:#f6f8fa;white-space:pre-line}
.pass{background:#e6f6ea}.fail{background:#ffebe9}.known{background:#fff8c5}.out{color:#6e7781}
summary{cursor:pointer;white-space:nowrap}code,pre{font:12px/1.4 ui-monospace,monospace}
pre{white-space:pre-wrap;overflow-wrap:anywhere;max-width:60rem;margin:.3rem 0}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}thead th{background:#161b22}
th,td{border-color:#30363d}.pass{background:#12261e}.fail{background:#3c1618}.known{background:#332a0d}}
"""


def page(results: Results) -> str:
    """The whole page."""
    return "\n".join(_page(results))


def _page(results: Results) -> Iterator[str]:
    matrix = Matrix(results)
    yield "<!doctype html>"
    yield f"<html lang=en><meta charset=utf-8><title>flowparity: {escape(verdict(results))}</title><style>{_CSS}</style>"
    yield f"<h1>{escape(verdict(results))}</h1><p>{escape(summary(results))}. flowparity {escape(__version__)}.</p>"
    if results.about:
        yield f"<p class=out>{'<br>'.join(f'{escape(name)}: {escape(value)}' for name, value in results.about.items())}</p>"
    subjects = matrix.by_subject()
    yield f"<p class=out>formats together: {', '.join(dict.fromkeys(SHOWN[name] for _, name in matrix.columns))}</p>"
    yield f"<table><thead><tr><th>{'capture' if matrix.by_case else 'topic'}"
    for columns in subjects:
        yield f"<th>{escape(matrix.subject(columns[0][0]))}"
    yield "</thead><tbody>"
    for topic in matrix.topics:
        yield f"<tr><th>{escape(topic)}"
        for columns in subjects:
            square = matrix.square(topic, *columns)
            yield "<td>" if square is None else _square(square)
    yield "</table>"
    left = list(reasons(results))
    if left:
        yield "<h2>Not compared, and why</h2><ul>"
        for subject, count, word, reason in left:
            yield f"<li>{escape(subject)}: {count} {word}: {escape(reason)}"
        yield "</ul>"
    yield "</html>"


def _square(square: Square) -> str:
    body = "".join(_cell(cell) for cell in square.cells)
    opened = " open" if square.status in (Status.FAIL, Status.ERROR) else ""
    return f'<td class="{_CLASS[square.status]}"><details{opened}><summary>{escape(square.text)}</summary>{body}</details>'


def _cell(cell: Cell) -> str:
    level = f" at {cell.level}" if cell.level else ""
    name = f"{cell.case} · {SHOWN[cell.format]}"
    lines = [f"<div><code>{escape(name)}</code>: {escape(cell.status)}{escape(level)}, {cell.records} records, {cell.cpu_seconds:.3f} CPU s"]
    if cell.status is not Status.PASS:
        lines.append(f"<pre>{escape(chr(10).join(cell.lines(most=20)))}</pre>")
    lines += [f"<div class=out>{escape(note)}</div>" for note in (*cell.notes, *cell.remarks)]
    if cell.artefacts:
        lines.append(f"<div>artefacts: <code>{escape(cell.artefacts)}</code></div>")
    return "".join([*lines, "</div>"])

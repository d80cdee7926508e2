#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws docs/parity.svg, the picture of the README. Run it after a change: `python docs/picture.py`."""

from __future__ import annotations

from html import escape
from pathlib import Path

WIDTH, HEIGHT = 960, 330
INK, PALE, OURS, THEIRS, CHECK = "#1f2933", "#ffffff", "#dcefe3", "#dde8f7", "#fbeccb"


def box(x: int, y: int, width: int, height: int, fill: str, *lines: str) -> str:
    """A box with a title and smaller lines below it, all centred."""
    middle = x + width / 2
    out = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{INK}"/>']
    top = y + height / 2 - (len(lines) - 1) * 8.5 + 5
    for number, line in enumerate(lines):
        style = 'font-size="15" font-weight="600"' if number == 0 else 'font-size="12.5"'
        out.append(f'<text x="{middle:g}" y="{top + number * 17:g}" {style} text-anchor="middle">{escape(line)}</text>')
    return "\n".join(out)


def arrow(*points: tuple[int, int], label: str = "", above: bool = True) -> str:
    """A line with a head at its end; the label stands at its first part."""
    path = " ".join(f"{x},{y}" for x, y in points)
    out = f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.5" marker-end="url(#head)"/>'
    if label:
        (x1, y1), (x2, _) = points[0], points[1]
        y = y1 - 7 if above else y1 + 17
        out += f'\n<text x="{(x1 + x2) / 2:g}" y="{y:g}" font-size="12.5" text-anchor="middle">{escape(label)}</text>'
    return out


def picture() -> str:
    """The whole picture."""
    parts = [
        box(20, 130, 120, 70, PALE, "packets", "a capture, a link"),
        box(215, 30, 300, 76, OURS, "reference exporter", "pure Python, from docs/semantics.md", "the definition of right flows"),
        box(215, 222, 118, 84, THEIRS, "backend", "pcap, AF_XDP,", "DPDK, …"),
        box(365, 222, 150, 84, THEIRS, "native core", "C, many workers", "or your exporter"),
        box(600, 222, 140, 84, OURS, "decoder", "strict, with tables", "of its own"),
        box(600, 130, 140, 62, CHECK, "comparison", "record by record"),
        box(815, 118, 125, 86, PALE, "matrix", "which packet", "made which", "field differ"),
        arrow((140, 165), (177, 165), (177, 68), (211, 68)),
        arrow((140, 165), (177, 165), (177, 264), (211, 264)),
        arrow((333, 264), (361, 264)),
        arrow((515, 264), (596, 264), label="v5, v9, IPFIX"),
        arrow((515, 68), (670, 68), (670, 126), label="records"),
        arrow((670, 222), (670, 196)),
        arrow((740, 161), (811, 161)),
    ]
    head = '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img"'
            f' font-family="system-ui, sans-serif" fill="{INK}">',
            "<title>The same packets through the reference and through an exporter; the records of both are compared.</title>",
            f'<defs>{head}<path d="M 0 0 L 10 5 L 0 10 z" fill="{INK}"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fafbfc"/>',
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    Path(__file__).with_name("parity.svg").write_text(picture(), encoding="utf-8")

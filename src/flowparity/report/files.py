# SPDX-License-Identifier: Apache-2.0
"""Results as files for programs: JSON, and JUnit XML as CI systems read it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from flowparity import __version__
from flowparity.errors import SystemFault
from flowparity.harness.codec import pack
from flowparity.harness.results import Cell, Results, Status
from flowparity.report.html import page

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd]")


def document(results: Results) -> dict[str, Any]:
    """The whole of the results as JSON values."""
    return {
        "flowparity": __version__,
        "about": dict(results.about),
        "exitStatus": results.exit_code,
        "seconds": round(results.seconds, 3),
        "cpuSeconds": round(results.cpu_seconds, 6),
        "counts": {status.value: results.counts[status] for status in Status},
        "cells": [_camel(pack(cell)) for cell in results.cells],
    }


def _camel(value: Any) -> Any:
    """Names of fields as the rest of the document has them."""
    if isinstance(value, dict):
        return {re.sub("_(.)", lambda found: found[1].upper(), name): _camel(each) for name, each in value.items()}
    return [_camel(each) for each in value] if isinstance(value, list) else value


def _json(results: Results) -> str:
    return json.dumps(document(results), indent=1) + "\n"


def junit(results: Results) -> str:
    """A testsuite for each subject, a testcase for each cell."""
    root = ElementTree.Element("testsuites", name="flowparity parity", time=f"{results.seconds:.3f}")
    if results.about:
        properties = ElementTree.SubElement(root, "properties")
        for name, value in results.about.items():
            ElementTree.SubElement(properties, "property", name=name, value=_NOT_XML.sub("?", value))
    for subject in dict.fromkeys(cell.subject for cell in results.cells):
        cells = [cell for cell in results.cells if cell.subject == subject]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=subject,
            tests=str(len(cells)),
            failures=str(sum(cell.status is Status.FAIL for cell in cells)),
            errors=str(sum(cell.status is Status.ERROR for cell in cells)),
            skipped=str(sum(cell.status not in (Status.PASS, Status.FAIL, Status.ERROR) for cell in cells)),
        )
        tiers = sorted({cell.tier.value for cell in cells if cell.tier is not None})
        if tiers:
            ElementTree.SubElement(ElementTree.SubElement(suite, "properties"), "property", name="tier", value=", ".join(tiers))
        for cell in cells:
            _testcase(suite, cell)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _testcase(suite: ElementTree.Element, cell: Cell) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"{cell.subject}.{cell.topic}", name=f"{cell.case} [{cell.format}]", time=f"{cell.cpu_seconds:.6f}"
    )
    lines = _NOT_XML.sub("?", "\n".join(cell.lines(most=1000)))
    first = lines.partition("\n")[0]
    if cell.status is Status.FAIL:
        ElementTree.SubElement(case, "failure", message=first, type=str(cell.problems[0].level)).text = lines
    elif cell.status is Status.ERROR:
        ElementTree.SubElement(case, "error", message=first).text = lines
    elif cell.status is not Status.PASS:
        ElementTree.SubElement(case, "skipped", message=f"{cell.status}: {cell.reason or first}")


def write_reports(results: Results, *, html: Path | None = None, junit_path: Path | None = None, json_path: Path | None = None) -> None:
    """Writes what is asked for; SystemFault if the disk refuses."""
    for path, make in ((html, page), (junit_path, junit), (json_path, _json)):
        if path is None:
            continue
        try:
            path.write_text(make(results), encoding="utf-8")
        except OSError as error:
            raise SystemFault(f"{path}: cannot be written: {error.strerror}; give another path or make room") from None

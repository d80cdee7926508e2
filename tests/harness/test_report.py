# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from flowparity.errors import SystemFault
from flowparity.harness.interfaces import Level, Tier
from flowparity.harness.results import Cell, Problem, Results, Status
from flowparity.report.files import junit, write_reports
from flowparity.report.matrix import Rendered, failures

PROBLEM = Problem(Level.RECORDS, "octets", ("S-LEN-3",), "a<b: octets is 46, expected 29\x00", "packet 0: padding", (0,))


def cell(status: Status, **more: object) -> Cell:
    return Cell("lengths/padding", "lengths", "x.pcap", "pcap", "9", status, Tier.SIM, **more)  # type: ignore[arg-type]


def results(*cells: Cell) -> Results:
    return Results(list(cells), frozenset({"pcap"}))


@pytest.mark.parametrize(
    ("status", "code"),
    [(Status.PASS, 0), (Status.KNOWN, 0), (Status.FAIL, 1), (Status.ERROR, 1), (Status.UNAVAILABLE, 3), (Status.LEFT_OUT, 3)],
)
def test_exit_status(status: Status, code: int) -> None:
    assert results(cell(status)).exit_code == code


def test_a_required_subject_that_is_missing_is_not_outvoted() -> None:
    assert results(cell(Status.UNAVAILABLE), Cell("a", "a", "a", "reference", "9", Status.PASS)).exit_code == 3


def test_the_matrix_shows_tier_reason_and_the_shrink_command() -> None:
    out = StringIO()
    all_of_it = results(
        cell(Status.FAIL, problems=(PROBLEM,), shrink="flowparity shrink x.pcap"), cell(Status.LEFT_OUT, reason="frames cut"), cell(Status.PASS)
    )
    Console(file=out, width=120).print(Rendered(all_of_it))
    text = out.getvalue()
    assert "sim · v9" in text
    assert "1/2 (1 left out)" in text
    assert "pcap: 1 left out: frames cut" in text
    assert "no parity" in text
    lines = list(failures(all_of_it))
    assert "S-LEN-3" in lines[0]
    assert lines[-1] == "smallest capture: flowparity shrink x.pcap"


def test_what_is_not_here_is_called_so_everywhere_and_remarks_name_the_exporter() -> None:
    out = StringIO()
    missing = [cell(Status.UNAVAILABLE, reason="no such thing"), Cell("a", "a", "a", "reference", "9", Status.PASS, remarks=("IPFIX-TPL-10: late",))]
    Console(file=out, width=200).print(Rendered(Results(missing)))
    text = out.getvalue()
    assert "pcap: 1 not here: no such thing" in text
    assert "1 pass, 1 not here" in text
    assert "unavailable" not in text
    assert "left out" not in text
    assert "remarks on reference in 1 cells" in text
    assert "IPFIX-TPL-10" in text


def test_a_narrow_terminal_cuts_nothing() -> None:
    subjects = [f"exporter-number-{i}" for i in range(9)]
    all_of_it = results(*(Cell("lengths/padding", "lengths", "x.pcap", name, version, Status.PASS, Tier.SIM) for name in subjects for version in ("5", "9")))

    def shown(width: int) -> str:
        out = StringIO()
        Console(file=out, width=width).print(Rendered(all_of_it))
        return out.getvalue()

    assert "sim · v9" in shown(400)
    for width in (50, 80, 200):
        text = shown(width)
        assert all(name in text for name in subjects), text
        assert text.count("sim") == text.count("2/2") == 9, text
        assert "formats together: v5, v9" in text
        assert "…" not in text
        assert max(map(len, text.splitlines()[:-1])) <= width


def test_files(tmp_path: Path) -> None:
    all_of_it = results(cell(Status.FAIL, problems=(PROBLEM,)), cell(Status.ERROR, reason="signal SIGSEGV"), cell(Status.LEFT_OUT, reason="no"))
    html, xml, data = tmp_path / "a.html", tmp_path / "a.xml", tmp_path / "a.json"
    write_reports(all_of_it, html=html, junit_path=xml, json_path=data)
    suite = ElementTree.parse(xml).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("3", "1", "1", "1")
    loaded = json.loads(data.read_text())
    assert loaded["exitStatus"] == 1
    assert loaded["cells"][0]["problems"][0]["rules"] == ["S-LEN-3"]
    text = html.read_text()
    HTMLParser().feed(text)
    assert "a&lt;b" in text
    assert "http" not in text.replace("http-equiv", "")


def test_junit_of_nothing_is_well_formed() -> None:
    assert ElementTree.fromstring(junit(Results())).tag == "testsuites"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(SystemFault, match="cannot be written"):
        write_reports(Results(), json_path=tmp_path / "none" / "x.json")

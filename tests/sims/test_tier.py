# SPDX-License-Identifier: Apache-2.0
"""How real a result is stands wherever it shows: a stand-in's is never taken for a framework's, and an emulated machine's never for hardware's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flowparity.harness.rigs.sims import stand_in
from tests.sims.build import NATIVE, ROOT, program

ENVIRONMENT = {"LD_PRELOAD": str(stand_in("netmap")), "FLOWPARITY_PFRING_LIBRARY": str(stand_in("pfring"))}
SUBJECTS = ("netmap@sim", "pfring@sim", "pfring_zc@sim:zc")


def _run(*arguments: str, environment: dict[str, str] | None = None) -> str:
    argv = [sys.executable, "-m", "flowparity", *arguments]
    done = subprocess.run(argv, env=os.environ | {"COLUMNS": "200"} | (environment or {}), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode in (0, 3), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What one run over every stand-in printed, and where its reports are."""
    where = tmp_path_factory.mktemp("reports")
    files = [word for kind in ("json", "html", "junit") for word in (f"--{kind}", str(where / kind))]
    return _run("parity", str(ROOT / "fixtures/recorded/dns.pcap"), "--backend", ",".join(SUBJECTS), *files), where


def test_in_the_matrix(reports: tuple[str, Path]) -> None:
    assert reports[0].count("sim · ") >= len(SUBJECTS)
    assert "hw · " not in reports[0]


def test_in_json(reports: tuple[str, Path]) -> None:
    document = json.loads((reports[1] / "json").read_text(encoding="utf-8"))
    assert {cell["subject"] for cell in document["cells"]} == set(SUBJECTS)
    assert {cell["tier"] for cell in document["cells"]} == {"sim"}


def test_in_html(reports: tuple[str, Path]) -> None:
    page = (reports[1] / "html").read_text(encoding="utf-8")
    for subject in SUBJECTS:
        assert f"<th>{subject}\nsim" in page


def test_in_junit(reports: tuple[str, Path]) -> None:
    suites = ElementTree.fromstring((reports[1] / "junit").read_text(encoding="utf-8"))
    assert {suite.get("name"): [each.attrib for each in suite.iter("property")] for suite in suites.iter("testsuite")} == {
        subject: [{"name": "tier", "value": "sim"}] for subject in SUBJECTS
    }


def test_no_cost_of_a_stand_in_is_told(reports: tuple[str, Path]) -> None:
    """Neither of a run nor in a sum that others are compared with."""
    document = json.loads((reports[1] / "json").read_text(encoding="utf-8"))
    assert document["cpuSeconds"] == 0
    assert {cell["cpuSeconds"] for cell in document["cells"]} == {0.0}
    assert "subjects used 0.00 CPU seconds" in reports[0]


def test_in_the_list_of_backends() -> None:
    found = {each["name"]: each["tier"] for each in json.loads(_run("backends", "--json", environment=ENVIRONMENT))}
    assert {name: found[name] for name in ("netmap", "pfring", "pfring_zc")} == dict.fromkeys(("netmap", "pfring", "pfring_zc"), "sim")


def test_in_the_doctors_findings() -> None:
    text = _run("doctor", environment=ENVIRONMENT)
    for name in ("netmap", "pfring", "pfring_zc"):
        assert any(f"backend {name} " in line and "[sim]" in line for line in text.splitlines()), text


def test_a_virtual_machine_is_known(built: Path, tmp_path: Path) -> None:
    """What a real framework's results are called: as lscpu, which asks the processor itself, finds a hypervisor or none."""
    source = tmp_path / "tier.c"
    source.write_text(f'#include "{NATIVE}/backends/machine.h"\nint main(void) {{ printf("%d", machine_tier(FP_TIER_HW) == FP_TIER_EMULATED); return 0; }}\n')
    found = subprocess.run([program(built, source)], capture_output=True, text=True, check=True).stdout
    asked = subprocess.run(["lscpu"], env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, check=True).stdout
    assert (found == "1") == ("Hypervisor vendor" in asked or "Virtualization type:" in asked)

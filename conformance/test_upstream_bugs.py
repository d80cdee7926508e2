# SPDX-License-Identifier: Apache-2.0
"""Every bug of upstream-bugs.toml has something that catches it, and that is there: a fault of the saboteur, a mutant, a test."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from conformance.conftest import ROOT
from flowparity.harness.subjects.saboteur import faults

HERE = Path(__file__).parent
BUGS: list[dict[str, Any]] = tomllib.loads((HERE / "upstream-bugs.toml").read_text(encoding="utf-8"))["bug"]
MUTANTS = {
    name: {mutant["id"] for mutant in tomllib.loads((HERE / "mutants" / f"{name}.toml").read_text(encoding="utf-8"))["mutant"]}
    for name in ("native", "reference")
}


def missing(bug: dict[str, Any]) -> list[str]:
    """What a bug names and is not there. The runs over mutants and test_saboteur.py show that each is noticed."""
    out = [f"fault {name}" for name in bug.get("fault", []) if name not in faults()]
    out += [f"{side} mutant {name}" for side, known in MUTANTS.items() for name in bug.get(side, []) if name not in known]
    for test in bug.get("test", []):
        file, _, name = test.partition("::")
        if not re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE):
            out.append(f"test {test}")
    return out


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug["seen"])
def test_it_is_caught(bug: dict[str, Any]) -> None:
    assert set(bug) <= {"seen", "says", "fault", "native", "reference", "test", "none"}
    assert bool(bug.get("none")) != bool(set(bug) & {"fault", "native", "reference", "test"})
    assert not missing(bug)


def test_what_is_missing_is_seen() -> None:
    wrong = {"fault": ["no-such"], "native": [9999], "reference": ["s-no-1-a"], "test": ["tests/native/test_ring.py::test_nothing"]}
    assert len(missing(wrong)) == 4


def test_there_are_all() -> None:
    assert len(BUGS) >= 88
    assert len({(bug["seen"], bug["says"]) for bug in BUGS}) == len(BUGS)
    assert sum("none" in bug for bug in BUGS) <= 1

# SPDX-License-Identifier: Apache-2.0
"""The mutants fit the sources as they are: the runs over them (tox -e mutants, mutants-native) take minutes, this does not."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from conformance.conftest import ROOT


def mutants(side: str) -> list[dict[str, Any]]:
    """The mutants of one side as data."""
    return list(tomllib.loads((ROOT / "conformance" / "mutants" / f"{side}.toml").read_text(encoding="utf-8"))["mutant"])


@pytest.mark.parametrize("mutant", mutants("reference"), ids=lambda mutant: mutant["id"])
def test_the_text_to_change_stands_once(mutant: dict[str, Any]) -> None:
    assert (ROOT / "src" / "flowparity" / mutant["file"]).read_text(encoding="utf-8").count(mutant["old"]) == 1


def test_every_point_of_the_core_is_described() -> None:
    found = {
        int(number)
        for path in (ROOT / "native").rglob("*.[ch]")
        if path.name != "mutant.h"
        for number in re.findall(r"FP_MUTANT\((\d+),", path.read_text(encoding="utf-8"))
    }
    assert found == {mutant["id"] for mutant in mutants("native")}


def test_each_group_of_rules_has_one() -> None:
    groups = {mutant["rule"].split("-")[1] for mutant in mutants("reference")}
    assert groups == {"REC", "VER", "LNK", "LEN", "PRT", "SUP", "INV", "TIM", "END", "FUL", "CMP", "EXP", "PRO"}

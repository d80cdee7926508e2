# SPDX-License-Identifier: Apache-2.0
"""What no capture reaches from outside: the checks of units.c and stash.c."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.native.programs import build, run

HERE = Path(__file__).parent
CHECK = re.compile(r'^    \{"([a-z-]+)", ', re.MULTILINE)
CHECKS = [(program, name) for program in ("units", "stash") for name in CHECK.findall((HERE / f"{program}.c").read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The lines that each program prints."""
    directory = tmp_path_factory.mktemp("units")
    return {program: run(build(program, directory, ["-Wl,--wrap=realloc,--wrap=mmap"])) for program in ("units", "stash")}


@pytest.mark.parametrize(("program", "name"), CHECKS)
def test_unit(output: dict[str, list[str]], program: str, name: str) -> None:
    assert f"ok {name}" in output[program], "\n".join(output[program])

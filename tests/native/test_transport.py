# SPDX-License-Identifier: Apache-2.0
"""Export where the system and the collector do what no test can ask of them: the checks of transport.c and stream.c."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.native.programs import build, run

HERE = Path(__file__).parent
PARTS = {"transport": ("udp.c", "host.c", "trailer.c", "parse.c"), "stream": ("stream.c", "fields.c", "enc_v5.c", "enc_v9.c", "enc_ipfix.c")}
WRAPPED = ("realloc", "mmap")
SYSTEM = ("sendmsg", "poll", "clock_gettime", "clock_nanosleep", "getsockopt")
CHECK = re.compile(r'^        \{"([a-z-]+)", ', re.MULTILINE)
CHECKS = [(program, name) for program in PARTS for name in CHECK.findall((HERE / f"{program}.c").read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The lines that each program prints."""
    directory = tmp_path_factory.mktemp("export")
    lines = {}
    for program, parts in PARTS.items():
        wrapped = WRAPPED + (SYSTEM if program == "transport" else ())
        lines[program] = run(build(program, directory, ["-Wl," + ",".join(f"--wrap={name}" for name in wrapped)], parts))
    return lines


@pytest.mark.parametrize(("program", "name"), CHECKS)
def test_export(output: dict[str, list[str]], program: str, name: str) -> None:
    assert f"ok {name}" in output[program], "\n".join(output[program])

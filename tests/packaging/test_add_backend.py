# SPDX-License-Identifier: Apache-2.0
"""Adding a framework takes exactly one C file and one line of the registry: this test adds one, builds it, and holds it to parity."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.packaging.conftest import CHECKOUT, run

TOY = Path(__file__).with_name("toy.c")
LINE = "toy | plugin | | | | | capture files, the example of docs/adding-a-backend.md\n"


def test_one_file_and_one_line_add_a_backend(source: Path, environment: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(source, tree)
    (tree / "native" / "backends" / "toy").mkdir()
    shutil.copy(TOY, tree / "native" / "backends" / "toy" / "toy.c")
    with (tree / "native" / "backends" / "registry.txt").open("a", encoding="utf-8") as registry:
        registry.write(LINE)
    run("gcc", "-std=c17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", tree / "native" / "include", TOY, cwd=tmp_path)
    run(environment / "bin" / "pip", "install", "--quiet", ".", cwd=tree)
    flowparity = environment / "bin" / "flowparity"
    rows = {row["name"]: row for row in json.loads(run(flowparity, "backends", "--json", cwd=tmp_path).stdout)}
    assert rows["toy"]["available"], rows["toy"]
    assert rows["toy"]["tier"] == "file"
    assert run(flowparity, "generate", "some.pcap", "--packets", "5000", "--tcp", "0.5", "--ipv6", "0.5", cwd=tmp_path).returncode == 0
    told = run(flowparity, "parity", "some.pcap", "--backend", "toy", "--version", "all", cwd=tmp_path).stdout
    assert "toy" in told


def test_the_guide_shows_the_example_as_it_is() -> None:
    guide = (CHECKOUT / "docs" / "adding-a-backend.md").read_text(encoding="utf-8")
    assert LINE.strip() in guide
    assert "tests/packaging/toy.c" in guide

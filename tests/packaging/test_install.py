# SPDX-License-Identifier: Apache-2.0
"""The package builds, installs in every way that the README names, and works outside of the checkout."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packaging.conftest import CHECKOUT, run

RECORDED = CHECKOUT / "fixtures" / "recorded" / "dns.pcap"
TINY = CHECKOUT / "fixtures" / "tcp" / "syn-after-fin.pcap"
RUNTIME_DATA = ("flowparity/data/semantics.md", "flowparity/data/requirements/v9-message.toml", "flowparity/py.typed")


@pytest.fixture(scope="session")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist and the wheel that was built from it."""
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", target, source, cwd=target)
    return target


def only(directory: Path, pattern: str) -> Path:
    (found,) = directory.glob(pattern)
    return found


def smoke(environment: Path, elsewhere: Path) -> None:
    """What a user tries first, away from the checkout."""
    flowparity = environment / "bin" / "flowparity"
    elsewhere.mkdir()
    capture = shutil.copy(TINY, elsewhere / "tiny.pcap")
    recorded = shutil.copy(RECORDED, elsewhere / "dns.pcap")
    assert run(flowparity, "--version", cwd=elsewhere).stdout.startswith("flowparity ")
    rows = {row["name"]: row for row in json.loads(run(flowparity, "backends", "--json", cwd=elsewhere).stdout)}
    assert rows["pcap"]["available"], rows["pcap"]
    records = [json.loads(line) for line in run(flowparity, "reference", capture, "--format", "jsonl", cwd=elsewhere).stdout.splitlines()]
    assert [record["packetDeltaCount"] for record in records] == [3, 1]
    assert "Jumbo Payload" in run(flowparity, "explain", "S-LEN-2", cwd=elsewhere).stdout
    explained = run(flowparity, "explain", "V9-HDR-02", cwd=elsewhere).stdout
    assert "V9-HDR-02" in explained
    in_checkout = "site-packages" not in str(run(environment / "bin" / "python", "-c", "import flowparity; print(flowparity.__file__)", cwd=elsewhere).stdout)
    assert ("cases: they are in a checkout" in explained) != in_checkout
    told = run(flowparity, "parity", recorded, "--backend", "pcap,reference", cwd=elsewhere).stdout
    assert "parity: 6 pass" in told, told


def test_the_sdist_holds_what_the_build_needs(built: Path) -> None:
    with tarfile.open(only(built, "*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"native/CMakeLists.txt", "docs/semantics.md", "LICENSE", "README.md", "src/flowparity/cli/__init__.py"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc")) or name.startswith((".tox", ".venv", "build/"))]


def test_the_wheel_holds_what_runs_need(built: Path) -> None:
    with zipfile.ZipFile(only(built, "*.whl")) as archive:
        names = set(archive.namelist())
    assert set(RUNTIME_DATA) <= names
    assert "flowparity/plugins/fp_pcap.so" in names
    assert [name for name in names if name.startswith("flowparity/_core.") and name.endswith(".so")]
    outside = {name for name in names if not name.startswith(("flowparity/", "flowparity-"))}
    assert not outside, outside


def test_wheel(built: Path, environment: Path, tmp_path: Path) -> None:
    run(environment / "bin" / "pip", "install", "--quiet", only(built, "*.whl"), cwd=tmp_path)
    smoke(environment, tmp_path / "elsewhere")


def test_sdist(built: Path, environment: Path, tmp_path: Path) -> None:
    run(environment / "bin" / "pip", "install", "--quiet", only(built, "*.tar.gz"), cwd=tmp_path)
    smoke(environment, tmp_path / "elsewhere")


def test_checkout(source: Path, environment: Path, tmp_path: Path) -> None:
    run(environment / "bin" / "pip", "install", "--quiet", ".", cwd=source)
    smoke(environment, tmp_path / "elsewhere")


def test_editable(source: Path, environment: Path, tmp_path: Path) -> None:
    """An edit shows without another installation."""
    copy = tmp_path / "checkout"
    shutil.copytree(source, copy)
    run(environment / "bin" / "pip", "install", "--quiet", "-e", ".", cwd=copy)
    smoke(environment, tmp_path / "elsewhere")
    module = copy / "src" / "flowparity" / "__init__.py"
    module.write_text(module.read_text(encoding="utf-8").replace('__version__ = "', '__version__ = "9.'), encoding="utf-8")
    assert run(environment / "bin" / "flowparity", "--version", cwd=tmp_path).stdout.startswith("flowparity 9.")

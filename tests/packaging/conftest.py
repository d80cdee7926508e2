# SPDX-License-Identifier: Apache-2.0
"""The project's files as a fresh checkout has them, and programs that must succeed."""

from __future__ import annotations

import shutil
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]


def run(*command: Any, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """A program that must succeed; its output is shown when it does not."""
    done = subprocess.run([*map(str, command)], cwd=cwd, text=True, capture_output=True, check=False, timeout=600, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files and nothing else: what is tracked or about to be."""
    target = tmp_path_factory.mktemp("source")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=CHECKOUT).stdout
    for name in filter(None, listed.split("\0")):
        if (CHECKOUT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target / name)
    return target


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment with nothing in it."""
    venv.create(tmp_path / "venv", with_pip=True)
    return tmp_path / "venv"

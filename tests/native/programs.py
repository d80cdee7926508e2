# SPDX-License-Identifier: Apache-2.0
"""Builds the C programs of these tests from the core's own sources."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native"
METER = ("meter.c", "parse.c", "table.c")

SANITIZERS = {"address": ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"], "thread": ["-g", "-fsanitize=thread"]}
"""By FLOWPARITY_SANITIZED, which ci/sanitize sets."""


def _environment() -> dict[str, str]:
    """Without the runtime that ci/sanitize has Python load: the programs bring their own, and the compiler needs none."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def build(name: str, directory: Path, options: Sequence[str] = (), core: Sequence[str] = METER) -> Path:
    """The program NAME.c beside these parts of the core, in this directory. CC, CFLAGS (of ci/coverage) and FLOWPARITY_SANITIZED are heeded."""
    program, own = directory / name, directory / f"{name}.test.o"
    sources = [NATIVE / "core" / each for each in core]
    flags = [f"-DFP_MUTANT_ID={os.environ.get('FLOWPARITY_MUTANT', 0)}", f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'core'}"]
    flags += SANITIZERS.get(os.environ.get("FLOWPARITY_SANITIZED", ""), [])
    compiler = [os.environ.get("CC", "gcc"), "-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"]
    command = [*compiler, *flags, *shlex.split(os.environ.get("CFLAGS", ""))]
    # By itself: of two sources of one name in one command, NAME.c of the core beside this one, the counts of coverage would go into one file.
    code = [each for each in options if each.startswith("-f")]  # how code is made, not how it is linked
    subprocess.run([*command, *code, "-c", HERE / f"{name}.c", "-o", own], check=True, capture_output=True, env=_environment())
    subprocess.run([*command, own, *sources, *options, "-o", program], check=True, capture_output=True, env=_environment())
    return program


def run(program: Path, *arguments: str) -> list[str]:
    """The lines that it prints."""
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True, env=_environment()).stdout.splitlines()

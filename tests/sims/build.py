# SPDX-License-Identifier: Apache-2.0
"""Backends with a seeded misbehaviour, and the programs of the tests, compiled when they are first asked for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowparity.harness.engine import Place
from flowparity.harness.interfaces import Subject
from flowparity.harness.rigs.sims import Row, SimRig, VethSimRig
from flowparity.harness.subjects.remote import WorkerSubject
from flowparity.replay import KernelInjector

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native"
_FLAGS = ("-std=gnu17", "-D_GNU_SOURCE", "-O2", f"-I{NATIVE / 'include'}")
MACRO = {"netmap": "FP_NETMAP_FAULT", "pfring": "FP_RING_FAULT", "pfring_zc": "FP_PFRING_FAULT"}


def _compile(*arguments: str) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the seeded misbehaviours are not tried; apt-get install gcc")
    done = subprocess.run([compiler, *_FLAGS, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def program(directory: Path, source: Path) -> Path:
    """The executable of one source file."""
    path = directory / f"{source.parent.name}-{source.stem}"
    if not path.exists():
        _compile(str(source), "-o", str(path), "-ldl", "-pthread")
    return path


def plugins(directory: Path, backend: str, fault: int) -> Path:
    """A directory of plug-ins with this backend alone, built with a fault (0: without)."""
    where = directory / f"{backend}-{fault}"
    if not where.exists():
        where.mkdir()
        source = NATIVE / "backends" / backend / f"{backend}.c"
        _compile("-shared", "-fPIC", "-fvisibility=hidden", f"-D{MACRO[backend]}={fault}", str(source), "-o", str(where / f"fp_{backend}.so"), "-ldl")
    return where


@dataclass(frozen=True, slots=True)
class BuiltPlace(Place):
    """A row whose worker takes its plug-ins from another directory."""

    plugins: Path = Path()

    def subject(self, name: str) -> Subject:
        program = "import sys; from flowparity import native, worker; native.lib.fp_set_plugin_dir(sys.argv[1].encode()); worker.main()"
        argv = [*self.rig.prefix(), sys.executable, "-c", program, str(self.plugins)]
        return WorkerSubject(f"native:{name.partition('@')[0]}", shown=name, argv=argv)


def place(directory: Path, row: Row, fault: int, *, trailer: bool = True) -> BuiltPlace:
    """The row with a fault."""
    rig = VethSimRig(row) if row.live else SimRig(row, trailer=trailer)
    injector = KernelInjector() if row.live else None
    return BuiltPlace(rig, injector, workers=row.workers, plugins=plugins(directory, row.backend, fault))

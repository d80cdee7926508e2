# SPDX-License-Identifier: Apache-2.0
"""What the core makes of plug-ins that take the contract to its limits, or break it. Each in a process of its own: a wrong core would die."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
INCLUDE = HERE.parents[1] / "native" / "include"


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with plugin.c under the name of a backend of the registry."""
    directory = tmp_path_factory.mktemp("plugins")
    command = [os.environ.get("CC", "gcc"), "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{INCLUDE}"]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run([*command, *shlex.split(os.environ.get("CFLAGS", "")), HERE / "plugin.c", "-o", directory / "fp_socket.so"], check=True, env=environment)
    return directory


def told(plugins: Path, code: str) -> str:
    """What the code prints, with the plug-in for the backend `socket`."""
    head = f"from flowparity.native import *\nlib.fp_set_plugin_dir({str(plugins)!r}.encode())\n"
    done = subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done
    return done.stdout.strip()


def test_there_is_room_for_the_capabilities_of_a_newer_plugin(plugins: Path) -> None:
    """They are assigned as a struct of the plug-in's own size."""
    code = "print({b.name: b for b in backends()}['socket'].capabilities.max_frame, Exporter(RunConfig('socket', 'trickle', workers=3)).capabilities.queues)"
    assert told(plugins, code) == "60 3"


@pytest.mark.parametrize(("given", "says"), [("queues", "it opened 3 queues, not the 2"), ("nosize", "its capabilities have no size")])
def test_capabilities_that_cannot_be_are_refused(plugins: Path, given: str, says: str) -> None:
    code = f"try:\n    Exporter(RunConfig('socket', {given!r}, workers=2))\nexcept UnavailableError as error:\n    print(error)"
    assert says in told(plugins, code)


RUN = """
import threading
exporter = Exporter(RunConfig('socket', {given!r}, workers={workers}, huge_pages=False, log_assignment={log}))
threading.Timer(0.2, exporter.stop).start()
result = exporter.run()
print(result.accounting.broken(), result.accounting.received > 0, result.accounting.resident_packets, result.warnings)
"""


@pytest.mark.parametrize("given", ["endless", "trickle"])
def test_a_source_that_never_says_its_end_ends_after_a_stop(plugins: Path, given: str) -> None:
    """One that has always more, and one that has another whenever it is waited for."""
    said = told(plugins, RUN.format(given=given, workers=2, log=False))
    assert said.startswith("[] True 0 ")
    assert "did not say its end" in said

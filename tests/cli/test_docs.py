# SPDX-License-Identifier: Apache-2.0
"""What the documents say of the commands is so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from flowparity.cli.app import app
from tests.cli.conftest import Result

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands if command.callback is not None)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_usage(run: Callable[..., Result], command: str) -> None:
    assert re.search(rf"^\| `{command}[ `]", (ROOT / "docs" / "usage.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert run(command, "--help").status == 0


def test_the_commands_and_options_in_the_documents_exist(run: Callable[..., Result]) -> None:
    """Each `flowparity COMMAND … --option` of a code block."""
    for document in DOCUMENTS:
        for block in re.findall(r"```sh\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
            for command, rest in re.findall(r"^flowparity ([a-z]+)([^#\n]*)", block, re.MULTILINE):
                assert command in COMMANDS, (document.name, command)
                told = run(command, "--help").out
                for option in re.findall(r" (--[a-z-]+)", rest):
                    assert option in told, (document.name, command, option)

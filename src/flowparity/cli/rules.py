# SPDX-License-Identifier: Apache-2.0
"""`explain`: a rule, where it comes from, and the cases that check it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

RuleIds = Annotated[list[str], typer.Argument(help="Rule ids, such as S-LEN-2 or IPFIX-HDR-04.", metavar="RULE...", show_default=False)]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(rich_help_panel="Parity")(explain)


def explain(rules: RuleIds) -> int:
    """What a rule says, its source, and the cases that check it."""
    from flowparity.catalogue import explain as explanation

    sys.stdout.write("\n\n".join(str(explanation(rule)) for rule in rules) + "\n")
    return 0

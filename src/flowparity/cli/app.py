# SPDX-License-Identifier: Apache-2.0
"""The command tree: every command by name, in the order in which a newcomer needs them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flowparity import __version__
from flowparity.cli import INTERRUPTED, compare, listen, machine, measure, meter, play, rules, traffic, trial
from flowparity.cli.guard import READER_GONE, Finished, complain


class _Group(TyperGroup):
    """Keeps a closed pipe from being reported as status 1, which means a mismatch here, and an interruption from being reported without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise Finished(READER_GONE) from None
        except KeyboardInterrupt:  # typer would make it a status without a word
            complain("interrupted")
            raise Finished(INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 well, 1 mismatch, 2 bad input or usage, 3 not available here, 4 the system failed.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"flowparity {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)] = False) -> None:
    """Does a flow exporter report the same, right flows whatever framework hands it the packets?"""


for module in (machine, measure, meter, listen, compare, trial, traffic, play, rules):
    module.register(app)

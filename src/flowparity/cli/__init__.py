# SPDX-License-Identifier: Apache-2.0
"""The command line. `main` is the entry point; everything else is loaded when it is needed, so that `--help` does not wait for the native core.

Exit status: 0 well, 1 mismatch, 2 bad input or usage, 3 something is not available here, 4 the system failed, 130 interrupted, 141 the reader of the output
went away. Errors are one line on the standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line of this process and exits."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit status."""
    from flowparity.cli.app import app
    from flowparity.cli.guard import guarded

    return guarded(lambda: app(args=list(arguments), prog_name="flowparity", standalone_mode=False))

# SPDX-License-Identifier: Apache-2.0
"""The command line. `main` is the entry point; everything else is loaded when it is needed, so that `--help` does not wait for the native core.

Exit status: 0 well, 1 mismatch, 2 bad input or usage, 3 something is not available here, 4 the system failed, 129, 130 and 143 ended by SIGHUP, SIGINT and
SIGTERM, 141 the reader of the output went away. Errors are one line on the standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT


def main() -> NoReturn:
    """Runs the command line of this process and exits."""
    try:
        from flowparity.cli.signals import catch_signals

        catch_signals()
        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # before there was anybody to answer it
        sys.stderr.write("flowparity: interrupted\n")
        status = INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is to leave, which a signal would only make look like a failure
    if status > 128:
        sys.stdout.flush()
        os._exit(status)  # a thread that still computes would otherwise be waited for
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit status."""
    from flowparity.cli.app import app
    from flowparity.cli.guard import guarded

    return guarded(lambda: app(args=list(arguments), prog_name="flowparity", standalone_mode=False))

# SPDX-License-Identifier: Apache-2.0
"""Turns whatever ends a command into one line and an exit status. Only a defect of the program shows a traceback."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from flowparity.cli import INTERRUPTED
from flowparity.errors import FlowparityError

READER_GONE = 128 + signal.SIGPIPE
SYSTEM_FAILED = 4
BAD_USAGE = 2

# Which errors of the system are the caller's: a wrong path or a lack of rights to it. All others are the system's.
_CALLERS = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EROFS}
_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # all files are named where they are written; what is left is the output
_ADVICE = {
    errno.ENOSPC: "make room and run again",
    errno.EDQUOT: "make room and run again",
    errno.EACCES: "choose another path or get the right to it",
    errno.EPERM: "run as root or choose another path",
    errno.ENOENT: "check the path",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EADDRINUSE: "choose another port",
    errno.EADDRNOTAVAIL: "choose an address of this machine",
}

# Typer carries its own copy of click or uses the installed one; the public name leads to the class that both mean.
_ClickException: Any = next(each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException")


class Finished(BaseException):
    """The command is over with a status; not an Exception, so that nothing on the way takes it for an error."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def complain(message: str) -> None:
    """One line on the standard error, whatever the message holds."""
    line = " ".join(message.split())
    try:
        sys.stderr.write(f"flowparity: {line}\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody is left to be told


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives errors of the system that name no file this one's name: those of writing do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def describe(error: OSError) -> tuple[str, int]:
    """What to say of an error of the system, and the status."""
    what = error.strerror or str(error)
    where = f"{error.filename}: " if error.filename else "the standard output: " if error.errno in _WRITING else ""
    advice = _ADVICE.get(error.errno or 0)
    return f"{where}{what}" + (f"; {advice}" if advice else ""), BAD_USAGE if error.errno in _CALLERS else SYSTEM_FAILED


def guarded(command: Callable[[], object]) -> int:
    """Runs a command to its end and returns the exit status."""
    status = _outcome(command)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = READER_GONE
    except OSError as error:
        complain(describe(error)[0])
        status = SYSTEM_FAILED
    if status in (READER_GONE, SYSTEM_FAILED):
        _abandon_output()
    return status


def _outcome(command: Callable[[], object]) -> int:
    try:
        result = command()
    except Finished as finished:
        return finished.status
    except FlowparityError as error:
        complain(str(error))
        return error.exit_code
    except _ClickException as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):  # rich and typer turn a closed pipe into an exit; nothing else here does
        return READER_GONE
    except OSError as error:
        message, status = describe(error)
        complain(message)
        return status
    return result if isinstance(result, int) else 0


def _usage(error: BaseException) -> int:
    """A mistake in the command line itself: what is wrong and which help tells more."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "flowparity"
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if not message:  # a command group without a command has shown its help
        return BAD_USAGE
    complain(f"{message} (see '{path} --help')")
    return BAD_USAGE


def _abandon_output() -> None:
    """What could not be written stays unwritten: without this the interpreter tries again at exit and complains."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)

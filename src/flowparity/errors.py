# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can mend. The command line prints the message on one line and exits with `exit_code`; it never prints a traceback for one of these.

A message says whose fault it is (the caller's, the peer's, the system's) and what to do.
"""

from __future__ import annotations


class FlowparityError(Exception):
    """Base of all errors that a user can mend."""

    exit_code = 2


class InputError(FlowparityError):
    """A capture or another input cannot be used: absent, unreadable, truncated, of another kind (exit status 2)."""


class UsageError(FlowparityError):
    """An impossible or unsupported combination was asked for, profile values included (exit status 2)."""


class UnavailableError(FlowparityError):
    """A backend or a tool is not available here; the message says what to install or to set up (exit status 3)."""

    exit_code = 3


class SystemFault(FlowparityError):
    """The system failed: full disk, lost interface, killed worker (exit status 4)."""

    exit_code = 4

# SPDX-License-Identifier: Apache-2.0
"""Where the harness's data lies: in a checkout where it is edited, in an installed package beside the modules."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def data_directory(name: str) -> Path | None:
    """The directory conformance/NAME of the checkout, or the copy that the package carries; None if there is neither."""
    for path in (_PACKAGE.parent.parent / "conformance" / name, _PACKAGE / "data" / name):
        if path.is_dir():
            return path
    return None

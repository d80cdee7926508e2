# SPDX-License-Identifier: Apache-2.0
"""What the reader of a source hands over to a worker arrives: see handover.c."""

from __future__ import annotations

from pathlib import Path

from tests.native.programs import build, run


def test_what_is_taken_is_what_was_put(tmp_path: Path) -> None:
    assert run(build("handover", tmp_path, ["-pthread"], core=["ring.c"])) == []

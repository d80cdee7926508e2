# SPDX-License-Identifier: Apache-2.0
"""Where the stand-ins are installed these tests run; elsewhere they are skipped, loudly."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowparity.harness.rigs.sims import stand_in


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [path for path in map(stand_in, ("netmap", "pfring")) if not path.exists()]
    for item in items:
        if missing and "sims" in item.path.parts:
            item.add_marker(pytest.mark.skip(reason=f"{missing[0]} is not installed: reinstall flowparity"))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this session's builds are kept."""
    return tmp_path_factory.mktemp("built")

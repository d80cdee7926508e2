# SPDX-License-Identifier: Apache-2.0
"""Rigs for the tests over real kernel interfaces. Without the right to make namespaces and links these tests are skipped, loudly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flowparity.harness.rigs.namespace import privileged
from flowparity.harness.rigs.veth import VethRig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Threads can enter a namespace only as root; what works for an ordinary user is tested by processes of its own."""
    available = VethRig().probe()
    for item in items:
        if "kernel" not in item.path.parts:
            continue
        if not available.ok:
            item.add_marker(pytest.mark.skip(reason=f"{available.reason}; {available.remedy}: the live kernel is not tested"))
        elif not privileged():
            item.add_marker(pytest.mark.skip(reason="no right to enter namespaces (run as root): the live kernel is not tested"))


@pytest.fixture(scope="session")
def rigs() -> Iterator[Callable[[str], VethRig]]:
    """Rigs by carrier, each with its namespace, kept for the session."""
    made: dict[str, VethRig] = {}

    def rig(carrier: str) -> VethRig:
        return made.setdefault(carrier, VethRig(carrier))

    yield rig
    for each in made.values():
        each.close()

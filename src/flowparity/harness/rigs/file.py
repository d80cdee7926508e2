# SPDX-License-Identifier: Apache-2.0
"""The rig without a link: subjects that read the capture themselves, and a collector on the loopback."""

from __future__ import annotations

from pathlib import Path

from flowparity.harness.interfaces import Availability, Capabilities, Link, Rig


class FileLink(Link):
    """The capture itself."""

    def __init__(self, capture: Path) -> None:
        self.receive = str(capture)
        self.transmit = None
        self.collector_address = "127.0.0.1"
        self.prefix = ()

    def __enter__(self) -> FileLink:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was acquired."""


class FileRig(Rig):
    """For every subject that reads files."""

    name = "file"

    def probe(self) -> Availability:
        """Always there."""
        return Availability(True)

    def restrict(self, capabilities: Capabilities) -> Capabilities:
        """A file takes nothing away."""
        return capabilities

    def link(self, capture: Path, queues: int = 1) -> Link:
        """The capture."""
        return FileLink(capture)

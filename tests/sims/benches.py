# SPDX-License-Identifier: Apache-2.0
"""A bench for each row, made when it is first asked for and kept, so that one worker process serves every case of a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from flowparity.harness.engine import Bench, Place
from flowparity.harness.live import live_places
from flowparity.harness.rigs.sims import Row


class Benches(dict[str, Bench]):
    """By the names of rows."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        super().__init__()
        self._places = places

    def __missing__(self, name: str) -> Bench:
        self[name] = Bench([name], self._places)
        return self[name]


@contextmanager
def benches_of(rows: Iterable[Row]) -> Iterator[Mapping[str, Bench]]:
    """Those of the rows, gone at the end of the block."""
    with live_places([row.name for row in rows]) as places:
        made = Benches(places)
        yield made
        for each in made.values():
            each.close()

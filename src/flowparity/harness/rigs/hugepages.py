# SPDX-License-Identifier: Apache-2.0
"""Hugepages for as long as somebody needs them: raised once, shared by parallel test processes, and put back by the last."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PAGES = 512  # of 2 MB each: a bound for all processes together
_COUNT = Path("/proc/sys/vm/nr_hugepages")
_LOCK = Path("/run/lock/flowparity-hugepages")


class Hugepages:
    """Holds `pages` hugepages of 2 MB; without the right to set them, what there is. Use as a context manager; `close` may be called twice.

    Every holder has a shared lock on a file that remembers the number from before; who closes and finds no other holder puts it back. Coming and going happen
    one at a time, under a lock of their own.
    """

    def __init__(self, pages: int = _PAGES, count: Path = _COUNT, lock: Path = _LOCK) -> None:
        self._count, self._door = count, lock.with_name(lock.name + ".door")
        self._lock: int | None = None
        try:
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with self._alone():
                fcntl.flock(self._lock, fcntl.LOCK_SH)
                before = int(count.read_text(encoding="ascii"))
                if before < pages:
                    count.write_text(str(pages), encoding="ascii")
                    if not os.pread(self._lock, 32, 0):
                        os.pwrite(self._lock, str(before).encode(), 0)
        except (OSError, ValueError):
            return  # an ordinary user takes what there is

    def __enter__(self) -> Hugepages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives them back."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        with suppress(OSError), self._alone():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while there is another holder
            before = os.pread(lock, 32, 0)
            if before:
                self._count.write_bytes(before)
                os.ftruncate(lock, 0)
        os.close(lock)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._door.open("w", encoding="ascii") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            yield

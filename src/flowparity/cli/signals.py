# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM as a wish to stop: long commands finish in good order and print their accounting."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_requests(on_stop: Callable[[], None] | None = None) -> Iterator[threading.Event]:
    """Gives an event that the first SIGINT or SIGTERM sets (and `on_stop`, called then); the second ends the process as usual."""
    wanted = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(_number: int, _frame: FrameType | None) -> None:
        restore()
        wanted.set()
        if on_stop is not None:
            on_stop()

    for number in before:
        signal.signal(number, stop)
    try:
        yield wanted
    finally:
        restore()

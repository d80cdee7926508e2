# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM as a wish to stop: long commands finish in good order and print their accounting."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
_POLL = 0.1  # seconds after which the main thread looks for signals


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


def run_stoppable(work: Callable[[], T], stop: Callable[[], None], tick: Callable[[], None] | None = None) -> T:
    """Runs native work in a thread of its own, so that this one stays awake for signals: the first calls `stop`, and the work ends in good order.

    `tick` is called every tenth of a second. What the work raises is raised here.
    """
    done: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            done.append(work())
        except BaseException as error:  # handed to the main thread as it is
            failure.append(error)

    thread = threading.Thread(target=target, name="work")
    with stop_requests(stop):
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_POLL)
                if tick is not None:
                    tick()
        finally:
            stop()
            thread.join()
    if failure:
        raise failure[0]
    return done[0]

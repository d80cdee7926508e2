# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and SIGHUP: a wish to end, which long commands answer in good order, with their accounting.

Signals that follow within a second are the same wish: a key held down, a terminal and a supervisor that both tell the process.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

from flowparity.cli.guard import Finished

T = TypeVar("T")
_POLL = 0.1  # seconds after which the main thread looks for signals
_SAME_WISH = 1.0  # seconds
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Wish:
    """When a signal was last heeded, by whichever handler."""

    heeded = -math.inf

    @classmethod
    def is_new(cls) -> bool:
        """Whether a signal that came now is a wish of its own."""
        now = time.monotonic()
        if now - cls.heeded < _SAME_WISH:
            return False
        cls.heeded = now
        return True


def _interrupt(number: int) -> None:
    """Unwinds the main thread, so that every process, namespace and directory that the command made is given back."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Finished(128 + number)


def catch_signals() -> None:
    """For the life of the process: the three signals unwind what runs. One that was ignored at the start (nohup) stays so."""

    def end(number: int, _frame: FrameType | None) -> None:
        if _Wish.is_new():
            _interrupt(number)

    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


@contextmanager
def stop_requests(on_stop: Callable[[], None] | None = None, on_insist: Callable[[int], None] = _interrupt) -> Iterator[threading.Event]:
    """Gives an event that the first wish sets (and `on_stop`, called then). The second calls `on_insist` with its number; by default that ends the command."""
    wanted = threading.Event()
    before = {number: signal.getsignal(number) for number in _ENDING}

    def stop(number: int, _frame: FrameType | None) -> None:
        if not _Wish.is_new():
            return
        if wanted.is_set():
            on_insist(number)
            return
        wanted.set()
        if on_stop is not None:
            on_stop()

    for number, handler in before.items():
        if number != signal.SIGHUP or handler is not signal.SIG_IGN:  # a shell's background job ignores SIGINT, and is stopped by it all the same
            signal.signal(number, stop)
    try:
        yield wanted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_stoppable(work: Callable[[], T], stop: Callable[[], None], tick: Callable[[], None] | None = None, last: Callable[[], None] | None = None) -> T:
    """Runs native work in a thread of its own, so that this one stays awake for signals: the first wish calls `stop`, and the work ends in good order.

    `tick` is called every tenth of a second. What the work raises is raised here. Nothing else leaves before the work has ended, because what it works on is
    the caller's to close; so the second wish calls `last`, to tell how far it came, and ends the process there and then (128 and the signal's number).
    """
    done: list[T] = []
    failure: list[BaseException] = []
    insisted: list[int] = []

    def target() -> None:
        try:
            done.append(work())
        except BaseException as error:  # handed to the main thread as it is
            failure.append(error)

    thread = threading.Thread(target=target, name="work")

    def wait() -> None:
        thread.join(_POLL)
        if insisted and thread.is_alive():
            with suppress(Exception):  # whatever cannot be told: the end is wished for
                if last is not None:
                    last()
                sys.stdout.flush()
            os._exit(128 + insisted[0])

    with stop_requests(stop, insisted.append):
        thread.start()
        try:
            while thread.is_alive():
                wait()
                if tick is not None:
                    tick()
        finally:
            stop()
            while thread.is_alive():
                wait()
    if failure:
        raise failure[0]
    return done[0]

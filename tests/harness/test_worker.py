# SPDX-License-Identifier: Apache-2.0
"""The worker process: requests and errors, replacement after a crash, a time-out that costs one case, and the end of its input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowparity.accounting import Accounting, StreamAccount
from flowparity.errors import InputError, SystemFault, UsageError
from flowparity.harness.codec import pack, unpack
from flowparity.harness.interfaces import Capabilities, Job, Metadata, Outcome, Tier
from flowparity.harness.subjects.remote import Worker, WorkerSubject
from flowparity.profile import Profile, Sampling

STUBBORN = """
import sys, time
from flowparity.harness.protocol import *
Pipe(sys.stdin.buffer, sys.stdout.buffer).send({'hello': HELLO, 'version': VERSION})
time.sleep(600)
"""


@pytest.mark.parametrize(
    "value",
    [
        Profile(sampling=Sampling("random", 7, 2**63), tcp_end=None),
        Capabilities(Tier.SIM, fields=frozenset({"octets"}), time_tolerance=None),
        Job("x", Profile(), {"5": ("::1", 9)}, metadata={3: Metadata(((0x8100, 5),), 4)}, assignment=(0, 1)),
        Outcome(Accounting(received=1, dropped=None, streams={"9": StreamAccount(datagrams=3)}), (Accounting(),), ((0, 2), (1,)), 5, ("w",)),
    ],
)
def test_values_survive_the_wire(value: object) -> None:
    assert unpack(type(value), pack(value)) == value


def test_it_ends_with_its_input() -> None:
    process = subprocess.Popen([sys.executable, "-m", "flowparity.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == 0


def test_errors_keep_their_kind(tmp_path: Path) -> None:
    subject = WorkerSubject("reference")
    try:
        with pytest.raises(UsageError, match="counter_bits"):
            subject.start(Job(str(tmp_path / "none"), Profile(), {"5": ("127.0.0.1", 9)}))
        with pytest.raises(InputError):
            subject.start(Job(str(tmp_path / "none"), Profile(), {"9": ("127.0.0.1", 9)})).finish(30)
        with pytest.raises(UsageError, match="no operation"):
            subject.worker().ask("dance", 30)
    finally:
        subject.close()


def test_a_crash_is_named_and_the_worker_replaced() -> None:
    subject = WorkerSubject("reference")
    try:
        first = subject.worker()
        os.kill(first.pid, signal.SIGSEGV)
        with pytest.raises(SystemFault, match="SIGSEGV"):
            first.ask("probe", 30, subject="reference")
        assert subject.probe().ok
        assert subject.worker().pid != first.pid
    finally:
        subject.close()


def test_who_does_not_answer_is_killed() -> None:
    worker = Worker([sys.executable, "-c", STUBBORN])
    with pytest.raises(SystemFault, match="within"):
        worker.ask("probe", 0.1, subject="reference")
    assert not worker.alive


def test_another_version_is_refused() -> None:
    with pytest.raises(SystemFault, match="version 99"):
        Worker([sys.executable, "-c", STUBBORN.replace("'version': VERSION", "'version': 99")])


def test_noise_is_no_message() -> None:
    with pytest.raises(SystemFault):
        Worker([sys.executable, "-c", "print('Welcome to the guest', flush=True)"])

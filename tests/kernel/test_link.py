# SPDX-License-Identifier: Apache-2.0
"""The test bed itself: quiet, proven, and gone when it is over."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowparity.errors import SystemFault, UsageError
from flowparity.harness.interfaces import Injection, Link
from flowparity.harness.rigs.namespace import Namespace
from flowparity.harness.rigs.veth import VethRig
from flowparity.replay import KernelInjector
from tests.kernel.bench import ROOT, ROWS, Case, all_cases, inside, run_case
from tests.kernel.nobody import as_nobody, why_no_user_namespace

Rigs = Callable[[str], VethRig]
DNS = ROOT / "fixtures/recorded/dns.pcap"


def test_the_link_says_how_times_travel(rigs: Rigs) -> None:
    """SO_TXTIME where the handshake finds it exact."""
    with rigs("txtime").link(DNS) as link:
        assert (link.times, link.trailer) == ("txtime", False)
    with rigs("metadata").link(DNS) as link:
        assert (link.times, link.subject_options) == ("metadata", {"times": "sender"})


def test_a_kernel_without_exact_times_gets_the_trailer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same records either way, and the link says which."""
    ask = Namespace.ask

    def old_kernel(self: Namespace, request: str, **values: Any) -> dict[str, Any]:
        answer = ask(self, request, **values)
        return answer | {"exact": False} if request == "handshake" else answer

    monkeypatch.setattr(Namespace, "ask", old_kernel)
    case = next(case for case in all_cases() if case.capture == DNS)
    with VethRig() as rig:
        with rig.link(DNS) as link:
            assert (link.times, link.trailer) == ("trailer", True)
        assert run_case(rig, ROWS[0], case) == []


def test_captures_that_a_link_would_change_get_the_trailer(rigs: Rigs) -> None:
    """A runt, and frames that a snap length cut."""
    for name in ("verdicts/runt", "lengths/snap-length"):
        case: Case = next(case for case in all_cases() if case.name == name)
        with rigs("txtime").link(case.capture) as link:
            assert link.times == "trailer"


def test_a_fresh_link_is_quiet() -> None:
    """Only the handshake's own frames were ever on it."""
    rig = VethRig("txtime")  # of its own: the session's links have carried other tests' frames
    with contextlib.closing(rig), rig.bare_link() as link:
        sent = rig.namespace.ask("counters", name=link.transmit)
        received = rig.namespace.ask("counters", name=link.receive)
        assert received["tx_packets"] == 0
        assert received["rx_packets"] == sent["tx_packets"] == received["rx_bytes"] // 60


def test_a_link_is_gone_after_a_failure(rigs: Rigs) -> None:
    """Whatever the block raised, and whatever it did to the link."""
    rig = rigs("txtime")
    with pytest.raises(ZeroDivisionError), rig.link(DNS) as link:
        raise ZeroDivisionError
    with pytest.raises(SystemFault, match="no interface"):
        rig.namespace.ask("state", name=link.receive, up=True)


_RIG_WITH_AN_EXPORTER = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may come ignored from whatever started the tests
from flowparity.harness.rigs.veth import VethRig
rig = VethRig()
with rig.bare_link() as link:
    argv = [*rig.namespace.prefix, sys.executable, "-m", "flowparity", "export", "--backend", "af_packet", "-i", link.receive, "--clock", "packet"]
    export = subprocess.Popen([*argv, "--collector", "127.0.0.1:9", "--version", "ipfix"], start_new_session=True, stderr=subprocess.DEVNULL)
    while True:
        shown = subprocess.run([*rig.namespace.prefix, "cat", "/proc/net/packet"], capture_output=True, text=True).stdout
        if len(shown.splitlines()) > 1:
            break
        assert export.poll() is None
    print(rig.namespace.prefix[2], export.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_nothing_is_left_behind(number: int) -> None:
    """The namespace has no name and no life of its own: it goes with the process that made it, and so does every process inside."""
    with subprocess.Popen([sys.executable, "-c", _RIG_WITH_AN_EXPORTER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        watches = [os.pidfd_open(int(pid)) for pid in process.stdout.readline().split()]
        assert len(watches) == 2
        assert not any(_ended(watch, 0) for watch in watches)
        process.send_signal(number)
        process.wait(120)
    try:
        assert all(_ended(watch, 120) for watch in watches)
    finally:
        for watch in watches:
            os.close(watch)


def _ended(watch: int, seconds: float) -> bool:
    return bool(select.select([watch], [], [], seconds)[0])


def test_a_killed_exporter_leaves_no_program_on_the_interface(rigs: Rigs) -> None:
    """AF_XDP: SIGKILL detaches, because the program hangs on a link of the process."""
    rig = rigs("none")
    with rig.bare_link() as link:
        argv = [*rig.namespace.prefix, sys.executable, "-m", "flowparity", "export", "--backend", "af_xdp", "-i", link.receive]
        argv += ["--collector", "127.0.0.1:9", "--version", "ipfix"]
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
            try:
                _until(lambda: _has_program(rig, link.receive), process)
            finally:
                process.kill()
        assert not _has_program(rig, link.receive)


def _has_program(rig: VethRig, name: str) -> bool:
    shown = subprocess.run([*rig.namespace.prefix, "ip", "link", "show", name], capture_output=True, text=True, check=True)
    return "prog/xdp" in shown.stdout


def _until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not condition():
        if process.poll() is not None:
            pytest.fail("the exporter ended by itself")


def test_the_injector_of_the_harness(rigs: Rigs) -> None:
    """A process of its own on the link's side; frames that the link cannot take are reported with their reason."""
    rig = rigs("txtime")
    with rig.link(DNS) as link:
        assert KernelInjector().inject(DNS, link).not_sent == {}
    with rig.bare_link(mtu=100) as link:
        injection: Injection = KernelInjector().inject(ROOT / "fixtures/recorded/http-ipv4.pcap", link, rate_pps=10_000)
        assert injection.sent + len(injection.not_sent["longer than the link takes"]) == 99


def test_a_link_without_a_transmit_end(rigs: Rigs) -> None:
    """Such a subject reads the capture itself."""

    class Deaf(Link):
        transmit = None

        def __enter__(self) -> Link:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing was acquired."""

    with pytest.raises(UsageError, match="no transmit end"):
        KernelInjector().inject(DNS, Deaf())


_AS_USER = """
import sys
from flowparity.harness.rigs.veth import VethRig
from flowparity.replay import KernelInjector
from pathlib import Path
import subprocess
capture = Path(sys.argv[1])
with VethRig() as rig, rig.link(capture) as link:
    argv = [*link.prefix, sys.executable, "-m", "flowparity", "export", "--backend", "af_packet", "-i", link.receive, "--clock", "packet", "--json"]
    argv += ["--collector", "127.0.0.1:9", "--version", "ipfix", "-o", "blocks=4"]
    export = subprocess.Popen(argv, stdout=subprocess.PIPE)
    while True:
        shown = subprocess.run([*link.prefix, "cat", "/proc/net/packet"], capture_output=True, text=True).stdout
        if len(shown.splitlines()) > 1:
            break
        assert export.poll() is None
    KernelInjector().inject(capture, link)
    export.terminate()
    print(link.times, export.communicate()[0].decode())
"""


def test_an_ordinary_user_has_a_test_bed_too(tmp_path: Path) -> None:
    """Without any capability, inside a user namespace where the kernel allows it: veth, exact times, TPACKET_V3."""
    if why := why_no_user_namespace(tmp_path):
        pytest.skip(f"capability: no user namespaces for ordinary users: {why}")
    done = subprocess.run([*as_nobody(tmp_path), sys.executable, "-c", _AS_USER, str(DNS)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("txtime ")
    assert '"received": 43' in done.stdout


def test_work_inside_a_namespace_stays_there(rigs: Rigs) -> None:
    """The helper of these tests: its thread is inside, the others are not."""
    outside = Path("/proc/self/ns/net").stat().st_ino
    assert inside(rigs("none").namespace, lambda: Path("/proc/thread-self/ns/net").stat().st_ino) != outside
    assert Path("/proc/self/ns/net").stat().st_ino == outside

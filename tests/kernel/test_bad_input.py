# SPDX-License-Identifier: Apache-2.0
"""Mistakes and missing rights: one line that says what to do, status 2 or 3, and the system as it was before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from flowparity.harness.rigs.veth import VethRig
from tests.kernel.bench import ROOT

Rigs = Callable[[str], VethRig]
HTTP = str(ROOT / "fixtures/recorded/http-ipv4.pcap")


def _run(prefix: tuple[str, ...], *arguments: str) -> tuple[int, str]:
    done = subprocess.run([*prefix, sys.executable, "-m", "flowparity", *arguments], capture_output=True, text=True, timeout=300, check=False)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


def _state(rig: VethRig) -> str:
    """Links with their flags, queueing disciplines, promiscuity and programs, their offloads, and packet sockets."""
    shown = [["ip", "-d", "link"], ["cat", "/proc/net/packet"]]
    text = "".join(subprocess.run([*rig.namespace.prefix, *argv], capture_output=True, text=True, check=True).stdout for argv in shown)
    return text + str(rig.namespace.ask("offloads"))


EXPORT = ("export", "--collector", "127.0.0.1:9", "--version", "ipfix")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--backend", "af_packet", "-i", "nowhere"), 3, "no such interface"),
        (("--backend", "socket", "-i", "nowhere"), 3, "no such interface"),
        (("--backend", "af_xdp", "-i", "nowhere"), 3, "no such interface"),
        (("--backend", "af_packet", "-i", ""), 3, "no such interface"),
        (("--backend", "af_packet", "-i", "x" * 40), 3, "no such interface"),
        (("--backend", "af_xdp", "-i", "{receive}", "--workers", "2"), 2, "ask for 1, or raise them with 'ethtool -L"),
        (("--backend", "af_xdp", "-i", "{receive}", "-o", "copy=zerocopy"), 3, "its driver has no zero-copy AF_XDP; use copy=copy"),
        (("--backend", "af_xdp", "-i", "lo", "-o", "mode=native"), 3, "its driver has no native XDP; use mode=generic"),
        (("--backend", "af_xdp", "-i", "{receive}", "-o", "mode=fast"), 2, "mode=fast is none of auto, native, generic"),
        (("--backend", "af_xdp", "-i", "{receive}", "-o", "frames=100"), 2, "not a power of two"),
        (("--backend", "af_xdp", "-i", "{receive}", "--filter", "udp"), 2, "has no filter"),
        (("--backend", "af_packet", "-i", "{receive}", "-o", "fanout=best"), 2, "fanout=best is none of flow, hash"),
        (("--backend", "af_packet", "-i", "{receive}", "-o", "blocks=1"), 2, "not a number from 2 to 4096"),
        (("--backend", "af_packet", "-i", "{receive}", "-o", "time=hardware"), 3, "its driver takes no hardware timestamps"),
        (("--backend", "socket", "-i", "{receive}", "-o", "time=hardware"), 3, "its driver takes no hardware timestamps"),
        (("--backend", "af_packet", "-i", "{receive}", "--promiscuous", "--workers", "2", "-o", "time=hardware"), 3, "use time=kernel"),
        (("--backend", "af_packet", "-i", "{receive}", "--busy-poll"), 2, "leave --busy-poll out"),
        (("--backend", "socket", "-i", "{receive}", "--busy-poll"), 2, "leave --busy-poll out"),
        (("--backend", "af_packet", "-i", "{receive}", "-o", "speed=1"), 2, "unknown option 'speed'"),
        (("--backend", "af_packet", "-i", "{receive}", "--filter", "no such filter"), 2, "filter 'no such filter'"),
        (("--backend", "socket", "-i", "{receive}", "-o", "mode=slow"), 2, "neither default nor tuned"),
        (("--backend", "af_packet", "-i", "{receive}", "--metrics", "192.0.2.1:1"), 2, "--metrics: cannot listen"),
    ],
    ids=lambda value: "" if not isinstance(value, tuple) else "-".join(value)[:60],
)
def test_export(rigs: Rigs, arguments: tuple[str, ...], status: int, said: str) -> None:
    """Nothing is left on the interface."""
    rig = rigs("none")
    with rig.bare_link() as link:
        before = _state(rig)
        found = _run(rig.namespace.prefix, *EXPORT, *(each.format(receive=link.receive) for each in arguments))
        assert found[0] == status, found[1]
        assert said in found[1]
        assert _state(rig) == before


@pytest.mark.parametrize("backend", ["af_packet", "socket", "af_xdp"])
def test_an_interface_that_is_down(rigs: Rigs, backend: str) -> None:
    """The line has the command that mends it."""
    rig = rigs("none")
    with rig.bare_link() as link:
        rig.namespace.ask("state", name=link.receive, up=False)
        status, said = _run(rig.namespace.prefix, *EXPORT, "--backend", backend, "-i", link.receive)
    assert status == 3
    assert f"'ip link set {link.receive} up'" in said


_NOBODY = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")  # without any capability


@pytest.mark.parametrize("backend", ["af_packet", "socket", "af_xdp"])
def test_no_privilege(rigs: Rigs, backend: str) -> None:
    """What is missing is named."""
    rig = rigs("none")
    with rig.bare_link() as link:
        before = _state(rig)
        status, said = _run((*rig.namespace.prefix, *_NOBODY), *EXPORT, "--backend", backend, "-i", link.receive)
        assert _state(rig) == before
    assert status == 3
    assert "no privilege" in said
    assert "CAP_NET_RAW" in said


@pytest.mark.parametrize("injector", ["af_packet", "xdp_live"])
def test_replay_without_privilege_or_with_the_interface_down(rigs: Rigs, injector: str) -> None:
    """Nothing was sent, and the line has the remedy."""
    rig = rigs("none")
    with rig.bare_link() as link:
        assert link.transmit is not None
        replay = ("replay", HTTP, "-i", link.transmit, "--top", "--injector", injector)
        before = _state(rig)
        status, said = _run((*rig.namespace.prefix, *_NOBODY), *replay)
        assert (status, "no privilege" in said) == (3, True)
        assert _state(rig) == before
        rig.namespace.ask("state", name=link.transmit, up=False)
        status, said = _run(rig.namespace.prefix, *replay)
    assert (status, f"'ip link set {link.transmit} up'" in said) == (3, True)


def test_an_interface_that_has_a_program(rigs: Rigs) -> None:
    """The other program stays."""
    rig = rigs("none")
    with rig.bare_link() as link:
        argv = [*rig.namespace.prefix, sys.executable, "-m", "flowparity", *EXPORT, "--backend", "af_xdp", "-i", link.receive]
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as other:
            try:
                while "prog/xdp" not in _state(rig):
                    assert other.poll() is None
                before = _state(rig)
                status, said = _run(rig.namespace.prefix, *EXPORT, "--backend", "af_xdp", "-i", link.receive)
                assert _state(rig) == before
            finally:
                other.kill()
    assert status == 3
    assert "it has an XDP program already" in said


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((HTTP, "-i", "nowhere", "--top"), 3, "no such interface"),
        (("nowhere.pcap", "-i", "{transmit}"), 2, "nowhere.pcap"),
        ((HTTP, "-i", "{transmit}", "--rate", "0"), 2, "--rate: 0 is not above 0"),
        ((HTTP, "-i", "{transmit}", "--rate", "1", "--speed", "1"), 2, "exclude each other"),
        ((HTTP, "-i", "{transmit}", "--top", "--injector", "pcap"), 2, "does not transmit"),
        ((HTTP, "-i", "{transmit}", "--top", "--option", "x=1"), 2, "'x=1' is none of"),
        ((HTTP, "-i", "{transmit}", "--top", "--injector", "xdp_live", "--option", "into=air"), 2, "'into=air' is none of into=peer"),
        ((HTTP, "-i", "{transmit}", "--speed", "1", "--injector", "xdp_live"), 2, "keeps a rate, not a capture's gaps"),
        ((HTTP, "-i", "{transmit}", "--top"), 2, "mtu 490', or give --allow-not-sent"),
    ],
)
def test_replay(rigs: Rigs, arguments: tuple[str, ...], status: int, said: str) -> None:
    """The link's MTU is too small for the capture."""
    rig = rigs("none")
    with rig.bare_link(mtu=300) as link:
        before = _state(rig)
        found = _run(rig.namespace.prefix, "replay", *(each.format(transmit=link.transmit) for each in arguments))
        assert _state(rig) == before
    assert found[0] == status, found[1]
    assert said in found[1]

# SPDX-License-Identifier: Apache-2.0
"""The ABI probes print over the stand-ins what the real modules printed, and over the real modules where there are such."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowparity.harness.rigs.sims import stand_in
from flowparity.harness.rigs.veth import VethLink, VethRig
from tests.sims.build import NATIVE, program

PROBES = NATIVE / "sim/probes"
NETMAP = (PROBES / "netmap.txt").read_text(encoding="utf-8")
PFRING = (PROBES / "pfring.txt").read_text(encoding="utf-8")
_available = VethRig().probe()
needs_links = pytest.mark.skipif(not _available.ok, reason=f"{_available.reason}; {_available.remedy}: the probe of PF_RING is not tried")


def _probe(argv: list[object], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(each) for each in argv], env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def link() -> Iterator[tuple[VethRig, VethLink]]:
    with VethRig("none") as rig, rig.bare_link() as made:
        yield rig, made


def _pf_ring(built: Path, link: tuple[VethRig, VethLink], library: object, settings: str) -> subprocess.CompletedProcess[str]:
    rig, pair = link
    argv = [*rig.namespace.prefix, program(built, PROBES / "pfring.c"), library, pair.receive, pair.transmit]
    return _probe(argv, FLOWPARITY_PFRING_SIM=settings)


def test_netmaps_stand_in_prints_what_the_module_printed(built: Path) -> None:
    done = _probe([program(built, PROBES / "netmap.c")], LD_PRELOAD=str(stand_in("netmap")), FLOWPARITY_NETMAP_SIM="strict=0,traps=0")
    assert done.stdout == NETMAP, done.stderr


def test_the_strict_stand_in_aborts_where_the_module_lets_pass(built: Path) -> None:
    done = _probe([program(built, PROBES / "netmap.c")], LD_PRELOAD=str(stand_in("netmap")), FLOWPARITY_NETMAP_SIM="strict=1,traps=0")
    assert "netmap stand-in: illegal use" in done.stderr
    assert done.returncode < 0


@pytest.mark.skipif(not Path("/dev/netmap").exists(), reason="no netmap module is loaded: the probe ran over the stand-in only")
def test_the_real_module_still_prints_it(built: Path) -> None:
    assert _probe([program(built, PROBES / "netmap.c")]).stdout == NETMAP


@needs_links
def test_pf_rings_stand_in_prints_what_module_and_library_printed(built: Path, link: tuple[VethRig, VethLink]) -> None:
    done = _pf_ring(built, link, stand_in("pfring"), "strict=0,traps=0")
    assert done.stdout == PFRING, done.stderr


@needs_links
def test_the_strict_stand_in_aborts_where_the_library_refuses(built: Path, link: tuple[VethRig, VethLink]) -> None:
    done = _pf_ring(built, link, stand_in("pfring"), "strict=1,traps=0")
    assert "PF_RING stand-in: illegal use: receive before enable_ring" in done.stderr
    assert done.returncode not in (0, 3)


@needs_links
@pytest.mark.skipif(not Path("/proc/net/pf_ring/info").exists(), reason="no pf_ring module is loaded: the probe ran over the stand-in only")
def test_the_real_library_still_prints_it(built: Path, link: tuple[VethRig, VethLink]) -> None:
    library = os.environ.get("FLOWPARITY_PFRING_LIBRARY", "libpfring.so")
    assert _pf_ring(built, link, library, "").stdout == PFRING

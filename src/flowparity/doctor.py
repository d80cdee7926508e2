# SPDX-License-Identifier: Apache-2.0
"""What works on this machine, and the command that mends the rest. Looks only; changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_APT = "apt-get install -y "


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `needed` tells what cannot work without it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = False


@dataclass(frozen=True, slots=True)
class _Tool:
    program: str
    package: str
    purpose: str


_TOOLS = (
    _Tool("tshark", "tshark", "a witness of packets and of exports (flowparity oracle)"),
    _Tool("nfdump", "nfdump", "a witness of exports"),
    _Tool("softflowd", "softflowd", "an exporter to compare"),
    _Tool("ip", "iproute2", "links for live parity"),
)


def findings() -> Iterator[Finding]:
    """Everything that is looked at, in the order in which a user needs it."""
    yield _python()
    core = _core()
    yield core
    if core.ok:
        yield from _backends()
    for tool in _TOOLS:
        path = shutil.which(tool.program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
        yield Finding(tool.program, path is not None, f"{path}: {tool.purpose}" if path else f"absent: {tool.purpose}", "" if path else _APT + tool.package)
    yield _privilege()
    yield _user_namespaces()
    yield _hugepages()


def _python() -> Finding:
    version = platform.python_version()
    return Finding("python", sys.version_info >= (3, 11), f"{version} on {platform.system()} {platform.release()}, {platform.machine()}", needed=True)


def _core() -> Finding:
    try:
        from flowparity import native
    except ImportError as error:
        return Finding(
            "native core", False, f"does not load: {error}", f"{_APT}gcc python3-dev libpcap-dev && pip install --force-reinstall flowparity", needed=True
        )
    return Finding("native core", True, str(Path(str(native.__file__)).parent), needed=True)


def _backends() -> Iterator[Finding]:
    from flowparity import native

    for backend in native.backends():
        tier = f" [{backend.tier}]" if backend.tier else ""
        yield Finding(f"backend {backend.name}", backend.available, backend.summary + tier if backend.available else backend.reason, backend.remedy)


def _privilege() -> Finding:
    if os.geteuid() == 0:
        return Finding("privilege", True, "root: every live backend may be used")
    capabilities = _effective_capabilities()
    raw = bool(capabilities >> 13 & 1)  # CAP_NET_RAW, capabilities(7)
    return Finding(
        "privilege",
        raw,
        "CAP_NET_RAW" if raw else "an ordinary user without CAP_NET_RAW: files only, or inside a user namespace",
        "" if raw else "run as root: sudo flowparity …",
    )


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _user_namespaces() -> Finding:
    """Tried, not inferred: distributions forbid them in different ways."""
    tool = shutil.which("unshare")
    if tool is None:
        return Finding("user namespaces", False, "unshare is absent", _APT + "util-linux")
    done = subprocess.run([tool, "-Urn", "true"], capture_output=True, text=True, check=False, timeout=10)
    if done.returncode == 0:
        return Finding("user namespaces", True, "an ordinary user can make links of its own")
    return Finding("user namespaces", False, f"refused: {done.stderr.strip()}", "run the live cases as root, or sysctl -w kernel.unprivileged_userns_clone=1")


def _hugepages() -> Finding:
    """DPDK works without (--no-huge), slower."""
    total = 0
    for path in Path("/sys/kernel/mm/hugepages").glob("hugepages-*/nr_hugepages"):
        total += int(path.read_text(encoding="ascii"))
    return Finding(
        "hugepages", total > 0, f"{total} reserved" if total else "none: DPDK runs slower, with --no-huge", "" if total else "sysctl -w vm.nr_hugepages=256"
    )

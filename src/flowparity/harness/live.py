# SPDX-License-Identifier: Apache-2.0
"""Where live backends run, BACKEND@PLACE: those of the kernel over veth links with an injector, DPDK over its vdevs, others over a stand-in (`netmap@sim`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from flowparity.errors import UsageError
from flowparity.harness.engine import Place
from flowparity.harness.rigs import dpdk, sims
from flowparity.harness.rigs.veth import VethRig
from flowparity.replay import KernelInjector

CARRIERS = {"af_packet": "txtime", "socket": "txtime", "af_xdp": "metadata"}
"""The live backends, and how packets' own times reach them over a veth."""

_UNDER_DEFAULT_BUFFER = 2000.0  # frames a second that a plain socket with the system's buffer takes without loss

Maker = Callable[[ExitStack], Place]


def _on_veth(backend: str) -> Maker:
    def make(stack: ExitStack) -> Place:
        rig = stack.enter_context(VethRig(CARRIERS[backend]))
        return Place(rig, KernelInjector(rate_pps=_UNDER_DEFAULT_BUFFER if backend == "socket" else None))

    return make


def _on_dpdk(row: dpdk.Row) -> Maker:
    def make(stack: ExitStack) -> Place:
        rig = stack.enter_context(row.rig())
        return Place(rig, dpdk.DpdkInjector() if row.fed else None, workers=row.workers)

    return make


def _on_sim(row: sims.Row) -> Maker:
    def make(stack: ExitStack) -> Place:
        rig = stack.enter_context(sims.VethSimRig(row) if row.live else sims.SimRig(row))
        return Place(rig, KernelInjector() if row.live else None, workers=row.workers)

    return make


def _makers() -> dict[str, Maker]:
    return (
        {backend: _on_veth(backend) for backend in CARRIERS}
        | {row.name: _on_dpdk(row) for row in dpdk.ROWS}
        | {"dpdk": _on_dpdk(dpdk.ROWS[0])}
        | {row.name: _on_sim(row) for row in (*sims.ROWS, *sims.LIVE_ROWS)}
    )


def places_of_all(available: Iterable[str]) -> list[str]:
    """The names of all places but for stand-ins, which have to be named; also where the backend does not work here, so that its reason is told, once."""
    return [*CARRIERS, *((row.name for row in dpdk.ROWS) if "dpdk" in set(available) else ("dpdk",))]


@contextmanager
def live_places(names: Iterable[str]) -> Iterator[Mapping[str, Place]]:
    """The places of those subjects that are live backends; what they need goes at the end of the block. UsageError for a place that is none."""
    known = _makers()
    chosen: dict[str, Maker] = {}
    for name in names:
        plain = name.removeprefix("native:")
        backend, at, _ = plain.partition("@")
        if plain in known:
            chosen[name] = known[plain]
        elif at:
            there = ", ".join(each for each in known if each.startswith(f"{backend}@")) or "none"
            raise UsageError(f"no place {name!r}; known of {backend}: {there}")
    with ExitStack() as stack:
        yield {name: make(stack) for name, make in chosen.items()}

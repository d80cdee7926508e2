# SPDX-License-Identifier: Apache-2.0
"""Where live backends run: those of the kernel over a veth rig of their own with an injector, those with a stand-in (`netmap@sim`) over that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from flowparity.harness.engine import Place
from flowparity.harness.rigs.sims import sim_places
from flowparity.harness.rigs.veth import VethRig
from flowparity.replay import KernelInjector

CARRIERS = {"af_packet": "txtime", "socket": "txtime", "af_xdp": "metadata"}
"""The live backends, and how packets' own times reach them over a veth."""

_UNDER_DEFAULT_BUFFER = 2000.0  # frames a second that a plain socket with the system's buffer takes without loss


@contextmanager
def live_places(names: Iterable[str]) -> Iterator[Mapping[str, Place]]:
    """The places of those subjects that are live backends; what they need goes at the end of the block."""
    with ExitStack() as stack:
        names = list(names)
        out = {name: Place(stack.enter_context(rig), workers=rig.row.workers) for name, rig in sim_places(names)}
        for name in names:
            backend = name.removeprefix("native:")
            if backend in CARRIERS:
                rig = stack.enter_context(VethRig(CARRIERS[backend]))
                out[name] = Place(rig, KernelInjector(rate_pps=_UNDER_DEFAULT_BUFFER if backend == "socket" else None))
        yield out

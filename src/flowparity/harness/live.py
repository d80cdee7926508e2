# SPDX-License-Identifier: Apache-2.0
"""Where the backends of the live kernel run: a veth rig of their own, and an injector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from flowparity.harness.engine import Place
from flowparity.harness.rigs.veth import VethRig
from flowparity.replay import KernelInjector

CARRIERS = {"af_packet": "txtime", "socket": "txtime", "af_xdp": "metadata"}
"""The live backends, and how packets' own times reach them over a veth."""

_UNDER_DEFAULT_BUFFER = 2000.0  # frames a second that a plain socket with the system's buffer takes without loss


@contextmanager
def live_places(names: Iterable[str]) -> Iterator[Mapping[str, Place]]:
    """The places of those subjects that are live backends; their namespaces go at the end of the block."""
    with ExitStack() as stack:
        out = {}
        for name in names:
            backend = name.removeprefix("native:")
            if backend in CARRIERS:
                rig = stack.enter_context(VethRig(CARRIERS[backend]))
                out[name] = Place(rig, KernelInjector(rate_pps=_UNDER_DEFAULT_BUFFER if backend == "socket" else None))
        yield out

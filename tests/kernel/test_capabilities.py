# SPDX-License-Identifier: Apache-2.0
"""What backends declare is what they do on a real link, and a wrong declaration fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flowparity.harness.rigs.veth import VethRig
from tests.kernel.bench import ROWS, inside
from tests.kernel.driver import Declared, Log, source
from tests.kernel.packets import udp
from tests.kernel.probes import Mouth, Observation, faults, merged, observe, spread, spread_faults

Rigs = Callable[[str], VethRig]
_OVER_LOOPBACK = ("af_packet", "socket")  # their longest frame is longer than a veth takes
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {row.name: (row.backend, dict(row.options)) for row in ROWS}
VARIANTS |= {f"af_xdp-{times}": ("af_xdp", {"mode": "native", "times": times}) for times in ("sender", "burst")}


@pytest.fixture(scope="module")
def observed(rigs: Rigs) -> Callable[[str], tuple[Declared, Observation]]:
    """The observation of a variant, made once."""
    made: dict[str, tuple[Declared, Observation]] = {}

    def get(name: str) -> tuple[Declared, Observation]:
        if name not in made:
            made[name] = _observe(rigs("none"), name)
        return made[name]

    return get


def _observe(rig: VethRig, name: str) -> tuple[Declared, Observation]:
    backend, options = VARIANTS[name]
    with rig.bare_link() as link:
        assert link.transmit is not None
        transmit, receive = link.transmit, link.receive
        for end in (transmit, receive):
            for feature in ("tx", "tso", "gso"):
                rig.namespace.ask("offload", name=end, feature=feature, on=True)
        if backend in _OVER_LOOPBACK:
            rig.namespace.ask("mtu", name="lo", mtu=2_000_000)
        return inside(rig.namespace, lambda: observe(backend, transmit, receive, "lo" if backend in _OVER_LOOPBACK else receive, **options))


@pytest.mark.parametrize("name", VARIANTS)
def test_the_declaration_holds(observed: Callable[[str], tuple[Declared, Observation]], name: str) -> None:
    """Source, tolerance and resolution of stamps, the bound of their visibility, lengths, tags, the interface, super-packets and the drop counter."""
    assert faults(*observed(name)) == []


_WRONG: list[tuple[str, dict[str, Any]]] = [
    ("ts_source", {"ts_source": "hardware"}),
    ("ts_resolution", {"ts_resolution": 1000}),
    ("max_frame", {"max_frame": 2_000_001}),
    ("LIVE", {"without": "LIVE"}),
]
WRONG = [(name, field, change) for name in VARIANTS for field, change in _WRONG]
WRONG += [(name, "EXACT_TIME", {"with": "EXACT_TIME"}) for name in VARIANTS if name != "af_xdp-sender"]
WRONG += [(name, "STAMPS_SEQUENCE", {"with": "STAMPS_SEQUENCE"}) for name in VARIANTS if name != "af_xdp-sender"]
WRONG += [
    ("af_packet", "visibility", {"visibility": 0}),  # nothing is seen before its block retires
    ("af_xdp-generic", "COALESCES", {"without": "COALESCES"}),
    ("af_xdp-burst", "ts_tolerance", {"ts_tolerance": 20_000_000}),  # what waits in the ring gets the time at which it was read
    ("af_xdp-sender", "ts_tolerance", {"ts_tolerance": 1}),
]


@pytest.mark.parametrize(("name", "field", "change"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_declaration_fails(observed: Callable[[str], tuple[Declared, Observation]], name: str, field: str, change: dict[str, Any]) -> None:
    """One field is declared otherwise than it is."""
    declared, seen = observed(name)
    also = {"ts_tolerance"} if field == "EXACT_TIME" else set()
    if (name, field) == ("af_xdp-sender", "ts_source"):
        also = {"visibility"}  # times of a sender's, taken for times of here
    assert {each.partition(":")[0] for each in faults(_changed(declared, change), seen)} == {field, *also}


def _changed(declared: Declared, change: dict[str, Any]) -> Declared:
    flags = declared.flags | {change["with"]} if "with" in change else declared.flags - {change.get("without", "")}
    return replace(declared, flags=flags, **{key: value for key, value in change.items() if key not in ("with", "without")})


def _packets(seen: Observation, **changes: Any) -> Observation:
    return replace(seen, log=Log([replace(each, **changes) for each in seen.log.seen], seen.log.empty))


def _older(seen: Observation) -> Observation:
    return replace(seen, log=Log([replace(each, ts_ns=each.ts_ns - 1_000_000_000) for each in seen.log.seen], seen.log.empty))


def _untagged(seen: Observation) -> Observation:
    """The outer tag is lost on the way."""
    kept = [
        replace(each, data=each.data[:12] + each.data[16:], tags=(), wirelen=len(each.data) - 4) if each.data[12:14] in (b"\x81\x00", b"\x88\xa8") else each
        for each in seen.log.seen
    ]
    return replace(seen, log=Log(kept, seen.log.empty))


def _padded(seen: Observation) -> Observation:
    return replace(seen, log=Log([replace(each, data=each.data.ljust(60, b"\0")) for each in seen.log.seen], seen.log.empty))


WORSE: list[tuple[str, set[str], Callable[[Observation], Observation]]] = [
    ("af_packet", {"visibility", "ts_tolerance"}, _older),
    ("socket-default", {"visibility", "ts_tolerance"}, _older),
    ("socket-tuned", {"visibility", "ts_tolerance"}, _older),
    ("af_xdp-native", {"visibility", "ts_tolerance"}, _older),
    ("af_xdp-generic", {"visibility", "ts_tolerance"}, _older),
    ("af_xdp-burst", {"visibility"}, _older),
    *((name, {"LOSES_TAGS", "wirelen"}, _untagged) for name in VARIANTS),
    *((name, {"min_frame"}, _padded) for name in VARIANTS),
    *((name, {"INTERFACE"}, lambda seen: _packets(seen, interface=0)) for name in VARIANTS),
    *((name, {"WIRE_LENGTH"}, lambda seen: replace(seen, cut=replace(seen.cut, wirelen=60))) for name in VARIANTS),
    *((name, {"COALESCES"}, lambda seen: replace(seen, segments=1)) for name in ("af_packet", "socket-default", "socket-tuned", "af_xdp-native")),
    *(
        (name, {"DROPS_KNOWN"}, lambda seen: replace(seen, overload=(seen.overload[0] + 1, *seen.overload[1:])))
        for name in ("af_packet", "socket-default", "socket-tuned")
    ),
]


@pytest.mark.parametrize(
    ("name", "fields", "worse"), WORSE, ids=lambda value: value if isinstance(value, str) else "-".join(sorted(value)) if isinstance(value, set) else ""
)
def test_a_declaration_that_is_not_kept_fails(
    observed: Callable[[str], tuple[Declared, Observation]], name: str, fields: set[str], worse: Callable[[Observation], Observation]
) -> None:
    """The backend behaves worse than it declares: what was observed is changed accordingly."""
    declared, seen = observed(name)
    assert {each.partition(":")[0] for each in faults(declared, worse(seen))} == fields


@pytest.mark.parametrize(
    ("backend", "options", "splits"),
    [
        ("af_packet", {}, False),
        ("socket", {"mode": "tuned"}, False),
        ("af_packet", {"fanout": "lb"}, True),
        ("socket", {"fanout": "cpu"}, True),
        ("af_xdp", {"mode": "native"}, True),  # a veth gives the generic program its first queue only
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else str(value),
)
def test_queues_and_splits(rigs: Rigs, backend: str, options: dict[str, str], splits: bool) -> None:
    """Every queue that is declared gets packets; where one key reaches two, that is declared. Both fail when they are declared otherwise."""
    rig = rigs("none")
    with rig.bare_link(queues=2) as link:
        assert link.transmit is not None
        transmit, receive = link.transmit, link.receive
        declared, reached = inside(rig.namespace, lambda: spread(backend, transmit, receive, 2, **options))
    assert ("SPLITS" in declared.flags) == splits
    assert spread_faults(declared, reached) == []
    assert [each[:6] for each in spread_faults(replace(declared, queues=3), reached)] == ["queues"]
    if splits:
        assert [each[:6] for each in spread_faults(replace(declared, flags=declared.flags - {"SPLITS"}), reached)] == ["SPLITS"]


@pytest.mark.parametrize("mode", ["flow", "hash", "cpu", "queue", "lb", "rnd", "rollover"])
@pytest.mark.parametrize("backend", ["af_packet", "socket"])
def test_every_way_of_sharing_out(rigs: Rigs, backend: str, mode: str) -> None:
    """Three workers get every frame once, whoever gets it, and every way but `flow` declares that it may split a key."""
    rig, every = rigs("none"), [udp(1000, host=host) for host in range(1, 65)]
    with rig.bare_link() as link:

        def work() -> tuple[Declared, Counter[bytes]]:
            with source(backend, link.receive, options={"fanout": mode}, queues=3) as it, Mouth(link.transmit or "") as mouth:
                for data in every:
                    mouth.send(data)
                it.drain()
                return it.declared, Counter(each.data for each in it.log.seen)

        declared, seen = inside(rig.namespace, work)
    assert seen == Counter(every)
    assert ("SPLITS" in declared.flags) == (mode != "flow")


@pytest.mark.parametrize("name", [row.name for row in ROWS])
def test_generic_receive_offload(rigs: Rigs, name: str) -> None:
    """The kernel merges what comes before the tap, and every packet is still counted; AF_XDP comes before, or turns it off."""
    backend, options = VARIANTS[name]
    rig = rigs("none")
    with rig.bare_link() as link:
        assert link.transmit is not None
        transmit, receive = link.transmit, link.receive
        rig.namespace.ask("offload", name=receive, feature="gro", on=True)
        rig.namespace.ask("hold_segments", name=receive, nanoseconds=20_000_000)
        _, came, packets = inside(rig.namespace, lambda: merged(backend, transmit, receive, **options))
    assert packets == 20
    assert (came == 20) == (backend == "af_xdp"), "nothing was merged: this test shows nothing"

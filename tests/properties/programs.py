# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: profiles and programs of packets that meet every verdict, end reason and link type often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from flowparity.frame import Frame
from flowparity.profile import SECOND, Profile, Sampling
from tests.properties.frames import EXTENSIONS, IPV4, IPV6, LINKS, TPIDS, Step, build

MILLI = SECOND // 1000
START = 1_700_000_000 * SECOND + 123_456_789
GAPS = (0, 1, MILLI, 90 * MILLI, 100 * MILLI, SECOND - 1, SECOND, SECOND + 1, 2 * SECOND - 1, 2 * SECOND, 3 * SECOND - 1, 3 * SECOND, 7 * SECOND, 40 * SECOND)
JUST_IN_TIME = (0, MILLI, 90 * MILLI, SECOND - 1, 2 * SECOND - 1, 3 * SECOND - 1)
"""After which a packet of another flow passes a deadline that has not come yet."""
BACK = (-1, -MILLI, -100 * MILLI, -SECOND, -3 * SECOND, -40 * SECOND)
SYN, FIN, RST, ACK = 2, 1, 4, 16


@dataclass(frozen=True, slots=True)
class Program:
    """A run: its profile, its frames, and what made them."""

    profile: Profile
    frames: tuple[Frame, ...]


def profiles(*, lossless: bool = True, reorder: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[Profile]:
    """Profiles with short times. `lossless` keeps the cache large enough that nothing is evicted or shed."""
    seconds = st.sampled_from([0, SECOND, 2 * SECOND, 3 * SECOND])

    def make(
        key: str,
        mask: int,
        interface: int | None,
        idle: int,
        active: int,
        linger: int | None,
        disorder: int,
        bits: int,
        sampling: Sampling | None,
        size: int,
        full: str,
    ) -> Profile:
        if linger is not None and idle and linger > idle:
            linger = idle
        return Profile(
            key=key,
            tos_mask=mask,
            input_interface=interface,
            idle_timeout=idle,
            active_timeout=active,
            tcp_end=linger,
            reorder=disorder,
            counter_bits=bits,
            sampling=sampling,
            cache_size=1 << 16 if lossless else size,
            on_full=full,
        )

    samplings = st.none() | st.none() | st.builds(Sampling, st.sampled_from(["systematic", "random"]), st.integers(1, 4), st.integers(0, 3))
    return st.builds(
        make,
        st.sampled_from(["classic", "five", "classic+vlan", "five+vlan"]),
        st.sampled_from([0xFF, 0xFC, 0]),
        st.sampled_from([1, 7, 70000, None]),
        seconds,
        st.sampled_from([0, 2 * SECOND, 5 * SECOND]),
        st.sampled_from([None, 0, SECOND, 2 * SECOND]),
        reorder if reorder is not None else st.sampled_from([0, 100 * MILLI, SECOND]),
        st.sampled_from([64, 64, 32]),
        samplings,
        st.integers(1, 4),
        st.sampled_from(["evict", "refuse"]),
    )


@st.composite
def kinds(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """What the packets of a flow have in common: IP version, number, protocol, ToS."""
    version = draw(st.sampled_from([4, 4, 6]))
    return version, draw(st.integers(0, 2)), draw(st.sampled_from([6, 6, 6, 17, 1 if version == 4 else 58])), draw(st.sampled_from([0, 0, 1, 0xB8]))


@st.composite
def steps(draw: st.DrawFn, *, backwards: bool = True, among: Sequence[tuple[int, int, int, int]] = (), gaps: Sequence[int] = GAPS) -> Step:
    """One packet: mostly an ordinary one of the flows `among`, which is of a few if there are none; sometimes an odd one."""
    version, number, protocol, tos = draw(st.sampled_from(among) if among else kinds())
    odd = draw(st.integers(0, 3)) == 0
    gap = draw(st.sampled_from((*gaps, *(BACK if backwards else ()))))
    plain = Step(
        flow=number,
        protocol=protocol,
        version=version,
        delta=gap,
        flags=draw(st.sampled_from([ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST, 0xFFF])),
        payload=draw(st.sampled_from([0, 1, 10, 100])),
        tos=draw(st.sampled_from([tos, tos, tos, 1])),
    )
    if not odd:
        return plain
    values = {name: getattr(plain, name) for name in ("flow", "protocol", "version", "delta", "flags", "payload", "tos")}
    values["protocol"] = draw(st.sampled_from([6, 17, 1, 58, 132, 33, 136, 47, 50, 59, 0, 44]))
    pick = draw(st.integers(0, 9))
    if pick == 0:
        values["encapsulation"] = draw(st.text("abcm", max_size=10)) + draw(st.sampled_from(["", "p", "m"]))
    elif pick == 1:
        values["extensions"] = tuple(draw(st.lists(st.sampled_from(EXTENSIONS), max_size=18)))
        values["fragment"] = draw(st.sampled_from(["", "first", "later"]))
    elif pick == 2:
        values["fragment"] = draw(st.sampled_from(["first", "later"]))
        values["options"] = draw(st.integers(0, 10))
    elif pick == 3:
        values["length"] = draw(st.sampled_from(["zero", "long", "short"]))
    elif pick == 4:
        values["damage"] = draw(st.sampled_from(["version", "ihl", "checksum", "llc", "type", "runt"]))
        values["encapsulation"] = draw(st.sampled_from(["", "m", "am"]))
    elif pick == 5:
        values["cut"] = draw(st.integers(1, 80))
        values["options"] = draw(st.integers(0, 3))
    elif pick == 6:
        values["tags"] = tuple(draw(st.lists(st.tuples(st.sampled_from(TPIDS), st.sampled_from([0, 5, 0xE005])), min_size=1, max_size=2)))
        values["encapsulation"] = draw(st.text("abc", max_size=8))
    elif pick == 7:
        values["segments"] = draw(st.sampled_from([0, 1, 2, 40, 65535]))
    elif pick == 8:
        values["padding"] = draw(st.integers(0, 46))
    else:
        values["ttl"] = draw(st.integers(0, 255))
        values["interface"] = draw(st.integers(0, 2))
    return Step(**values)


@st.composite
def programs(
    draw: st.DrawFn,
    *,
    lossless: bool = True,
    backwards: bool = True,
    disorder: int | None = None,
    min_size: int = 1,
    max_size: int = 40,
    flows: int = 1,
    gaps: Sequence[int] = GAPS,
) -> Program:
    """A profile and the frames of `min_size` to `max_size` packets, mostly of `flows` to three flows, so that records meet what comes after them.

    `disorder` bounds how far a time lies behind the largest before it; the profile's `reorder` is then that.
    """
    profile = draw(profiles(lossless=lossless, reorder=None if disorder is None else st.just(disorder)))
    link = draw(st.sampled_from(LINKS))
    frames: list[Frame] = []
    largest = START
    among = draw(st.lists(kinds(), min_size=flows, max_size=3, unique_by=lambda kind: kind[1]))
    for step in draw(st.lists(steps(backwards=backwards, among=among, gaps=gaps), min_size=min_size, max_size=max_size)):
        delta = step.delta if disorder is None else max(step.delta, -disorder)
        ts = max(1, largest + delta)
        largest = max(largest, ts)
        wrong = (link == IPV4 and step.version == 6) or (link == IPV6 and step.version == 4)
        frames.append(build(step, 1 if wrong and step.flow == 0 else link, ts, len(frames)))
    return Program(profile, tuple(frames))

# SPDX-License-Identifier: Apache-2.0
"""Random traffic through the native core and the reference: the same multiset of records and the same accounts, whatever batch, budget, workers and hash seed.

Keys, times and flags come from small sets, so that every deadline, equal deadlines, late packets, SYNs after an end and counters near their limit are
met often.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from dataclasses import fields, replace

import pytest

from flowparity.accounting import Accounting
from flowparity.frame import Frame
from flowparity.native import meter
from flowparity.profile import Profile, Sampling
from flowparity.reference import ReferenceExporter

from .ipfix import flow_records

SECOND = 10**9
START = 1_700_000_000 * SECOND


def _transport(rng: random.Random, protocol: int) -> bytes:
    ports = struct.pack(">HH", rng.choice([80, 53, 1000]), rng.choice([80, 2000]))
    flags = rng.choice([0x10, 0x10, 0x18, 0x02, 0x12, 0x11, 0x04, 0x1C2])
    return {
        6: ports + bytes(8) + struct.pack(">HHHH", rng.choice([5, 5, 6, 4]) << 12 | flags, 100, 0, 0) + bytes(4),
        17: ports + struct.pack(">HH", 12, 0) + bytes(4),
        1: bytes([rng.choice([0, 8]), rng.choice([0, 3]), 0, 0]) + bytes(4),
        58: bytes([128, 0, 0, 0]) + bytes(4),
    }.get(protocol, ports + bytes(8))


def _ipv4(rng: random.Random) -> bytes:
    protocol = rng.choice([6, 6, 6, 17, 17, 1, 58, 132, 47])
    payload = _transport(rng, protocol)
    options = bytes(rng.choice([0, 0, 0, 0, 4, 40]))
    length = 20 + len(options) + len(payload)
    fragment = rng.choice([0, 0, 0, 0, 0x2000, 0x2003, 5])
    claimed = rng.choice([length] * 12 + [0, length - 3, 19, length + 9])
    head = struct.pack(
        ">BBHHHBBH4s4s",
        rng.choice([4] * 20 + [5]) << 4 | (5 + len(options) // 4),
        rng.choice([0, 0, 4, 3]),
        max(claimed, 0),
        7,
        fragment,
        rng.choice([64, 63]),
        protocol,
        0,
        bytes([10, 0, 0, rng.choice([1, 2])]),
        bytes([10, 0, 0, rng.choice([1, 2, 3])]),
    )
    return head + options + payload


def _ipv6(rng: random.Random) -> bytes:
    protocol = rng.choice([6, 17, 58, 1])
    chain = rng.choice([[], [], [0], [60, 43], [44], [51], [0, 0, 135, 140]])
    payload, after = _transport(rng, protocol), protocol
    for kind in reversed(chain):
        if kind == 44:
            payload = struct.pack(">BBHI", after, 0, rng.choice([0, 1, 8 << 3]), 9) + payload
        elif kind == 51:
            payload = bytes([after, 4]) + bytes(22) + payload
        else:
            payload = bytes([after, 1, 1, 12]) + bytes(12) + payload
        after = kind
    claimed = rng.choice([len(payload)] * 8 + [0, max(0, len(payload) - 5), len(payload) + 1])
    first = 6 << 28 | rng.choice([0, 4]) << 20 | rng.choice([0, 0xABCDE])
    return struct.pack(">IHBB16s16s", first, claimed, after, 64, bytes(15) + bytes([rng.choice([1, 2])]), bytes(15) + bytes([rng.choice([1, 2])])) + payload


def _frame(rng: random.Random) -> bytes:
    six = rng.random() < 0.3
    packet, kind = (_ipv6(rng), 0x86DD) if six else (_ipv4(rng), 0x0800)
    roll = rng.random()
    if roll < 0.05:
        packet, kind = b"\x11\0\0\1\0\0" + (b"\0\x57" if six else b"\0\x21") + packet, 0x8864
    elif roll < 0.10:
        packet, kind = bytes([0, 1, rng.choice([0, 1]), 64]) + packet, 0x8847
    for _ in range(rng.choice([0] * 10 + [1, 1, 2, 3, 8, 9])):
        packet, kind = struct.pack(">HH", rng.choice([0x2001, 0x2002, 5]), kind) + packet, rng.choice([0x8100, 0x88A8, 0x9100])
    return bytes(12) + struct.pack(">H", kind) + packet


def traffic(rng: random.Random, count: int, step: list[int]) -> list[Frame]:
    """Frames whose times mostly go forward by one of `step`, sometimes back."""
    now, out = START, []
    for index in range(count):
        now += rng.choice(step)
        back = rng.choice([0] * 8 + [SECOND // 20, 2 * SECOND, 40 * SECOND])
        data = _frame(rng)
        cut = len(data) if rng.random() < 0.8 else rng.randrange(len(data) + 1)
        out.append(
            Frame(
                max(now - back, 0),
                data[:cut],
                len(data) + rng.choice([0, 0, 6]),
                interface=rng.choice([0, 1]),
                index=index,
                tags=rng.choice([(), (), (), ((0x8100, 7),), ((0x88A8, 0), (0x8100, 9))]),
                segments=rng.choice([1, 1, 1, 0, 3]),
            )
        )
    return out


def profile(rng: random.Random) -> Profile:
    idle = rng.choice([0, 1, 5, 15]) * SECOND
    end = rng.choice([None, 0, SECOND // 2, SECOND])
    return Profile(
        key=rng.choice(["classic", "five", "classic+vlan", "five+vlan"]),
        tos_mask=rng.choice([0xFF, 0xFC, 0]),
        input_interface=rng.choice([None, 1, 2**32 - 1]),
        idle_timeout=idle,
        active_timeout=rng.choice([0, 1, 7, 60]) * SECOND,
        tcp_end=end,
        reorder=rng.choice([0, SECOND // 10, 3 * SECOND]),
        counter_bits=rng.choice([32, 64]),
        cache_size=rng.choice([1000, 1000, 5]),
        on_full="refuse",
        sampling=rng.choice([None, None, Sampling("systematic", 3), Sampling("random", 2, 2**64 - 1)]),
    )


SAME = tuple(f.name for f in fields(Accounting) if f.name not in ("dropped", "streams"))


@pytest.mark.parametrize("seed", range(60))
def test_same_records(seed: int) -> None:
    rng = random.Random(seed)
    chosen = profile(rng)
    frames = traffic(rng, 400, rng.choice([[0, 1, SECOND // 100], [0, SECOND // 2, SECOND], [SECOND, 5 * SECOND]]))
    workers = rng.choice([1, 1, 2, 5])
    assignment = [rng.randrange(workers) for _ in frames]
    reference = ReferenceExporter(chosen, workers)
    records = [closed.record for frame, worker in zip(frames, assignment, strict=True) for closed in reference.feed(frame, worker)]
    records += [closed.record for closed in reference.flush()]
    account = reference.accounting()
    for batch, budget, hash_seed in [(1, 0, 1), (32, 0, 2), (256, 3, 3), (5, 1000, 4)]:
        datagrams, result = meter(frames, chosen, ("ipfix",), workers, seed=hash_seed, batch=batch, sweep_budget=budget, ipfix_ns=True, assignment=assignment)
        assert result.accounting.broken() == []
        assert {n: getattr(result.accounting, n) for n in SAME} == {n: getattr(account, n) for n in SAME}
        assert result.final_clock_ns == reference.final_clock_ns
        native = Counter(flow_records(datagrams["ipfix"]))
        expected = Counter(records)
        assert not native - expected, next(iter(native - expected))
        assert not expected - native, next(iter(expected - native))


def test_many_flows_evict_nothing() -> None:
    """S-FUL-2: as many random keys as the cache holds, and not one more, for many table sizes."""
    rng = random.Random(5)
    for size in (1, 2, 15, 16, 17, 100, 1000, 20_000):
        frames = []
        for index in range(size):
            packet = struct.pack(">BBHHHBBHII", 0x45, 0, 28, 0, 0, 64, 17, 0, rng.getrandbits(32), rng.getrandbits(32)) + struct.pack(">IHH", index, 8, 0)
            frames.append(Frame(START + index, bytes(12) + b"\x08\0" + packet, 42, index=index))
        _, result = meter(frames, Profile(cache_size=size), ("ipfix",))
        assert (result.accounting.evicted, result.accounting.metered) == (0, size)
        one_more = replace(frames[0], data=frames[0].data[:-6] + b"\xff\xff" + frames[0].data[-4:], index=size)
        _, result = meter([*frames, one_more], Profile(cache_size=size), ("ipfix",))
        assert result.accounting.evicted == 1

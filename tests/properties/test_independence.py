# SPDX-License-Identifier: Apache-2.0
"""The ruling idea of docs/semantics.md: a record does not depend on sweeps, batches, the hash, the number of workers, or on disorder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from flowparity.frame import Frame
from flowparity.packet import Packet, parse
from flowparity.profile import SECOND, Profile
from tests.properties.differential import NAMES, Reported, native, reference, verdicts
from tests.properties.frames import build
from tests.properties.programs import JUST_IN_TIME, MILLI, START, Program, programs, steps

FEWER = settings(max_examples=settings().max_examples // 3)
WORKER = NAMES.index("worker")


def content(reported: Reported) -> Counter[tuple[object, ...]]:
    """The records less which worker made them."""
    out: Counter[tuple[object, ...]] = Counter()
    for record, count in reported.records.items():
        out[record[:WORKER] + record[WORKER + 1 :]] += count
    return out


@FEWER
@given(programs(), st.sampled_from([1, 2, 7, 256]), st.sampled_from([0, 1, 1000]), st.integers(0, 2**64 - 1))
def test_batches_sweeps_and_seed(program: Program, batch: int, sweep_budget: int, seed: int) -> None:
    plain = native(program.frames, program.profile, batch=32)
    other = native(program.frames, program.profile, batch=batch, sweep_budget=sweep_budget, seed=seed)
    assert other.records == plain.records
    assert verdicts(other.accounting) == verdicts(plain.accounting)


@FEWER
@given(programs(), st.sampled_from([0, MILLI, 3 * SECOND, None]))
def test_sweeps_of_the_reference(program: Program, every: int | None) -> None:
    assert reference(program.frames, program.profile, sweep_every=every).records == reference(program.frames, program.profile).records


@FEWER
@given(programs(backwards=False), st.integers(2, 8))
def test_number_of_workers(program: Program, workers: int) -> None:
    """Where times never go back and nothing is sampled (S-VER-3 samples per worker), a packet is judged at its own time by any worker.

    The flow hash keeps a key together (S-CMP-2).
    """
    profile = replace(program.profile, sampling=None)
    one, several = native(program.frames, profile), native(program.frames, profile, workers)
    assert content(several) == content(one)
    assert verdicts(several.accounting) == verdicts(one.accounting)
    assert several.final_clock == one.final_clock


def flow(frame: Frame) -> object:
    """Two frames with different values here have different keys under every profile, or one of them has none."""
    packet = parse(frame)
    return (packet.source, packet.destination, packet.source_port, packet.destination_port) if isinstance(packet, Packet) else frame.index


def disorder(frames: Sequence[Frame]) -> int:
    """How far a time lies behind the largest before it, at most."""
    worst, largest = 0, frames[0].ts_ns
    for frame in frames:
        worst, largest = max(worst, largest - frame.ts_ns), max(largest, frame.ts_ns)
    return worst


@FEWER
@given(programs(backwards=False, disorder=SECOND, min_size=12, max_size=25, flows=2, gaps=JUST_IN_TIME), st.integers(0, 1), st.integers(1, 4))
def test_disorder_up_to_reorder(program: Program, start: int, passes: int) -> None:
    """Packets of different keys may pass each other as long as no time lies more than `reorder` behind (S-TIM-2).

    Every packet is still judged at its own time. The order inside a key stays.
    """
    profile = replace(program.profile, sampling=None, idle_timeout=program.profile.idle_timeout or 2 * SECOND)
    frames = list(program.frames)
    for at in (at for each in range(passes) for at in range((start + each) % 2, len(frames) - 1, 2)):
        if flow(frames[at]) != flow(frames[at + 1]):
            frames[at], frames[at + 1] = frames[at + 1], frames[at]
            if disorder(frames) > profile.reorder:
                frames[at], frames[at + 1] = frames[at + 1], frames[at]
    for exporter in (native, reference):
        ordered, permuted = exporter(program.frames, profile), exporter(frames, profile)
        assert permuted.records == ordered.records
        assert permuted.final_clock == ordered.final_clock


@FEWER
@given(st.lists(steps(backwards=False), min_size=2, max_size=30), st.integers(0, 2**31))
def test_time_is_relative(sequence: Sequence[object], seconds: int) -> None:
    """The same packets at another date are the same records at that date."""

    def run(start: int) -> Reported:
        frames, now = [], start
        for index, step in enumerate(sequence):
            now += step.delta  # type: ignore[attr-defined]
            frames.append(build(step, 1, now, index))  # type: ignore[arg-type]
        return native(frames, Profile(idle_timeout=2 * SECOND, active_timeout=5 * SECOND, tcp_end=SECOND, counter_bits=32))

    first, last, move = NAMES.index("first_ns"), NAMES.index("last_ns"), seconds * SECOND - START
    moved = Counter[tuple[object, ...]]()
    for record, count in run(START).records.items():
        values = list(record)
        values[first] += move  # type: ignore[operator]
        values[last] += move  # type: ignore[operator]
        moved[tuple(values)] += count
    assert run(seconds * SECOND).records == moved

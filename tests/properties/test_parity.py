# SPDX-License-Identifier: Apache-2.0
"""The native core and the reference report the same of every program; and the programs meet everything there is to meet."""

from __future__ import annotations

from collections import Counter

from hypothesis import event, given, settings
from hypothesis import strategies as st

from flowparity.native import meter
from tests.properties.differential import NAMES, Reported, merged, native, reference, verdicts
from tests.properties.frames import LINKS
from tests.properties.programs import Program, programs

MET: Counter[str] = Counter()
RAN: set[str] = set()


def note(prop: str, program: Program, reported: Reported) -> None:
    """Remembers what an example of a property met."""
    account = reported.accounting
    met = {f"link {frame.link}" for frame in program.frames}
    met |= {name for name in ("sampled_out", "non_ip", "malformed", "shed", "metered", "late") if getattr(account, name)}
    met |= {f"reason {record[NAMES.index('end_reason')]:d}" for record in reported.records}  # type: ignore[str-format]
    for name in met:
        event(name)
    MET.update(met)
    MET["examples"] += 1
    RAN.add(prop)


@given(programs())
def test_records(program: Program) -> None:
    """S-CMP-1: where nothing is evicted or shed, the multisets of records are equal."""
    expected, got = reference(program.frames, program.profile), native(program.frames, program.profile)
    note("test_records", program, expected)
    assert got.records == expected.records
    assert verdicts(got.accounting) == verdicts(expected.accounting)
    assert got.final_clock == expected.final_clock
    assert not got.accounting.broken()
    assert not expected.accounting.broken()


@given(programs(lossless=False))
def test_full_cache(program: Program) -> None:
    """S-FUL-1 to S-FUL-3: eviction keeps `merged`, refusal every record; the invariants hold."""
    expected, got = reference(program.frames, program.profile), native(program.frames, program.profile)
    note("test_full_cache", program, expected)
    assert not got.accounting.broken()
    assert not expected.accounting.broken()
    assert verdicts(got.accounting) == verdicts(expected.accounting)
    if program.profile.on_full == "evict":
        assert merged(got.records) == merged(expected.records)
    else:  # nothing is left to choose: who is shed, and so every record
        assert got.records == expected.records


@given(programs(max_size=60), st.integers(2, 4), st.randoms(use_true_random=False))
def test_workers(program: Program, workers: int, random: object) -> None:
    """S-CMP-2: several workers against the same assignment."""
    assignment = [random.randrange(workers) for _ in program.frames]  # type: ignore[attr-defined]
    expected = reference(program.frames, program.profile, workers, assignment)
    got = native(program.frames, program.profile, workers, assignment)
    assert got.records == expected.records
    assert verdicts(got.accounting) == verdicts(expected.accounting)


@given(programs())
def test_assignment_is_reported(program: Program) -> None:
    """S-CMP-2: the native core says which worker had which frame, and every frame is somewhere."""
    _, result = meter(program.frames, program.profile, ("ipfix",), 3)
    assert result.assignment is not None
    assert sorted(index for worker in result.assignment for index in worker) == list(range(len(program.frames)))
    by_frame = {index: k for k, worker in enumerate(result.assignment) for index in worker}
    assignment = [by_frame[i] for i in range(len(program.frames))]
    assert native(program.frames, program.profile, 3).records == reference(program.frames, program.profile, 3, assignment).records


def test_everything_was_met() -> None:
    """Each link type, verdict (`filtered`: test_own_export.py) and end reason in at least one example of a hundred; else the properties above prove little."""
    for prop in (test_records, test_full_cache):
        if prop.__name__ not in RAN:  # this test was chosen alone, or another process had that one
            prop()
    assert MET["examples"] >= 2 * settings().max_examples
    wanted = (
        [f"link {link}" for link in LINKS] + ["sampled_out", "non_ip", "malformed", "shed", "metered", "late"] + [f"reason {reason}" for reason in range(1, 6)]
    )
    rare = {name: MET[name] for name in wanted if MET[name] * 100 < MET["examples"]}
    assert not rare, f"of {MET['examples']} examples"

# SPDX-License-Identifier: Apache-2.0
"""The checks of one run: accounts and invariants, the wire, the records at the strictest level that applies, and the formats among each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from flowparity.accounting import Accounting
from flowparity.collector import Datagram
from flowparity.decode import DecodedFlow, Decoder, Normaliser
from flowparity.diff import Difference, Traced, compare_conserved, compare_cross, compare_merged, compare_records
from flowparity.explain import Explainer
from flowparity.frame import Frame
from flowparity.harness.cases import Case
from flowparity.harness.interfaces import Capabilities, Level, Outcome, Subject
from flowparity.harness.oracle import Oracle, Truth
from flowparity.harness.results import Problem
from flowparity.profile import Profile
from flowparity.view import UPTIME_SPAN, View, view
from flowparity.wire import Context, check_stream

_MOST = 50  # problems of one cell that are explained; the rest is counted
_VERDICTS = ("received", "filtered", "sampled_out", "non_ip", "malformed", "shed", "metered", "metered_packets", "late")
_RULE_OF = {
    "received": "S-VER-1",
    "filtered": "S-VER-2",
    "sampled_out": "S-VER-3",
    "non_ip": "S-VER-4",
    "malformed": "S-VER-5",
    "shed": "S-VER-7",
    "metered": "S-VER-7",
    "metered_packets": "S-INV-2",
    "late": "S-TIM-3",
}
_EVICTION = "records are not comparable one by one where records were evicted or shed (S-CMP-1)"


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run and all that is known of it."""

    case: Case
    profile: Profile
    formats: tuple[str, ...]
    workers: int
    outcome: Outcome
    datagrams: Mapping[str, list[Datagram]]
    notes: tuple[str, ...]
    capabilities: Capabilities
    frames: Sequence[Frame]
    not_sent: frozenset[int] = frozenset()  # frames that the injector reported as not sent


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one format of a run comes to."""

    level: Level
    problems: tuple[Problem, ...]
    records: int
    notes: tuple[str, ...]
    flows: tuple[DecodedFlow, ...]
    truth: Truth
    remarks: tuple[str, ...] = ()


def judge(run: Run, oracle: Oracle, subject: Subject, levels: frozenset[Level], *, strict: bool = True) -> dict[str, Verdict]:
    """Every check on every format of a run."""
    truth = oracle.truth(str(run.case.capture), run.frames, run.profile, run.workers, run.outcome.assignment)
    explainer = Explainer({frame.index: frame for frame in run.frames}, run.profile)
    boot = _boot(run, truth)
    flows = {name: _decode(run.datagrams[name], boot) for name in run.formats}
    views = {name: view(name, flows[name], run.capabilities.fields, run.capabilities.time_tolerance) for name in run.formats}
    level, note = _level(run, truth)
    out = {}
    for name in run.formats:
        problems: list[Problem] = []
        remarks: list[str] = []
        if Level.CONSERVED in levels:
            problems += _accounts(run, truth, name, flows[name])
        if Level.WIRE in levels:
            faults, remarks = _wire(run, name, strict=strict)
            problems += faults
        differences: list[Difference] = []
        if levels & {Level.CONSERVED, Level.MERGED, Level.RECORDS}:
            differences += _compare(level if level in levels else _weaker(level, levels), truth, flows[name], views[name])
        if Level.CROSS in levels and name != run.formats[-1]:
            differences += compare_cross(flows[run.formats[-1]], flows[name], views[run.formats[-1]], views[name])
        explained = [_problem(each, explainer) for each in differences[:_MOST]]
        explained += [Problem(Level(each.level), each.field, (), str(each), "", each.frames, each.key) for each in differences[_MOST:]]
        judged = [replace(each, known=subject.known(name, (each.rules or ("",))[0], each.field)) for each in problems + explained]
        notes = run.notes + ((note,) if note else ())
        expected = sum(views[name].carries(record) for record, _ in truth.records)
        out[name] = Verdict(level, tuple(judged), expected, notes, tuple(flows[name]), truth, tuple(remarks))
    return out


def _span(run: Run) -> int:
    times = [frame.ts_ns for frame in run.frames]
    return max(times) - min(times) if times else 0


def _boot(run: Run, truth: Truth) -> int | Mapping[int, int] | None:
    """The seconds of boot that a decoder must be told, by observation domain (S-EXP-2), because uptimes wrap within the run (S-EXP-5)."""
    if run.profile.boot is None and run.capabilities.truthful and _span(run) >= UPTIME_SPAN:
        return {worker + 1: boot for worker, boot in truth.boots.items()}
    return run.profile.boot


def _decode(datagrams: Sequence[Datagram], boot: int | Mapping[int, int] | None) -> list[DecodedFlow]:
    decoder, normaliser = Decoder(), Normaliser(boot)
    return normaliser.flow_stream(decoder.feed(each.payload, each.source, each.arrival_ns) for each in datagrams)


def _level(run: Run, truth: Truth) -> tuple[Level, str]:
    """The strictest level that the case allows, and why it is not `records`."""
    shed = truth.accounting.shed or (run.outcome.accounting.shed if run.outcome.accounting else 0)
    evicted = truth.accounting.evicted or (run.outcome.accounting.evicted if run.outcome.accounting else 0)
    if shed:
        return Level.CONSERVED, _EVICTION
    if evicted:
        return Level.MERGED, _EVICTION
    if run.capabilities.splits and run.workers > 1:
        return Level.MERGED, "the source may give packets of one key to several workers (S-CMP-2)"
    if run.capabilities.coalesces:
        return Level.MERGED, "the source coalesces packets without saying so (S-SUP-2)"
    return run.case.level, ""


def _weaker(level: Level, levels: frozenset[Level]) -> Level:
    order = [Level.CONSERVED, Level.MERGED, Level.RECORDS]
    allowed = [each for each in order[: order.index(level) + 1] if each in levels]
    return allowed[-1] if allowed else Level.CONSERVED


def _compare(level: Level, truth: Truth, flows: Sequence[DecodedFlow], seen: View) -> list[Difference]:
    checks: dict[Level, Callable[[Sequence[Traced], Sequence[DecodedFlow], View], list[Difference]]] = {
        Level.RECORDS: compare_records,
        Level.MERGED: compare_merged,
    }
    if level in checks:
        return checks[level](truth.records, flows, seen)
    return compare_conserved(truth.records, flows, seen, per_key=not truth.accounting.shed)


def _accounts(run: Run, truth: Truth, name: str, flows: Sequence[DecodedFlow]) -> list[Problem]:
    """The invariants, the verdicts against the reference's, and the stream's account against what arrived."""
    said = run.outcome.accounting
    if said is None:
        return []
    out = [_account_problem(line[:7], line) for line in said.broken()]
    out += _arrivals(run)
    for number, each in enumerate(run.outcome.workers):
        out += [_account_problem(line[:7], f"worker {number}: {line}") for line in each.broken()]
    for verdict in _VERDICTS:
        want, got = getattr(truth.accounting, verdict), getattr(said, verdict)
        if want != got:
            out.append(_account_problem(_RULE_OF[verdict], f"{verdict} is {got}, expected {want}", verdict))
    if run.outcome.final_clock_ns != truth.final_clock_ns and run.capabilities.exact_time:
        out.append(_account_problem("S-TIM-5", f"final clock is {run.outcome.final_clock_ns}, expected {truth.final_clock_ns}", "final_clock"))
    return out + _stream_account(said, run, truth, name, flows)


def _arrivals(run: Run) -> list[Problem]:
    """Every frame that was sent came to one worker: the reference meters what the workers say they received, so nothing else would see a loss.

    A run with a filter is not judged, because what a framework filters it does not hand over.
    """
    if run.outcome.assignment is None or "filter" in run.case.run:
        return []
    times = Counter(index for each in run.outcome.assignment for index in each)
    lost = [frame.index for frame in run.frames if frame.index not in times and frame.index not in run.not_sent]
    twice = [index for index, count in times.items() if count > 1]
    out = []
    if lost:
        text = f"{len(lost)} of {len(run.frames)} frames were never received, the first of them frame {lost[0]}"
        out.append(Problem(Level.CONSERVED, "received", ("S-VER-1",), text, "", tuple(lost[:_MOST])))
    if twice:
        text = f"{len(twice)} frames were received more than once, the first of them frame {twice[0]}"
        out.append(Problem(Level.CONSERVED, "received", ("S-VER-1",), text, "", tuple(twice[:_MOST])))
    return out


def _stream_account(said: Accounting, run: Run, truth: Truth, name: str, flows: Sequence[DecodedFlow]) -> list[Problem]:
    stream = said.streams.get(name)
    if stream is None:
        return [_account_problem("S-INV-2", f"no account of the stream {name}", "streams")]
    unrepresentable = sum(record.packets for record, _ in truth.records if name == "5" and record.ip_version == 6)
    arrived = {
        "exported_records": len(flows),
        "exported_packets": sum(flow.packets or 0 for flow in flows),
        "unrepresentable_packets": unrepresentable,
        "datagrams": len(run.datagrams[name]),
        "datagram_octets": sum(len(each.payload) for each in run.datagrams[name]),
    }
    known = {each.name for each in fields(stream)}
    return [
        _account_problem(
            "S-INV-3" if what.startswith("unrep") else "S-INV-2", f"stream {name}: {what} is {getattr(stream, what)}, but the collector has {value}", what
        )
        for what, value in arrived.items()
        if what in known and getattr(stream, what) != value
    ]


def _account_problem(rule: str, text: str, field: str = "") -> Problem:
    return Problem(Level.CONSERVED, field or rule, (rule,), text)


def _wire(run: Run, name: str, *, strict: bool) -> tuple[list[Problem], list[str]]:
    """Every passively decidable requirement of the format: what fails, and (unless `strict`) remarks on those of level SHOULD. MAY and practice are neither."""
    sampling = run.profile.sampling
    owners = run.outcome.assignment
    context = Context(
        mtu=int(run.case.run.get("mtu", 1500)),
        workers=sum(1 for each in owners if each) if owners is not None and run.capabilities.truthful else None,
        sampling_interval=None if sampling and sampling.interval == 1 else sampling.interval if sampling else 0,  # 1 in 1 may be announced or not
        template_packets=run.profile.template_packets if run.capabilities.truthful else None,
        template_seconds=run.profile.template_seconds if run.capabilities.truthful else None,
        complete="first_sequence" not in run.case.run,
        span_ns=_span(run),
    )
    report = check_stream(run.datagrams[name], name, context)
    found = [each for each in report.findings if not each.advisory]
    faults = [each for each in found if strict or not each.level.startswith("SHOULD")]
    problems = [Problem(Level.WIRE, each.rule_id, (each.rule_id,), f"datagram {each.datagram}, octet {each.offset}: {each.text}") for each in faults]
    return problems, sorted({f"{each.rule_id}: {each.text}" for each in found if each not in faults})


def _problem(difference: Difference, explainer: Explainer) -> Problem:
    if difference.level == "cross":
        return Problem(Level.CROSS, difference.field, ("S-CMP-1",), str(difference), "", (), difference.key)
    found = explainer.explain(difference)
    return Problem(Level(difference.level), difference.field, found.rules, str(difference), found.text, found.frames or difference.frames[:1], difference.key)

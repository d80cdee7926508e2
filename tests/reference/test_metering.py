# SPDX-License-Identifier: Apache-2.0
"""Records: keys, deadlines, clocks, the full cache, sampling, workers (S-REC, S-TIM, S-END, S-FUL, S-VER-3 of docs/semantics.md)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowparity.cache import Entry
from flowparity.errors import UsageError
from flowparity.expiry import ends_before
from flowparity.flow import EndReason
from flowparity.frame import Frame
from flowparity.packet import Packet, parse
from flowparity.profile import SECOND, Profile, Sampling
from flowparity.reference import ClosedRecord, ReferenceExporter, Sampler, splitmix64, verdict_of

from .build import EPOCH, ethernet, frame, ipv4, ipv6, tcp_frame, udp, udp_frame

SYN, FIN, RST, ACK = 0x02, 0x01, 0x04, 0x10
NO_TIMEOUTS = Profile(idle_timeout=0, active_timeout=0, tcp_end=None)


def run(frames: list[Frame], profile: Profile | None = None, sweep_every: int | None = SECOND) -> list[ClosedRecord]:
    exporter = ReferenceExporter(profile or Profile(), trace=True, sweep_every=sweep_every)
    closed = [one for each in frames for one in exporter.feed(each)] + exporter.flush()
    account = exporter.accounting()
    assert not account.broken()
    assert account.metered_packets == sum(one.record.packets for one in closed)
    return closed


def outline(closed: list[ClosedRecord]) -> list[tuple[tuple[int, ...], int]]:
    """Frame indices and end reason of each record, in order."""
    return sorted((one.indices or (), int(one.record.end_reason)) for one in closed)


def jumbogram(octets: int, index: int) -> Frame:
    """An IPv6 packet of so many octets, at least 65,576, of which only the headers were captured."""
    data = ethernet(ipv6(bytes((58, 0, 0xC2, 4)) + (octets - 40).to_bytes(4, "big"), 0, length=0), 0x86DD)
    return frame(data, index, index=index, wire=14 + octets)


@pytest.mark.parametrize("sweep_every", [0, None])
class TestDeadlines:
    """S-END-1 to S-END-5 and S-TIM, with a sweep at each frame and with none."""

    def test_idle(self, sweep_every: int | None) -> None:
        """S-END-2: at the deadline the record has ended, one nanosecond before it has not."""
        frames = [udp_frame(0, 0), udp_frame(15, 1)]
        assert outline(run(frames, sweep_every=sweep_every)) == [((0,), 1), ((1,), 4)]
        frames[1] = Frame(EPOCH + 15 * SECOND - 1, frames[1].data, frames[1].wirelen, index=1)
        assert outline(run(frames, sweep_every=sweep_every)) == [((0, 1), 4)]

    def test_active(self, sweep_every: int | None) -> None:
        """S-END-2: by the first packet, though packets keep coming."""
        frames = [udp_frame(t, t) for t in range(6)]
        profile = Profile(active_timeout=4 * SECOND)
        assert outline(run(frames, profile, sweep_every)) == [((0, 1, 2, 3), 2), ((4, 5), 4)]

    def test_an_idle_deadline_wins_over_an_equal_active_one(self, sweep_every: int | None) -> None:
        """S-END-2: 3, then 1, then 2."""
        profile = Profile(idle_timeout=4 * SECOND, active_timeout=4 * SECOND, tcp_end=4 * SECOND)
        assert outline(run([udp_frame(0, 0), udp_frame(9, 1)], profile, sweep_every))[0] == ((0,), 1)
        assert outline(run([tcp_frame(FIN, 0, 0), tcp_frame(ACK, 9, 1)], profile, sweep_every))[0] == ((0,), 3)

    def test_an_older_packet_brings_the_active_deadline_nearer(self, sweep_every: int | None) -> None:
        """S-TIM-1, S-END-1: first is the smallest time."""
        profile = Profile(active_timeout=4 * SECOND, reorder=2 * SECOND)
        frames = [udp_frame(1, 0), udp_frame(0, 1), udp_frame(4, 2)]
        assert outline(run(frames, profile, sweep_every)) == [((0, 1), 2), ((2,), 4)]

    def test_timeouts_of_0_never_come(self, sweep_every: int | None) -> None:
        """S-END-1."""
        assert outline(run([udp_frame(0, 0), udp_frame(1e6, 1)], NO_TIMEOUTS, sweep_every)) == [((0, 1), 4)]

    @pytest.mark.parametrize("flag", [FIN, RST])
    def test_tcp_end_lingers(self, sweep_every: int | None, flag: int) -> None:
        """S-END-1: what comes before the linger is over still belongs to the record."""
        frames = [tcp_frame(ACK, 0, 0), tcp_frame(flag | ACK, 1, 1), tcp_frame(ACK, 5, 2), tcp_frame(ACK, 10, 3)]
        assert outline(run(frames, sweep_every=sweep_every)) == [((0, 1, 2), 3), ((3,), 4)]

    def test_tcp_end_of_0(self, sweep_every: int | None) -> None:
        """S-END-1: the deadline is `last`."""
        frames = [tcp_frame(ACK, 0, 0), tcp_frame(FIN, 1, 1), tcp_frame(ACK, 1, 2)]
        assert outline(run(frames, Profile(tcp_end=0), sweep_every)) == [((0, 1), 3), ((2,), 4)]

    def test_tcp_end_off(self, sweep_every: int | None) -> None:
        """S-END-1."""
        frames = [tcp_frame(FIN, 0, 0), tcp_frame(SYN, 6, 1)]
        assert outline(run(frames, Profile(tcp_end=None), sweep_every)) == [((0, 1), 4)]

    def test_syn_after_the_end(self, sweep_every: int | None) -> None:
        """S-END-3: SYN with or without ACK opens; "ended" is not inherited; an older SYN belongs to the ended record."""
        frames = [tcp_frame(FIN, 0, 0), tcp_frame(SYN | ACK, 0.1, 1), tcp_frame(SYN, 0.2, 2)]
        assert outline(run(frames, sweep_every=sweep_every)) == [((0,), 3), ((1, 2), 4)]
        frames = [tcp_frame(FIN, 1, 0), tcp_frame(SYN, 0.95, 1)]
        assert outline(run(frames, sweep_every=sweep_every)) == [((0, 1), 4)]

    def test_counters_never_wrap(self, sweep_every: int | None) -> None:
        """S-END-4: 2^32 - 1 octets fit, one packet more does not."""
        more = [jumbogram(octets, i) for i, octets in enumerate((2**31, 2**31 - 1, 65_576))]
        profile = Profile(counter_bits=32)
        closed = run(more, profile, sweep_every)
        assert outline(closed) == [((0, 1), 2), ((2,), 4)]
        assert outline(run(more, Profile(), sweep_every)) == [((0, 1, 2), 4)]

    def test_late(self, sweep_every: int | None) -> None:
        """S-TIM-3: one packet dated 1970 in a live flow."""
        old = Frame(0, udp_frame().data, 60, index=1)
        closed = run([udp_frame(0, 0), old, udp_frame(1, 2)], sweep_every=sweep_every)
        assert outline(closed) == [((0, 2), 4), ((1,), 1)]

    def test_almost_late(self, sweep_every: int | None) -> None:
        """S-TIM-2, S-TIM-3: judged at the clock, which is `reorder` behind."""
        other = udp_frame(20.1, 1, port=7)
        assert outline(run([udp_frame(15, 0), other, udp_frame(5, 2)], sweep_every=sweep_every))[-1] == ((2,), 1)
        assert outline(run([udp_frame(15, 0), other, udp_frame(5.5, 2)], sweep_every=sweep_every)) == [((0, 2), 4), ((1,), 4)]

    def test_no_frame_is_late_without_an_idle_timeout(self, sweep_every: int | None) -> None:
        """S-TIM-3."""
        assert outline(run([udp_frame(100, 0), udp_frame(0, 1)], NO_TIMEOUTS, sweep_every)) == [((0, 1), 4)]

    def test_the_end_of_input(self, sweep_every: int | None) -> None:
        """S-TIM-5: A@0, B@20 s; and what is due only without `reorder`."""
        frames = [udp_frame(0, 0), udp_frame(20, 1, port=7)]
        assert outline(run(frames, sweep_every=sweep_every)) == [((0,), 1), ((1,), 4)]
        frames[1] = udp_frame(15.05, 1, port=7)
        assert outline(run(frames, sweep_every=sweep_every)) == [((0,), 1), ((1,), 4)]


def test_the_packet_counter_never_wraps_either() -> None:
    """S-END-4."""
    packet = parse(udp_frame())
    assert isinstance(packet, Packet)
    entry = Entry((), packet, EPOCH, None)
    profile = Profile(counter_bits=32)
    entry.packets = 2**32 - 2
    assert ends_before(entry, packet, EPOCH, EPOCH, profile) is None
    entry.packets = 2**32 - 1
    assert ends_before(entry, packet, EPOCH, EPOCH, profile) == EndReason.ACTIVE


def test_frames_of_every_verdict_move_the_clock() -> None:
    """S-TIM-2."""
    arp = frame(ethernet(b"", 0x0806), 30, index=1)
    exporter = ReferenceExporter(Profile(), trace=True)
    exporter.feed(udp_frame(0, 0))
    assert outline(exporter.feed(arp)) == [((0,), 1)]


def test_first_packet_gives_what_is_no_key() -> None:
    """S-REC-2."""
    frames = [frame(ethernet(ipv4(udp(), tos=tos, ttl=ttl)), i, index=i) for i, (tos, ttl) in enumerate([(4, 60), (8, 50)])]
    (closed,) = run(frames, Profile(key="five"))
    assert (closed.record.tos, closed.record.ttl, closed.record.packets) == (4, 60, 2)
    assert len(run(frames)) == 2


def test_flags_are_ored() -> None:
    """S-REC-2."""
    (closed,) = run([tcp_frame(SYN, 0, 0), tcp_frame(ACK | 0x100, 1, 1)])
    assert closed.record.tcp_flags == SYN | ACK | 0x100


def test_tos_mask() -> None:
    """S-REC-4: key and record."""
    frames = [frame(ethernet(ipv4(udp(), tos=tos)), i, index=i) for i, tos in enumerate([0xB9, 0xBA])]
    (closed,) = run(frames, Profile(tos_mask=0xFC))
    assert closed.record.tos == 0xB8


def test_vlan_and_interface_keys() -> None:
    """The `key` of S-PRO; S-REC-3."""
    frames = [
        frame(ethernet(ipv4(udp()), 0x0800, (0x8100, 1), (0x8100, 2)), 0, index=0, interface=1),
        frame(ethernet(ipv4(udp()), 0x0800, (0x8100, 1), (0x8100, 3)), 1, index=1, interface=2),
    ]
    assert len(run(frames)) == len(run(frames, Profile(key="five", input_interface=None))) == 1
    assert len(run(frames, Profile(key="classic+vlan"))) == len(run(frames, Profile(key="five+vlan"))) == 2
    closed = run(frames, Profile(input_interface=None))
    assert sorted(one.record.input_interface for one in closed) == [1, 2]


def full(on_full: str, frames: list[Frame], **rest: object) -> tuple[list[ClosedRecord], ReferenceExporter]:
    exporter = ReferenceExporter(Profile(cache_size=2, on_full=on_full, **rest), trace=True, sweep_every=None)  # type: ignore[arg-type]
    closed = [one for each in frames for one in exporter.feed(each)] + exporter.flush()
    assert not exporter.accounting().broken()
    return closed, exporter


def test_evict() -> None:
    """S-FUL-2: a live record goes with reason 5."""
    closed, exporter = full("evict", [udp_frame(i / 10, i, port=i) for i in range(3)])
    assert sorted(one.record.end_reason for one in closed) == [4, 4, 5]
    assert exporter.accounting().evicted == 1


def test_refuse() -> None:
    """S-FUL-3, S-VER-7: a packet of a resident record is metered, a late one needs no place."""
    frames = [udp_frame(20 + i / 10, i, port=min(i, 3)) for i in range(4)] + [udp_frame(20.5, 4, port=0), udp_frame(0, 5, port=9)]
    closed, exporter = full("refuse", frames)
    assert outline(closed) == [((0, 4), 4), ((1,), 4), ((5,), 1)]
    account = exporter.accounting()
    assert (account.shed, account.late, account.metered) == (2, 1, 4)


@pytest.mark.parametrize("on_full", ["evict", "refuse"])
def test_what_is_due_leaves_first(on_full: str) -> None:
    """S-FUL-1: without any sweep before, nothing is evicted or shed."""
    closed, exporter = full(on_full, [udp_frame(0, 0, port=0), udp_frame(10, 1, port=1), udp_frame(16, 2, port=2)])
    assert outline(closed) == [((0,), 1), ((1,), 4), ((2,), 4)]
    assert (exporter.accounting().evicted, exporter.accounting().shed) == (0, 0)


def test_deadlines_that_came_nearer_are_kept_by_sweeps() -> None:
    """S-END-6, S-FUL-1: by a FIN in a later packet, and by an older packet."""
    exporter = ReferenceExporter(Profile(active_timeout=9 * SECOND, reorder=SECOND), trace=True, sweep_every=0)
    for each in (tcp_frame(ACK, 20, 0), tcp_frame(FIN, 21, 1), udp_frame(20, 2), udp_frame(19.5, 3)):
        assert exporter.feed(each) == []
    assert outline(exporter.feed(udp_frame(27, 4, port=9))) == [((0, 1), 3)]
    assert exporter.feed(udp_frame(29.25, 5, port=9)) == []
    assert outline(exporter.feed(udp_frame(29.5, 6, port=9))) == [((2, 3), 2)]


def test_the_families_do_not_share_the_cache() -> None:
    """S-FUL-1, S-REC-5."""
    six = frame(ethernet(ipv6(udp()), 0x86DD), 0.3, index=2)
    _, exporter = full("refuse", [udp_frame(0, 0, port=0), udp_frame(0.1, 1, port=1), six])
    assert exporter.accounting().shed == 0


def test_a_record_that_ends_makes_room_for_its_successor() -> None:
    """S-VER-7: its own place is free."""
    frames = [udp_frame(0, 0, port=0), udp_frame(10, 1, port=1), udp_frame(15, 2, port=0)]
    closed, exporter = full("refuse", frames)
    assert outline(closed) == [((0,), 1), ((1,), 4), ((2,), 4)]
    assert exporter.accounting().shed == 0


def test_filter_comes_before_sampling_and_parsing() -> None:
    """S-VER-1 to S-VER-3: the index counts only what the filter left."""
    exporter = ReferenceExporter(Profile(sampling=Sampling("systematic", 2)), is_filtered=lambda each: each.index % 2 == 1)
    for i in range(8):
        exporter.feed(Frame(EPOCH + i, b"", 0, index=i))
    account = exporter.accounting()
    assert (account.received, account.filtered, account.sampled_out, account.non_ip) == (8, 4, 2, 2)


def test_splitmix64() -> None:
    """S-VER-3: the published first outputs for seed 1234567."""
    assert [splitmix64(1234567, i) for i in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_random_sampling_starts_at_seed_plus_worker() -> None:
    """S-VER-3."""
    samplers = [Sampler(Sampling("random", 4, seed), worker) for seed, worker in ((7, 1), (8, 0), (2**64 - 1, 9))]
    drawn = [[sampler.takes() for _ in range(200)] for sampler in samplers]
    assert drawn[0] == drawn[1] == drawn[2]
    assert drawn[0] == [splitmix64(8, i) % 4 == 0 for i in range(200)]


def test_workers_have_clocks_and_samplers_of_their_own_and_end_together() -> None:
    """S-CMP-2, S-TIM-2, S-TIM-5."""
    exporter = ReferenceExporter(Profile(), 2, trace=True)
    exporter.feed(udp_frame(0, 0), 0)
    assert exporter.feed(udp_frame(100, 1), 1) == []
    assert exporter.feed(udp_frame(10, 2), 0) == []
    closed = exporter.flush()
    assert [(one.record.worker, one.indices, int(one.record.end_reason)) for one in closed] == [(0, (0, 2), 1), (1, (1,), 4)]
    assert exporter.final_clock_ns == EPOCH + 100 * SECOND


def test_wall_clock() -> None:
    """S-TIM-4: an advance closes what is due at wall - delay - reorder; S-TIM-5: the end is the largest clock."""
    exporter = ReferenceExporter(Profile(), clock="wall", started_ns=EPOCH, trace=True)
    exporter.feed(udp_frame(0, 0))
    assert exporter.advance(EPOCH + 16 * SECOND, delay_ns=SECOND) == []
    assert outline(exporter.advance(EPOCH + 16 * SECOND + SECOND // 10, delay_ns=SECOND)) == [((0,), 1)]
    assert exporter.export_ns() == EPOCH + 16 * SECOND + SECOND // 10
    exporter.feed(udp_frame(17, 1))
    assert exporter.export_ns() == EPOCH + 17 * SECOND
    exporter.advance(EPOCH + 20 * SECOND)
    exporter.flush()
    assert exporter.final_clock_ns == EPOCH + 20 * SECOND - SECOND // 10
    assert exporter.boot() == EPOCH // SECOND


def test_packet_time_knows_no_wall_clock() -> None:
    """S-TIM-4."""
    with pytest.raises(UsageError, match="S-TIM-4"):
        ReferenceExporter(Profile()).advance(0)


def test_clock_steps() -> None:
    """`max_clock_step`: the stamp is replaced by the source's clock."""
    exporter = ReferenceExporter(Profile())
    exporter.feed(udp_frame(0), source_clock_ns=EPOCH + 61 * SECOND)
    (closed,) = exporter.flush()
    assert closed.record.first_ns == EPOCH + 61 * SECOND
    assert exporter.accounting().clock_steps == 1


def test_boot_and_export_time() -> None:
    """S-TIM-6, S-TIM-7."""
    exporter = ReferenceExporter(Profile())
    exporter.feed(udp_frame(1.5))
    exporter.feed(udp_frame(1.25))
    assert exporter.boot() == EPOCH // SECOND + 1
    assert exporter.export_ns() == EPOCH + 3 * SECOND // 2
    assert ReferenceExporter(Profile(boot=7)).boot() == 7


def test_verdicts_name_their_rule() -> None:
    """S-VER-1."""
    refused = verdict_of(Frame(0, bytes(13), 13))
    assert refused is not None
    assert (refused.verdict, refused.rule) == ("non_ip", "S-VER-4")
    exporter = ReferenceExporter(Profile(cache_size=1, on_full="refuse"))
    exporter.feed(udp_frame(0, port=1))
    assert exporter.verdict() is None
    exporter.feed(udp_frame(0, port=2))
    assert getattr(exporter.verdict(), "verdict", None) == "shed"


steps = st.tuples(st.integers(0, 2), st.sampled_from([ACK, SYN, FIN, RST, SYN | ACK]), st.integers(-60, 80), st.one_of(st.none(), st.just(0)))
profiles = st.builds(
    Profile,
    idle_timeout=st.sampled_from([0, 3 * SECOND, 5 * SECOND]),
    active_timeout=st.sampled_from([0, 2 * SECOND, 9 * SECOND]),
    tcp_end=st.sampled_from([None, 0, SECOND, 3 * SECOND]),
    reorder=st.sampled_from([0, SECOND, 4 * SECOND]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=40), profiles, st.sampled_from([0, SECOND, 7 * SECOND, None]))
def test_content_does_not_depend_on_sweeps(script: list[tuple[int, int, int, int | None]], profile: Profile, sweep_every: int | None) -> None:
    """The ruling idea, S-END-6: any cadence, and any sweep in between, gives the same records; times step by tenths of seconds, back as well."""
    frames, t = [], 0.0
    for index, (port, flags, step, _) in enumerate(script):
        t = max(t + step / 10, 0)
        data = ethernet(ipv4(port.to_bytes(2, "big") + bytes(10) + (0x5000 | flags).to_bytes(2, "big") + bytes(6), 6))
        frames.append(frame(data, t, index=index))
    never = run(frames, profile, sweep_every=None)
    some = ReferenceExporter(profile, trace=True, sweep_every=sweep_every)
    closed = []
    for each, (*_, extra) in zip(frames, script, strict=True):
        closed += some.feed(each)
        if extra is not None:
            closed += some.sweep()
    closed += some.flush()
    assert sorted((one.indices, one.record.end_reason) for one in closed) == sorted((one.indices, one.record.end_reason) for one in never)
    assert {one.indices: one.record for one in closed} == {one.indices: one.record for one in never}

# SPDX-License-Identifier: Apache-2.0
"""Generated traffic: the records known in closed form are those that the reference meters; files, frames and the flat buffer hold the same octets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from flowparity.capture import read_capture
from flowparity.errors import UsageError
from flowparity.fixtures import SECOND
from flowparity.generate.spec import IMIX, TrafficSpec, sizes_from
from flowparity.generate.traffic import Traffic
from flowparity.profile import Profile
from flowparity.reference import ReferenceExporter
from flowparity.witness.tshark import sights

MIXED = TrafficSpec(flows=40, packets=3000, sizes=IMIX, ipv6=0.4, vlan=0.3, tcp=0.5, gap_ns=1_000_000)
STREAMS = TrafficSpec(flows=7, packets=1000, distribution="equidistant")
SPECS = {
    "mixed": MIXED,
    "zipf": TrafficSpec(flows=500, packets=3000, distribution="zipf", exponent=1.2, ipv6=0.5, tcp=0.5),
    "one-packet flows": TrafficSpec(flows=10, packets=2000, lifetime=1, tcp=0.5, gap_ns=20_000_000),
    "churn": TrafficSpec(flows=10, packets=2000, lifetime=6, tcp=0.3, vlan=0.5, gap_ns=20_000_000),
    "left open": TrafficSpec(flows=10, packets=2000, tcp=1.0, close=False),
    "equidistant": STREAMS,
    "all at once": TrafficSpec(flows=3, packets=30, gap_ns=0),
    "idle streams": TrafficSpec(flows=4, packets=41, distribution="equidistant", gap_ns=4 * SECOND),
    "at the idle timeout": TrafficSpec(flows=5, packets=23, distribution="equidistant", gap_ns=3 * SECOND),
    "active streams": TrafficSpec(flows=4, packets=403, distribution="equidistant", gap_ns=SECOND, ipv6=0.5),
}
PROFILES = {
    "default": Profile(),
    "short active": Profile(active_timeout=60 * SECOND),
    "never": Profile(idle_timeout=0, active_timeout=0, tcp_end=None),
    "no idle, short active": Profile(idle_timeout=0, active_timeout=7 * SECOND, tcp_end=0, tos_mask=0xFC, input_interface=9),
}


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_closed_form_is_what_the_reference_meters(spec: TrafficSpec, profile: Profile) -> None:
    traffic = Traffic(spec)
    try:
        expected = traffic.expected(profile)
    except UsageError:
        assert spec.distribution != "equidistant"
        assert profile.active_timeout == 7 * SECOND or spec.lifetime
        return
    exporter = ReferenceExporter(profile)
    records = [closed.record for frame in traffic.frames() for closed in exporter.feed(frame)]
    records += [closed.record for closed in exporter.flush()]
    assert Counter(expected) == Counter(records)
    assert sum(record.packets for record in expected) == spec.packets


def test_rfc_6645_streams_split_where_arithmetic_says() -> None:
    """Four streams of one packet every 4 s, active timeout 60 s: 15 packets a record."""
    records = Traffic(SPECS["active streams"]).expected(PROFILES["short active"])
    assert Counter((record.packets, record.end_reason) for record in records) == {(15, 2): 24, (11, 4): 3, (10, 4): 1}


def test_a_file_frames_and_the_flat_buffer_are_the_same(tmp_path: Path) -> None:
    traffic = Traffic(MIXED)
    path = tmp_path / "a.pcap"
    assert traffic.write(path) == MIXED.packets
    frames = list(traffic.frames())
    assert list(read_capture(path)) == frames
    flat = traffic.flat()
    assert len(flat.offsets) == len(flat.lengths) == len(flat.times) == MIXED.packets
    for frame, offset, length, time in zip(frames, flat.offsets, flat.lengths, flat.times, strict=True):
        assert (bytes(flat.data[offset : offset + length]), time) == (frame.data, frame.ts_ns)


def test_tshark_finds_the_lengths_and_no_wrong_checksum(tmp_path: Path) -> None:
    traffic = Traffic(MIXED)
    traffic.write(tmp_path / "a.pcap")
    plan = list(traffic.draws())
    seen = list(sights(tmp_path / "a.pcap", checksums=True))
    assert [sight.octets for sight in seen] == [octets for _, _, octets in plan]
    assert [(sight.source_port, sight.destination_port) for sight in seen] == [
        (f.source_port, f.destination_port) for f in (traffic.flow(n) for n, _, _ in plan)
    ]
    assert not [sight.index for sight in seen if sight.bad_checksum]


def test_a_seed_gives_the_same_octets_and_another_seed_gives_others() -> None:
    one, two = (list(Traffic(TrafficSpec(packets=200, seed=seed)).octets()) for seed in (1, 2))
    assert one == list(Traffic(TrafficSpec(packets=200, seed=1)).octets())
    assert one != two


def test_sizes_are_those_of_frames_with_fcs_and_shares_are_shares() -> None:
    traffic = Traffic(TrafficSpec(flows=4000, packets=4000, distribution="equidistant", sizes=((128, 1),), ipv6=0.25, vlan=0.5, tcp=0.75))
    assert {len(octets) for octets in traffic.octets()} == {124}
    flows = [traffic.flow(number) for number in range(4000)]
    assert len({(flow.source, flow.destination) for flow in flows}) == 4000
    assert abs(sum(flow.version == 6 for flow in flows) - 1000) < 120
    assert abs(sum(flow.vlan > 0 for flow in flows) - 2000) < 140
    assert abs(sum(flow.protocol == 6 for flow in flows) - 3000) < 120


@pytest.mark.parametrize(("text", "sizes"), [("64", ((64, 1),)), ("64:7,1518", ((64, 7), (1518, 1))), ("IMIX", IMIX)])
def test_sizes_as_text(text: str, sizes: tuple[tuple[int, int], ...]) -> None:
    assert sizes_from(text) == sizes


@pytest.mark.parametrize("text", ["", "64:1:1", "large", "64,,"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="sizes"):
        sizes_from(text)


@pytest.mark.parametrize("field", ["flows", "packets", "distribution", "exponent", "lifetime", "sizes", "ipv6", "gap_ns", "start_ns", "seed"])
def test_impossible_parameters_are_named(field: str) -> None:
    wrong = {"distribution": "bell", "sizes": ((63, 1),), "ipv6": 1.5, "exponent": 0.0}
    with pytest.raises(UsageError, match=field):
        TrafficSpec(**{field: wrong.get(field, -1)})  # type: ignore[arg-type]


@pytest.mark.parametrize("profile", [{"cache_size": 5}, {"counter_bits": 32}])
def test_no_closed_form_is_said(profile: dict[str, int]) -> None:
    spec = TrafficSpec(flows=1, packets=500_000, sizes=((9000, 1),), gap_ns=1) if "counter_bits" in profile else MIXED
    with pytest.raises(UsageError, match="expected records are not known"):
        Traffic(spec).expected(Profile(**profile))  # type: ignore[arg-type]

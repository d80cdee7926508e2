# SPDX-License-Identifier: Apache-2.0
"""The oracle's witnesses: they agree with the reference on real traffic, and a flow that differs is found, named and counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import flowparity.cli
from flowparity.capture import read_capture, write_capture
from flowparity.errors import InputError
from flowparity.generate.spec import IMIX, TrafficSpec
from flowparity.generate.traffic import Traffic
from flowparity.oracle import Agreement, Disagreement, Exemption, Given, load_exemptions, oracle
from flowparity.witness import logs
from flowparity.witness.sums import Sum, Tuple5

RECORDED = sorted((Path(__file__).parents[2] / "fixtures" / "recorded").glob("*.pcap*"))
A, B = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
SPEC = TrafficSpec(flows=60, packets=1000, sizes=IMIX, ipv6=0.4, vlan=0.3, tcp=0.5)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("oracle") / "generated.pcap"
    Traffic(SPEC).write(path)
    return path


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_witnesses_agree_on_recorded_traffic(path: Path) -> None:
    heard = list(oracle(path))
    assert [each.witness for each in heard] == ["tshark", "nfdump v5", "nfdump v9", "nfdump IPFIX"]
    assert not [str(line) for each in heard for line in each.disagreements]
    assert all(each.agrees and not each.exempted for each in heard)
    assert heard[0].flows >= 9


def test_there_are_recorded_captures() -> None:
    assert len(RECORDED) >= 8
    assert sum(path.stat().st_size for path in RECORDED) < 700_000


def test_what_tshark_sees_otherwise_is_named(tmp_path: Path) -> None:
    """A SNAP frame with IPv4 inside: not IP for us (S-VER-4), a flow for tshark."""
    path = tmp_path / "snap.pcap"
    frame = next(iter(Traffic(replace(SPEC, ipv6=0.0, vlan=0.0, tcp=0.0, packets=1, sizes=((64, 1),))).frames()))
    packet = frame.data[14:]
    snap = frame.data[:12] + (len(packet) + 8).to_bytes(2, "big") + bytes.fromhex("aaaa030000000800") + packet
    write_capture(path, [frame, replace(frame, data=snap, wirelen=len(snap), index=1)])
    first = next(oracle(path))
    assert not first.agrees
    (found,) = first.disagreements
    assert found.ours == Sum(1, len(packet), frame.ts_ns, frame.ts_ns)
    assert found.theirs is not None
    assert found.theirs.packets == 2
    exempt = next(oracle(path, exemptions=(Exemption("snap.pcap", "tshark", found.flow, "SNAP"),)))
    assert not exempt.disagreements
    assert [each.cause for each in exempt.exempted] == ["SNAP"]
    assert exempt.too_many_exempted
    assert not exempt.agrees


def test_three_percent_of_flows_may_be_exempted() -> None:
    exempted = tuple(Disagreement(str(number), None, Sum(1, 1), "known") for number in range(3))
    assert Agreement("a", "tshark", 100, exempted=exempted).agrees
    assert not Agreement("a", "tshark", 99, exempted=exempted).agrees


def test_zeek_and_argus_logs_are_read(tmp_path: Path) -> None:
    tsv = tmp_path / "conn.log"
    head = "#separator \\x09\n#fields\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\n"
    tsv.write_text(head + "192.0.2.1\t1000\t192.0.2.2\t80\ttcp\t5\t300\t4\t4000\n192.0.2.1\t8\t192.0.2.2\t0\ticmp\t2\t168\t0\t0\n")
    expected = {Tuple5(A, B, 1000, 80, 6): Sum(5, 300), Tuple5(B, A, 80, 1000, 6): Sum(4, 4000), Tuple5(A, B, 0, 0, 1): Sum(2, 168)}
    assert logs.zeek(tsv) == expected
    row = {"id.orig_h": "192.0.2.1", "id.orig_p": 1000, "id.resp_h": "192.0.2.2", "id.resp_p": 80, "proto": "tcp"}
    as_json = tmp_path / "conn.json"
    as_json.write_text(json.dumps({**row, "orig_pkts": 5, "orig_ip_bytes": 300, "resp_pkts": 4, "resp_ip_bytes": 4000}) + "\n")
    assert logs.zeek(as_json) == {key: value for key, value in expected.items() if key.protocol == 6}
    csv = tmp_path / "argus.csv"
    csv.write_text("SrcAddr,DstAddr,Proto,Sport,Dport,SrcPkts,DstPkts\n192.0.2.1,192.0.2.2,udp,0x03e8,53,3,2\n")
    assert logs.argus(csv) == {Tuple5(A, B, 1000, 53, 17): Sum(3, None), Tuple5(B, A, 53, 1000, 17): Sum(2, None)}


@pytest.mark.parametrize("text", ["192.0.2.1\t8\n", "{broken\n", '{"id.orig_h": "nowhere"}\n', "#fields\tid.orig_h\nx\n"])
def test_what_is_no_flow_log_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "conn.log"
    path.write_text(text)
    with pytest.raises(InputError, match=r"conn\.log"):
        logs.zeek(path)


def test_a_log_that_lacks_a_packet_is_found(tmp_path: Path, capture: Path) -> None:
    traffic = Traffic(SPEC)
    rows = []
    for record in traffic.expected():
        source, destination = (record.elements()[f"{end}IPv{record.ip_version}Address"] for end in ("source", "destination"))
        ends = {"id.orig_h": source, "id.orig_p": record.source_port, "id.resp_h": destination, "id.resp_p": record.destination_port}
        proto = "tcp" if record.protocol == 6 else "udp"
        rows.append({**ends, "proto": proto, "orig_pkts": record.packets, "orig_ip_bytes": record.octets, "resp_pkts": 0})
    log = tmp_path / "conn.log"
    log.write_text("\n".join(map(json.dumps, rows)))
    assert list(oracle(capture, Given(zeek=log)))[-1].agrees
    rows[7]["orig_pkts"] += 1
    log.write_text("\n".join(map(json.dumps, rows)))
    zeek = list(oracle(capture, Given(zeek=log)))[-1]
    assert (zeek.witness, len(zeek.disagreements)) == ("zeek", 1)


def test_the_command_prints_agreement_and_ends_with_a_status(capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert flowparity.cli.run(["oracle", str(capture)]) == 0
    assert "agrees" in capsys.readouterr().out
    log = tmp_path / "conn.log"
    log.write_text("#fields\tid.orig_h\n")
    assert flowparity.cli.run(["oracle", str(capture), "--zeek", str(log), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [each["agrees"] for each in document] == [True, True, True, True, False]
    assert len(document[-1]["disagreements"]) == document[-1]["flows"] == 60
    assert flowparity.cli.run(["oracle", str(tmp_path / "absent.pcap")]) == 2
    assert flowparity.cli.run(["oracle", str(capture), str(capture), "--zeek", str(log)]) == 2


def test_exemptions_are_read_and_a_wrong_list_is_said(tmp_path: Path) -> None:
    path = tmp_path / "exemptions.toml"
    path.write_text('[[exemption]]\ncapture = "a.pcap"\nwitness = "tshark"\nflow = "x"\ncause = "y"\n')
    assert load_exemptions(path) == (Exemption("a.pcap", "tshark", "x", "y"),)
    path.write_text('[[exemption]]\ncapture = "a.pcap"\nwitness = "tshark"\nflow = "x"\ncause = " "\n')
    with pytest.raises(InputError, match="names capture, witness, flow and cause"):
        load_exemptions(path)
    path.write_text('[[exemption]]\ncapture = "a.pcap"\n')
    with pytest.raises(InputError, match="exemptions"):
        load_exemptions(path)


def test_frames_of_the_generated_capture_are_all_there(capture: Path) -> None:
    assert sum(1 for _ in read_capture(capture)) == SPEC.packets

# SPDX-License-Identifier: Apache-2.0
"""What each command prints when all is well."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import flowparity
from flowparity.cli.output import CSV_COLUMNS
from tests.cli.conftest import FIXTURES, RECORDED, Result, start
from tests.decode import build

Run = Callable[..., Result]


def test_version(run: Run) -> None:
    assert run("--version") == Result(0, f"flowparity {flowparity.__version__}\n", "")


def test_help_names_every_command_and_the_exit_statuses(run: Run) -> None:
    told = run("--help").out
    for command in ("doctor", "backends", "reference", "collect", "decode", "explain"):
        assert re.search(rf"\b{command}\b", told), command
    assert "0 well, 1 mismatch, 2 bad input or usage, 3 not available here, 4 the" in " ".join(told.split())


def test_help_is_quick() -> None:
    """No framework, no decoder and no scapy is loaded for the help."""
    code = "import sys, flowparity.cli as c; c.run(['--help']); print(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stderr.split()
    assert not [name for name in loaded if name.startswith(("scapy", "flowparity._core", "flowparity.native", "flowparity.decode", "flowparity.harness"))]


def test_backends(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("backends", "--json").out)}
    assert rows["pcap"]["available"]
    assert rows["pcap"]["tier"] == "file"
    assert rows["pcap"]["capabilities"]["exact_time"] is True
    for row in rows.values():
        assert row["available"] or row["reason"], row
    table = run("backends")
    assert table.status == 0
    for name in rows:
        assert re.search(rf"^{name} ", table.out, re.MULTILINE)


def test_doctor_tells_what_is_missing_and_how_to_mend_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if name == "nfdump" else looked(name, path=path))
    result = run("doctor")
    assert result.status == 0
    assert re.search(r"^no +nfdump .*apt-get install -y nfdump", result.out, re.MULTILINE)
    assert re.search(r"^yes +native core ", result.out, re.MULTILINE)
    found = {each["name"]: each for each in json.loads(run("doctor", "--json").out)}
    assert found["nfdump"]["ok"] is False
    assert found["python"]["ok"] is True


def test_reference_speaks_ipfix_in_nanoseconds(run: Run) -> None:
    capture = FIXTURES / "tcp" / "syn-after-fin.pcap"
    result = run("reference", capture, "--format", "jsonl")
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [(r["packetDeltaCount"], r["octetDeltaCount"], r["flowEndReason"]) for r in records] == [(3, 125, 3), (1, 40, 4)]
    assert records[0]["flowStartNanoseconds"] == 1_700_000_000_000_000_000
    assert records[0]["sourceIPv4Address"] == "192.0.2.1"
    assert "received 4 " in result.err
    assert "invariants hold" in result.err
    rows = list(csv.DictReader(io.StringIO(run("reference", capture, "--format", "csv", "-q").out)))
    assert [{name: str(value) for name, value in record.items()} for record in records] == [{k: v for k, v in row.items() if v} for row in rows]
    table = run("reference", capture, "-q")
    assert len(table.out.splitlines()) == 3
    assert "192.0.2.1:1000 -> 198.51.100.2:2000" in table.out
    assert table.err == ""


def test_every_element_of_a_record_has_a_csv_column(run: Run) -> None:
    for capture in (RECORDED / "neighbours.pcapng", RECORDED / "ping-fragments.pcap"):
        for line in run("reference", capture, "--format", "jsonl", "-q").out.splitlines():
            assert json.loads(line).keys() <= set(CSV_COLUMNS)


def test_profile_file_and_options_together(run: Run, tmp_path: Path) -> None:
    """An option overrides the file; what the option leaves alone stays the file's."""
    profile = tmp_path / "p.toml"
    profile.write_text('tcp_end = "off"\nidle_timeout = 100\ninput_interface = 7\n')
    capture = FIXTURES / "tcp" / "syn-after-fin.pcap"
    records = [json.loads(line) for line in run("reference", capture, "--profile", profile, "--idle-timeout", "1", "--format", "jsonl", "-q").out.splitlines()]
    assert {r["ingressInterface"] for r in records} == {7}
    assert {r["flowEndReason"] for r in records} <= {1, 4}


def test_several_interfaces_and_resolutions(run: Run) -> None:
    result = run("reference", RECORDED / "neighbours.pcapng", "--input-interface", "source", "--format", "jsonl")
    assert result.status == 0
    assert "invariants hold" in result.err


def test_explain(run: Run) -> None:
    told = run("explain", "s-len-2", "V9-HDR-02").out
    assert "Jumbo Payload" in told
    assert "docs/semantics.md" in told
    assert "V9-HDR-02" in told


def v5_datagram(flows: int, sequence: int = 0) -> bytes:
    """A NetFlow v5 datagram with equal records (Cisco's format)."""
    header = (
        b"\0\5" + flows.to_bytes(2, "big") + bytes([0, 0, 0x27, 0x10]) + (1_700_000_000).to_bytes(4, "big") + bytes(4) + sequence.to_bytes(4, "big") + bytes(4)
    )
    record = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + bytes(8) + (3).to_bytes(4, "big") + (300).to_bytes(4, "big")
    record += (1000).to_bytes(4, "big") + (2000).to_bytes(4, "big") + (1234).to_bytes(2, "big") + (53).to_bytes(2, "big") + bytes([0, 0, 17, 0]) + bytes(8)
    return header + record * flows


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("ending", ["count", signal.SIGINT, signal.SIGTERM])
def test_collect(ending: str | signal.Signals) -> None:
    """Prints what arrives as it arrives; ends by count or by signal, in good order."""
    port = free_port()
    count = ["--count", 3] if ending == "count" else []
    with start("collect", "--listen", f"127.0.0.1:{port}", "--format", "jsonl", *count) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert "listening" in process.stderr.readline()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as exporter:
            exporter.sendto(v5_datagram(2), ("127.0.0.1", port))
            lines = [process.stdout.readline(), process.stdout.readline()]
            if ending == "count":
                exporter.sendto(v5_datagram(2, sequence=2), ("127.0.0.1", port))
            else:
                process.send_signal(ending)
        out, err = process.communicate(timeout=30)
    lines += out.splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == (3 if ending == "count" else 2)
    assert process.returncode == 0, err
    assert f"{len(records)} flow records" in err
    assert records[0]["exportProtocolVersion"] == 5
    assert records[0]["octetDeltaCount"] == 300
    assert records[0]["flowStartNanoseconds"] == 1_699_999_991_000_000_000


def test_collect_for_some_seconds(run: Run) -> None:
    before = time.monotonic()
    result = run("collect", "--listen", f"127.0.0.1:{free_port()}", "--seconds", "0.3")
    assert result.status == 0
    assert time.monotonic() - before >= 0.3
    assert "0 flow records" in result.err


def test_collect_reports_a_broken_rule() -> None:
    port = free_port()
    with start("collect", "--listen", f"127.0.0.1:{port}", "--count", 2) as process:
        assert process.stderr is not None
        process.stderr.readline()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as exporter:
            wrong = bytearray(v5_datagram(2))
            wrong[3] = 9  # the header's count
            exporter.sendto(wrong, ("127.0.0.1", port))
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert re.search(r"datagram 1 of 127\.0\.0\.1 port \d+, offset 2: V5-", err), err


def test_collect_decodes_all_that_was_received_before_the_end() -> None:
    """What arrived and was not decoded yet when Ctrl-C came used to be thrown away."""
    port = free_port()
    with start("collect", "--listen", f"127.0.0.1:{port}", "--format", "jsonl") as process:
        assert process.stderr is not None
        process.stderr.readline()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as exporter:
            for number in range(400):
                exporter.sendto(v5_datagram(30, sequence=30 * number), ("127.0.0.1", port))
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    dropped = re.search(r"no room for (\d+) datagrams", err)
    assert len(out.splitlines()) == 30 * (400 - int(dropped[1] if dropped else 0)), err
    assert process.returncode == 0


def test_decode_tells_loss_and_blames_nobody(run: Run, tmp_path: Path) -> None:
    """Datagrams that did not come, the one with the template among them: counted, status 0. A step that loss cannot explain: a broken rule, status 1."""
    fields = build.template(256, (4, 1), (5, 1))
    sent = [build.v9(build.flowset(256, bytes([6, number])), count=1, sequence=number) for number in range(1, 9)]
    kept = [payload for number, payload in enumerate(sent, 1) if number not in (3, 6)]
    template = build.v9(build.flowset(0, fields), count=1, sequence=9)
    result = run("decode", udp_capture([*kept, template], tmp_path / "lossy.pcap"), "--port", 9996)
    assert result.status == 0, result
    assert "192.0.2.9:4000, v9, domain 1: lost 2 of 9 datagrams" in result.err
    impossible = [v5_datagram(20, sequence=0), v5_datagram(5, sequence=6)]
    result = run("decode", udp_capture(impossible, tmp_path / "impossible.pcap"))
    assert result.status == 1
    assert "datagram 2 of 192.0.2.9 port 4000, offset 16: V5-HDR-08: sequence is 6, not 20" in result.err


def udp_capture(payloads: list[bytes], path: Path) -> Path:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.utils import wrpcap

    wrpcap(str(path), [Ether() / IP(src="192.0.2.9", dst="192.0.2.8") / UDP(sport=4000, dport=9996) / each for each in payloads])
    return path


def test_decode_reads_what_was_captured_before_segmentation(run: Run, tmp_path: Path) -> None:
    """As tcpdump sees an exporter on its own host: two datagrams in one packet, the checksum not yet made."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.utils import wrpcap

    payload = v5_datagram(2) + v5_datagram(2, sequence=2)
    partial = 2 * (0xC000 + 0x0200) + 9 + 8 + 17 + 8 + len(payload)  # the pseudo header's sum
    partial = (partial & 0xFFFF) + (partial >> 16)
    sent = IP(src="192.0.2.9", dst="192.0.2.8") / UDP(sport=4000, dport=9996, chksum=partial) / payload
    wrpcap(str(tmp_path / "x.pcap"), [Ether() / sent])
    result = run("decode", tmp_path / "x.pcap")
    assert result.status == 0, result
    assert "4 flow records and 0 options records in 2 datagrams; 1 packets were captured before segmentation" in result.err


def test_decode(run: Run, tmp_path: Path) -> None:
    capture = udp_capture([b"no export", v5_datagram(2)], tmp_path / "export.pcap")
    result = run("decode", capture)
    assert result.status == 0
    assert result.out.count("192.0.2.1:1234 -> 198.51.100.2:53") == 2
    assert "exporter, version, domain" in result.out
    assert result.out.count("192.0.2.9:4000, v5, 0\n") == 2
    assert "2 flow records" in result.err
    assert "other datagrams: 1" in result.err
    result = run("decode", capture, "--port", 9996, "--format", "jsonl")
    assert result.status == 1
    assert "version" in result.err
    assert len(result.out.splitlines()) == 2
    assert "paddingOctets" not in result.out
    run("decode", capture, "--port", 9997).is_one_line(2, "9997", "no NetFlow")

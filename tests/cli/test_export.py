# SPDX-License-Identifier: Apache-2.0
"""`export` over real sockets: the accounting, collectors that are absent, signals, and what it refuses. `generate`, whose records it must find."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from flowparity.collector import Collector
from flowparity.decode import Decoder, Normaliser
from tests.cli.conftest import PROGRAM, RECORDED, Result, start

Run = Callable[..., Result]
HTTP = RECORDED / "http-ipv4.pcap"
SMALL = RECORDED / "ping-fragments.pcap"
BACKENDS = pytest.mark.parametrize("backend", ["pcap", "reference"])


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as listening:
        yield listening


def flows(collector: Collector) -> dict[int, int]:
    """Flow records by version of all that a collector received."""
    decoder, normaliser = Decoder(), Normaliser()
    out: dict[int, int] = {}
    for datagram in collector.stop():
        message = decoder.feed(datagram.payload, datagram.source)
        assert not message.problems
        assert message.version is not None
        out[message.version] = out.get(message.version, 0) + len(normaliser.flows(message))
    return out


@BACKENDS
def test_three_versions_in_one_run(run: Run, collector: Collector, backend: str) -> None:
    host, port = collector.address
    result = run("export", "--backend", backend, "--input", HTTP, "--version", "5,9,ipfix", "--collector", f"{host}:{port}", "--json")
    assert result.status == 0, result
    told = json.loads(result.out)
    assert told["broken"] == []
    assert told["received"] == told["metered"] + told["non_ip"] > 0
    got = flows(collector)
    assert {name: stream["exported_records"] for name, stream in told["streams"].items()} == {"5": got[5], "9": got[9], "ipfix": got[10]}
    assert got[9] == got[10] > got[5] > 0
    assert told["streams"]["5"]["unrepresentable_records"] == got[9] - got[5]
    assert "IPv6" in result.err


def test_the_accounting_for_people(run: Run, collector: Collector) -> None:
    host, port = collector.address
    result = run("export", "--input", HTTP, "--collector", f"{host}:{port}")
    assert result.status == 0
    assert result.out == ""
    assert "received 99 = " in result.err
    assert "IPFIX " in result.err
    assert "invariants hold" in result.err


def test_a_collector_for_each_version(run: Run, collector: Collector) -> None:
    with Collector("::1") as other:
        host, port = collector.address
        result = run("export", "--input", HTTP, "--version", "9,ipfix", "-c", f"9={host}:{port}", "-c", f"ipfix=[::1]:{other.address[1]}")
        assert result.status == 0, result
        assert flows(collector).keys() == {9}
        assert flows(other).keys() == {10}


@BACKENDS
def test_an_absent_collector_is_a_counted_loss(run: Run, tmp_path: Path, backend: str) -> None:
    """Nobody listens: the kernel says so for every datagram after the first; the run ends well and tells what was not sent."""
    with Collector() as gone:
        host, port = gone.address
    many = tmp_path / "many.pcap"
    assert run("generate", many, "--flows", 2000, "--packets", 2000, "--distribution", "equidistant").status == 0
    result = run("export", "--backend", backend, "--input", many, "--version", "9", "--collector", f"{host}:{port}", "--json")
    assert result.status == 0, result
    told = json.loads(result.out)
    stream = told["streams"]["9"]
    assert told["broken"] == []
    assert stream["not_sent_records"] > 0
    assert stream["exported_records"] + stream["not_sent_records"] == 2000


def test_a_cut_capture_exports_what_came_before(run: Run, collector: Collector, tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(HTTP.read_bytes()[:-3])
    host, port = collector.address
    result = run("export", "--input", path, "--version", "ipfix", "--collector", f"{host}:{port}", "--json")
    assert result.status == 2
    assert "cut.pcap" in result.err
    told = json.loads(result.out)
    assert told["broken"] == []
    assert told["received"] == 98
    assert flows(collector) == {10: told["streams"]["ipfix"]["exported_records"]}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--backend", "abacus"], 2, ["abacus", "pcap"]),
        (["--version", "7"], 2, ["--version", "7", "ipfix"]),
        (["--version", "5", "--counter-bits", "64"], 2, ["S-PRO-3"]),
        (["--version", "5", "--sampling", "systematic:16384"], 2, ["S-PRO-4"]),
        (["--collector", "nowhere.invalid:2055"], 2, ["nowhere.invalid", "resolve"]),
        (["--collector", "9=127.0.0.1:2055"], 2, ["--version"]),
        (["--workers", "0"], 2, ["--workers"]),
        (["--workers", "65"], 2, ["--workers"]),
        (["--mtu", "100"], 2, ["--mtu"]),
        (["--backend-option", "key"], 2, ["KEY=VALUE"]),
        (["--backend-option", "no-such=1"], 2, ["no-such"]),
        (["--clock", "sundial"], 2, ["sundial"]),
        (["--filter", "frobnicate"], 2, []),
        (["--backend", "reference", "--clock", "wall"], 2, ["reference"]),
    ],
    ids=lambda value: "=".join(value) if isinstance(value, list) and value and value[0].startswith("--") else None,
)
def test_refusals(run: Run, arguments: list[str], status: int, words: list[str]) -> None:
    run("export", "--input", HTTP, "--collector", "127.0.0.1:2055", *arguments).is_one_line(status, *words)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_it_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    """What was metered until then is exported and accounted for."""
    capture = tmp_path / "long.pcap"
    subprocess.run(["mkfifo", capture], check=True)
    with Collector() as listening:
        host, port = listening.address
        with start("export", "--input", capture, "--collector", f"{host}:{port}", "--pace", "1", "--json") as process:
            feeder = os.open(capture, os.O_WRONLY)
            os.write(feeder, HTTP.read_bytes())
            time.sleep(0.5)  # not for the outcome: only so that the run is under way
            process.send_signal(number)
            os.close(feeder)
            out, err = process.communicate(timeout=60)
    assert process.returncode in (0, 2), err
    told = json.loads(out)
    assert told["broken"] == []
    assert told["resident_packets"] == 0


DEAF = "from flowparity import cli, native; native.Exporter.stop = lambda self: None; cli.main()"


def blocked_export(tmp_path: Path, port: int, program: Sequence[str] = PROGRAM, before: signal.Handlers = signal.SIG_DFL) -> tuple[subprocess.Popen[str], int]:
    """An export whose source neither gives anything nor ends, and the descriptor that ends it."""
    capture = tmp_path / "long.pcap"
    os.mkfifo(capture)
    feeder = os.open(capture, os.O_RDWR)
    os.write(feeder, SMALL.read_bytes())
    command = [*program, "export", "--input", str(capture), "--collector", f"127.0.0.1:{port}", "--json"]
    dealt_with = {"preexec_fn": lambda: signal.signal(signal.SIGINT, before)}
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **dealt_with)
    while fcntl.ioctl(feeder, termios.FIONREAD, bytes(4)) != bytes(4):  # until all was read
        assert process.poll() is None
        time.sleep(0.01)
    return process, feeder


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN], ids=["foreground", "background"])
def test_a_volley_of_signals_is_one(tmp_path: Path, collector: Collector, before: signal.Handlers) -> None:
    """A held Ctrl-C used to free the exporter while it ran. A background job of a shell starts with SIGINT ignored."""
    process, feeder = blocked_export(tmp_path, collector.address[1], before=before)
    with process:
        for _ in range(8):
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            os.close(feeder)
    assert process.returncode in (0, 2), err
    told = json.loads(out)
    assert told["broken"] == []
    assert told["resident_packets"] == 0


def test_who_insists_ends_it_and_hears_how_far_it_came(tmp_path: Path, collector: Collector) -> None:
    """Of a run that does not hear the wish to stop."""
    process, feeder = blocked_export(tmp_path, collector.address[1], [sys.executable, "-c", DEAF])
    with process:
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        os.close(feeder)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the accounting so far" in err
    assert "frames    received" in err
    assert "Traceback" not in err


def test_generate_and_its_records(run: Run, tmp_path: Path) -> None:
    """The records that follow from the parameters are those that the reference finds in the packets."""
    capture, expected = tmp_path / "g.pcap", tmp_path / "g.jsonl"
    shape = ["--flows", 50, "--packets", 3000, "--tcp", 0.5, "--ipv6", 0.3, "--vlan", 0.2, "--sizes", "imix", "--distribution", "zipf", "--seed", 7]
    result = run("generate", capture, *shape, "--expected", expected)
    assert result.status == 0, result
    assert "3000 packets" in result.err
    found = run("reference", capture, "--format", "jsonl", "-q").out
    assert sorted(found.splitlines()) == sorted(expected.read_text().splitlines())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sizes", "9001"], ["sizes"]),
        (["--sizes", "big"], ["sizes", "imix"]),
        (["--flows", "0"], ["flows"]),
        (["--distribution", "pareto"], ["pareto", "zipf"]),
        (["--rate", "0"], ["--rate"]),
        (["--ipv6", "2"], ["share"]),
        (["--start", "never"], ["start"]),
    ],
    ids=lambda value: "=".join(value) if value and value[0].startswith("--") else None,
)
def test_impossible_traffic(run: Run, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    target = tmp_path / "g.pcap"
    run("generate", target, *arguments).is_one_line(2, *words)
    assert not target.exists()


def test_generate_to_a_full_disk(run: Run) -> None:
    run("generate", "/dev/full").is_one_line(4, "/dev/full", "make room")


def test_generate_where_one_may_not_write(run: Run, tmp_path: Path) -> None:
    run("generate", tmp_path / "none" / "g.pcap").is_one_line(2, "g.pcap", "No such file")

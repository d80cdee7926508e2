# SPDX-License-Identifier: Apache-2.0
"""A user's mistakes and a system's failures: one line that says what to do, the right status, no traceback."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from flowparity.capture import read_capture, write_capture
from flowparity.frame import Frame
from tests.cli.conftest import PROGRAM, RECORDED, Result, spawn

Run = Callable[..., Result]
GOOD = RECORDED / "dns.pcap"
# Every command that reads a capture, without the capture.
READERS = [["reference"], ["decode"], ["parity"], ["shrink"], ["oracle"], ["export", "-c", "127.0.0.1:9", "-i"]]


@pytest.fixture(params=READERS, ids=lambda command: command[0])
def reader(request: pytest.FixtureRequest) -> list[str]:
    command: list[str] = request.param
    return command


def test_absent(run: Run, reader: list[str], tmp_path: Path) -> None:
    run(*reader, tmp_path / "none.pcap").is_one_line(2, "none.pcap", "No such file")


# Loads all that the command needs, then gives up the rights of root: they would let it read everything.
UNPRIVILEGED = """
import os, sys
from flowparity.cli import run
*command, good, bad = sys.argv[1:]
sys.stdout = sys.stderr = open(os.devnull, "w")
run([*command, good])
sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
sys.exit(run([*command, bad]))
"""


def test_unreadable(reader: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:  # pytest's own directories are closed to other users
        Path(directory).chmod(0o755)
        path = Path(directory) / "secret.pcap"
        path.write_bytes(GOOD.read_bytes())
        path.chmod(0)
        command = [sys.executable, "-c", UNPRIVILEGED, *reader, GOOD, path]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=60)
    Result(done.returncode, done.stdout, done.stderr).is_one_line(2, "secret.pcap", "Permission denied")


def test_directory(run: Run, reader: list[str], tmp_path: Path) -> None:
    run(*reader, tmp_path).is_one_line(2, str(tmp_path), "directory")


def test_empty(run: Run, reader: list[str], tmp_path: Path) -> None:
    path = tmp_path / "empty.pcap"
    path.touch()
    run(*reader, path).is_one_line(2, "empty.pcap")


def test_not_a_capture(run: Run, reader: list[str]) -> None:
    run(*reader, __file__).is_one_line(2, "test_bad_input.py", "capture")


def test_truncated(run: Run, tmp_path: Path) -> None:
    """What came before the cut is printed, and the status says that it is not everything."""
    path = tmp_path / "cut.pcap"
    path.write_bytes(GOOD.read_bytes()[:-3])
    result = run("reference", path, "--format", "jsonl", "--quiet")
    result.is_one_line(2, "cut.pcap", "truncated", "offset")
    assert len(result.out.splitlines()) > 3


def test_truncated_exports(run: Run, tmp_path: Path) -> None:
    """The datagrams before the cut are decoded."""
    whole, path = tmp_path / "whole.pcap", tmp_path / "cut.pcap"
    exports = Path(__file__).parents[1] / "decode" / "exports" / "softflowd-v9.pcap"
    write_capture(whole, list(read_capture(exports)) * 2)
    path.write_bytes(whole.read_bytes()[:-3])
    result = run("decode", path, "--format", "jsonl")
    assert result.status == 2
    assert "truncated" in result.err
    assert "flowStartNanoseconds" in result.out


def test_parity_says_that_a_capture_is_cut(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(GOOD.read_bytes()[:-3])
    result = run("parity", path, "--version", "9")
    assert result.status == 2
    assert "truncated" in result.err
    assert "the input ended early" in result.out
    assert "cut.pcap" in result.out


def test_unknown_link_type(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "wifi.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 105))
    run("reference", path).is_one_line(2, "link type 105", "S-LNK-1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--idle-timeout", "-1"], ["idle_timeout"]),
        (["--idle-timeout", "soon"], ["idle_timeout", "soon"]),
        (["--idle-timeout", "nan"], ["idle_timeout", "nan"]),
        (["--idle-timeout", "1e300"], ["idle_timeout", "1e300"]),
        (["--idle-timeout", "1e12"], ["146 years"]),
        (["--idle-timeout", "3", "--tcp-end", "4"], ["tcp_end", "S-PRO-2"]),
        (["--active-timeout", "-0.5"], ["active_timeout"]),
        (["--tcp-end", "never"], ["tcp_end"]),
        (["--key", "seven"], ["key", "seven", "classic"]),
        (["--tos-mask", "256"], ["tos_mask", "256"]),
        (["--tos-mask", "x"], ["--tos-mask", "'x'"]),
        (["--input-interface", "eth0"], ["--input-interface", "eth0"]),
        (["--input-interface", "4294967296"], ["input_interface"]),
        (["--counter-bits", "16"], ["counter_bits"]),
        (["--counter-bits", "many"], ["--counter-bits", "--help"]),
        (["--cache-size", "0"], ["cache_size"]),
        (["--on-full", "panic"], ["on_full", "evict"]),
        (["--sampling", "systematic"], ["--sampling", "systematic:N"]),
        (["--sampling", "systematic:0"], ["sampling", "interval 0"]),
        (["--sampling", "random:5:x"], ["sampling", "'x'"]),
        (["--boot", "-1"], ["boot"]),
        (["--template-refresh", "20"], ["--template-refresh", "PACKETS,SECONDS"]),
        (["--template-refresh", "0,5"], ["template_packets"]),
        (["--max-clock-step", "0"], ["max_clock_step"]),
        (["--reorder", "-1"], ["reorder"]),
    ],
    ids=lambda value: "=".join(value) if value and value[0].startswith("--") else None,
)
def test_impossible_profile(run: Run, options: list[str], words: list[str]) -> None:
    run("reference", GOOD, *options).is_one_line(2, *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("idle_timeout = ", ["profile.toml", "Invalid value"]),
        ("idle = 3", ["unknown field 'idle'", "idle_timeout"]),
        ("cache_size = 1.5", ["cache_size", "1.5"]),
        ("cache_size = true", ["cache_size"]),
        ("key = 5", ["key", "text"]),
        ("template_refresh = 20", ["template_refresh", "pair"]),
        ('sampling = "all"', ["sampling", "mode"]),
        ('sampling = {mode = "random", interval = "5"}', ["interval", "'5'"]),
        ('tunnels = "inner"', ["tunnels", "not implemented", "S-PRO-1"]),
        ("biflow = true", ["biflow", "S-PRO-1"]),
        ('fragments = "tracked"', ["fragments", "S-PRO-1"]),
    ],
)
def test_impossible_profile_file(run: Run, tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(text)
    run("reference", GOOD, "--profile", path).is_one_line(2, *words)


def test_absent_profile_file(run: Run, tmp_path: Path) -> None:
    run("reference", GOOD, "--profile", tmp_path / "none.toml").is_one_line(2, "none.toml")


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["reference"], ["reference", "--frobnicate"], ["reference", "a", "b"], ["decode", "--port", "0", "x"], ["--frobnicate"]]
)
def test_usage(run: Run, arguments: list[str]) -> None:
    run(*arguments).is_one_line(2, "--help")


def test_a_family_of_rules_is_listed(run: Run) -> None:
    run("explain", "S-PRT").is_one_line(2, "S-PRT-1, S-PRT-2", "S-PRT-6")
    assert "V9-" not in run("explain", "S-PRT").err
    run("explain", "NO-SUCH").is_one_line(2, ", …")


def test_unknown_rule(run: Run) -> None:
    run("explain", "S-LEN-99").is_one_line(2, "S-LEN-99", "S-LEN-1")


@pytest.mark.parametrize("address", ["2055", "localhost", ":2055", "localhost:0", "localhost:70000", "localhost:http", "::1:2055"])
def test_impossible_address(run: Run, address: str) -> None:
    run("collect", "--listen", address).is_one_line(2, "--listen")


def test_foreign_address(run: Run) -> None:
    run("collect", "--listen", "192.0.2.1:2055").is_one_line(2, "192.0.2.1", "no address of this machine")


def test_an_interface_is_no_capture(run: Run) -> None:
    run("export", "-i", "lo", "-c", "127.0.0.1:9").is_one_line(2, "lo is an interface", "--backend af_packet")


def test_options_that_would_do_nothing(run: Run) -> None:
    run("export", "-i", GOOD, "-c", "127.0.0.1:9", "--promiscuous").is_one_line(2, "--promiscuous", "leave it out")
    run("parity", GOOD, "--backend", "pcap,,").is_one_line(2, "--backend", "pcap,,")
    run("parity", GOOD, "--artefacts", "/proc/x").is_one_line(2, "--artefacts", "/proc/x")


@pytest.mark.parametrize("option", ["--html", "--junit", "--json"])
def test_a_report_that_cannot_be_written_is_said_before_the_run(run: Run, tmp_path: Path, option: str) -> None:
    run("parity", GOOD, option, tmp_path).is_one_line(2, str(tmp_path), "a directory")
    run("parity", GOOD, option, "/proc/sys/kernel/ostype/report").is_one_line(2, "there is no directory")


def test_the_output_is_named_when_it_is_full() -> None:
    with Path("/dev/full").open("w", encoding="ascii") as full:
        spawn("reference", GOOD, "-q", stdout=full).is_one_line(4, "the standard output", "make room")


def test_generate_names_the_file_that_is_full(run: Run, tmp_path: Path) -> None:
    run("generate", tmp_path / "g.pcap", "--packets", "100", "--expected", "/dev/full").is_one_line(4, "/dev/full", "make room")


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user may not send frames")
def test_replay_tells_of_frames_that_a_snap_length_cut(run: Run, tmp_path: Path) -> None:
    write_capture(tmp_path / "cut.pcap", [Frame(0, bytes(60), 1500)])
    result = run("replay", tmp_path / "cut.pcap", "-i", "lo", "--top")
    assert result.status == 1
    assert "--trailer" in result.err


def test_full_disk() -> None:
    with Path("/dev/full").open("w") as full:
        spawn("reference", GOOD, "--format", "jsonl", "--quiet", stdout=full).is_one_line(4, "No space left on device")


@pytest.mark.parametrize("arguments", [["reference", RECORDED / "iperf3-tcp.pcap", "--quiet"], ["explain", "S-LEN-1"], ["--help"], ["doctor"]], ids=str)
def test_closed_pipe(arguments: list[str]) -> None:
    """The reader went away before the first line: no complaint, and no status that means something else."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = subprocess.run([*PROGRAM, *map(str, arguments)], stdout=gone, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (141, "")

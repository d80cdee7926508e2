# SPDX-License-Identifier: Apache-2.0
"""What a user can do wrong, or lack: one line that says what to do, nothing printed, and the process still good for other ports and backends."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import Steps

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="capability: only as root")


def answer_of(steps: Steps, capture: Path, *, prefix: tuple[str, ...] = (), **step: object) -> tuple[str, str]:
    """The error of a step; afterwards the same process reads the capture through pcap and through DPDK."""
    wrong, other, again = steps(step, {"backend": "pcap", "input": str(capture)}, {"input": str(capture)}, prefix=prefix)
    assert other["error"] is None
    assert other["received"] == 1000
    assert again["error"] is None, again["error"]
    assert again["received"] == 1000
    kind, text = wrong["error"]
    assert "\n" not in text
    return kind, text


@pytest.mark.parametrize(
    ("given", "options", "workers", "kind", "says"),
    [
        ("net_foo0", {}, 1, "UnavailableError", "install the driver"),
        ("eth0", {}, 1, "UsageError", "neither a PCI address"),
        ("0000:ff:1f.7", {}, 1, "UnavailableError", "dpdk-devbind.py --status-dev net"),
        ("net_pcap0,rx_pcap=/nonexistent.pcap", {}, 1, "InputError", "No such file"),
        ("net_pcap0,bogus=1", {}, 1, "UnavailableError", "check its arguments 'bogus=1'"),
        ("net_af_packet0,iface=nonexistent", {}, 1, "UnavailableError", "No such device"),
        ("net_af_xdp0,iface=nonexistent", {}, 1, "UnavailableError", "nonexistent"),
        ("net_virtio_user0,path=/nonexistent.sock", {}, 1, "UnavailableError", "start the vhost side"),
        ("feed:/nonexistent.pcap", {}, 1, "InputError", "No such file"),
        ("CAPTURE", {}, 2, "UsageError", "one queue"),
        ("net_pcap0,rx_pcap=CAPTURE", {}, 2, "UsageError", "use 1 worker"),
        ("net_pcap0,rx_pcap=CAPTURE,rx_pcap=CAPTURE", {}, 1, "UsageError", "all must be read"),
        ("feed:CAPTURE", {}, 17, "UsageError", "at most 16 queues"),
        ("CAPTURE", {"colour": "red"}, 1, "UsageError", "unknown option colour"),
        ("CAPTURE", {"mbufs": "1"}, 1, "UsageError", "512 to 16383"),
        ("CAPTURE", {"mbufs": "many"}, 1, "UsageError", "512 to 16383"),
        ("CAPTURE", {"huge": "maybe"}, 1, "UsageError", "auto, on, off"),
        ("CAPTURE", {"rss": "sideways"}, 1, "UsageError", "ip, ports, symmetric"),
        ("CAPTURE", {"spread": "thin"}, 1, "UsageError", "flow, toeplitz"),
        ("CAPTURE", {"log": "/nonexistent/dpdk.log"}, 1, "InputError", "cannot be written"),
        ("net_pcap0,rx_pcap=CAPTURE,rx_pcap=CAPTURE", {"rss": "symmetric"}, 2, "UsageError", "no RSS"),
    ],
)
def test_one_line(steps: Steps, capture: Path, given: str, options: dict[str, str], workers: int, kind: str, says: str) -> None:
    """Each wrong input has its kind and its advice."""
    found, text = answer_of(steps, capture, input=given.replace("CAPTURE", str(capture)), options=options, workers=workers)
    assert found == kind
    assert says in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no header"),
        (b"not a capture at all, but long enough to be one", "not a classic pcap file"),
        (b"\x4d\x3c\xb2\xa1\x02\0\x04\0" + bytes(8) + b"\0\0\x04\0" + b"\x65\0\0\0", "link type 101"),
        (b"\x4d\x3c\xb2\xa1\x02\0\x04\0" + bytes(8) + b"\0\0\x04\0" + b"\x01\0\0\0" + bytes(7), "truncated after 0 frames"),
        (
            b"\x4d\x3c\xb2\xa1\x02\0\x04\0" + bytes(8) + b"\0\0\x04\0" + b"\x01\0\0\0" + bytes(8) + b"\x40\0\0\0\x40\0\0\0" + bytes(63),
            "truncated or damaged after 0",
        ),
    ],
    ids=["empty", "foreign", "raw-ip", "cut-header", "cut-frame"],
)
def test_bad_feed(steps: Steps, capture: Path, tmp_path: Path, content: bytes, says: str) -> None:
    """A capture that cannot be fed says why."""
    path = tmp_path / "bad.pcap"
    path.write_bytes(content)
    kind, text = answer_of(steps, capture, input=f"feed:{path}")
    assert kind == "InputError"
    assert says in text


def test_wrong_eal_option_is_final_and_says_so(steps: Steps, capture: Path) -> None:
    """DPDK cannot be started twice in a process, well or badly; other backends still work."""
    first, second, other = steps(
        {"input": str(capture), "options": {"eal": "--no-such-option"}},
        {"input": str(capture)},
        {"backend": "pcap", "input": str(capture)},
    )
    assert "check eal='--no-such-option'" in first["error"][1]
    assert "start a new process" in second["error"][1]
    assert other["received"] == 1000


def test_other_eal_options_need_a_new_process(steps: Steps, capture: Path) -> None:
    """Options of a DPDK that runs already cannot change, and are not ignored."""
    first, second, third = steps({"input": str(capture)}, {"input": str(capture), "options": {"eal": "--no-pci"}}, {"input": str(capture)})
    assert first.get("received") == third.get("received") == 1000, (first, third)
    assert "start a new process" in second["error"][1]


def test_two_ports_of_one_name(steps: Steps, capture: Path) -> None:
    """A vdev's name is free again when its source has closed, after an error too."""
    given = f"net_pcap7,rx_pcap={capture}"
    wrong, first, second = steps({"input": given, "workers": 2}, {"input": given}, {"input": given})
    assert wrong["exit"] == 2
    assert first["received"] == second["received"] == 1000


def test_no_dpdk_at_run_time(steps: Steps, capture: Path, tmp_path: Path) -> None:
    """A plug-in that cannot be loaded says what to install and harms nobody."""
    source = Path(__import__("flowparity._core", fromlist=["x"]).__file__).parent / "plugins" / "fp_pcap.so"
    shutil.copy(source, tmp_path)
    wrong, other = steps({"plugins": str(tmp_path), "input": str(capture)}, {"backend": "pcap", "input": str(capture)})
    assert wrong["error"][0] == "UnavailableError"
    assert "apt-get install dpdk libdpdk-dev" in wrong["error"][1]
    assert other["received"] == 1000


def test_no_dpdk_at_build_time(tmp_path: Path) -> None:
    """Without libdpdk the build goes on, and the registry knows what to install."""
    environment = os.environ | {"PKG_CONFIG_LIBDIR": str(tmp_path)}
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("capability: no cmake")
    done = subprocess.run([cmake, "-S", str(ROOT / "native"), "-B", str(tmp_path / "build")], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "backend dpdk: not built (needs dpdk libdpdk-dev)" in done.stdout
    assert "FP_REGISTERED(dpdk, FP_NOT_BUILT" in (tmp_path / "build" / "registry.inc").read_text(encoding="utf-8")


@as_root
def test_no_hugepages(steps: Steps, capture: Path) -> None:
    """huge=on says how to get them; huge=auto then takes ordinary memory."""
    without = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/kernel/mm/hugepages && exec "$@"', "sh")
    kind, text = answer_of(steps, capture, prefix=without, input=str(capture), options={"huge": "on"})
    assert kind == "UnavailableError"
    assert "sysctl vm.nr_hugepages=512" in text


@as_root
@pytest.mark.parametrize(("driver", "says"), [("ixgbe", "the kernel driver ixgbe"), ("", "no driver")])
def test_port_bound_to_the_kernel(steps: Steps, capture: Path, driver: str, says: str) -> None:
    """A NIC that vfio-pci does not have is named with its driver and the command that binds it. The device is one of a made-up sysfs."""
    device = "/sys/bus/pci/devices/0000:03:00.0"
    link = f"mkdir -p /sys/bus/pci/drivers/{driver} && ln -s ../../drivers/{driver} {device}/driver && " if driver else ""
    made_up = f'mount -t tmpfs none /sys/bus && mkdir -p {device} && {link} exec "$@"'
    kind, text = answer_of(steps, capture, prefix=("unshare", "--mount", "sh", "-c", made_up, "sh"), input="03:00.0")
    assert kind == "UnavailableError"
    assert says in text
    assert "dpdk-devbind.py -b vfio-pci 0000:03:00.0" in text


@as_root
@pytest.mark.parametrize("vdev", ["net_af_packet0,iface=fpa", "net_af_xdp0,iface=fpa"])
def test_link_down(steps: Steps, capture: Path, vdev: str) -> None:
    """A port without link is refused after a while, unless told not to look."""
    pair = 'ip link set lo up && ip link add fpa type veth peer name fpb && ip link set fpa up && exec "$@"'
    inside = ("unshare", "--net", "sh", "-c", pair, "sh")
    kind, text = answer_of(steps, capture, prefix=inside, input=vdev, options={"link_wait": "100"})
    assert kind == "UnavailableError"
    assert "no link after 100 ms" in text
    (unasked,) = steps({"input": vdev, "options": {"link_wait": "0"}, "stop_after": 0.2}, prefix=inside)
    assert unasked["error"] is None

# SPDX-License-Identifier: Apache-2.0
"""The rates of the DPDK backend without a NIC: `python -m tests.dpdk.bench [--flows N] [--seconds S]`.

Not a test: it prints one table. 60-octet UDP frames, one queue. "bare" receives and releases only (bare.c); "exporter" is the whole of it, IPFIX to a UDP
socket that nobody reads. Mpps is by the wall clock, Mpps/core by the processor time of the receiving thread. On two cores a feeder shares the machine with the
receiver: the net_ring and virtio rows are bounded by their sender, net_pcap's infinite_rx is not.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from flowparity import _core
from flowparity.capture import write_capture
from flowparity.frame import Frame
from flowparity.harness.interfaces import Injection
from flowparity.harness.rigs.dpdk import DpdkInjector, FedLink, VirtioRig
from flowparity.harness.rigs.hugepages import Hugepages
from tests.dpdk.conftest import run_steps

HERE = Path(__file__).parent
_INFINITE = 2000  # frames: infinite_rx keeps them all in mbufs
PLUGIN = Path(_core.__file__).parent / "plugins" / "fp_dpdk.so"


@dataclass(frozen=True, slots=True)
class Rate:
    """Frames over wall and processor time."""

    frames: int
    seconds: float
    cpu: float

    def cells(self) -> str:
        """Mpps and Mpps per core."""
        return f"{self.frames / self.seconds / 1e6:9.2f} {self.frames / max(self.cpu, 1e-9) / 1e6:10.2f}"


def traffic(path: Path, flows: int, frames: int) -> None:
    """Frames of as many flows, in turn, 100 ns apart."""
    port = (35).to_bytes(2, "big")

    def each(i: int) -> Frame:
        host = (0x0A000000 + i % flows).to_bytes(4, "big")
        ip = bytes([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]) + host + bytes([11, 0, 0, 1])
        return Frame(1_704_067_200_000_000_000 + i * 100, bytes(12) + b"\x08\0" + ip + port + port + b"\0\x1a\0\0" + bytes(18), 60, index=i)

    write_capture(path, (each(i) for i in range(frames)))


def bare(program: Path, seconds: float, given: str, **options: str) -> Rate:
    """The plug-in by itself."""
    words = [f"{key}={value}" for key, value in options.items()]
    done = subprocess.run([str(program), str(PLUGIN), str(seconds), given, *words], capture_output=True, text=True, check=True)
    frames, wall, cpu = done.stdout.split()
    return Rate(int(frames), float(wall), float(cpu))


def exporter(seconds: float, given: str, trailer: bool = False, **options: str) -> Rate:
    """The whole exporter, in a process of its own."""
    (answer,) = run_steps({"input": given, "options": options, "trailer": trailer, "stop_after": seconds, "bench": True})
    return Rate(answer["received"], answer["wall"], answer["cpu"])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flows", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, Hugepages():
        program, capture = Path(directory) / "bare", Path(directory) / "traffic.pcap"
        subprocess.run(["cc", "-std=gnu17", "-O2", f"-I{HERE.parents[1]}/native/include", str(HERE / "bare.c"), "-o", str(program)], check=True)
        traffic(capture, given.flows, _INFINITE)
        print(f"60-octet frames, {given.flows} flows        Mpps  Mpps/core")
        rows = [("net_pcap infinite_rx", f"net_pcap0,rx_pcap={capture},infinite_rx=1", {}), ("net_ring", f"feed:{capture}", {"loops": "1000000"})]
        for name, source, options in rows:
            print(f"{name:22} bare     {bare(program, given.seconds, source, **options).cells()}", flush=True)
            print(f"{name:22} exporter {exporter(given.seconds, source, **options).cells()}", flush=True)
        traffic(capture, given.flows, 1_000_000)
        for name, run in (
            ("bare", lambda link: bare(program, 60, link.receive, hello="1")),
            ("exporter", lambda link: exporter(60, link.receive, True, hello="1")),
        ):
            rates: list[Rate] = []
            with VirtioRig() as rig, rig.link(capture) as link:
                assert isinstance(link, FedLink)
                thread = threading.Thread(target=lambda run=run, link=link, rates=rates: rates.append(run(link)))
                thread.start()
                sent: Injection = DpdkInjector().inject(capture, link)
                thread.join()
            rate = Rate(rates[0].frames, sent.seconds, rates[0].cpu)
            print(f"{'virtio-user/vhost':22} {name:8} {rate.cells()}", flush=True)


if __name__ == "__main__":
    main()

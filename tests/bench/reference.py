# SPDX-License-Identifier: Apache-2.0
"""The speed and the memory of the reference: `python tests/bench/reference.py [--packets N] [--flows N]`.

Not a test: it prints figures. Each case runs in a process of its own, from a capture of `flowparity generate`: packets per second of processor time from file
to records (and to datagrams of all formats), and the peak resident memory. The memory column shows that memory follows the live flows, not the capture.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure(capture: str, formats: str) -> None:
    """Meters one capture and prints one line."""
    from flowparity.capture import read_capture
    from flowparity.export import run_reference
    from flowparity.profile import Profile
    from flowparity.transport import ExportStream, Fate

    class Nowhere(ExportStream):
        """Takes every message and keeps none."""

        max_message = 1472
        reliable = False

        def send(self, message: bytes) -> Fate:
            """Taken."""
            return Fate.SENT

        def close(self) -> None:
            """Nothing to do."""

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    records = 0

    def count(_: object) -> None:
        nonlocal records
        records += 1

    start = time.process_time()
    streams: dict[str, ExportStream] = {name: Nowhere() for name in formats.split(",") if name}
    outcome = run_reference(read_capture(capture), Profile(counter_bits=32), streams, on_closed=count)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert not outcome.accounting.broken(), outcome.accounting.broken()
    packets = outcome.accounting.received
    size = Path(capture).stat().st_size / 2**20
    figures = f"{packets:>9,} packets {size:7.1f} MiB {records:>9,} records  {packets / seconds:>9,.0f} packets/s"
    print(f"{figures}  peak {peak / 1024:6.1f} MiB (start {before / 1024:.1f})")


def main() -> None:
    """Makes the captures and measures each in a fresh process."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--packets", type=int, default=1_000_000)
    options.add_argument("--flows", type=int, default=10_000)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        for packets in (chosen.packets // 10, chosen.packets):
            for lifetime, rate, label in ((0, 100_000, "long flows"), (10, 100_000, "10 packets a flow"), (10, 10_000, "the same, slower")):
                capture = str(Path(directory) / f"{packets}-{lifetime}-{rate}.pcap")
                flows = ["--flows", str(chosen.flows), "--lifetime", str(lifetime), "--tcp", "0.8", "--sizes", "imix"]
                made = [*flows, "--packets", str(packets), "--rate", str(rate)]
                subprocess.run([sys.executable, "-m", "flowparity", "generate", *made, capture], check=True, stdout=subprocess.DEVNULL)
                for formats in ("", "5,9,ipfix"):
                    print(f"{label:18} {formats or 'records only':12} ", end="", flush=True)
                    subprocess.run([sys.executable, __file__, "--measure", capture, formats], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
    else:
        main()

# SPDX-License-Identifier: Apache-2.0
"""`flowparity bench core`: what a packet costs in the core, beside probes of this machine's memory taken in the same run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flowparity.errors import SystemFault, UsageError
from flowparity.native import ffi, lib

_UNITS = {"k": 1_000, "m": 1_000_000}
_MOST = 64_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """What is metered: 60-octet UDP frames at line rate of 10 Gb/s (67 ns of clock apart)."""

    name: str
    flows: int
    zipf: float = 0.0  # exponent of the flows' shares; 0 = uniform
    new_flows: int = 0  # a second of clock
    workers: int = 1  # at the same time


EVERY_PACKET = 15_000_000
"""New flows a second: more than there are packets."""
TABLE = (
    Load("1 k flows", 1_000),
    Load("64 k flows", 65_536),
    Load("1 M flows", 1_000_000),
    Load("4 M flows", 4_000_000),
    Load("1 M flows, Zipf", 1_000_000, zipf=1.0),
    Load("1 M new flows/s, 0.8 M alive", 800_000, new_flows=1_000_000),
    Load("1 M new flows/s, 2 M alive", 2_000_000, new_flows=1_000_000),
    Load("every packet a new flow", 1_000_000, new_flows=EVERY_PACKET),
    Load("64 k flows, two workers", 65_536, workers=2),
)
"""The loads of docs/performance.md. Where every packet is a new flow the cache is full and each evicts a record."""


@dataclass(frozen=True, slots=True)
class CoreBench:
    """Nanoseconds of processor time per packet. `probe` touches what a packet of a resident flow touches: its frame; at random a line of tags and an entry."""

    load: Load
    resident: int  # records in the table while it was measured
    packets: int
    records: int  # ended and encoded
    core_p5: float
    core_median: float
    probe_p5: float
    probe_median: float
    latency_median: float  # of one dependent random load
    table_octets: float  # for each record of the cache's size

    @property
    def ratio(self) -> float:
        """The core's cost over the memory probe's, medians of the same run."""
        return self.core_median / self.probe_median

    def as_json(self) -> dict[str, Any]:
        """All figures and the ratio."""
        return asdict(self) | {"ratio": self.ratio}


def flow_counts(text: str) -> list[int]:
    """`1k,64k,1M` as numbers; a UsageError says what is wrong."""
    out = []
    for part in text.split(","):
        digits, unit = (part[:-1], _UNITS.get(part[-1:].lower(), 0)) if part[-1:].isalpha() else (part, 1)
        if not digits.isdecimal() or not 1 <= int(digits) * unit <= _MOST:
            raise UsageError(f"flows: {part!r} is not a number of flows such as 1k, 64k or 1M, at most {_MOST // 1_000_000}M")
        out.append(int(digits) * unit)
    return out


def bench_core(loads: Sequence[Load], passes: int = 4) -> list[CoreBench]:
    """Measures each load in turn; SystemFault when memory does not suffice."""
    out = []
    for load in loads:
        asked = ffi.new("struct fp_bench_load *")
        asked.flows, asked.zipf, asked.new_flows, asked.workers, asked.passes = load.flows, load.zipf, load.new_flows, load.workers, passes
        result = ffi.new("struct fp_bench_result *")
        error = ffi.new("char[]", lib.FP_ERRLEN)
        if lib.fp_bench_core(asked, result, error):
            raise SystemFault(bytes(ffi.string(error)).decode())
        out.append(
            CoreBench(
                load=load,
                resident=result.resident,
                packets=result.packets,
                records=result.records,
                core_p5=result.core_p5,
                core_median=result.core_median,
                probe_p5=result.lines_p5,
                probe_median=result.lines_median,
                latency_median=result.latency_median,
                table_octets=result.table_octets / result.cache_size,
            )
        )
    return out

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
class CoreBench:
    """Nanoseconds per packet (60-octet UDP frames, uniformly random flows). `probe` touches the same random lines as a packet does: two of tags, one entry."""

    flows: int
    resident: int  # records in the table while it was measured
    packets: int
    core_p5: float
    core_median: float
    probe_p5: float
    probe_median: float
    latency_median: float  # of one dependent random load
    table_octets: int

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


def bench_core(flows: Sequence[int], passes: int = 4) -> list[CoreBench]:
    """Measures each number of flows in turn; SystemFault when memory does not suffice."""
    out = []
    for count in flows:
        result = ffi.new("struct fp_bench_result *")
        error = ffi.new("char[]", lib.FP_ERRLEN)
        if lib.fp_bench_core(count, passes, result, error):
            raise SystemFault(bytes(ffi.string(error)).decode())
        out.append(
            CoreBench(
                flows=count,
                resident=result.resident,
                packets=result.packets,
                core_p5=result.core_p5,
                core_median=result.core_median,
                probe_p5=result.lines_p5,
                probe_median=result.lines_median,
                latency_median=result.latency_median,
                table_octets=result.table_octets,
            )
        )
    return out

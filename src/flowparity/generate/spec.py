# SPDX-License-Identifier: Apache-2.0
"""What generated traffic is like."""

from __future__ import annotations

from dataclasses import dataclass

from flowparity.errors import UsageError

IMIX = ((64, 7), (594, 4), (1518, 1))
"""The simple Internet mix: frame size to weight."""

DISTRIBUTIONS = ("equidistant", "uniform", "zipf")
SMALLEST, LARGEST = 64, 9000


@dataclass(frozen=True, slots=True)
class TrafficSpec:
    """Parameters of a stream of packets; the same value gives the same octets on every machine.

    `flows` streams are active at a time. Packet i leaves at start_ns + i * gap_ns and belongs to stream i mod flows (`equidistant`, as the streams of RFC
    6645 §4.9), or to one drawn at random, each as likely (`uniform`) or stream r with a weight of (r + 1)^-exponent (`zipf`). After `lifetime` packets a
    stream goes on as a new flow (1: every packet is a flow of its own; 0: never). `ipv6`, `vlan` and `tcp` are shares of the flows. Sizes are those of
    Ethernet frames with FCS as RFC 2544 counts them, (size, weight) drawn for each packet; a capture holds 4 octets less. A frame too small for its
    headers is made just large enough. TCP flows begin with SYN; with `close` their last packet has FIN.
    """

    flows: int = 1000
    packets: int = 10_000
    seed: int = 1
    distribution: str = "uniform"
    exponent: float = 1.0
    lifetime: int = 0
    sizes: tuple[tuple[int, int], ...] = ((64, 1),)
    ipv6: float = 0.0
    vlan: float = 0.0
    tcp: float = 0.0
    close: bool = True
    gap_ns: int = 10_000
    start_ns: int = 1_700_000_000 * 10**9

    def __post_init__(self) -> None:
        """Refuses what cannot be made with a UsageError that names the parameter."""
        checks = [
            (1 <= self.flows <= 2**28, f"flows: {self.flows} is not 1 to {2**28}"),
            (1 <= self.packets < 2**40, f"packets: {self.packets} is below 1 or too many"),
            (0 <= self.seed < 2**64, "seed: not a 64-bit number"),
            (self.distribution in DISTRIBUTIONS, f"distribution: {self.distribution!r} is none of {', '.join(DISTRIBUTIONS)}"),
            (0 < self.exponent <= 10, f"exponent: {self.exponent} is not above 0 and at most 10"),
            (self.lifetime >= 0, "lifetime: negative; 0 means that flows live as long as the stream"),
            (bool(self.sizes) and all(SMALLEST <= size <= LARGEST and weight > 0 for size, weight in self.sizes), f"sizes: not {SMALLEST} to {LARGEST}"),
            (all(0 <= share <= 1 for share in (self.ipv6, self.vlan, self.tcp)), "ipv6, vlan, tcp: a share is 0 to 1"),
            (self.gap_ns >= 0, "gap_ns: negative"),
            (self.start_ns >= 0 and self.start_ns + self.packets * self.gap_ns < 2**32 * 10**9, "start_ns, gap_ns: a time before 1970 or after 2106"),
        ]
        for good, message in checks:
            if not good:
                raise UsageError(f"traffic: {message}")


def sizes_from(text: str) -> tuple[tuple[int, int], ...]:
    """`64`, `64,1518` (equally likely), `64:7,594:4,1518:1` or `imix` (UsageError otherwise)."""
    if text.lower() == "imix":
        return IMIX
    try:
        pairs = [[int(number) for number in part.split(":")] for part in text.split(",")]
        return tuple((size, weight) for size, weight in (pair if len(pair) > 1 else (*pair, 1) for pair in pairs))
    except ValueError:
        raise UsageError(f"traffic: sizes: {text!r} is neither imix nor like 64 or 64:7,594:4") from None

# SPDX-License-Identifier: Apache-2.0
"""Headers, clocks, transport: what concerns whole datagrams of any version."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from flowparity.decode import DecodedFlow, Normaliser
from flowparity.wire.model import UINT32, Context, Hit, Item, Stream, rule

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
_ALL = ("5", "9", "ipfix")
_GROUP = {5: "V5", 9: "V9", 10: "IPFIX"}
_SWAPPED = {5: "V5-HDR-12", 9: "V9-HDR-10", 10: "IPFIX-HDR-11"}


@rule("V5-HDR-01", "V5-HDR-12", "V9-HDR-01", "V9-HDR-10", "IPFIX-HDR-01", "IPFIX-HDR-11", formats=_ALL)
def version(stream: Stream, context: Context) -> Iterator[Hit]:
    """The version is that of the stream, in network byte order."""
    for item in stream.others:
        found = item.message.version
        if found == stream.version << 8:
            yield Hit(_SWAPPED[stream.version], item.index, 0, f"the version is {item.datagram.payload[:2].hex()}: the octets are in reverse order")
        elif found != stream.version:
            yield Hit(f"{_GROUP[stream.version]}-HDR-01", item.index, 0, f"the version is {found}, not {stream.version}")


def _uptime_growth(name: str, stream: Stream, context: Context) -> Iterator[Hit]:
    for items in stream.domains.values():
        for before, item in pairwise(items):
            grown = ((item.message.header.sys_uptime or 0) - (before.message.header.sys_uptime or 0)) % UINT32
            passed = (item.datagram.arrival_ns - before.datagram.arrival_ns) / MILLISECOND
            off = (grown - passed + UINT32 / 2) % UINT32 - UINT32 / 2
            if abs(off) * MILLISECOND > (context.clock_tolerance_ns or 0):
                yield Hit(name, item.index, 4, f"sysUptime grew by {grown} ms while {passed:.0f} ms passed")


@rule("V5-HDR-05", needs=["clock_tolerance_ns"])
def v5_uptime(stream: Stream, context: Context) -> Iterator[Hit]:
    """The sys_uptime runs with the clock, in milliseconds."""
    yield from _uptime_growth("V5-HDR-05", stream, context)


@rule("V9-HDR-03", needs=["clock_tolerance_ns"])
def v9_uptime(stream: Stream, context: Context) -> Iterator[Hit]:
    """The sysUpTime runs with the clock, in milliseconds."""
    yield from _uptime_growth("V9-HDR-03", stream, context)


@rule("V5-HDR-06", "V9-HDR-04", "IPFIX-HDR-03", formats=_ALL, needs=["clock_tolerance_ns"])
def export_instant(stream: Stream, context: Context) -> Iterator[Hit]:
    """The header names the instant of departure; v9 and IPFIX in whole seconds."""
    name, offset = {5: ("V5-HDR-06", 8), 9: ("V9-HDR-04", 8), 10: ("IPFIX-HDR-03", 4)}[stream.version]
    for item in stream.items:
        header = item.message.header
        begin = (header.seconds or 0) * SECOND + (header.nanoseconds or 0)
        end = begin + (0 if stream.version == 5 else SECOND - 1)
        arrival, tolerance = item.datagram.arrival_ns, context.clock_tolerance_ns or 0
        if not begin - tolerance <= arrival <= end + tolerance:
            yield Hit(name, item.index, offset, f"the header says {begin / SECOND:.3f} s, the datagram arrived at {arrival / SECOND:.3f} s")


@rule("V5-HDR-07")
def v5_boot(stream: Stream, context: Context) -> Iterator[Hit]:
    """Unix time less uptime is one instant."""
    for items in stream.domains.values():
        first: int | None = None
        for item in items:
            header = item.message.header
            boot = (header.seconds or 0) * 1000 + (header.nanoseconds or 0) // MILLISECOND - (header.sys_uptime or 0)
            first = boot if first is None else first
            off = (boot - first + UINT32 // 2) % UINT32 - UINT32 // 2
            if abs(off) > context.boot_tolerance_ms:
                yield Hit("V5-HDR-07", item.index, 4, f"the instant of boot moved by {off} ms since the first datagram")


@rule("V5-HDR-11", needs=["sampling_known"])
def v5_sampling(stream: Stream, context: Context) -> Iterator[Hit]:
    """Mode in two bits, interval in fourteen; mode zero without sampling."""
    wanted = context.sampling_interval or 0
    for item in stream.items:
        mode, interval = item.message.header.sampling_mode, item.message.header.sampling_interval
        if wanted > 1 and (mode == 0 or interval != wanted):
            yield Hit("V5-HDR-11", item.index, 22, f"sampling mode {mode} and interval {interval}; the exporter samples 1 in {wanted}")
        elif wanted <= 1 and mode:
            yield Hit("V5-HDR-11", item.index, 22, f"sampling mode {mode} and interval {interval}, but the exporter does not sample")


@rule("V5-TX-01")
def endpoint(stream: Stream, context: Context) -> Iterator[Hit]:
    """One source address and port for the life of the process."""
    first = stream.items[0].datagram.source if stream.items else None
    for item in stream.items:
        if item.datagram.source != first:
            yield Hit("V5-TX-01", item.index, 0, f"sent from {item.datagram.source}, before from {first}")
            return


@rule("V5-TX-02", "IPFIX-UDP-01", formats=_ALL)
def checksum(stream: Stream, context: Context) -> Iterator[Hit]:
    """The UDP checksum is right where a capture shows it."""
    for item in stream.everything:
        if item.datagram.checksum is False:
            yield Hit("IPFIX-UDP-01" if stream.version == 10 else "V5-TX-02", item.index, 0, "the UDP checksum is wrong")


def _packet_octets(item: Item) -> int:
    if item.datagram.ip_octets is not None:
        return item.datagram.ip_octets
    return len(item.datagram.payload) + (48 if ":" in str(item.datagram.source[0]) else 28)


@rule("V5-HDR-04", "V9-TX-02", "IPFIX-UDP-02", formats=_ALL, needs=["mtu"])
def mtu(stream: Stream, context: Context) -> Iterator[Hit]:
    """No datagram exceeds the MTU or comes in fragments."""
    name = {5: "V5-HDR-04", 9: "V9-TX-02", 10: "IPFIX-UDP-02"}[stream.version]
    for item in stream.everything:
        octets = _packet_octets(item)
        if item.datagram.fragmented or octets > (context.mtu or 0):
            yield Hit(name, item.index, 0, f"an IP packet of {octets} octets" + (" in fragments" if item.datagram.fragmented else f" where {context.mtu} fit"))


@rule("IPFIX-UDP-03")
def unknown_mtu(stream: Stream, context: Context) -> Iterator[Hit]:
    """Without knowledge of the path MTU packets stay within 512 octets."""
    if context.mtu is None and not context.reliable:
        for item in stream.items:
            if _packet_octets(item) > 512:
                yield Hit("IPFIX-UDP-03", item.index, 0, f"an IP packet of {_packet_octets(item)} octets though the path MTU is unknown")


@rule("V9-HDR-08", "IPFIX-HDR-09", formats=("9", "ipfix"), needs=["workers"])
def domains(stream: Stream, context: Context) -> Iterator[Hit]:
    """Every observation domain has its own id, and no other ids occur."""
    name, offset = ("V9-HDR-08", 16) if stream.version == 9 else ("IPFIX-HDR-09", 12)
    used = sorted({domain for _, domain in stream.domains if stream.version == 9 or domain})
    if len(used) > (context.workers or 0):
        yield Hit(name, stream.items[0].index, offset, f"{len(used)} domains {used[:8]} of an exporter with {context.workers}")


@rule("FLOW-TIME-02", formats=_ALL)
def times(stream: Stream, context: Context) -> Iterator[Hit]:
    """Start <= end <= export time; uptimes modulo 2^32 ms, the header's seconds modulo 2^32."""
    normaliser = Normaliser()
    for item in stream.items:
        for flow in normaliser.flows(item.message):
            if flow.first_uptime is not None or flow.last_uptime is not None:
                text = _uptimes_in_disorder(flow) if context.uptimes_ordered else ""
            else:
                text = _times_in_disorder(flow, item.message.header.seconds or 0)
            if text:
                yield Hit("FLOW-TIME-02", item.index, flow.offset, text)


def _uptimes_in_disorder(flow: DecodedFlow) -> str:
    first, last, left = flow.first_uptime, flow.last_uptime, flow.sys_uptime
    if first is not None and last is not None and (last - first) % UINT32 >= UINT32 // 2:
        return f"the flow starts at uptime {first} ms and ends at {last} ms"
    if last is not None and left is not None and (left - last) % UINT32 >= UINT32 // 2:
        return f"the flow ends at uptime {last} ms, the datagram left at {left} ms"
    return ""


def _times_in_disorder(flow: DecodedFlow, exported: int) -> str:
    first, last = flow.first_ns, flow.last_ns
    if first is not None and last is not None and last < first:
        return f"the flow ends {first - last} ns before it starts"
    if last is not None and last // SECOND > exported and (exported - last // SECOND) % UINT32 >= UINT32 // 2:  # it wraps in 2106
        return f"the flow ends at {last} ns, after export in second {exported}"
    return ""

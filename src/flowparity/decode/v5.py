# SPDX-License-Identifier: Apache-2.0
"""NetFlow v5: a header of 24 octets and up to 30 records of 48 (Cisco's field tables)."""

from __future__ import annotations

import struct

from flowparity.decode.elements import BY_NAME, Element
from flowparity.decode.model import DataRecord, Header, Message, Value
from flowparity.decode.state import Pen
from flowparity.decode.values import decode_value

HEADER = struct.Struct(">HHIIIIBBH")
RECORD_OCTETS = 48
MAX_RECORDS = 30

_LAYOUT = """
sourceIPv4Address 4, destinationIPv4Address 4, ipNextHopIPv4Address 4, ingressInterface 2, egressInterface 2, packetDeltaCount 4,
octetDeltaCount 4, flowStartSysUpTime 4, flowEndSysUpTime 4, sourceTransportPort 2, destinationTransportPort 2, paddingOctets 1,
tcpControlBits 1, protocolIdentifier 1, ipClassOfService 1, bgpSourceAsNumber 2, bgpDestinationAsNumber 2, sourceIPv4PrefixLength 1,
destinationIPv4PrefixLength 1, paddingOctets 2"""

_FIELDS = [(BY_NAME[name], int(size)) for name, size in (item.split() for item in _LAYOUT.split(","))]


def decode(payload: bytes, message: Message) -> None:
    """Fills the message; what lies beyond the count, or is missing from it, is a problem."""
    pen = Pen(message)
    if len(payload) < HEADER.size:
        pen.problem(len(payload), "V5-HDR-02", f"{len(payload)} octets are no v5 header of {HEADER.size}")
        return
    _, count, uptime, seconds, nanoseconds, sequence, engine_type, engine_id, sampling = HEADER.unpack_from(payload)
    message.header = Header(
        count=count,
        sys_uptime=uptime,
        seconds=seconds,
        nanoseconds=nanoseconds,
        sequence=sequence,
        domain=engine_type << 8 | engine_id,
        sampling_mode=sampling >> 14,
        sampling_interval=sampling & 0x3FFF,
    )
    if not 1 <= count <= MAX_RECORDS:
        pen.problem(2, "V5-HDR-03", f"count is {count}, not 1 to {MAX_RECORDS}")
    if len(payload) != HEADER.size + RECORD_OCTETS * count:
        pen.problem(2, "V5-HDR-02", f"count {count} asks for {HEADER.size + RECORD_OCTETS * count} octets, the datagram has {len(payload)}")
    if nanoseconds >= 1_000_000_000:
        pen.problem(12, "V5-HDR-06", f"unix_nsecs is {nanoseconds}, a second or more")
    whole = min(count, (len(payload) - HEADER.size) // RECORD_OCTETS)
    for start in range(HEADER.size, HEADER.size + whole * RECORD_OCTETS, RECORD_OCTETS):
        message.records.append(_record(payload, start, message.header.domain, pen))


def _record(payload: bytes, start: int, domain: int, pen: Pen) -> DataRecord:
    values: list[tuple[Element, Value]] = []
    at = start
    for element, size in _FIELDS:
        data = payload[at : at + size]
        values.append((element, decode_value(element, data)[0]))
        if element.name == "paddingOctets" and any(data):
            pen.problem(at, "V5-REC-13", f"pad octets are {data.hex()}, not zero")
        at += size
    return DataRecord(domain, 0, start, RECORD_OCTETS, tuple(values))

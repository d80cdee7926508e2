# SPDX-License-Identifier: Apache-2.0
"""Just enough IPFIX to read back what the native core wrote: templates as sent. No judgement; that is the decoder's."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from flowparity.flow import FlowRecord

NTP_EPOCH = 2_208_988_800


def _nanoseconds(value: int) -> int:
    return ((value >> 32) - NTP_EPOCH) % 2**32 * 10**9 + ((value & 0xFFFFFFFF) * 10**9 >> 32)


def _records(domain: int, fields: list[tuple[int, int]], data: bytes) -> Iterable[FlowRecord]:
    size = sum(length for _, length in fields)
    for start in range(0, len(data) - size + 1, size):
        at, values = start, {}
        for element, length in fields:
            values[element] = data[at : at + length]
            at += length
        n = {element: int.from_bytes(value, "big") for element, value in values.items()}
        yield FlowRecord(
            source_address=values[8] if 8 in values else values[27],
            destination_address=values[12] if 12 in values else values[28],
            source_port=n[7],
            destination_port=n[11],
            protocol=n[4],
            tos=n[5],
            input_interface=n[10],
            packets=n[2],
            octets=n[1],
            first_ns=_nanoseconds(n[156]) if 156 in n else n[152] * 10**6,
            last_ns=_nanoseconds(n[157]) if 157 in n else n[153] * 10**6,
            tcp_flags=n[6],
            end_reason=n[136],
            ttl=n[192],
            vlan=n[243],
            inner_vlan=n[245],
            flow_label=n.get(31, 0),
            worker=domain - 1,
        )


def flow_records(datagrams: Iterable[bytes]) -> list[FlowRecord]:
    """The flow records of well-formed messages, in order; options records are left out."""
    out: list[FlowRecord] = []
    templates: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for message in datagrams:
        domain = struct.unpack_from(">I", message, 12)[0]
        at = 16
        while at < len(message):
            kind, length = struct.unpack_from(">HH", message, at)
            body = message[at + 4 : at + length]
            if kind == 2:
                inner = 0
                while inner + 4 <= len(body):
                    template, count = struct.unpack_from(">HH", body, inner)
                    fields = [struct.unpack_from(">HH", body, inner + 4 + 4 * i) for i in range(count)]
                    templates[domain, template] = fields
                    inner += 4 + 4 * count
            elif (domain, kind) in templates:
                out.extend(_records(domain, templates[domain, kind], body))
            at += length
    return out

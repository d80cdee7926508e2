# SPDX-License-Identifier: Apache-2.0
"""The Flow Record as a value (S-REC-1), common to the reference, the comparison and everything that prints records."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class EndReason(IntEnum):
    """flowEndReason, IPFIX element 136."""

    IDLE = 1
    ACTIVE = 2
    END_OF_FLOW = 3
    FORCED = 4
    RESOURCES = 5


ICMP_OF_VERSION = {4: 1, 6: 58}
"""The protocol number whose type and code a record carries in its destination port (S-PRT-4), by IP version."""


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """One Flow Record. Times are nanoseconds since the UNIX epoch, counters are packets and octets."""

    source_address: bytes  # 4 or 16 octets
    destination_address: bytes
    source_port: int
    destination_port: int  # ICMP: type * 256 + code (S-PRT-4)
    protocol: int
    tos: int
    input_interface: int
    packets: int
    octets: int
    first_ns: int
    last_ns: int
    tcp_flags: int
    end_reason: int
    ttl: int = 0
    vlan: int = 0
    inner_vlan: int = 0
    flow_label: int = 0
    worker: int = 0
    """The observation domain, counted from 0 (S-EXP-2)."""

    @property
    def ip_version(self) -> int:
        """4 or 6, by the length of the addresses."""
        return 4 if len(self.source_address) == 4 else 6

    @property
    def is_icmp(self) -> bool:
        """Whether the destination port holds an ICMP type and code."""
        return self.protocol == ICMP_OF_VERSION[self.ip_version]

    def elements(self) -> dict[str, Any]:
        """The record by the names of IPFIX Information Elements (RFC 7012), as all JSON output has it."""
        version = self.ip_version
        out: dict[str, Any] = {
            f"sourceIPv{version}Address": str(ipaddress.ip_address(self.source_address)),
            f"destinationIPv{version}Address": str(ipaddress.ip_address(self.destination_address)),
            "sourceTransportPort": self.source_port,
            "destinationTransportPort": self.destination_port,
            "protocolIdentifier": self.protocol,
            "ipClassOfService": self.tos,
            "ingressInterface": self.input_interface,
            "packetDeltaCount": self.packets,
            "octetDeltaCount": self.octets,
            "flowStartNanoseconds": self.first_ns,
            "flowEndNanoseconds": self.last_ns,
            "tcpControlBits": self.tcp_flags,
            "flowEndReason": self.end_reason,
            "ipTTL": self.ttl,
            "dot1qVlanId": self.vlan,
            "dot1qCustomerVlanId": self.inner_vlan,
            "flowLabelIPv6": self.flow_label,
            "observationDomainId": self.worker,
        }
        if self.is_icmp:
            out[f"icmpTypeCodeIPv{version}"] = self.destination_port
        return out

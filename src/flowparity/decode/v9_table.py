# SPDX-License-Identifier: Apache-2.0
"""What NetFlow v9 has of its own (RFC 3954 §6.1, §8): scopes, names and fixed sizes of field types."""

from __future__ import annotations

from functools import lru_cache

from flowparity.decode.elements import Element

SCOPES: dict[int, Element] = {
    1: Element(-9, 1, "scopeSystem", "octets", "i"),
    2: Element(-9, 2, "scopeInterface", "u32", "i"),
    3: Element(-9, 3, "scopeLineCard", "u32", "i"),
    4: Element(-9, 4, "scopeCache", "octets", "i"),
    5: Element(-9, 5, "scopeTemplate", "u16", "i"),
}
"""Scope field types of NetFlow v9 (RFC 3954 §6.1), a number space of their own; the pseudo enterprise number -9 keeps them apart."""

V9_LENGTHS: dict[int, tuple[int, ...]] = {
    4: (1,),
    5: (1,),
    6: (1,),
    7: (2,),
    8: (4,),
    9: (1,),
    11: (2,),
    12: (4,),
    13: (1,),
    15: (4,),
    16: (2, 4),
    17: (2, 4),
    18: (4,),
    21: (4,),
    22: (4,),
    27: (16,),
    28: (16,),
    29: (1,),
    30: (1,),
    31: (3,),
    32: (2,),
    33: (1,),
    34: (4,),
    35: (1,),
    36: (2,),
    37: (2,),
    38: (1,),
    39: (1,),
    46: (1,),
    47: (4,),
    48: (1,),
    49: (1,),
    50: (4,),
    55: (1,),
    56: (6,),
    57: (6,),
    58: (2,),
    59: (2,),
    60: (1,),
    61: (1,),
    62: (16,),
    63: (16,),
    64: (4,),
    **dict.fromkeys(range(70, 80), (3,)),
}
"""Field types whose size RFC 3954 §8 fixes, with the sizes it allows."""

_NAMES = """
1:IN_BYTES 2:IN_PKTS 3:FLOWS 4:PROTOCOL 5:TOS 6:TCP_FLAGS 7:L4_SRC_PORT 8:IPV4_SRC_ADDR 9:SRC_MASK 10:INPUT_SNMP 11:L4_DST_PORT
12:IPV4_DST_ADDR 13:DST_MASK 14:OUTPUT_SNMP 15:IPV4_NEXT_HOP 16:SRC_AS 17:DST_AS 18:BGP_IPV4_NEXT_HOP 19:MUL_DST_PKTS 20:MUL_DST_BYTES
21:LAST_SWITCHED 22:FIRST_SWITCHED 23:OUT_BYTES 24:OUT_PKTS 27:IPV6_SRC_ADDR 28:IPV6_DST_ADDR 29:IPV6_SRC_MASK 30:IPV6_DST_MASK
31:IPV6_FLOW_LABEL 32:ICMP_TYPE 33:MUL_IGMP_TYPE 34:SAMPLING_INTERVAL 35:SAMPLING_ALGORITHM 36:FLOW_ACTIVE_TIMEOUT 37:FLOW_INACTIVE_TIMEOUT
38:ENGINE_TYPE 39:ENGINE_ID 40:TOTAL_BYTES_EXP 41:TOTAL_PKTS_EXP 42:TOTAL_FLOWS_EXP 46:MPLS_TOP_LABEL_TYPE 47:MPLS_TOP_LABEL_IP_ADDR
48:FLOW_SAMPLER_ID 49:FLOW_SAMPLER_MODE 50:FLOW_SAMPLER_RANDOM_INTERVAL 55:DST_TOS 56:SRC_MAC 57:DST_MAC 58:SRC_VLAN 59:DST_VLAN
60:IP_PROTOCOL_VERSION 61:DIRECTION 62:IPV6_NEXT_HOP 63:BGP_IPV6_NEXT_HOP 64:IPV6_OPTION_HEADERS
"""

V9_NAMES: dict[int, str] = {int(number): name for number, name in (item.split(":") for item in _NAMES.split())}
V9_NAMES |= {69 + n: f"MPLS_LABEL_{n}" for n in range(1, 11)}
"""Field type names of RFC 3954 §8, for messages to people."""


@lru_cache(maxsize=512)
def scope(number: int) -> Element:
    """The v9 scope of this type, also when RFC 3954 does not know it."""
    return SCOPES.get(number) or Element(-9, number, f"scope{number}", "octets", "i", known=False)

# SPDX-License-Identifier: Apache-2.0
"""The decoder's own Information Elements (RFC 7012, the IANA IPFIX registry), reverse elements included (RFC 5103).

Written for the decoder alone and shared with no encoder, so that an error here cannot cancel out an error there; a test holds it against other tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from flowparity.decode.registry import TABLE

IANA = 0
REVERSE = 29305
"""The enterprise number of reverse elements (RFC 5103 §6.1)."""

VARIABLE = 65535
"""Field Length of a variable-length field (RFC 7011 §7)."""

TYPE_SIZES: dict[str, int | None] = {
    "u8": 1,
    "u16": 2,
    "u32": 4,
    "u64": 8,
    "s8": 1,
    "s16": 2,
    "s32": 4,
    "s64": 8,
    "f32": 4,
    "f64": 8,
    "bool": 1,
    "mac": 6,
    "ipv4": 4,
    "ipv6": 16,
    "sec": 4,
    "ms": 8,
    "us": 8,
    "ns": 8,
    "octets": None,
    "string": None,
    "list": None,
}
"""Natural size in octets of each abstract data type (RFC 7011 §6.1); None = any length.

sec, ms, us and ns are the dateTime types; list stands for the three structured ones.
"""

REDUCIBLE = frozenset({"u16", "u32", "u64", "s16", "s32", "s64", "f64"})
"""Types that may be sent in fewer octets (RFC 7011 §6.2)."""


@dataclass(frozen=True, slots=True)
class Element:
    """One Information Element. `type` is a key of TYPE_SIZES, `semantics` a letter, a key of SEMANTICS."""

    pen: int
    number: int
    name: str
    type: str
    semantics: str
    known: bool = True

    @property
    def size(self) -> int | None:
        """Natural size in octets; None when it may have any length."""
        return TYPE_SIZES[self.type]

    @property
    def reverse(self) -> bool:
        """Whether it describes the reverse direction of a Biflow (RFC 5103)."""
        return self.pen == REVERSE

    def permits(self, length: int) -> bool:
        """Whether a Field Length is legal for the element in IPFIX (RFC 7011 §6.2, §7)."""
        size = self.size
        if size is None or not self.known:
            return True
        if length == size:
            return True
        if self.type == "f64":
            return length == 4
        return self.type in REDUCIBLE and 0 < length < size


SEMANTICS = {"q": "quantity", "t": "totalCounter", "d": "deltaCounter", "i": "identifier", "f": "flags", "l": "list", "-": "default"}


def _rows() -> dict[int, Element]:
    rows = (line.split() for line in TABLE.split("\n") if line)
    return {int(number): Element(IANA, int(number), name, kind, semantics) for number, name, kind, semantics in rows}


ELEMENTS: dict[int, Element] = _rows()
"""The elements with enterprise number 0 that the decoder knows, by number."""

BY_NAME: dict[str, Element] = {e.name: e for e in ELEMENTS.values()}

HIGHEST_ASSIGNED = 600
"""No number above this had been assigned when the table was written; the registry then ended near 530."""

V9_ONLY = frozenset({*range(65, 70), 97, *range(105, 128)})
"""Numbers that the registry keeps for NetFlow v9 and that mean nothing in IPFIX."""

NOT_REVERSIBLE = frozenset({40, 41, 42, 130, 131, 137, 145, 148, 149, *range(163, 169), 173, *range(210, 218), 239})
"""Elements that never appear under the reverse enterprise number (RFC 5103 §6.1)."""

RANGES: dict[int, tuple[int, int]] = {
    9: (0, 32),
    13: (0, 32),
    29: (0, 128),
    30: (0, 128),
    31: (0, 0xFFFFF),
    88: (0, 0x1FFF),
    91: (0, 32),
    98: (0, 63),
    195: (0, 63),
    196: (0, 7),
    229: (1, 2),
    257: (0, 7),
    263: (0, 0),
    267: (0, 0),
    412: (0, 0xFFFFFF),
    413: (0, 7),
}
"""Elements whose registry entry restricts their values: lowest and highest."""


@lru_cache(maxsize=4096)
def element(pen: int, number: int) -> Element:
    """The element, also when the table lacks it: then `known` is False, its type octets, its name made from its numbers."""
    if pen == IANA and number in ELEMENTS:
        return ELEMENTS[number]
    if pen == REVERSE and number in ELEMENTS:
        forward = ELEMENTS[number]
        return Element(REVERSE, number, "reverse" + forward.name[0].upper() + forward.name[1:], forward.type, forward.semantics)
    return Element(pen, number, f"element{number}" if pen == IANA else f"enterprise{pen}element{number}", "octets", "-", known=False)

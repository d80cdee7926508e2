# SPDX-License-Identifier: Apache-2.0
"""One received frame as a value: what any packet source gives and what the reference takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame with its timestamp. Lengths are octets without FCS."""

    ts_ns: int  # nanoseconds since the UNIX epoch
    data: bytes  # captured octets from the first of the link header
    wirelen: int  # octets on the wire as the source says; below len(data) it is not believed (S-LNK-6)
    link: int = 1  # LINKTYPE_ number
    interface: int = 0  # for input_interface = source
    index: int = 0  # ordinal in the capture, from 0
    tags: tuple[tuple[int, int], ...] = ()  # stripped tags (TPID, TCI), outermost first (S-LNK-2)
    segments: int = 1  # wire segments of a super-packet (S-SUP-1)

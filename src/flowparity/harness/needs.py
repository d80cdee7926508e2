# SPDX-License-Identifier: Apache-2.0
"""What a capture asks of a link and of a subject, computed from its frames, and which of it a probed capability forbids."""

from __future__ import annotations

from collections.abc import Sequence

from flowparity.frame import Frame
from flowparity.harness.interfaces import Capabilities, Needs
from flowparity.links import LINK_NAMES, Refusal, find_ip
from flowparity.profile import Profile

_ETHERNET = 1
_TAGS = (b"\x81\x00", b"\x88\xa8")  # that a kernel takes out of a frame
_RESOLUTIONS = (1_000_000_000, 1_000_000, 1_000)


def needs_of(frames: Sequence[Frame]) -> Needs:
    """The needs of the frames of a capture. An empty capture needs nothing: `shortest` is then the largest frame there is."""
    stamps = [frame.ts_ns for frame in frames]
    resolution = next((unit for unit in _RESOLUTIONS if all(t % unit == 0 for t in stamps)), 1)
    lengths = [len(frame.data) for frame in frames]  # what was cut off need not be carried; `truncated` speaks of it
    return Needs(
        links=frozenset(frame.link for frame in frames),
        shortest=min(lengths, default=2**31),
        longest=max(lengths, default=0),
        time_resolution=resolution,
        earliest=min(stamps, default=0),
        latest=max(stamps, default=0),
        truncated=any(len(frame.data) < frame.wirelen for frame in frames),
        interfaces=len({frame.interface for frame in frames}),
        fragments=any(map(_is_fragment, frames)),
        priority_tags=any(map(_is_priority_tagged, frames)),
        metadata=any(frame.tags or frame.segments > 1 for frame in frames),
    )


def _is_priority_tagged(frame: Frame) -> bool:
    """Whether the outermost tag of a frame says nothing but a priority, which some drivers drop (e1000)."""
    return frame.link == _ETHERNET and frame.data[12:14] in _TAGS and int.from_bytes(frame.data[14:16], "big") & 0xFFF == 0


def _is_fragment(frame: Frame) -> bool:
    """Whether a frame holds an IPv4 fragment, the first one included."""
    found = find_ip(frame)
    if isinstance(found, Refusal) or len(frame.data) < found.offset + 8:
        return False
    return frame.data[found.offset] >> 4 == 4 and bool((frame.data[found.offset + 6] << 8 | frame.data[found.offset + 7]) & 0x3FFF)


def unmet(needs: Needs, can: Capabilities, profile: Profile) -> list[str]:
    """Why a capture cannot be given to a subject as it is, one reason each; empty if it can."""
    out = []
    if not needs.links <= can.links:
        names = ", ".join(LINK_NAMES.get(link, str(link)) for link in sorted(needs.links - can.links))
        out.append(f"link type {names} cannot be given")
    elif len(needs.links) > 1 and not can.mixed_links:
        out.append("it reads no capture with several link types")
    if needs.shortest < can.min_frame:
        out.append(f"a frame of {needs.shortest} octets is below the least of {can.min_frame} that arrives as sent")
    if needs.longest > can.max_frame:
        out.append(f"a frame of {needs.longest} octets exceeds the {can.max_frame} that can be carried")
    if needs.time_resolution < can.time_resolution:
        out.append(f"times need {needs.time_resolution} ns, the path has {can.time_resolution} ns")
    if needs.earliest < can.earliest_time or needs.latest > can.latest_time:
        out.append("timestamps lie outside of what the path can carry")
    if needs.priority_tags and not can.priority_tags:
        out.append("a tag with VLAN ID 0 may be lost on the path")
    if needs.fragments and not can.fragments:
        out.append("IPv4 fragments are put together on the path")
    if needs.truncated and not can.truncated:
        out.append("frames cut by a snap length cannot be given")
    elif needs.truncated and not can.wire_length:
        out.append("the wire length of cut frames is lost on the path")
    if needs.metadata and not can.metadata:
        out.append("stripped tags and segment counts cannot be given beside a frame")
    if profile.input_interface is None and not can.interface_source:
        out.append("the packets' own interface is not known to it")
    return out

# SPDX-License-Identifier: Apache-2.0
"""NetFlow v9 (RFC 3954): `count` counts every record, the sequence counts datagrams, options templates give their lengths in octets."""

from __future__ import annotations

import struct
from typing import Any, ClassVar

from flowparity.encode import Domain
from flowparity.encode.templated import Template, TemplatedEncoder
from flowparity.fields import INTERFACE_NAME_9, STATISTICS_9, flow_templates_9, sampling_9, uptime
from flowparity.profile import SECOND

_HEADER = struct.Struct("!HHIIII")  # version, count, sysUptime, secs, sequence, source id (RFC 3954 §5.1)


class V9Encoder(TemplatedEncoder):
    """The export packets of one Source ID."""

    header_size: ClassVar[int] = _HEADER.size
    template_set: ClassVar[int] = 0
    options_set: ClassVar[int] = 1

    def __init__(self, domain: Domain) -> None:
        super().__init__(domain, flow_templates_9())
        self.add_statistics(STATISTICS_9)
        if (sampling := domain.profile.sampling) is not None:
            self.add_statistics(sampling_9(sampling.interval, sampling.mode == "random"))
        self.add_interfaces(INTERFACE_NAME_9)
        self.check_size()

    def header(self, size: int, records: int, now_ns: int) -> bytes:
        """RFC 3954 §5.1."""
        return _HEADER.pack(9, records, uptime(now_ns, self.domain.boot * 1000), now_ns // SECOND % 2**32, self.sequence, self.domain.worker + 1)

    def template_record(self, template: Template[Any]) -> bytes:
        """RFC 3954 §5.2; with scopes §6.1, where lengths are octets."""
        pairs = b"".join(struct.pack("!HH", each.element, each.size) for each in template.fields)
        if not template.scopes:
            return struct.pack("!HH", template.number, len(template.fields)) + pairs
        return struct.pack("!HHH", template.number, 4 * template.scopes, 4 * (len(template.fields) - template.scopes)) + pairs

    def advance_sequence(self, data_records: int) -> None:
        """One more datagram, whatever it holds."""
        self.sequence = (self.sequence + 1) % 2**32

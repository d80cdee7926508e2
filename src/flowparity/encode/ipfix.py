# SPDX-License-Identifier: Apache-2.0
"""IPFIX (RFC 7011): the sequence counts the data records before the message, options templates give field counts."""

from __future__ import annotations

import struct
from typing import Any, ClassVar

from flowparity.encode import Domain
from flowparity.encode.templated import Template, TemplatedEncoder
from flowparity.fields import (
    EXPORTING_RELIABILITY,
    FLOW_KEYS,
    INTERFACE_NAME,
    METERING_RELIABILITY,
    METERING_STATISTICS,
    KeyOfTemplate,
    flow_templates_ipfix,
    key_elements,
    sampling_ipfix,
)
from flowparity.profile import SECOND

_HEADER = struct.Struct("!HHIII")  # version, length, export time, sequence, observation domain id (RFC 7011 §3.1)


class IpfixEncoder(TemplatedEncoder):
    """The messages of one observation domain."""

    header_size: ClassVar[int] = _HEADER.size
    template_set: ClassVar[int] = 2
    options_set: ClassVar[int] = 3
    template_repeats: ClassVar[int] = 2  # RFC 7011 §8.4: over UDP new templates go more than once, in messages of their own

    def __init__(self, domain: Domain) -> None:
        super().__init__(domain, flow_templates_ipfix(domain.nanoseconds))
        self.add_statistics(METERING_STATISTICS)  # first, so that what it says of messages sent is true of the message that carries it
        self.add_statistics(METERING_RELIABILITY)
        self.add_statistics(EXPORTING_RELIABILITY)
        if (sampling := domain.profile.sampling) is not None:
            self.add_statistics(sampling_ipfix(sampling.interval, sampling.mode == "random"))
        keys = key_elements(domain.profile.keys_tos_and_interface, domain.profile.keys_vlan)
        marks = [KeyOfTemplate(each.number, sum(1 << i for i, one in enumerate(each.fields) if one.element in keys)) for each in self.flow_templates]
        self.add_options(Template(512 + len(self.options), FLOW_KEYS, 1), lambda: marks)
        self.add_interfaces(INTERFACE_NAME)
        self.check_size()

    def header(self, size: int, records: int, now_ns: int) -> bytes:
        """RFC 7011 §3.1."""
        return _HEADER.pack(10, size, now_ns // SECOND % 2**32, self.sequence, self.domain.worker + 1)

    def template_record(self, template: Template[Any]) -> bytes:
        """RFC 7011 §3.4.1; with scopes §3.4.2.2, where counts are fields."""
        specifiers = b"".join(struct.pack("!HH", each.element, each.size) for each in template.fields)
        if not template.scopes:
            return struct.pack("!HH", template.number, len(template.fields)) + specifiers
        return struct.pack("!HHH", template.number, len(template.fields), template.scopes) + specifiers

    def advance_sequence(self, data_records: int) -> None:
        """So many data records, options data included; templates do not count."""
        self.sequence = (self.sequence + data_records) % 2**32

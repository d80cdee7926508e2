# SPDX-License-Identifier: Apache-2.0
"""Passive checks of an export stream against the catalogue: `check_stream(datagrams, "ipfix", Context(mtu=1500)).findings`."""

from flowparity.wire.checker import check_stream
from flowparity.wire.model import Context, Finding, Report

__all__ = ["Context", "Finding", "Report", "check_stream"]

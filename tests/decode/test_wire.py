# SPDX-License-Identifier: Apache-2.0
"""Every wire rule has a stream that violates it, and it alone; the streams that violate nothing find nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from flowparity import catalogue
from flowparity.collector import Datagram
from flowparity.errors import UsageError
from flowparity.wire import Context, check_stream
from flowparity.wire.checker import BY_DECODER, PERMISSIONS, UNDECIDABLE
from flowparity.wire.model import RULES
from tests.decode.build import (
    EXPORT,
    IPFIX_T,
    SOURCE,
    UPTIME,
    V9_T,
    dgram,
    flowset,
    ipfix,
    ipfix_data,
    ipfix_options,
    template,
    v5,
    v5_record,
    v9,
    v9_data,
    v9_options,
    withdrawal,
)

LIVE = Context(clock_tolerance_ns=50_000_000)
TCP = Context(transport="tcp")
FILE = Context(transport="file")
Stream = tuple[str, list[Datagram], Context]


def s5(*payloads: bytes, context: Context | None = None) -> Stream:
    return "5", [dgram(p) for p in payloads], context or Context()


def s9(*payloads: bytes, context: Context | None = None) -> Stream:
    return "9", [dgram(p) for p in payloads], context or Context()


def si(*payloads: bytes, context: Context | None = None) -> Stream:
    return "ipfix", [dgram(p) for p in payloads], context or Context()


T9 = flowset(0, template(256, *V9_T))
D9 = flowset(256, v9_data())
TI = flowset(2, template(256, *IPFIX_T))
DI = flowset(256, ipfix_data(), pad=False)
LAST = flowset(2, template(257, *IPFIX_T) + template(258, *IPFIX_T) + bytes(3), pad=False)
"""The 79 octets that make 1,636 copies of TI a message of 65,535."""


def t9(*specifiers: tuple[int, int]) -> bytes:
    """A v9 stream of one template only."""
    return v9(flowset(0, template(256, *specifiers)), count=1)


def v9_of(specifiers: list[tuple[int, int]], data: bytes) -> bytes:
    return v9(flowset(0, template(256, *specifiers)), flowset(256, data), count=2)


def ti(*specifiers: tuple[int, ...]) -> bytes:
    return ipfix(flowset(2, template(256, *specifiers)))  # type: ignore[arg-type]


def i_of(specifiers: list[tuple[int, ...]], data: bytes, context: Context | None = None) -> Stream:
    """Two copies of a template in messages of their own, then its data."""
    return si(ti(*specifiers), ti(*specifiers), ipfix(flowset(256, data, pad=False)), context=context)


def o_of(specifiers: list[tuple[int, ...]], data: bytes, domain: int = 1, scopes: int = 1, before: bytes = b"") -> Stream:
    """The same for an Options Template."""
    definition = flowset(3, ipfix_options(257, specifiers, scopes))
    first = ipfix(before, definition, domain=domain)
    return si(first, ipfix(definition, domain=domain), ipfix(flowset(257, data, pad=False), domain=domain))


def at(milliseconds: int, payload: bytes) -> Datagram:
    return dgram(payload, at_ns=EXPORT * 10**9 + milliseconds * 1_000_000)


def _padded9(byte: bytes) -> bytes:
    return v9(T9, flowset(256, v9_data(), padding=byte), count=2)


GOOD: dict[str, Callable[[], Stream]] = {
    "v5": lambda: ("5", [at(0, v5(nanoseconds=0)), at(20, v5(sequence=1, uptime=UPTIME + 20, nanoseconds=20_000_000))], LIVE),
    "v5 engines": lambda: s5(v5(), v5(engine=1), v5(sequence=1), v5(engine=1, sequence=1)),
    "v5 uptimes of a long run": lambda: s5(v5([v5_record(1000, UPTIME + 1)]), context=Context(span_ns=2**31 * 10**6)),
    "ipfix after 2106": lambda: i_of(list(IPFIX_T), ipfix_data(1, 0, (EXPORT + 2**32) * 1000)),
    "v5 sequence wrap": lambda: s5(v5(sequence=2**32 - 1), v5(), context=Context(complete=False)),
    "v5 uptime wrap": lambda: s5(
        v5([v5_record(2**32 - 500, 20)], uptime=100), v5([v5_record(2**32 - 9, 250)], sequence=1, uptime=300, nanoseconds=200_000_000)
    ),
    "v5 sampling": lambda: s5(v5(sampling=1 << 14 | 100), context=Context(sampling_interval=100)),
    "v9": lambda: s9(v9(T9, D9, count=2), v9(D9, count=1, sequence=1), context=Context(workers=1, template_packets=20, template_seconds=600)),
    "v9 padded and two domains": lambda: s9(v9(T9, D9, D9, count=3), v9(T9, D9, count=2, domain=2), v9(D9, count=1, sequence=1, domain=2)),
    "v9 options": lambda: s9(v9(flowset(1, v9_options(257, [(1, 4)], [(34, 4), (35, 1)])), flowset(257, bytes(3) + b"\1" + bytes(3) + b"\2\1"), count=2)),
    "v9 live": lambda: ("9", [at(0, v9(T9, count=1)), at(20, v9(D9, count=1, sequence=1, uptime=UPTIME + 20))], LIVE),
    "v9 reappearing": lambda: s9(*(v9(T9, D9, count=2, sequence=n) for n in range(5)), context=Context(template_packets=2)),
    "ipfix": lambda: i_of(list(IPFIX_T), ipfix_data(3)),
    "ipfix padded": lambda: si(ipfix(TI), ipfix(TI), ipfix(flowset(256, ipfix_data())), ipfix(flowset(256, ipfix_data()), sequence=1)),
    "ipfix live": lambda: ("ipfix", [at(999, ipfix(TI)), at(1000, ipfix(TI, seconds=EXPORT + 1))], LIVE),
    "ipfix withdrawal over tcp": lambda: si(ipfix(TI, DI), ipfix(withdrawal(2, 256), TI, DI, sequence=1), ipfix(withdrawal(2, 2), sequence=2), context=TCP),
    "ipfix times": lambda: i_of([(8, 4), (161, 4), *IPFIX_T[4:6]], bytes(4) + struct.pack(">IQQ", 500, (EXPORT - 1) * 1000, (EXPORT - 1) * 1000 + 500)),
    "ipfix biflow": lambda: i_of([(8, 4), (1, 8), (1, 8, 29305)], bytes(20)),
    "ipfix reduced": lambda: i_of([(1, 3), (2, 1), (311, 4), (82, 65535)], bytes(8) + b"\x03eth"),
    "ipfix long string": lambda: i_of([(82, 65535)], b"\xff\x01\x00" + b"a" * 256 + b"\xff\x00\x01b"),
    "ipfix statistics": lambda: o_of([(149, 4), (41, 8), (42, 8), (40, 8)], struct.pack(">IQQQ", 1, 2, 0, 2 * (16 + 28))),
    "IPFIX-HDR-13": lambda: si(ipfix(), ipfix()),
    "IPFIX-SET-07": lambda: i_of([(4, 1)], b"\x06\x11\x01"),
}

BAD: dict[str, Callable[[], Stream]] = {
    "V5-HDR-01": lambda: s5(v5(), b"\0\7" + v5()[2:]),
    "V5-HDR-02": lambda: s5(v5(count=2)),
    "V5-HDR-03": lambda: s5(v5([v5_record()] * 31), context=Context(mtu=2000)),
    "V5-HDR-04": lambda: s5(v5([v5_record()] * 30), context=Context(mtu=1000)),
    "V5-HDR-05": lambda: (
        "5",
        [at(0, v5()), at(900, v5(sequence=1, nanoseconds=900_000_000, uptime=UPTIME + 1))],
        Context(clock_tolerance_ns=10**8, boot_tolerance_ms=10_000),
    ),
    "V5-HDR-06": lambda: s5(v5(nanoseconds=10**9)),
    "V5-HDR-07": lambda: s5(v5(), v5(sequence=1, uptime=UPTIME + 500)),
    "V5-HDR-08": lambda: s5(v5([v5_record()] * 2), v5(sequence=1)),
    "V5-HDR-09": lambda: s5(v5(sequence=7)),
    "V5-HDR-10": lambda: s5(v5(), v5(engine=1, sequence=1), v5(sequence=2)),
    "V5-HDR-11": lambda: s5(v5(sampling=1 << 14 | 10), context=Context(sampling_interval=0)),
    "V5-HDR-12": lambda: s5(b"\5\0" + v5()[2:]),
    "V5-REC-13": lambda: s5(v5([v5_record(pad=1)])),
    "V5-TX-01": lambda: ("5", [dgram(v5()), dgram(v5(), source=("192.0.2.1", 40_001))], Context()),
    "V5-TX-02": lambda: ("5", [dgram(v5(), checksum=False)], Context()),
    "V9-HDR-01": lambda: s9(v9(T9, count=1), b"\0\7" + v9(T9, count=1)[2:]),
    "V9-HDR-02": lambda: s9(v9(T9, D9, count=1)),
    "V9-HDR-03": lambda: ("9", [at(0, v9(T9, count=1)), at(900, v9(D9, count=1, sequence=1, uptime=UPTIME + 1))], LIVE),
    "V9-HDR-04": lambda: ("9", [at(3000, v9(T9, count=1))], LIVE),
    "V9-HDR-05": lambda: s9(v9(T9, D9, count=2), v9(D9, count=1, sequence=2)),
    "V9-HDR-06": lambda: s9(v9(T9, count=1), v9(D9, count=1), v9(D9, count=1, sequence=1)),
    "V9-HDR-07": lambda: s9(v9(T9, count=1), v9(T9, count=1, domain=2, sequence=1), v9(D9, count=1, sequence=2)),
    "V9-HDR-08": lambda: s9(v9(T9, count=1), v9(T9, count=1, domain=9), context=Context(workers=1)),
    "V9-HDR-10": lambda: s9(b"\x09\0" + v9(T9, count=1)[2:]),
    "V9-HDR-11": lambda: s9(v9(count=0)),
    "V9-SET-01": lambda: s9(v9(flowset(2, template(256, *V9_T)), count=0)),
    "V9-SET-02": lambda: s9(v9(T9, flowset(256, v9_data(), length=3), count=2)),
    "V9-SET-03": lambda: s9(v9(T9, flowset(256, v9_data(), pad=False), D9, count=3)),
    "V9-SET-04": lambda: s9(_padded9(b"\1")),
    "V9-SET-05": lambda: s9(v9(flowset(1, v9_options(257, [(1, 4)], [(41, 4)]), pad=False), count=1)),
    "V9-SET-07": lambda: s9(v9(T9, flowset(256, v9_data() + bytes(10)), count=2)),
    "V9-TPL-01": lambda: s9(v9(flowset(0, template(255, *V9_T)), count=1)),
    "V9-TPL-02": lambda: s9(v9(T9, flowset(0, template(256, (8, 4))), count=2)),
    "V9-TPL-03": lambda: s9(v9(flowset(0, template(256, *V9_T, count=9)), count=0)),
    "V9-TPL-04": lambda: s9(v9(T9, count=1), v9(flowset(0, template(256, (8, 4))), count=1, sequence=1)),
    "V9-TPL-06": lambda: s9(v9(D9, count=1)),
    "V9-TPL-07": lambda: s9(v9(T9, count=1), *(v9(D9, count=1, sequence=n) for n in range(1, 4)), context=Context(template_packets=2)),
    "V9-TPL-08": lambda: s9(v9(T9, count=1), v9(D9, count=1, sequence=1, seconds=EXPORT + 99, uptime=UPTIME + 99_000), context=Context(template_seconds=60)),
    "V9-TPL-10": lambda: s9(v9(T9, flowset(1, v9_options(257, [(1, 4)], [(41, 4), (42, 2)])), count=2), *(v9(T9, count=1, sequence=n) for n in range(1, 4))),
    "V9-TPL-15": lambda: s9(t9((8, 4), (82, 65535))),
    "V9-TX-02": lambda: ("9", [dgram(v9(T9, count=1), fragmented=True)], Context()),
    "V9-TX-03": lambda: s9(v9(T9, count=1), v9(flowset(300, bytes(8)), count=1, sequence=1)),
    "V9-FLD-01": lambda: s9(t9((4, 2))),
    "V9-FLD-02": lambda: s9(t9((1, 12))),
    "V9-FLD-06": lambda: s9(t9((27, 16), (28, 16))),
    "V9-FLD-07": lambda: s9(v9_of([(8, 4), (61, 1)], bytes(4) + b"\2")),
    "V9-FLD-08": lambda: s9(t9((8, 4), (10, 1))),
    "V9-FLD-09": lambda: s9(t9((8, 4), (65, 4))),
    "V9-FLD-10": lambda: s9(t9((16, 3))),
    "V9-FLD-12": lambda: s9(v9_of([(152, 8), (153, 8)], struct.pack(">QQ", 1000, 2000))),
    "V9-OPT-01": lambda: s9(v9(flowset(1, struct.pack(">HHHHHHH", 257, 1, 1, 1, 4, 41, 4)), count=0)),
    "V9-OPT-02": lambda: s9(v9(flowset(1, v9_options(257, [(6, 4)], [(41, 4)])), count=1)),
    "V9-OPT-06": lambda: s9(v9(flowset(1, v9_options(257, [(1, 4)], [(41, 4)])), flowset(257, struct.pack(">II", 1, 5)), count=2)),
    "IPFIX-HDR-01": lambda: si(ipfix(TI), b"\0\7" + ipfix(TI)[2:]),
    "IPFIX-HDR-02": lambda: si(ipfix(TI) + bytes(8)),
    "IPFIX-HDR-03": lambda: ("ipfix", [at(3000, ipfix(TI))], LIVE),
    "IPFIX-HDR-04": lambda: si(ipfix(TI), ipfix(TI), ipfix(DI), ipfix(DI, sequence=3)),
    "IPFIX-HDR-05": lambda: si(
        *[ipfix(flowset(3, ipfix_options(257, [(149, 4), (160, 8)], 1)))] * 2, ipfix(flowset(257, bytes(12))), ipfix(flowset(257, bytes(12)))
    ),
    "IPFIX-HDR-06": lambda: si(ipfix(TI), ipfix(TI, sequence=1), ipfix(DI, sequence=2)),
    "IPFIX-HDR-07": lambda: si(*(ipfix(TI, domain=d) for d in (1, 2) for _ in range(2)), ipfix(DI), ipfix(DI, domain=2, sequence=1), ipfix(DI, sequence=2)),
    "IPFIX-HDR-09": lambda: si(ipfix(TI), ipfix(TI, domain=9), context=Context(workers=1)),
    "IPFIX-HDR-11": lambda: si(b"\x0a\0" + ipfix(TI)[2:]),
    "IPFIX-HDR-12": lambda: si(ipfix(TI * 1636, LAST) + b"\0", context=Context(mtu=100_000)),
    "IPFIX-SET-01": lambda: si(ipfix(flowset(1, bytes(4)))),
    "IPFIX-SET-02": lambda: si(ipfix(flowset(2, template(256, *IPFIX_T), length=3))),
    "IPFIX-SET-04": lambda: si(ipfix(TI), ipfix(TI), ipfix(flowset(256, b""))),
    "IPFIX-SET-05": lambda: si(ipfix(TI), ipfix(TI), ipfix(flowset(256, ipfix_data(), padding=b"\1"))),
    "IPFIX-SET-06": lambda: si(ipfix(flowset(2, template(256, *IPFIX_T) + bytes(4)))),
    "IPFIX-SET-08": lambda: i_of([(8, 4), (210, 2)], bytes(5) + b"\1"),
    "IPFIX-TPL-01": lambda: si(ipfix(flowset(2, template(255, *IPFIX_T)))),
    "IPFIX-TPL-02": lambda: si(ipfix(TI, flowset(3, ipfix_options(256, [(149, 4), (41, 8)])))),
    "IPFIX-TPL-03": lambda: si(ipfix(TI, flowset(2, template(257, *IPFIX_T, count=9)))),
    "IPFIX-TPL-04": lambda: si(ti((8, 4), (1, 8, 0))),
    "IPFIX-TPL-05": lambda: si(ti((8, 4), (105, 4))),
    "IPFIX-TPL-06": lambda: si(ti((4, 2))),
    "IPFIX-TPL-07": lambda: si(ipfix(DI, TI)),
    "IPFIX-TPL-08": lambda: si(ipfix(TI), ipfix(TI), ipfix(DI, seconds=EXPORT - 1), ipfix(DI, sequence=1)),
    "IPFIX-TPL-09": lambda: si(ipfix(DI)),
    "IPFIX-TPL-10": lambda: si(ipfix(TI, DI)),
    "IPFIX-TPL-11": lambda: si(ipfix(TI), ipfix(TI), ipfix(DI, seconds=EXPORT + 99), context=Context(template_seconds=60)),
    "IPFIX-TPL-15": lambda: si(ipfix(TI), ipfix(withdrawal(2, 256))),
    "IPFIX-TPL-17": lambda: si(ipfix(TI), ti((8, 4))),
    "IPFIX-TPL-19": lambda: si(ipfix(TI), ti((8, 4)), context=TCP),
    "IPFIX-TPL-20": lambda: si(ipfix(TI), ipfix(withdrawal(3, 256)), context=TCP),
    "IPFIX-TPL-21": lambda: si(ipfix(TI), ipfix(withdrawal(2, 999)), context=TCP),
    "IPFIX-TPL-22": lambda: si(ipfix(TI), ipfix(withdrawal(3, 2)), context=TCP),
    "IPFIX-TPL-23": lambda: si(ipfix(TI), ipfix(withdrawal(2, 256)), ipfix(DI, seconds=EXPORT + 1), context=TCP),
    "IPFIX-TPL-28": lambda: si(ipfix(TI), ipfix(TI), ipfix(DI, domain=2)),
    "IPFIX-OPT-01": lambda: si(ipfix(flowset(3, ipfix_options(257, [(149, 4), (160, 8)], scopes=0)))),
    "IPFIX-OPT-02": lambda: si(ipfix(flowset(3, ipfix_options(257, [(149, 4), (143, 4)], scopes=3)))),
    "IPFIX-OPT-03": lambda: si(
        ipfix(flowset(3, ipfix_options(257, [(149, 4), (143, 4), (160, 8)], 2))), ipfix(flowset(3, ipfix_options(257, [(143, 4), (149, 4), (160, 8)], 2)))
    ),
    "IPFIX-OPT-04": lambda: si(ipfix(flowset(3, ipfix_options(257, [(2, 4), (304, 2)])))),
    "IPFIX-OPT-06": lambda: si(ipfix(flowset(3, ipfix_options(257, [(143, 4), (41, 8)])), domain=0)),
    "IPFIX-OPT-07": lambda: si(ipfix(flowset(3, ipfix_options(257, [(149, 4), (143, 4), (41, 8)])))),
    "IPFIX-OPT-10": lambda: si(ipfix(flowset(3, ipfix_options(257, [(144, 4), (166, 8), (323, 8)])))),
    "IPFIX-OPT-11": lambda: si(ipfix(flowset(3, ipfix_options(257, [(149, 4), (166, 8)])))),
    "IPFIX-OPT-13": lambda: si(ipfix(flowset(3, ipfix_options(257, [(149, 4), (173, 8)])))),
    "IPFIX-OPT-14": lambda: o_of([(145, 2), (173, 8)], struct.pack(">HQ", 256, 1 << 8), before=TI),
    "IPFIX-OPT-15": lambda: o_of([(149, 4), (41, 8)], struct.pack(">IQ", 1, 7)),
    "IPFIX-OPT-16": lambda: o_of([(149, 4), (40, 8)], struct.pack(">IQ", 1, 7)),
    "IPFIX-OPT-17": lambda: o_of([(149, 4), (42, 8)], struct.pack(">IQ", 1, 7)),
    "IPFIX-OPT-18": lambda: o_of([(149, 4), (163, 8)], struct.pack(">IQIQ", 1, 7, 1, 6)),
    "IPFIX-ENC-02": lambda: si(ti((8, 5))),
    "IPFIX-ENC-03": lambda: si(ti((8, 4), (311, 12))),
    "IPFIX-ENC-04": lambda: i_of([(8, 4), (276, 1)], bytes(5)),
    "IPFIX-ENC-05": lambda: i_of([(8, 4), (82, 2)], bytes(4) + b"\xff\xfe"),
    "IPFIX-ENC-09": lambda: i_of([(8, 4), (154, 8)], bytes(4) + struct.pack(">II", EXPORT + 2_208_988_800 - 5, 1)),
    "IPFIX-ENC-11": lambda: si(ti((8, 3))),
    "IPFIX-ENC-13": lambda: si(ti((8, 4), (311, 5))),
    "IPFIX-ENC-14": lambda: si(*[ti((8, 4), (82, 65535))] * 2, ipfix(flowset(256, bytes(4) + b"\x20abcdef", pad=False))),
    "IPFIX-ENC-16": lambda: si(*[ti((8, 4), (82, 65535))] * 2, ipfix(flowset(256, bytes(5) + bytes(4) + b"\x04abc", pad=False))),
    "IPFIX-ENC-18": lambda: i_of([(8, 4), (9, 1)], bytes(4) + b"\x21"),
    "IPFIX-TIME-03": lambda: si(ti((8, 4), (22, 4), (21, 4))),
    "IPFIX-IE-18": lambda: i_of([(8, 4), (161, 4), *IPFIX_T[4:6]], bytes(4) + struct.pack(">IQQ", 9, (EXPORT - 1) * 1000, (EXPORT - 1) * 1000 + 500)),
    "IPFIX-IE-09": lambda: i_of([(27, 16), (32, 2)], bytes(16) + b"\x80\0"),
    "IPFIX-IE-19": lambda: i_of([(8, 4), (60, 1)], bytes(4) + b"\6"),
    "IPFIX-IE-21": lambda: si(ti((8, 4), (34, 4))),
    "IPFIX-UDP-01": lambda: ("ipfix", [dgram(ipfix(TI), checksum=False)], Context()),
    "IPFIX-UDP-02": lambda: ("ipfix", [dgram(ipfix(TI), ip_octets=1501)], Context()),
    "IPFIX-UDP-03": lambda: i_of(list(IPFIX_T), ipfix_data(12), context=Context(mtu=None)),
    "IPFIX-UDP-04": lambda: si(ipfix(TI) + ipfix(TI)),
    "IPFIX-BIF-03": lambda: si(ti((1, 8), (1, 8, 29305))),
    "IPFIX-BIF-04": lambda: si(ti((8, 4), (148, 8, 29305))),
    "IPFIX-BIF-08": lambda: i_of([(8, 4), (239, 1)], bytes(4) + b"\4"),
    "IPFIX-BIF-11": lambda: si(*[ti((8, 4), (1, 8, 29305))] * 2, ipfix(flowset(256, bytes(12))), ipfix(flowset(256, bytes(12)), sequence=2)),
    "IPFIX-FILE-02": lambda: si(ipfix(DI), context=FILE),
    "IPFIX-FILE-03": lambda: si(ipfix(TI), ipfix(TI, seconds=EXPORT - 1), context=FILE),
    "IPFIX-FILE-04": lambda: si(ipfix(TI), ipfix(withdrawal(2, 256)), context=FILE),
    "FLOW-TIME-02": lambda: i_of(list(IPFIX_T), ipfix_data(1, (EXPORT - 1) * 1000, (EXPORT - 2) * 1000)),
}

ANOTHER: dict[str, tuple[str, Callable[[], Stream]]] = {
    "v5 end after export": ("FLOW-TIME-02", lambda: s5(v5([v5_record(1000, UPTIME + 1)]))),
    "v5 end before start": ("FLOW-TIME-02", lambda: s5(v5([v5_record(2000, 1000)]))),
    "v9 end after export": ("FLOW-TIME-02", lambda: s9(v9(T9, flowset(256, v9_data(1, 1000, UPTIME + 1)), count=2))),
    "ipfix end after export": ("FLOW-TIME-02", lambda: i_of(list(IPFIX_T), ipfix_data(1, 0, (EXPORT + 1) * 1000))),
    "v5 late": ("V5-HDR-06", lambda: ("5", [at(3000, v5())], LIVE)),
    "v5 too short for a record": ("V5-HDR-02", lambda: s5(v5()[:60])),
    "v5 truncated header": ("V5-HDR-02", lambda: s5(v5()[:20])),
    "v9 withdrawal": ("V9-TPL-15", lambda: s9(v9(flowset(0, template(256)), count=1))),
    "v9 enterprise": ("V9-TPL-15", lambda: s9(t9((0x8008, 4)))),
    "v9 field 60 is 4": ("V9-FLD-06", lambda: s9(v9_of([(27, 16), (28, 16), (60, 1)], bytes(32) + b"\4"))),
    "v9 short times": ("V9-FLD-12", lambda: s9(t9((152, 4), (153, 4)))),
    "v9 options padding": ("V9-SET-05", lambda: s9(v9(flowset(1, v9_options(257, [(1, 4)], [(34, 4), (35, 1)])), flowset(257, bytes(9), pad=False), count=2))),
    "ipfix tail": ("IPFIX-SET-02", lambda: si(ipfix(TI, b"\0\0"))),
    "ipfix first sequence": ("IPFIX-HDR-04", lambda: si(ipfix(TI, sequence=5))),
    "ipfix fixed type with 65535": ("IPFIX-TPL-06", lambda: si(ti((8, 4), (1, 65535)))),
    "ipfix unknown flow key": ("IPFIX-OPT-13", lambda: o_of([(145, 2), (173, 8)], struct.pack(">HQ", 999, 1))),
    "ipfix unassigned element": ("IPFIX-TPL-05", lambda: si(ti((8, 4), (0, 4)))),
    "ipfix prefix overrun": ("IPFIX-ENC-14", lambda: si(*[ti((82, 65535))] * 2, ipfix(flowset(256, b"\x01a\xff\x00", pad=False)))),
    "ipfix bare zero withdrawal": ("IPFIX-TPL-03", lambda: si(ipfix(flowset(2, template(9))), context=TCP)),
    "v9 totals within its domain": (
        "V9-OPT-06",
        lambda: s9(v9(flowset(1, v9_options(257, [(1, 4)], [(42, 4)])), flowset(257, struct.pack(">II", 1, 3)), count=2)),
    ),
}


def found(stream: Stream) -> set[str]:
    return {finding.rule_id for finding in check_stream(stream[1], stream[0], stream[2]).findings}


@pytest.mark.parametrize("name", GOOD)
def test_good_stream_finds_nothing(name: str) -> None:
    stream = GOOD[name]()
    assert [str(f) for f in check_stream(stream[1], stream[0], stream[2]).findings] == []


@pytest.mark.parametrize("rule_id", BAD)
def test_violation_is_found_and_nothing_else(rule_id: str) -> None:
    assert found(BAD[rule_id]()) == {rule_id}


@pytest.mark.parametrize("name", ANOTHER)
def test_other_violations(name: str) -> None:
    rule_id, stream = ANOTHER[name]
    assert found(stream()) == {rule_id}


def implemented() -> set[str]:
    return set(BY_DECODER) | {rule_id for each in RULES for rule_id in each.ids}


def test_every_implemented_rule_has_a_violation() -> None:
    assert implemented() == set(BAD)


def test_every_wire_rule_is_accounted_for_once() -> None:
    wire = {r.id for r in catalogue.requirements().values() if r.kind == "wire"}
    assert wire - implemented() == PERMISSIONS | set(UNDECIDABLE)
    assert not implemented() & (PERMISSIONS | set(UNDECIDABLE))
    assert set(GOOD) >= PERMISSIONS


def test_report_says_what_was_checked_and_why_not() -> None:
    report = check_stream(*reversed(GOOD["v9"]()[:2]), Context())  # type: ignore[arg-type]
    assert report.datagrams == 2
    assert report.records == 2
    assert "V9-HDR-05" in report.checked
    assert "clock_tolerance_ns" in report.not_applicable["V9-HDR-04"]
    assert "V9-FLD-13" in report.undecidable
    of_v9 = {r.id for r in catalogue.requirements().values() if r.kind == "wire" and "v9" in r.applies}
    assert of_v9 <= set(report.checked) | set(report.not_applicable) | set(report.undecidable) | PERMISSIONS


def test_finding_names_place_and_level() -> None:
    format, datagrams, context = BAD["IPFIX-SET-05"]()
    (finding,) = check_stream(datagrams, format, context).findings
    assert (finding.datagram, finding.offset, finding.level, finding.advisory) == (2, 16 + 4 + 42, "MUST", False)
    assert check_stream(*reversed(BAD["V5-HDR-09"]()[:2])).findings[0].advisory  # type: ignore[arg-type]


def test_other_formats_are_refused() -> None:
    with pytest.raises(UsageError, match="none of 5, 9, ipfix"):
        check_stream([], "sflow")


def test_source_is_part_of_the_template_key() -> None:
    other = ("192.0.2.9", SOURCE[1])
    assert found(("9", [dgram(v9(T9, count=1)), dgram(v9(D9, count=1), source=other)], Context())) == {"V9-TPL-06"}

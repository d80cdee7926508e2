# SPDX-License-Identifier: Apache-2.0
"""One export stream of the native core as a state machine: records, time, refusals now and heard of later, templates by datagrams and by seconds, options, MTU.

The stream runs step by step over a transport of session.c. Whatever happened, the decoder and the wire rules are content with all that was offered; what
arrived is understood as far as its templates arrived; gaps are what was refused (S-EXP-3); and the account is exact after every step (S-INV-2).
"""

from __future__ import annotations

import atexit
import ctypes
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from flowparity.collector import Datagram
from flowparity.decode import Decoder, Message, Normaliser
from flowparity.flow import FlowRecord
from flowparity.profile import SECOND
from flowparity.view import CARRIED, TIMES, UPTIME_SPAN, Values, View
from flowparity.wire import Context, check_stream
from tests.native.programs import build

MILLI = SECOND // 1000
FORMATS = {"5": 5, "9": 9, "ipfix": 10}
EXPORTED, QUEUED, NOT_SENT, UNREPRESENTABLE = range(0, 8, 2)  # packets; records are one further
TEMPLATES = {"5": 0, "9": 8, "ipfix": 9}  # a refresh announces so many
OPTIONS = {"9": 4, "ipfix": 5}  # and has so many options records
SENT, REFUSED, REFUSED_LATER = range(3)


@cache
def library() -> Any:
    """The stream with its encoders and session.c as a shared object; with the fault of FLOWPARITY_MUTANT, if any."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    core = [f"{name}.c" for name in ("stream", "fields", "enc_v5", "enc_v9", "enc_ipfix")]
    shared = build("session", Path(folder.name), ["-shared", "-fPIC"], core)
    lib = ctypes.CDLL(str(shared))
    i, u, i64, u64 = ctypes.c_int, ctypes.c_uint, ctypes.c_int64, ctypes.c_uint64
    lib.session_open.argtypes = [i, i, u, u, u, u, u, u, i64, u]
    lib.session_open.restype = ctypes.c_void_p
    lib.session_put.argtypes = [ctypes.c_void_p, i64, i, ctypes.c_char_p, ctypes.c_char_p, u64, u64, u, u, i, i64, i64, u64, u64]
    lib.session_tick.argtypes = [ctypes.c_void_p, i64, i]
    lib.session_finish.argtypes = [ctypes.c_void_p, i64]
    lib.session_refuse.argtypes = [ctypes.c_void_p, u, u]
    lib.session_count.argtypes = [ctypes.c_void_p]
    lib.session_message.argtypes = [ctypes.c_void_p, u, ctypes.POINTER(u), ctypes.POINTER(i)]
    lib.session_message.restype = ctypes.POINTER(ctypes.c_uint8)
    lib.session_account.argtypes = [ctypes.c_void_p, ctypes.POINTER(u64)]
    lib.session_untold.argtypes = [ctypes.c_void_p]
    lib.session_close.argtypes = [ctypes.c_void_p]
    return lib


def word_of(record: FlowRecord) -> int:
    """`word` of struct fp_flow (parse.h) without the TCP flags."""
    return record.ttl | record.protocol << 8 | record.tos << 16 | record.vlan << 24 | record.inner_vlan << 36


def swapped(port: int) -> int:
    """A port as it stands in memory."""
    return int.from_bytes(port.to_bytes(2, "big"), "little")


class Stream(RuleBasedStateMachine):
    """The model: what was put, what of it must have left, and what the collector can know."""

    session: int | None = None

    @initialize(
        form=st.sampled_from(["5", "9", "ipfix", "ipfix"]),
        nanoseconds=st.booleans(),
        mtu=st.sampled_from([576, 700, 1500, 9000]),
        packets=st.integers(1, 6),
        seconds=st.sampled_from([1, 5, 600]),
        sampling=st.sampled_from([(0, 1), (1, 100), (2, 7)]),
        worker=st.integers(0, 3),
        sequence=st.sampled_from([0, 0, 2**32 - 20]),
    )
    def begin(self, form: str, nanoseconds: bool, mtu: int, packets: int, seconds: int, sampling: tuple[int, int], worker: int, sequence: int) -> None:
        self.form, self.nanoseconds, self.mtu, self.packets, self.seconds, self.sampling, self.worker = (
            form,
            nanoseconds,
            mtu,
            packets,
            seconds,
            sampling,
            worker,
        )
        self.boot = 1_700_000_000
        self.started = self.now = self.boot * SECOND + 123_456_789
        self.first_sequence = sequence
        self.session = library().session_open(FORMATS[form], nanoseconds, mtu, packets, seconds, *sampling, worker, self.boot, sequence)
        assert self.session
        self.put: list[tuple[int, FlowRecord]] = []  # with when
        self.unrepresentable = 0

    def account(self) -> list[int]:
        """Ten counters; exact after every step."""
        out = (ctypes.c_uint64 * 10)()
        library().session_account(self.session, out)
        account = list(out)
        packets = sum(record.packets for _, record in self.put)
        assert sum(account[0:8:2]) == packets
        assert sum(account[1:8:2]) == len(self.put)
        assert account[UNREPRESENTABLE + 1] == self.unrepresentable
        return account

    def messages(self) -> Iterator[tuple[bytes, int]]:
        """Every datagram that was offered, with its fate."""
        length, fate = ctypes.c_uint(), ctypes.c_int()
        for index in range(library().session_count(self.session)):
            data = library().session_message(self.session, index, length, fate)
            yield ctypes.string_at(data, length.value), fate.value

    @rule(count=st.integers(1, 40), version=st.sampled_from([4, 4, 6]), protocol=st.sampled_from([6, 17, 1, 58]), age=st.sampled_from([0, 1, 30 * SECOND]))
    def records(self, count: int, version: int, protocol: int, age: int) -> None:
        lib = library()
        for _ in range(count):
            number = len(self.put) + 1
            address = number.to_bytes(4 if version == 4 else 16, "big")
            record = FlowRecord(
                source_address=address,
                destination_address=address[::-1],
                source_port=number % 65536 if protocol in (6, 17) else 0,
                destination_port=(number * 7) % 65536,
                protocol=protocol,
                tos=number % 256,
                input_interface=7 + number * 65537 % 2**32,
                packets=number,
                octets=number * 1000,
                first_ns=max(self.now - age - number, self.started),
                last_ns=max(self.now - age, self.started),
                tcp_flags=number % 4096 if protocol == 6 else 0,
                end_reason=1 + number % 5,
                ttl=255 - number % 256,
                vlan=number % 4096,
                inner_vlan=number * 3 % 4096,
                flow_label=number * 4099 % 2**20 if version == 6 else 0,
                worker=self.worker,
            )
            self.put.append((self.now, record))
            self.unrepresentable += self.form == "5" and version == 6
            ports = swapped(record.source_port) | swapped(record.destination_port) << 16 | record.input_interface << 32
            lib.session_put(
                self.session,
                self.now,
                version == 6,
                record.source_address,
                record.destination_address,
                ports,
                word_of(record),
                record.tcp_flags,
                record.flow_label,
                record.end_reason,
                record.first_ns,
                record.last_ns,
                record.packets,
                record.octets,
            )
        self.account()

    @rule(gap=st.sampled_from([0, MILLI, 499 * MILLI, 500 * MILLI, SECOND, 5 * SECOND, 601 * SECOND, 2**32 * MILLI]), idle=st.booleans())
    def time(self, gap: int, idle: bool) -> None:
        self.now += gap
        library().session_tick(self.session, self.now, idle)
        waiting = sum(when > self.now - 500 * MILLI for when, _ in self.put)
        untold = library().session_untold(self.session)
        assert self.account()[QUEUED + 1] <= waiting + untold, "a record waits at most half a second (S-END-6)"

    @rule(now=st.integers(0, 3), later=st.integers(0, 3))
    def refuse(self, now: int, later: int) -> None:
        library().session_refuse(self.session, now, later)

    def teardown(self) -> None:
        if self.session is None:
            return
        try:
            library().session_refuse(self.session, 0, 0)
            for _ in range(3):  # what was refused is told after a second
                self.now += SECOND
                library().session_tick(self.session, self.now, True)
            before = self.account()
            library().session_finish(self.session, self.now)
            self.judge(before)
        finally:
            library().session_close(self.session)

    def judge(self, before: list[int]) -> None:
        """The whole session, at its end."""
        offered = list(self.messages())
        decoder = Decoder()
        decoded = [decoder.feed(data) for data, _ in offered]
        assert not [problem for message in decoded for problem in message.problems]
        view = View(self.form, CARRIED[self.form], 1 if self.nanoseconds and self.form == "ipfix" else MILLI, wraps=self.form != "ipfix")
        carried = [record for _, record in self.put if view.carries(record)]
        flows = Normaliser(self.boot).flow_stream(decoded)
        assert Counter(self.known(view.actual(flow)) for flow in flows) == Counter(self.known(view.expected(record)) for record in carried)
        assert all(flow.header_ns is None or flow.last_ns is None or flow.last_ns // SECOND * SECOND <= flow.header_ns for flow in flows), "S-TIM-6"
        interval = self.sampling[1] if self.sampling[0] else 0
        context = Context(
            mtu=self.mtu,
            workers=1,
            complete=not self.first_sequence,
            sampling_interval=interval,
            template_packets=self.packets,
            template_seconds=self.seconds,
            span_ns=self.now - self.started,
        )
        report = check_stream([Datagram(data, ("192.0.2.1", 1), 0, len(data) + 28) for data, _ in offered], self.form, context)
        # What was refused is in what was offered, and in what was said to be exported until the refusal was heard of; judge_options looks at the last word.
        aside = {"IPFIX-OPT-15", "IPFIX-OPT-16", "IPFIX-OPT-17", "IPFIX-OPT-18", "V9-OPT-06"} if any(fate != SENT for _, fate in offered) else set()
        faults = [finding for finding in report.findings if not finding.advisory and finding.rule_id not in aside]
        assert not faults, faults
        if decoded:
            assert decoded[0].header.sequence == self.first_sequence
        self.judge_account([fate for _, fate in offered], decoded)
        if self.form != "5" and offered:
            self.judge_templates(offered, decoded)
            self.judge_options(decoded, before)

    def known(self, values: Values) -> Values:
        """Uptimes say a time modulo 2^32 ms, and a record may wait for longer: until the next packet (S-EXP-5)."""
        if self.form == "ipfix":
            return values
        return tuple(value % UPTIME_SPAN if name in TIMES else value for name, value in zip(CARRIED[self.form], values, strict=True))

    def judge_account(self, fates: list[int], decoded: list[Message]) -> None:
        """Nothing waits, and what arrived is what the stream believes (S-INV-2)."""
        account = self.account()
        assert account[QUEUED] == account[QUEUED + 1] == 0
        arrived = [message for message, fate in zip(decoded, fates, strict=True) if fate == SENT]
        assert account[EXPORTED + 1] == sum(len(message.flows) for message in arrived)
        assert account[EXPORTED] == sum(int(flow.get("packetDeltaCount")) for message in arrived for flow in message.flows)
        assert account[8:] == [len(arrived), sum(message.size for message in arrived)]

    def judge_templates(self, offered: list[tuple[bytes, int]], decoded: list[Message]) -> None:
        """What arrives is decoded unless its templates did not; a refresh tells all of them, and options before the next flows (S-EXP-4, S-EXP-7)."""
        collector = Decoder()
        known: set[int] = set()
        for (data, fate), message in zip(offered, decoded, strict=True):
            if fate != SENT:
                continue
            told = {event.template_id for event in message.templates}
            known |= told
            got = collector.feed(data)
            if len(known) == TEMPLATES[self.form]:
                assert not got.undecoded
                assert len(got.flows) == len(message.flows)
        owed = 0
        announced: set[int] = set()
        for message in decoded:
            told = {event.template_id for event in message.templates}
            if told and not announced:
                owed = OPTIONS[self.form]
            announced |= told
            if len(announced) == TEMPLATES[self.form]:
                announced = set()
            owed -= min(owed, len(message.options))
            assert not message.flows or not owed

    def judge_options(self, decoded: list[Message], before: list[int]) -> None:
        """The last options records say what the account said before them."""
        last: dict[str, Any] = {}
        for message in decoded[-4:]:
            for record in message.options:
                last |= {element.name: value for element, value in record.values}
        assert last["exportedFlowRecordTotalCount"] == before[EXPORTED + 1]
        assert last["notSentFlowTotalCount"] == before[NOT_SENT + 1]
        assert last["notSentPacketTotalCount"] == before[NOT_SENT]
        assert last["interfaceName"] == ("port" if self.form == "ipfix" else "port".ljust(32, "\0"))


Stream.TestCase.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=20, deadline=None)
TestStream = Stream.TestCase

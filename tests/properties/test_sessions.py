# SPDX-License-Identifier: Apache-2.0
"""A session over a transport that loses datagrams, as a state machine.

Templates, their refresh by datagrams and by seconds, sequence numbers, and exporters that start anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from flowparity.decode import Decoder
from flowparity.encode import Domain, Encoder, Message, make_encoder
from flowparity.fields import Statistics
from flowparity.flow import FlowRecord
from flowparity.profile import SECOND, Profile

START = 1_700_000_000
FLOW = FlowRecord(
    bytes(4), bytes(4), 1, 2, 17, tos=0, input_interface=1, packets=1, octets=28, first_ns=0, last_ns=0, tcp_flags=0, end_reason=1, ttl=64, vlan=0, inner_vlan=0
)


class Session(RuleBasedStateMachine):
    """What the decoder gets of an encoder's messages. Its model: which templates it can know, and what came before."""

    @initialize(form=st.sampled_from(["9", "ipfix"]), packets=st.integers(1, 5), seconds=st.integers(1, 60), size=st.integers(548, 1472))
    def begin(self, form: str, packets: int, seconds: int, size: int) -> None:
        self.form, self.size = form, size
        self.profile = Profile(template_packets=packets, template_seconds=seconds)
        self.now = START * SECOND
        self.decoder = Decoder()
        self.known: set[int] = set()
        self.everything = {256, 257, 258, 259}  # the flow templates
        self.all_templates: set[bytes] = set()
        self.start()

    def start(self) -> None:
        """An exporter with no past."""
        self.encoder: Encoder = make_encoder(self.form, Domain(0, self.now // SECOND, self.profile, self.size, False, lambda: Statistics(1, *[0] * 17)))
        self.expected: int | None = None  # the next sequence number
        self.since, self.refreshed = 0, self.now
        self.lose = 0

    def transfer(self, messages: Iterable[Message]) -> None:
        """Each message to the decoder, or lost. Whatever was lost, what arrives is understood as far as its templates did."""
        for message in messages:
            ideal = Decoder()
            for earlier in sorted(self.all_templates):
                ideal.feed(earlier)
            defined = self.templates(message.data)
            if defined:
                self.all_templates.add(message.data)
                self.since, self.refreshed = 0, self.now
            else:
                self.since += 1
                # S-EXP-4, with what stands in a refresh that takes more than one datagram
                assert self.since <= self.profile.template_packets + 3
                assert self.now - self.refreshed < self.profile.template_seconds * SECOND
            sequence = int.from_bytes(message.data[12:16] if self.form == "9" else message.data[8:12], "big")
            count = 1 if self.form == "9" else len(ideal.feed(message.data).records)
            if self.expected is not None:
                assert sequence == self.expected
            self.expected = (sequence + count) % 2**32
            if self.lose:
                self.lose -= 1
                continue
            got = self.decoder.feed(message.data)
            self.known |= defined
            unknown = [problem for problem in got.problems if "emplate" in problem.text]
            assert len(got.problems) == len(unknown), got.problems
            if self.known >= self.everything:
                assert not unknown
                assert len(got.flows) == message.flow_records

    def templates(self, data: bytes) -> set[int]:
        """The ids that a message defines."""
        return {event.template_id for event in Decoder().feed(data).templates}

    @rule(count=st.integers(1, 60))
    def add(self, count: int) -> None:
        for _ in range(count):
            self.transfer(self.encoder.add(replace(FLOW, first_ns=self.now, last_ns=self.now), self.now))

    @rule(seconds=st.sampled_from([0, 1, 5, 30, 61]))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND
        self.transfer(self.encoder.flush(self.now))

    @precondition(lambda self: self.lose == 0)
    @rule(count=st.integers(1, 5))
    def lose_some(self, count: int) -> None:
        self.lose = count

    @rule()
    def restart(self) -> None:
        self.transfer(self.encoder.finish(self.now))
        self.now += SECOND
        self.start()


Session.TestCase.settings = settings(max_examples=settings().max_examples // 5, stateful_step_count=20, deadline=None)
TestSession = Session.TestCase

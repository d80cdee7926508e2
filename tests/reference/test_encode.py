# SPDX-License-Identifier: Apache-2.0
"""The encoders on the wire, octet by octet: S-EXP-1 to S-EXP-7 and the requirements of kind `wire` that each test names."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from flowparity.encode import Domain, Encoder, Message, make_encoder
from flowparity.errors import UsageError
from flowparity.fields import Statistics, ntp, uptime, utf8
from flowparity.profile import SECOND, Profile, Sampling

from .build import A4, A6, B4, B6, EPOCH, record

BOOT = EPOCH // SECOND - 100
NOW = EPOCH + 10 * SECOND + 5_999_999
STATISTICS = Statistics(3, 1000, 990, 495, 480, 70_000, 2, 128, EPOCH, EPOCH + SECOND, 7, 9000, 200, 5, 50, 5000, EPOCH + 1, EPOCH + 2 * SECOND)
TEMPLATED = ["9", "ipfix"]


@dataclass
class Wire:
    """What a collector of one domain saw; it checks what must hold of every message as it reads."""

    name: str
    most: int = 1472
    templates: dict[int, tuple[int, list[tuple[int, int]]]] = field(default_factory=dict)  # scopes, (element, size) by id
    messages: list[dict[str, Any]] = field(default_factory=list)

    def read(self, data: bytes) -> dict[str, Any]:
        assert len(data) <= self.most
        if self.name == "9":
            version, count, up, secs, sequence, domain = struct.unpack_from("!HHIIII", data)
            assert version == 9
            message: dict[str, Any] = {"count": count, "uptime": up, "time": secs, "sequence": sequence, "domain": domain, "size": len(data)}
            at, template_set, options_set = 20, 0, 1
        else:
            version, length, secs, sequence, domain = struct.unpack_from("!HHIII", data)
            assert (version, length) == (10, len(data))
            message = {"time": secs, "sequence": sequence, "domain": domain, "size": len(data)}
            at, template_set, options_set = 16, 2, 3
        message["templates"], message["records"] = [], []
        while at < len(data):
            number, size = struct.unpack_from("!HH", data, at)
            assert size > 4
            assert size % 4 == 0
            assert at + size <= len(data)
            body = data[at + 4 : at + size]
            if number in (template_set, options_set):
                self._templates(body, number == options_set, message["templates"])
            else:
                assert number >= 256
                assert number in self.templates, "data before their template"
                self._data(number, body, message["records"])
            at += size
        if self.name == "9":
            assert message["count"] == len(message["templates"]) + len(message["records"])
        self.messages.append(message)
        return message

    def _templates(self, body: bytes, options: bool, seen: list[int]) -> None:
        at = 0
        while len(body) - at >= 4:
            if not options:
                number, fields = struct.unpack_from("!HH", body, at)
                scopes, at = 0, at + 4
            elif self.name == "9":
                number, scopes, others = struct.unpack_from("!HHH", body, at)
                assert scopes % 4 == others % 4 == 0
                scopes, fields, at = scopes // 4, (scopes + others) // 4, at + 6
            else:
                number, fields, scopes = struct.unpack_from("!HHH", body, at)
                at += 6
            assert number >= 256
            assert fields > scopes >= int(options)
            pairs = [struct.unpack_from("!HH", body, at + 4 * i) for i in range(fields)]
            at += 4 * fields
            known = self.templates.setdefault(number, (scopes, pairs))
            assert known == (scopes, pairs), "an id with another meaning"
            seen.append(number)
        assert body[at:] == bytes(len(body) - at)

    def _data(self, number: int, body: bytes, seen: list[tuple[int, dict[Any, bytes]]]) -> None:
        scopes, pairs = self.templates[number]
        least = sum(1 if size == 65535 else size for _, size in pairs)
        at, any_record = 0, False
        while len(body) - at >= least:
            values: dict[Any, bytes] = {}
            for i, (element, size) in enumerate(pairs):
                if size == 65535:
                    size, at = body[at], at + 1
                    if size == 255:
                        size, at = struct.unpack_from("!H", body, at)[0], at + 2
                name = ("scope", element) if i < scopes else element if element not in values else (element, 2)
                values[name] = body[at : at + size]
                at += size
            seen.append((number, values))
            any_record = True
        assert any_record
        assert body[at:] == bytes(len(body) - at)
        assert len(body) - at < 4


def domain(profile: Profile | None = None, **rest: Any) -> Domain:
    values: dict[str, Any] = {"worker": 2, "boot": BOOT, "max_message": 1472, "reliable": False, "statistics": lambda: STATISTICS}
    return Domain(profile=profile or Profile(counter_bits=32), **{**values, **rest})


def exhaust(encoder: Encoder, records: list[Any], now: int = NOW, *, end: bool = True) -> Iterator[Message]:
    for each in records:
        yield from encoder.add(each, now)
    yield from encoder.finish(now) if end else encoder.flush(now)


def number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def flows(wire: Wire) -> list[dict[Any, bytes]]:
    return [values for message in wire.messages for which, values in message["records"] if not wire.templates[which][0]]


class TestV5:
    """NetFlow v5: header and record as the tables have them."""

    def test_datagram(self) -> None:
        """V5-HDR-01, -02, -06, -09, -11, V5-REC-13, S-EXP-2, S-EXP-5, S-EXP-6."""
        profile = Profile(counter_bits=32, sampling=Sampling("random", 16_383))
        (message,) = exhaust(make_encoder("5", domain(profile)), [record()])
        assert message.data[:24] == struct.pack("!HHIIIIBBH", 5, 1, 110_005, EPOCH // SECOND + 10, 5_999_999, 0, 0, 2, 2 << 14 | 16_383)
        fixed = struct.pack("!4s4s4sHHIIII", A4, B4, bytes(4), 70_000 & 0xFFFF, 0, 3, 180, 100_001, 102_999)
        assert message.data[24:] == fixed + struct.pack("!HHBBBBHHBBH", 1001, 2002, 0, 0x1B, 6, 0x2E, 0, 0, 0, 0, 0)
        assert (message.flow_records, message.packets, message.octets) == (1, 3, 180)

    def test_sampling_modes(self) -> None:
        """V5-HDR-11."""
        for profile, value in ((Profile(counter_bits=32), 0), (Profile(counter_bits=32, sampling=Sampling("systematic", 10)), 1 << 14 | 10)):
            (message,) = exhaust(make_encoder("5", domain(profile)), [record()])
            assert number(message.data[22:24]) == value

    def test_30_records_and_the_sequence_of_flows(self) -> None:
        """V5-HDR-03, -08; it wraps."""
        encoder = make_encoder("5", domain(first_sequence=2**32 - 31))
        messages = [each.data for each in exhaust(encoder, [record()] * 65)]
        assert [number(each[2:4]) for each in messages] == [30, 30, 5]
        assert [number(each[16:20]) for each in messages] == [2**32 - 31, 2**32 - 1, 29]
        assert [len(each) for each in messages] == [24 + 48 * 30, 24 + 48 * 30, 24 + 48 * 5]

    def test_a_larger_mtu_holds_no_more(self) -> None:
        """V5-HDR-03."""
        assert [each.flow_records for each in exhaust(make_encoder("5", domain(max_message=65_507)), [record()] * 31)] == [30, 1]

    def test_small_mtu(self) -> None:
        """V5-HDR-04, S-EXP-4."""
        messages = list(exhaust(make_encoder("5", domain(max_message=24 + 48 * 2 + 47)), [record()] * 5))
        assert [each.flow_records for each in messages] == [2, 2, 1]
        with pytest.raises(UsageError, match="MTU"):
            make_encoder("5", domain(max_message=71))

    def test_ipv6_and_worker_256(self) -> None:
        """S-INV-3, S-EXP-2."""
        assert not make_encoder("5", domain()).carries(record(source_address=A6, destination_address=B6))
        with pytest.raises(UsageError, match="worker"):
            make_encoder("5", domain(worker=256))

    def test_nothing_to_say(self) -> None:
        """V5-HDR-03: no datagram without a record."""
        assert list(exhaust(make_encoder("5", domain()), [])) == []


COMMON = {7: 1001, 11: 2002, 4: 6, 5: 0x2E, 10: 70_000, 2: 3, 1: 180, 136: 3, 192: 61, 243: 100, 245: 200}
SIZES = {7: 2, 11: 2, 4: 1, 5: 1, 10: 4, 2: 8, 1: 8, 136: 1, 192: 1, 243: 2, 245: 2, 60: 1, 8: 4, 12: 4, 27: 16, 28: 16, 32: 2, 139: 2}
KINDS = [
    (record(), {60: 4, 8: number(A4), 12: number(B4)}),
    (record(protocol=1, destination_port=0x0800), {60: 4, 8: number(A4), 12: number(B4), 4: 1, 11: 0x800, 32: 0x800}),
    (record(source_address=A6, destination_address=B6, flow_label=0xFEDCB), {60: 6, 27: 1, 28: 2, 31: 0xFEDCB}),
    (record(source_address=A6, destination_address=B6, protocol=58, destination_port=0x8100), {60: 6, 27: 1, 28: 2, 31: 0, 4: 58, 11: 0x8100, 139: 0x8100}),
]
TIMES: dict[str, tuple[dict[int, int], dict[int, int]]] = {  # values, sizes
    "9": ({22: 100_001, 21: 102_999, 6: 0x1B}, {22: 4, 21: 4, 6: 1, 31: 3}),
    "ipfix": ({152: EPOCH // 10**6 + 1, 153: EPOCH // 10**6 + 2999, 6: 0x11B}, {152: 8, 153: 8, 6: 2, 31: 4}),
}


@pytest.mark.parametrize("name", TEMPLATED)
class TestTemplated:
    """What v9 and IPFIX have in common."""

    @pytest.mark.parametrize(("source", "own"), KINDS, ids=["ipv4", "icmp", "ipv6", "icmp6"])
    def test_every_element(self, name: str, source: Any, own: dict[int, int]) -> None:
        """S-REC-1, S-PRT-4, S-EXP-5, S-EXP-6, V9-FLD-01, V9-FLD-06, IPFIX-TPL-06, IPFIX-IE-19."""
        wire = Wire(name)
        for message in exhaust(make_encoder(name, domain()), [source]):
            wire.read(message.data)
        (values,) = flows(wire)
        times, sizes = TIMES[name]
        assert {element: number(value) for element, value in values.items()} == {**COMMON, **times, **own}
        assert {element: len(value) for element, value in values.items()} == {element: {**SIZES, **sizes}[element] for element in values}

    def test_header(self, name: str) -> None:
        """V9-HDR-01, -02, -04, IPFIX-HDR-01 to -03, S-EXP-2, S-EXP-5; `Wire.read` checks the v9 count."""
        wire = Wire(name)
        messages = [wire.read(message.data) for message in exhaust(make_encoder(name, domain()), [record()])]
        assert {each["time"] for each in messages} == {EPOCH // SECOND + 10}
        assert {each["domain"] for each in messages} == {3}
        if name == "9":
            assert {each["uptime"] for each in messages} == {110_005}

    def test_sequence(self, name: str) -> None:
        """S-EXP-1, V9-HDR-05, -06, IPFIX-HDR-04 to -06: v9 counts datagrams, IPFIX data records, options data too; both wrap."""
        wire = Wire(name)
        encoder = make_encoder(name, domain(first_sequence=2**32 - 3))
        messages = [wire.read(message.data) for message in exhaust(encoder, [record()] * 2000)]
        expected = 2**32 - 3
        for each in messages:
            assert each["sequence"] == expected
            expected = (expected + (1 if name == "9" else len(each["records"]))) % 2**32
        assert len(flows(wire)) == 2000

    @pytest.mark.parametrize("most", [303, 512, 1471, 1472])
    def test_mtu(self, name: str, most: int) -> None:
        """S-EXP-4, V9-TX-02, IPFIX-UDP-02: never above, and no room left for one record more."""
        wire = Wire(name, most)
        mixed = [KINDS[i * 7 % 4][0] for i in range(300)]
        messages = [wire.read(message.data) for message in exhaust(make_encoder(name, domain(max_message=most)), mixed)]
        assert len(flows(wire)) == 300
        full = [each for each in messages if any(not wire.templates[which][0] for which, _ in each["records"])][:-1]
        assert all(each["size"] > most - 4 * 4 - 100 for each in full)
        with pytest.raises(UsageError, match="MTU"):
            make_encoder(name, domain(max_message=90))

    @pytest.mark.parametrize("spare", [-1, 0])
    def test_messages_are_filled(self, name: str, spare: int) -> None:
        """S-EXP-4: as many records of one template as fit, and not one more: 20 exactly, 19 with an octet less."""
        wire = Wire(name)
        for message in exhaust(make_encoder(name, domain()), [record()]):
            wire.read(message.data)
        size = sum(octets for _, octets in wire.templates[256][1])
        most = (20 if name == "9" else 16) + -(-(4 + 20 * size) // 4) * 4 + spare
        held = [message.flow_records for message in exhaust(make_encoder(name, domain(max_message=most)), [record()] * 100) if message.flow_records]
        assert set(held[:-1]) == {20 + spare}

    def test_refresh_by_datagrams(self, name: str) -> None:
        """S-EXP-4, S-EXP-7: every 3 datagrams of data come templates, then options data."""
        wire = Wire(name)
        profile = Profile(template_packets=3)
        messages = [wire.read(message.data) for message in exhaust(make_encoder(name, domain(profile)), [record()] * 200)]
        shape = "".join("T" if each["templates"] else "O" if wire.templates[each["records"][0][0]][0] else "D" for each in messages)
        first, again = ("T", "T") if name == "9" else ("TTO", "TO")  # v9 puts the options beside the templates (V9-TPL-07); IPFIX-TPL-10
        datagrams = shape.count("D")
        whole, rest = divmod(datagrams, 3)
        assert datagrams > 6
        middle = again.join(["DDD"] * whole + ["D" * rest] * bool(rest))
        assert shape == first + middle + (again if not rest else "O")

    def test_refresh_by_seconds(self, name: str) -> None:
        """S-EXP-4: also when there is nothing else to send, but never before anything was sent."""
        encoder = make_encoder(name, domain(Profile(template_seconds=60)))
        assert list(encoder.flush(NOW)) == []
        wire = Wire(name)
        for message in exhaust(encoder, [record()], end=False):
            wire.read(message.data)
        before = len(wire.messages)
        assert list(encoder.flush(NOW + 60 * SECOND - 1)) == []
        for message in encoder.flush(NOW + 60 * SECOND):
            wire.read(message.data)
        assert [bool(each["templates"]) for each in wire.messages[before:]] == ([True] if name == "9" else [True, False])

    def test_reliable_transports_get_templates_once(self, name: str) -> None:
        """RFC 7011 §8.1; options data still recur."""
        wire = Wire(name)
        encoder = make_encoder(name, domain(Profile(template_packets=1), reliable=True))
        messages = [wire.read(message.data) for message in exhaust(encoder, [record()] * 100)]
        assert [bool(each["templates"]) for each in messages] == [True] + [False] * (len(messages) - 1)
        assert sum(1 for each in messages if each["records"] and wire.templates[each["records"][0][0]][0]) > 2

    def test_statistics(self, name: str) -> None:
        """S-EXP-7, V9-OPT-01 to -03, -06, IPFIX-OPT-01 to -17."""
        wire = Wire(name)
        for message in exhaust(make_encoder(name, domain(interfaces={1: "eth0", 7: "é" * 40})), []):
            wire.read(message.data)
        got = [{k: number(v) for k, v in values.items() if 82 not in values} for each in wire.messages for _, values in each["records"]]
        s = STATISTICS
        ms = 10**6
        if name == "9":
            assert got[0] == {("scope", 1): 3, 41: 7, 42: 200, 40: 9000, 86: 480, 85: 70_000, 164: 2, 166: 5, 167: 50}
        else:
            assert got[0] == {("scope", 149): 3, 41: 7, 42: 200, 40: 9000, 431: 1000, 86: 480, 85: 70_000}
            assert got[1] == {("scope", 149): 3, 164: 2, 165: 128, 323: s.first_ignored_ns // ms, (323, 2): s.last_ignored_ns // ms}
            assert got[2] == {("scope", 144): 3, 166: 5, 167: 50, 168: 5000, 323: s.first_not_sent_ns // ms, (323, 2): s.last_not_sent_ns // ms}
        names = [(number(v["scope", 2 if name == "9" else 10]), v[82]) for each in wire.messages for _, v in each["records"] if 82 in v]
        long = ("é" * 16).encode() if name == "9" else ("é" * 40).encode()
        assert names == [(1, b"eth0".ljust(32, b"\0") if name == "9" else b"eth0"), (7, long)]

    def test_statistics_are_asked_for_when_the_message_is_built(self, name: str) -> None:
        """IPFIX-OPT-15: the count is of the messages before the one that carries it."""
        sent = 0
        wire = Wire(name)

        def now() -> Statistics:
            return replace(STATISTICS, sent_messages=sent)

        for message in exhaust(make_encoder(name, domain(Profile(template_packets=1), statistics=now)), [record()] * 100):
            for _, values in wire.read(message.data)["records"]:
                if 41 in values:
                    assert number(values[41]) == sent
            sent += 1
        assert sent > 6

    @pytest.mark.parametrize("mode", ["systematic", "random"])
    def test_sampling(self, name: str, mode: str) -> None:
        """V9-OPT-05, IPFIX-IE-21."""
        wire = Wire(name)
        for message in exhaust(make_encoder(name, domain(Profile(sampling=Sampling(mode, 10)))), []):
            wire.read(message.data)
        (got,) = [values for each in wire.messages for _, values in each["records"] if 34 in values or 304 in values]
        if name == "9":
            assert {k: number(v) for k, v in got.items()} == {("scope", 1): 3, 34: 10, 35: 1 if mode == "systematic" else 2}
        elif mode == "systematic":
            assert {k: number(v) for k, v in got.items()} == {("scope", 302): 3, 304: 1, 305: 1, 306: 9, 318: 990, 319: 495}
        else:
            assert struct.unpack("!d", got.pop(311)) == (0.1,)
            assert {k: number(v) for k, v in got.items()} == {("scope", 302): 3, 304: 4, 318: 990, 319: 495}


@pytest.mark.parametrize(("key", "elements"), [("classic+vlan", {8, 12, 7, 11, 4, 5, 10, 243, 245}), ("five", {8, 12, 7, 11, 4})])
def test_flow_keys(key: str, elements: set[int]) -> None:
    """IPFIX-OPT-13, -14."""
    wire = Wire("ipfix")
    for message in exhaust(make_encoder("ipfix", domain(Profile(key=key))), []):
        wire.read(message.data)
    marks = {number(v["scope", 145]): number(v[173]) for each in wire.messages for _, v in each["records"] if 173 in v}
    assert sorted(marks) == [256, 257, 258, 259]
    assert {element for i, (element, _) in enumerate(wire.templates[256][1]) if marks[256] >> i & 1} == elements
    assert all(bits >> len(wire.templates[which][1]) == 0 for which, bits in marks.items())


def test_nanoseconds_survive_a_decoder_that_floors() -> None:
    """S-EXP-5."""
    wire = Wire("ipfix")
    for message in exhaust(make_encoder("ipfix", domain(nanoseconds=True)), [record()]):
        wire.read(message.data)
    (values,) = flows(wire)
    seconds, fraction = struct.unpack("!II", values[157])
    assert (seconds - 2_208_988_800, fraction * SECOND >> 32) == divmod(record().last_ns, SECOND)


@pytest.mark.parametrize("ns", [0, 1, 2, 500_000_000, 999_999_998, 999_999_999])
def test_ntp(ns: int) -> None:
    """S-EXP-5."""
    fraction = ntp(EPOCH + ns) & 0xFFFFFFFF
    assert fraction * SECOND >> 32 == ns


def test_ntp_era_and_uptime_wrap() -> None:
    """RFC 7011 §6.1.10: the seconds wrap in 2036; S-EXP-5: uptimes wrap, before boot as well."""
    assert ntp((2**32 - 2_208_988_800) * SECOND) == 0
    assert uptime(EPOCH - 1, EPOCH // 10**6) == 2**32 - 1


@pytest.mark.parametrize(("length", "prefix"), [(0, b"\0"), (254, b"\xfe"), (255, b"\xff\0\xff"), (300, b"\xff\x01\x2c")])
def test_variable_length(length: int, prefix: bytes) -> None:
    """IPFIX-ENC-14 to -17."""
    messages = [each.data for each in exhaust(make_encoder("ipfix", domain(interfaces={9: "x" * length})), [])]
    assert struct.pack("!I", 9) + prefix + b"x" * length in messages[-1]


def test_text_is_cut_between_characters() -> None:
    """IPFIX-ENC-05."""
    assert utf8("aé", 2) == b"a"

# SPDX-License-Identifier: Apache-2.0
"""Every requirement of kind `wire` on a whole export stream: what the decoder noted, what the checks of this package add, and what no observer can decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flowparity import catalogue
from flowparity.collector import Datagram
from flowparity.errors import UsageError
from flowparity.wire import content, header, options, sequence, templates
from flowparity.wire.model import GROUP_OF, RULES, VERSION_OF, Context, Finding, Hit, Item, Report, Stream

CHECKS = (content, header, options, sequence, templates)
"""The modules whose checks are registered."""

BY_DECODER = frozenset(
    [
        "V5-HDR-02",
        "V5-HDR-03",
        "V5-HDR-06",
        "V5-REC-13",
        "V9-HDR-02",
        "V9-HDR-11",
        "V9-SET-01",
        "V9-SET-02",
        "V9-SET-03",
        "V9-SET-04",
        "V9-SET-05",
        "V9-SET-07",
        "V9-TPL-01",
        "V9-TPL-03",
        "V9-TPL-15",
        "V9-FLD-01",
        "V9-FLD-10",
        "V9-OPT-01",
        "V9-OPT-02",
        "IPFIX-HDR-02",
        "IPFIX-HDR-12",
        "IPFIX-SET-01",
        "IPFIX-SET-02",
        "IPFIX-SET-04",
        "IPFIX-SET-05",
        "IPFIX-SET-06",
        "IPFIX-SET-08",
        "IPFIX-TPL-01",
        "IPFIX-TPL-03",
        "IPFIX-TPL-04",
        "IPFIX-TPL-05",
        "IPFIX-TPL-06",
        "IPFIX-TPL-15",
        "IPFIX-TPL-20",
        "IPFIX-TPL-21",
        "IPFIX-TPL-22",
        "IPFIX-OPT-01",
        "IPFIX-OPT-02",
        "IPFIX-ENC-02",
        "IPFIX-ENC-03",
        "IPFIX-ENC-04",
        "IPFIX-ENC-05",
        "IPFIX-ENC-09",
        "IPFIX-ENC-11",
        "IPFIX-ENC-13",
        "IPFIX-ENC-14",
        "IPFIX-ENC-16",
        "IPFIX-ENC-18",
        "IPFIX-BIF-04",
        "IPFIX-UDP-04",
    ]
)
"""Rules whose violations the decoder reports by itself."""

BY_CHECK_INSTEAD = frozenset({"V9-TPL-02", "V9-TPL-06", "IPFIX-TPL-02", "IPFIX-TPL-09", "IPFIX-TPL-17"})
"""Problems of the decoder that a check of this package names more exactly, because it knows the whole stream."""

PERMISSIONS = frozenset({"IPFIX-HDR-13", "IPFIX-SET-07"})
"""Rules that forbid the suite to complain; tests hold it to them."""

UNDECIDABLE = {
    "V9-SET-06": "a record of the wrong kind cannot be told from a damaged one; V9-TPL-03 and V9-SET-07 show it",
    "V9-FLD-13": "a convention of the reader; comparison with known flows decides",
    "V9-OPT-03": "the format has no way to say otherwise; V9-OPT-02 shows options in the place of scopes",
    "IPFIX-HDR-10": "what a record belongs to is known to the exporter alone",
    "IPFIX-SET-03": "a record of the wrong kind cannot be told from a damaged one; IPFIX-TPL-03 and IPFIX-SET-05 show it",
    "IPFIX-TPL-25": "which Options Template refers to a Template shows only in later records",
    "IPFIX-ENC-01": "values in another byte order are legal octets; comparison with known flows decides",
    "IPFIX-ENC-12": "needs the true values; comparison with known flows decides",
    "IPFIX-ENC-15": "a value of 255 octets has no other form that decodes; IPFIX-ENC-14 shows it",
    "IPFIX-ENC-17": "a missing value cannot be told from an empty one; IPFIX-ENC-14 shows misalignment",
    "IPFIX-IE-22": "needs the system's interfaces; comparison with known flows decides",
    "IPFIX-BIF-01": "an element of another enterprise may mean anything",
    "IPFIX-TCP-01": "a message stream was already cut into messages",
    "IPFIX-SCTP-02": "needs the transport's own view",
    "IPFIX-SCTP-03": "needs the transport's own view",
    "IPFIX-FILE-01": "the structural rules decide",
    "IPFIX-FILE-05": "the time window needs the producer's interval",
    "IPFIX-FILE-06": "needs the other parts",
    "ROB-EXP-01": "needs datagrams lost on purpose",
}
"""Rules of kind `wire` that this checker does not decide, and why."""


def check_stream(datagrams: Iterable[Datagram], format: str, context: Context | None = None) -> Report:
    """Applies every passively decidable rule of one format ("5", "9" or "ipfix") to a stream of datagrams in order of arrival.

    UsageError for another format.
    """
    if format not in VERSION_OF:
        raise UsageError(f"format {format!r} is none of {', '.join(VERSION_OF)}")
    context = context or Context()
    stream = Stream.of(datagrams, VERSION_OF[format], context)
    applies = [r for r in catalogue.requirements().values() if GROUP_OF[format] in r.applies]
    known = {r.id for r in applies}
    hits = list(_of_decoder(stream))
    checked = set(BY_DECODER & known)
    not_applicable: dict[str, str] = {}
    for each in RULES:
        if format not in each.formats:
            continue
        reason = each.missing(context)
        for rule_id in each.ids:
            if rule_id in known and reason:
                not_applicable[rule_id] = reason
        if not reason:
            checked |= set(each.ids) & known
            hits += each.check(stream, context)
    order = sorted(hits, key=lambda hit: (hit.datagram, hit.offset, hit.rule_id))
    findings = tuple(Finding(h.rule_id, h.datagram, h.offset, h.text, catalogue.get(h.rule_id).level) for h in order)
    return Report(
        findings,
        tuple(sorted(checked)),
        {rule_id: reason for rule_id, reason in not_applicable.items() if rule_id not in checked},
        {rule_id: reason for rule_id, reason in UNDECIDABLE.items() if rule_id in known},
        len(stream.items) + len(stream.others),
        sum(len(item.message.records) for item in stream.items),
    )


def _of_decoder(stream: Stream) -> Iterator[Hit]:
    for item in stream.everything:
        if item.message.version != stream.version:
            continue  # the rules of another version do not apply; check `version` names it
        for problem in item.message.problems:
            if problem.rule_id not in BY_CHECK_INSTEAD:
                yield Hit(_exact(item, problem.rule_id), item.index, problem.offset, problem.text)


def _exact(item: Item, rule_id: str) -> str:
    """IPFIX-HDR-12 for a message that no Length can name, IPFIX-UDP-04 for a datagram that holds a second message; else the rule itself."""
    length = item.message.header.length
    if rule_id == "IPFIX-HDR-02" and item.message.size > 65_535:
        return "IPFIX-HDR-12"
    if rule_id == "IPFIX-HDR-02" and length is not None and item.datagram.payload[length : length + 2] == b"\0\x0a":
        return "IPFIX-UDP-04"
    return rule_id

# SPDX-License-Identifier: Apache-2.0
"""What the decoder keeps between datagrams: templates by source and domain, bounded; and the pen that writes a message's problems, bounded too."""

from __future__ import annotations

from collections.abc import Hashable

from flowparity.decode.model import Message, Problem, Template

MAX_PROBLEMS = 1_000
"""Problems kept per datagram; the rest is counted."""

MAX_VALUES = 262_144
"""Values decoded per datagram. A template of thousands of empty fields would otherwise make a datagram of 64 KiB grow a thousandfold."""

MAX_FIELDS = 262_144
"""Field Specifiers held over all sources and domains."""

MAX_TEMPLATES = 65_536
"""Templates held over all sources and domains."""


class Store:
    """Templates of every (source, domain). When it is full, new templates are refused until others are withdrawn or redefined shorter."""

    def __init__(self) -> None:
        self._domains: dict[tuple[Hashable, int, int], dict[int, Template]] = {}
        self._options: dict[tuple[Hashable, int, int], int] = {}  # how many of a domain's templates are Options Templates
        self._fields = 0
        self._templates = 0

    def domain(self, source: Hashable, version: int, domain: int) -> dict[int, Template]:
        """The live templates of one domain, by id; not to be changed by the caller."""
        return self._domains.get((source, version, domain), {})

    def put(self, source: Hashable, version: int, domain: int, template: Template) -> bool:
        """Defines or redefines a template; False when the store is full."""
        old = self.domain(source, version, domain).get(template.template_id)
        fields = self._fields + len(template.fields) - (len(old.fields) if old else 0)
        templates = self._templates + (0 if old else 1)
        if fields > MAX_FIELDS or templates > MAX_TEMPLATES:
            return False
        key = (source, version, domain)
        self._domains.setdefault(key, {})[template.template_id] = template
        self._options[key] = self._options.get(key, 0) + template.options - (old.options if old else False)
        self._fields, self._templates = fields, templates
        return True

    def drop(self, source: Hashable, version: int, domain: int, template_id: int) -> bool:
        """Forgets a template; False when there was none."""
        key = (source, version, domain)
        live = self._domains.get(key, {})
        old = live.pop(template_id, None)
        if old is None:
            return False
        self._fields -= len(old.fields)
        self._templates -= 1
        self._options[key] = self._options.get(key, 0) - old.options
        if not live:
            del self._domains[key]
            del self._options[key]
        return True

    def drop_all(self, source: Hashable, version: int, domain: int, *, options: bool) -> None:
        """Forgets every template of one kind. Takes no time when there is none, so that many such requests cost nothing."""
        key = (source, version, domain)
        live = self._domains.get(key, {})
        count = self._options.get(key, 0)
        if count if options else len(live) - count:
            for template_id in [t.template_id for t in live.values() if t.options == options]:
                self.drop(source, version, domain, template_id)


class Pen:
    """Writes problems into a message and keeps the count of values within bounds."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.values_left = MAX_VALUES

    def problem(self, offset: int, rule_id: str, text: str) -> None:
        """Notes an irregularity."""
        if len(self.message.problems) < MAX_PROBLEMS:
            self.message.problems.append(Problem(offset, rule_id, text))
        else:
            self.message.truncated_problems += 1

# SPDX-License-Identifier: Apache-2.0
"""The catalogue of rules: the requirements of conformance/requirements and the `S-` rules, read out of docs/semantics.md.

In a checkout the files are read where they are edited; an installed package carries copies in `flowparity/data`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from flowparity.errors import InputError, UsageError

ID = re.compile(r"\b(?:S-[A-Z]{3}-\d+|(?:V5|V9|IPFIX|FLOW|ROB|BENCH|DEC)-[A-Z0-9]+-\d+)\b")
"""Every rule id, also in running text."""

LEVELS = ("MUST", "MUST_NOT", "SHOULD", "SHOULD_NOT", "MAY", "semantic", "guideline", "practice")
KINDS = ("wire", "stimulus", "timed", "fault", "config", "bench", "decoder", "semantics")

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent.parent


@dataclass(frozen=True, slots=True)
class Requirement:
    """One rule. For `S-` rules `kind` is semantics, `level` MUST, and the text is the paragraph of the law."""

    id: str
    title: str
    text: str
    source: tuple[str, ...]
    level: str
    kind: str
    applies: tuple[str, ...] = ("v5", "v9", "ipfix")
    stimulus: str = ""
    observe: str = ""
    verified: bool = True
    seen: str = ""
    note: str = ""

    @property
    def advisory(self) -> bool:
        """Whether a violation is a remark and no fault: MAY, guidelines and practice."""
        return self.level in ("MAY", "guideline", "practice")


@dataclass(frozen=True, slots=True)
class Explanation:
    """A rule, the cases that cite it, as paths in the project (None where there is no checkout to look in), and what exporters made of it."""

    requirement: Requirement
    cases: tuple[str, ...] | None
    why: tuple[str, ...] = ()  # what goes wrong without it, and which exporter had that

    def __str__(self) -> str:
        """The explanation as `flowparity explain` prints it."""
        r = self.requirement
        lines = [
            f"{r.id}  {r.title}",
            f"  {r.text}",
            f"  source: {'; '.join(r.source)}",
            f"  level: {r.level}   kind: {r.kind}   applies: {', '.join(r.applies)}",
        ]
        lines += [f"  {name}: {text}" for name, text in (("stimulus", r.stimulus), ("observe", r.observe), ("seen", r.seen), ("note", r.note)) if text]
        lines += [f"  why: {each}" for each in self.why]
        if self.cases is None:
            return "\n".join([*lines, "  cases: they are in a checkout of the project; ask there"])
        return "\n".join([*lines, *(f"  case: {case}" for case in self.cases)] if self.cases else [*lines, "  cases: none"])


def _data(in_checkout: str, installed: str) -> Path:
    for path in (_CHECKOUT / in_checkout, _PACKAGE / "data" / installed):
        if path.exists():
            return path
    raise InputError(f"the catalogue is missing from this installation ({_PACKAGE / 'data' / installed}): install flowparity again")


def parse_requirements(text: str, name: str) -> list[Requirement]:
    """The requirements of one TOML file; InputError names the file and the entry that is wrong."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name}: {error}") from None
    out = []
    for entry in table.get("requirement", []):
        values: dict[str, Any] = {("text" if key == "assert" else key): tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
        try:
            requirement = Requirement(**values)
        except TypeError as error:
            raise InputError(f"{name}: {entry.get('id', 'an entry without id')}: {error}") from None
        if not ID.fullmatch(requirement.id) or requirement.level not in LEVELS or requirement.kind not in KINDS:
            raise InputError(f"{name}: {requirement.id}: id, level or kind is none of those known")
        out.append(requirement)
    return out


def parse_semantics(text: str) -> list[Requirement]:
    """The `S-` rules of docs/semantics.md: a paragraph that begins with a bold id, up to the blank line."""
    out = []
    heading = ""
    for block in re.split(r"\n\s*\n", text):
        if block.startswith("#"):
            heading = block.splitlines()[0].lstrip("# ")
        match = re.match(r"\*\*(S-[A-Z]{3}-\d+)\*\*\s*", block)
        if match:
            words = " ".join(block[match.end() :].split())
            out.append(Requirement(match[1], f"{heading}: {_first_words(words)}", words, ("docs/semantics.md",), "MUST", "semantics"))
    return out


def _first_words(text: str) -> str:
    words = re.split(r"(?<=[a-z\d)])[.:;] ", re.sub(r"[`*]", "", text))[0]
    return words if len(words) <= 80 else words[:77].rsplit(" ", 1)[0] + " …"


@cache
def requirements() -> Mapping[str, Requirement]:
    """Every rule by its id. A duplicate id is an InputError."""
    directory = _data("conformance/requirements", "requirements")
    found: dict[str, Requirement] = {}
    entries = [r for path in sorted(directory.glob("*.toml")) for r in parse_requirements(path.read_text(encoding="utf-8"), path.name)]
    for requirement in entries + parse_semantics(_data("docs/semantics.md", "semantics.md").read_text(encoding="utf-8")):
        if requirement.id in found:
            raise InputError(f"catalogue: {requirement.id} is defined twice")
        found[requirement.id] = requirement
    return found


_NEAR = 40  # rules named to somebody who asked for one that there is not


def get(rule_id: str) -> Requirement:
    """One rule; a UsageError suggests what was meant when there is none."""
    known = requirements()
    if rule_id in known:
        return known[rule_id]
    group = rule_id.rsplit("-", 1)[0]
    family = [other for other in known if other.startswith(rule_id.rstrip("-") + "-")]
    near = family or [other for other in known if other.startswith(group + "-")] or sorted({other.rsplit("-", 1)[0] + "-…" for other in known})
    more = ", …" if len(near) > _NEAR else ""
    raise UsageError(f"no rule {rule_id}; known: {', '.join(near[:_NEAR])}{more}")


@cache
def _cases() -> Mapping[str, tuple[str, ...]] | None:
    found: dict[str, list[str]] = {}
    # An installed package knows the one it is used in.
    checkout = next((each for each in (_CHECKOUT, Path.cwd()) if (each / "docs" / "semantics.md").is_file()), None)
    if checkout is None:
        return None
    for folder, pattern in (("fixtures", "*.toml"), ("conformance", "*.py"), ("tests", "test_*.py")):
        root = checkout / folder
        for path in sorted(root.rglob(pattern)) if root.is_dir() else ():
            for rule_id in sorted(set(ID.findall(path.read_text(encoding="utf-8", errors="replace")))):
                found.setdefault(rule_id, []).append(str(path.relative_to(checkout)))
    return {rule_id: tuple(paths) for rule_id, paths in found.items()}


def cases(rule_id: str) -> tuple[str, ...] | None:
    """The fixtures and tests that cite a rule; None where they cannot be known, outside of a checkout."""
    known = _cases()
    return None if known is None else known.get(rule_id, ())


@cache
def _mistakes() -> Mapping[str, tuple[str, ...]]:
    """What the faults of the saboteur do, by the rules that they break."""
    found: dict[str, list[str]] = {}
    table = tomllib.loads((_data("conformance/saboteur", "saboteur") / "faults.toml").read_text(encoding="utf-8"))
    for fault in table["fault"]:
        for rule_id in dict.fromkeys([fault["rule"], fault["check"]]):
            found.setdefault(rule_id, []).append(f"without it an exporter {fault['does']}" + (f" ({fault['seen']})" if "seen" in fault else ""))
    return {rule_id: tuple(texts) for rule_id, texts in found.items()}


def explain(rule_id: str) -> Explanation:
    """Rule, source, level, kind, what was seen, what exporters do without it, and the cases that cover it; UsageError for an unknown id."""
    rule_id = rule_id.upper()
    return Explanation(get(rule_id), cases(rule_id), _mistakes().get(rule_id, ()))

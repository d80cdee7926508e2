# SPDX-License-Identifier: Apache-2.0
"""The catalogue is whole, and nothing in the project cites a rule that it lacks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flowparity import catalogue
from flowparity.errors import InputError, UsageError

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".py", ".toml", ".md", ".c", ".h", ".cmake", ".txt", ".yaml", ".yml", ".json"}
OWN = Path(__file__).name


def cited(text: str) -> set[str]:
    return set(catalogue.ID.findall(text))


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [ROOT / name for name in listing.split("\0") if name and Path(name).suffix in SUFFIXES and Path(name).name != OWN]


def unknown(text: str) -> set[str]:
    return cited(text) - set(catalogue.requirements())


def strays(path: Path, text: str) -> set[str]:
    return {rule_id for rule_id in unknown(text) if not (rule_id.endswith("-99") and "tests" in path.parts)}


def test_no_file_cites_an_unknown_rule() -> None:
    """An id that ends in -99 stands for one that does not exist, in tests only."""
    wrong = {
        str(path.relative_to(ROOT)): sorted(bad)
        for path in tracked()
        if path.exists() and (bad := strays(path, path.read_text(encoding="utf-8", errors="replace")))
    }
    assert wrong == {}


def test_lint_sees_an_unknown_rule() -> None:
    assert unknown("as S-LEN-99 and V9-HDR-02 ask, V5-XXX-77") == {"S-LEN-99", "V5-XXX-77"}


def test_everything_is_there() -> None:
    rules = catalogue.requirements()
    assert sum(r.kind != "semantics" and r.kind != "decoder" for r in rules.values()) == 423
    law = (ROOT / "docs/semantics.md").read_text(encoding="utf-8")
    assert {r.id for r in rules.values() if r.kind == "semantics"} == {line[2:].split("**")[0] for line in law.splitlines() if line.startswith("**S-")}


def test_conflicts_and_rfc5471_name_known_rules() -> None:
    for name in ("conflicts.toml", "rfc5471.toml"):
        text = (ROOT / "conformance/requirements" / name).read_text(encoding="utf-8")
        assert cited(text)
        assert not unknown(text)


def test_explain() -> None:
    text = str(catalogue.explain("v9-hdr-02"))
    assert "RFC 3954 §5.1" in text
    assert "softflowd 1.1.0" in text
    assert "case: tests/decode/test_wire.py" in text
    assert catalogue.get("S-LEN-1").text.startswith("IPv4: the total length")


def test_unknown_rule_is_a_user_error() -> None:
    with pytest.raises(UsageError, match="V9-HDR-01, V9-HDR-02"):
        catalogue.explain("V9-HDR-99")


@pytest.mark.parametrize(
    "text", ["x = ", '[[requirement]]\nid = "V5-HDR-01"', '[[requirement]]\nid = "X"\ntitle = ""\nassert = ""\nsource = []\nlevel = "MUST"\nkind = "wire"']
)
def test_bad_catalogue_files_are_input_errors(text: str) -> None:
    with pytest.raises(InputError, match=r"some\.toml"):
        catalogue.parse_requirements(text, "some.toml")

# SPDX-License-Identifier: Apache-2.0
"""Descriptions of exporters: what is wrong in a TOML file is told by file, key and remedy, never by a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowparity.errors import InputError
from flowparity.harness.subjects.foreign import load_description

NO_RULE = f"S-LNK-{22}"  # put together, because the catalogue's test takes every id that it finds for a citation

GOOD = """
name = "mine"
summary = "an exporter"
executable = "mine"
package = "mine"
argv = ["{executable}", "{capture}"]
formats = { 9 = "9" }
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "more",
    [
        "",
        "statuses = [0, 1]\nsettle = 2\n",
        '[capabilities]\nlinks = [1]\ntime_tolerance = 5\nfields = ["packets"]\nrun = ["mtu"]\ntier = "hw"\n',
        '[[known]]\nrule = "S-LNK-2"\nreason = "because"\n[[known]]\nfield = "record"\nreason = "so"\nformats = ["9"]\n',
    ],
)
def test_right_ones_are_taken(tmp_path: Path, more: str) -> None:
    assert load_description(write(tmp_path, GOOD + more)).name == "mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace('name = "mine"', ""), "name: missing"),
        (GOOD.replace('argv = ["{executable}", "{capture}"]', 'argv = "{executable} {capture}"'), "argv: '{executable} {capture}' is not a list of texts"),
        (GOOD + "statuses = 3\n", "statuses: 3 is not a list of whole numbers"),
        (GOOD + 'timeout = "3 s"\n', "timeout: '3 s' is not a number"),
        (GOOD + "bogus = 1\n", "unknown key bogus; known: argv,"),
        (GOOD.replace('9 = "9"', '7 = "7"'), "formats are some of 5, 9, ipfix"),
        (GOOD + '[capabilities]\ntime_tolerance = "1s"\n', "capabilities.time_tolerance: '1s' is not a whole number"),
        (GOOD + '[capabilities]\nlinks = ["EN10MB"]\n', "capabilities.links: ['EN10MB'] is not a list of LINKTYPE numbers (1 is Ethernet)"),
        (GOOD + "[capabilities]\nbogus = 1\n", "unknown key capabilities.bogus"),
        (GOOD + '[capabilities]\ntier = "real"\n', "capabilities.tier: 'real' is not one of file, sim"),
        (GOOD + '[capabilities]\nfields = ["octet"]\n', "capabilities.fields: octet is none of"),
        (GOOD + f'[[known]]\nrule = "{NO_RULE}"\nreason = "x"\n', f"no rule {NO_RULE}; known: S-LNK-1"),
        (GOOD + '[[known]]\nfield = "octet"\nreason = "x"\n', "known.field: octet is none of"),
        (GOOD + '[[known]]\nreason = "x"\n', "names a field or a rule"),
        (GOOD + '[[known]]\nrule = "S-LNK-2"\n', "known.reason: missing"),
        (GOOD + 'known = "all"\n', "known: 'all' is not tables, [[known]]"),
        (GOOD + "[profile]\nidle_timeout = -1\n", "idle_timeout"),
        ("name = ", "Invalid value"),
    ],
)
def test_wrong_ones_are_told_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as told:
        load_description(path)
    assert words in str(told.value)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)

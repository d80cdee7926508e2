# SPDX-License-Identifier: Apache-2.0
"""Kills the mutants of the native core: one build (FLOWPARITY_MUTANT=runtime) has all of them, native.toml describes them, and every one must be noticed.

`python native_run.py MODULE_DIR` asks first what noticed a mutant the last time (native.md) or must notice it (`test` in native.toml), then the quick checks
(native_one.py: fixtures, invariants, wire rules), then the tests of the core and the properties whole. The core without a fault must pass all fixtures and
every such test. `--table FILE` writes which check noticed which mutant. Exit status 0 if none survived, else 1.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SECONDS = 300
OCTETS = 4 << 30
"""Of memory: a fault that never stops to make datagrams must not take the machine's."""
PYTEST = ("prlimit", f"--data={OCTETS}", sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
TESTS = ("tests/native", "tests/properties")
TABLE = HERE / "native.md"


def mutants() -> list[dict[str, Any]]:
    """The mutants as data; `id` is the number in FP_MUTANT."""
    return tomllib.loads((HERE / "native.toml").read_text(encoding="utf-8"))["mutant"]


def points() -> set[int]:
    """The numbers of the points in the source."""
    found: set[int] = set()
    for path in (ROOT / "native").rglob("*.[ch]"):
        if path.name != "mutant.h":
            found.update(int(n) for n in re.findall(r"FP_MUTANT\((\d+),", path.read_text(encoding="utf-8")))
    return found


def last_time() -> dict[int, str]:
    """Which fixtures noticed a mutant by the table, joined by commas."""
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE) if TABLE.exists() else []
    return {int(number): ",".join(re.findall(r"(?:fixture|wire|invariant) (\S+?)(?:,|$)", names)) for number, names in rows}


def run(command: Sequence[str], module: Path, mutant: int) -> tuple[int, str]:
    """Status and output of a check with one fault; a check that crashes or never ends has noticed it."""
    environment = {**os.environ, "PYTHONPATH": str(module), "HYPOTHESIS_PROFILE": "mutants", "FLOWPARITY_MUTANT": str(mutant)}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return -1, ""
    return done.returncode, done.stdout


def quick(wanted: Sequence[int], module: Path) -> dict[int, list[str]]:
    """What native_one.py says of so many mutants."""
    known = last_time()
    environment = {name: value for name, value in os.environ.items() if name != "FLOWPARITY_MUTANT"} | {"PYTHONPATH": str(module)}
    command = [sys.executable, str(HERE / "native_one.py"), *(f"{number}={known.get(number, '')}" for number in wanted)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"native_one.py: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[int, list[str]] = {number: [] for number in wanted}
    for line in done.stdout.splitlines():
        number, _, check = line.partition(" ")
        found[int(number)].append(check)
    return found


def tested(mutant: int, tests: Sequence[str], module: Path) -> list[str]:
    """Which of these tests notice a mutant, the first of them at least."""
    status, out = run([*PYTEST, *tests], module, mutant)
    if status == 1:
        return [f"test {name}" for name in re.findall(r"^FAILED (\S+)", out, re.MULTILINE)]
    if status not in (0, 5):
        return [f"crash of {' '.join(tests)} (status {status})"]
    return []


def by_all_tests(mutant: int, module: Path) -> list[str]:
    """What of the whole suite notices a mutant; what fails once only has noticed nothing, for the machine may have been too busy for it."""
    for tests in TESTS:
        found = tested(mutant, [tests], module)
        if found and tested(mutant, [name.removeprefix("test ") for name in found if name.startswith("test ")] or [tests], module):
            return found
    return []


def kill_all(wanted: Sequence[int], module: Path, jobs: int) -> dict[int, list[str]]:
    """What noticed each mutant."""
    named = {int(m["id"]): m["test"] for m in mutants() if "test" in m and int(m["id"]) in wanted}
    killed: dict[int, list[str]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        others = [number for number in wanted if number not in named]
        parts = [pool.submit(quick, others[part::jobs], module) for part in range(jobs)]
        tests = {number: pool.submit(tested, number, [test], module) for number, test in named.items()}
        for part in parts:
            killed |= part.result()
        killed |= {number: each.result() for number, each in tests.items()}
        left = [number for number in wanted if not killed[number]]
        missed = [number for number in left if number in named]
        for number in missed:
            print(f"{number}: {named[number]} does not notice it")
        rest = [number for number in left if number not in named]  # what is named must do
        killed |= dict(zip(rest, pool.map(lambda number: by_all_tests(number, module), rest), strict=True))
    return killed


def discontent(module: Path) -> list[str]:
    """What the core without a fault does not satisfy, of all that is asked to notice faults."""
    tests = sorted({str(mutant["test"]) for mutant in mutants() if "test" in mutant})
    return quick([0], module)[0] + tested(0, tests, module)


def table(killed: Mapping[int, Sequence[str]]) -> str:
    """Which checks noticed which mutant, as Markdown."""
    rows = [f"| {m['id']} | {m['part']} | {m['rule']} | {m['breaks']} | {', '.join(killed[int(m['id'])][:3])} |" for m in mutants()]
    parts = Counter(str(mutant["part"]) for mutant in mutants())
    head = [
        "# Mutants of the native core",
        "",
        "Generated by one run of `tox -e mutants-native`. Fixtures are asked until three notice (`fixture`: its expectation, `wire`: the decoder or a wire",
        "rule, `invariant`: the accounts); tests and properties where native.toml names them.",
        "",
        f"{len(rows)} mutants: " + ", ".join(f"{count} {part}" for part, count in sorted(parts.items())) + ".",
        "",
    ]
    return "\n".join([*head, "| mutant | part | rule | what it breaks | noticed by |", "|---|---|---|---|---|", *rows, ""])


def main() -> int:
    """Runs everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", type=Path, help="where the package built with FLOWPARITY_MUTANT=runtime was installed")
    parser.add_argument("--table", type=Path, help="write the table of which check noticed what")
    parser.add_argument("--only", type=int, nargs="*", default=[], help="try these alone")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    known = [int(mutant["id"]) for mutant in mutants()]
    if set(known) != points() or len(known) != len(set(known)):
        print(f"native.toml and the points in native/ differ: {sorted(set(known) ^ points())}")
        return 1
    module = arguments.module.resolve()
    if wrong := discontent(module):
        print("the core itself does not satisfy: " + ", ".join(wrong))
        return 1
    wanted = arguments.only or known
    killed = kill_all(wanted, module, arguments.jobs)
    survivors = [mutant for mutant in mutants() if not killed.get(int(mutant["id"]), ["not asked"])]
    for mutant in survivors:
        print(f"{mutant['id']} survives: {mutant['breaks']} ({mutant['rule']}, {mutant['part']})")
    if arguments.table and not arguments.only and not survivors:
        arguments.table.write_text(table(killed), encoding="utf-8")
    print(f"{len(killed) - len(survivors)} passed, {len(survivors)} failed; noticed by {kinds(killed)}")
    return 1 if survivors else 0


def kinds(killed: Mapping[int, Sequence[str]]) -> str:
    """How many mutants each kind of check noticed."""
    first = Counter(kind for kind in chain.from_iterable({check.split()[0] for check in checks} for checks in killed.values()))
    return ", ".join(f"{kind} {count}" for kind, count in sorted(first.items()))


if __name__ == "__main__":
    sys.exit(main())

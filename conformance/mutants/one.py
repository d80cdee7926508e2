# SPDX-License-Identifier: Apache-2.0
"""Runs the fixtures over one mutant of the reference, in a process of its own: `python one.py MUTANT-ID [TEST]`.

The mutant's module is changed while it is imported, so that nothing on disk is touched and it does not matter how the package is installed. Records are
compared as the Metering Process hands them over; of a mutant with `by = "exported"`, as the decoder reads them out of the datagrams (exported.py). Prints the
names of the fixtures that noticed, a line each; exit status 0 whatever they said, 2 if the mutant does not fit the source any more. With TEST it is
pytest that runs this test over the mutant, and the status is its.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Changed(importlib.machinery.SourceFileLoader):
    """Loads a module with one piece of its text replaced."""

    def __init__(self, name: str, path: str, old: str, new: str) -> None:
        super().__init__(name, path)
        self.old, self.new = old, new

    def source_to_code(self, data, path, *, _optimization=-1):  # type: ignore[no-untyped-def,override]
        text = bytes(data).decode("utf-8")
        if text.count(self.old) != 1:
            raise SystemExit(f"the text to change stands {text.count(self.old)} times in {path}")
        return super().source_to_code(text.replace(self.old, self.new).encode(), path)

    def get_code(self, fullname):  # type: ignore[no-untyped-def]
        return self.source_to_code(self.get_data(self.get_filename(fullname)), self.get_filename(fullname))


class Finder(importlib.abc.MetaPathFinder):
    """Lets the other finders find the module, then has `Changed` load it."""

    def __init__(self, module: str, old: str, new: str) -> None:
        self.module, self.old, self.new = module, old, new

    def find_spec(self, fullname, path, target=None):  # type: ignore[no-untyped-def]
        if fullname != self.module:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.origin is not None:
                spec.loader = Changed(fullname, spec.origin, self.old, self.new)
                return spec
        return None


def mutants() -> list[dict[str, str]]:
    """The mutants as data."""
    return tomllib.loads((HERE / "reference.toml").read_text(encoding="utf-8"))["mutant"]


def merged(records):  # type: ignore[no-untyped-def]
    """One record for each key: the sums and extremes that eviction keeps (level `merged`)."""
    from dataclasses import replace

    out = {}
    for record in records:
        key = (record.source_address, record.destination_address, record.source_port, record.destination_port, record.protocol)
        known = out.get(key, replace(record, packets=0, octets=0, tcp_flags=0))
        out[key] = replace(
            known,
            packets=known.packets + record.packets,
            octets=known.octets + record.octets,
            first_ns=min(known.first_ns, record.first_ns),
            last_ns=max(known.last_ns, record.last_ns),
            tcp_flags=known.tcp_flags | record.tcp_flags,
        )
    return list(out.values())


def noticed() -> list[str]:
    """The fixtures that the reference, as it now is, does not satisfy."""
    from flowparity.errors import FlowparityError
    from flowparity.fixtures import disagreements, load_fixtures
    from flowparity.reference import ReferenceExporter

    out = []
    for fixture in load_fixtures(ROOT / "fixtures"):
        if fixture.expected.refused:
            continue
        wrong = False
        try:
            for sweep_every in (0, None):  # a sweep at every frame, and none but at the end
                exporter = ReferenceExporter(fixture.profile, fixture.workers, trace=True, sweep_every=sweep_every)
                closed = [record for frame in fixture.frames() for record in exporter.feed(frame, fixture.worker_of(frame.index))]
                closed += exporter.flush()
                records = [one.record for one in closed]
                records = merged(records) if fixture.level == "merged" else records
                wrong |= bool(disagreements(fixture, records, exporter.accounting(), exporter.final_clock_ns))
        except FlowparityError:
            wrong = True
        except Exception as error:  # a mutant that crashes was noticed
            wrong = True
            print(f"# {fixture.name}: {type(error).__name__}: {error}", file=sys.stderr)
        if wrong:
            out.append(fixture.name)
    return out


def exported() -> list[str]:
    """The fixtures whose datagrams by the reference, as it now is, are not right."""
    from exported import noticed as by_datagrams

    from flowparity.fixtures import load_fixtures

    return by_datagrams([(fixture, fixture.frames()) for fixture in load_fixtures(ROOT / "fixtures") if not fixture.expected.refused])


def main(identity: str, test: str = "") -> None:
    """Installs the mutant and prints who noticed, or runs a test."""
    (mutant,) = (each for each in mutants() if each["id"] == identity)
    module = "flowparity." + mutant["file"].removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, Finder(module, mutant["old"], mutant["new"]))
    if test:
        import pytest

        sys.path.insert(0, str(ROOT))
        sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), str(ROOT / test)]))
    print("\n".join(exported() if mutant.get("by") == "exported" else noticed()))


if __name__ == "__main__":
    main(*sys.argv[1:])

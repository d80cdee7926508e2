# SPDX-License-Identifier: Apache-2.0
"""The subjects by name: native backends, `reference`, `saboteur:FAULT`, and the foreign exporters that a TOML file describes."""

from __future__ import annotations

from flowparity.errors import UsageError
from flowparity.harness.interfaces import Subject


def local_subject(name: str) -> Subject:
    """The subject that runs in this process; a UsageError if there is none of this name. A worker calls this; a harness goes through `open_subject`."""
    kind, _, argument = name.partition(":")
    if kind == "reference":
        from flowparity.harness.subjects.reference import ReferenceSubject

        return ReferenceSubject()
    if kind == "saboteur":
        from flowparity.harness.subjects.saboteur import SaboteurSubject, find_fault

        return SaboteurSubject(find_fault(argument))
    if kind == "native":
        from flowparity.harness.subjects.native import NativeSubject

        return NativeSubject(argument)
    raise UsageError(f"no subject {name!r}; known: native:BACKEND, reference, saboteur:FAULT, and those of conformance/subjects")


def open_subject(name: str, prefix: tuple[str, ...] = ()) -> Subject:
    """A subject by the name a user gives: a backend's (pcap), `reference`, `saboteur:FAULT`, a foreign exporter's (softflowd) or the path of a TOML file.

    `prefix` is the argv that puts a backend's worker in its place; what follows `@` in a name is that place's (netmap@sim).
    """
    from flowparity.harness.subjects.foreign import ForeignSubject, descriptions
    from flowparity.harness.subjects.remote import WORKER, WorkerSubject

    if name == "reference" or name.startswith("saboteur:"):
        return WorkerSubject(name)
    described = descriptions()
    if name in described or name.endswith(".toml"):
        return ForeignSubject.load(described.get(name, name))
    backend, _, place = name.removeprefix("native:").partition("@")
    known = native_names()
    if backend not in known:
        raise UsageError(f"no subject {name!r}; known: {', '.join([*known, 'reference', 'saboteur:FAULT', *described])}")
    return WorkerSubject(f"native:{backend}", shown=f"{backend}@{place}" if place else backend, argv=[*prefix, *WORKER])


def native_names() -> list[str]:
    """The backends of the registry, whether they work here or not; none where the native core is not built."""
    try:
        from flowparity import native
    except ImportError:
        return []
    return [each.name for each in native.backends()]

# SPDX-License-Identifier: Apache-2.0
"""The encoders' table against the decoder's: two people wrote them from the registry, and only this test sees both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowparity import fields
from flowparity.decode.elements import ELEMENTS
from flowparity.decode.v9_table import V9_LENGTHS


def encoded(value: object) -> Iterator[Any]:
    if isinstance(value, fields.Field):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from encoded(each)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from encoded(each)


def test_encoded_elements_are_known_with_a_legal_size() -> None:
    found = [field for value in list(vars(fields).values()) for field in encoded(value)]
    assert len(found) > 40
    for field in found:
        if field.element == 0:
            continue
        known = ELEMENTS[field.element]
        legal = known.size is None or known.permits(field.size) or field.size in V9_LENGTHS.get(field.element, ())
        assert legal, (known.name, field.size)

# SPDX-License-Identifier: Apache-2.0
"""Dataclasses to JSON values and back, by their type hints: what the protocol between harness and worker is made of."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def pack(value: Any) -> Any:
    """A JSON value. Keys of mappings become text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: pack(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): pack(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [pack(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted(pack(each) for each in value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return value


def unpack(kind: type[T], value: Any) -> T:
    """The value of this type that `pack` made JSON of; TypeError or ValueError if it is none."""
    return typing.cast(T, _unpack(kind, value))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _unpack(kind: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _unpack(next(each for each in arguments if each is not type(None)), value)
    if dataclasses.is_dataclass(kind):
        hints = _hints(typing.cast(type, kind))
        known = {each.name for each in dataclasses.fields(kind)}
        return typing.cast(Any, kind)(**{name: _unpack(hints[name], each) for name, each in value.items() if name in known})
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_unpack(arguments[0], each) for each in value)
        return tuple(_unpack(each, item) for each, item in zip(arguments, value, strict=True))
    if origin in (frozenset, set):
        return origin(_unpack(arguments[0], each) for each in value)
    if origin is list:
        return [_unpack(arguments[0], each) for each in value]
    if origin is not None and issubclass(origin, Mapping):
        return {_unpack(arguments[0], key): _unpack(arguments[1], each) for key, each in value.items()}
    if kind is bytes:
        return bytes.fromhex(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if kind is int and isinstance(value, str):
        return int(value)
    return value

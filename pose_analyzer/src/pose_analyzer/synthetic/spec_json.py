"""Frozen dataclasses back from the JSON that `dataclasses.asdict` makes of them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import TypeVar

SpecT = TypeVar("SpecT")


def decode(spec: Callable[..., SpecT], data: object, where: str = "the file") -> SpecT:
    """Return a dataclass of bool, int, float, str, tuples and further dataclasses.

    Raises
    ------
    ValueError
        If a key is missing or unknown, or a tuple has another length.
    TypeError
        If a value has another type.
    """
    hints = typing.get_type_hints(spec)
    if not isinstance(data, dict):
        raise TypeError(f"{where} must be an object, got {data!r}")
    if set(data) != set(hints):
        wrong = ", ".join(sorted(set(data) ^ set(hints)))
        raise ValueError(f"{where} misses or adds the keys: {wrong}")
    return spec(**{name: _value(hint, data[name], name) for name, hint in hints.items()})


def _value(hint: object, data: object, where: str) -> object:
    """Return one field's value as its annotation wants it."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return decode(hint, data, where)
    if typing.get_origin(hint) is tuple and isinstance(hint, types.GenericAlias):
        return _tuple(hint, data, where)
    if hint is float and isinstance(data, int | float) and not isinstance(data, bool):
        return float(data)
    if isinstance(hint, type) and type(data) is hint:
        return data
    raise TypeError(f"{where} must be {hint}, got {data!r}")


def _tuple(hint: types.GenericAlias, data: object, where: str) -> tuple[object, ...]:
    if not isinstance(data, list):
        raise TypeError(f"{where} must be a list, got {data!r}")
    inner = typing.get_args(hint)
    if inner[-1] is Ellipsis:
        inner = (inner[0],) * len(data)
    if len(inner) != len(data):
        raise ValueError(f"{where} must have {len(inner)} entries, got {len(data)}")
    return tuple(_value(one, item, where) for one, item in zip(inner, data, strict=True))

"""What JSON from a disk must look like: checked against the types that code names, before code relies on it."""

import math
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union

Kind = TypeVar("Kind")


class Misshapen(ValueError):
    """A value has not the type that was expected; says where in it, and what is there."""


def checked(value: Any, shape: Any, place: str = "it") -> Any:
    """Return a value that has a shape.

    Args:
        value: as `json.loads` returns it.
        shape: `str`, `int`, `float` (a number that is one, whole or not), `list[...]`,
            `dict[str, ...]`, `tuple[...]`, `Literal`, a union, a `TypedDict`, or a dataclass; of the last two a
            dict with their fields.
        place: what the value is called.

    Raises:
        Misshapen: it has another.
    """
    _check(value, shape, place)
    return value


def made(kind: type[Kind], value: Any) -> Kind:
    """Return a dataclass of the fields in a dict.

    Raises:
        Misshapen: one is missing, unknown, or of another type.
    """
    _check(value, kind, "it")
    if unknown := value.keys() - {field.name for field in fields(kind)}:  # type: ignore[arg-type]
        raise Misshapen(f"{min(unknown)} is unknown")
    return kind(**value)


def _check(value: Any, shape: Any, place: str) -> None:
    origin, inner = typing.get_origin(shape), typing.get_args(shape)
    if shape is Any:
        return
    if origin in (Union, types.UnionType):
        if not any(_fits(value, one) for one in inner):
            _refuse(value, shape, place)
    elif origin is Literal:
        if not any(type(value) is type(one) and value == one for one in inner):
            _refuse(value, shape, place)
    elif origin in (list, tuple):
        _check_items(value, shape, place)
    elif origin is dict:
        if not isinstance(value, dict):
            _refuse(value, shape, place)
        for name, item in value.items():
            _check(item, inner[1], f"{place}[{name!r}]")
    elif is_dataclass(shape) or typing.is_typeddict(shape):
        _check_fields(value, shape, place)
    elif not _is_plain(value, shape):
        _refuse(value, shape, place)


def _fits(value: Any, shape: Any) -> bool:
    try:
        _check(value, shape, "")
    except Misshapen:
        return False
    return True


def _check_items(value: Any, shape: Any, place: str) -> None:
    inner = typing.get_args(shape)
    if not isinstance(value, list | tuple):
        _refuse(value, shape, place)
    any_number = typing.get_origin(shape) is list or inner[1:] == (...,)
    if not any_number and len(value) != len(inner):
        _refuse(value, shape, place)
    for number, item in enumerate(value):
        _check(item, inner[0 if any_number else number], f"{place}[{number}]")


def _check_fields(value: Any, shape: Any, place: str) -> None:
    if not isinstance(value, dict):
        _refuse(value, dict, place)
    hints, needed = _fields_of(shape)
    for name, hint in hints.items():
        if name in value:
            _check(value[name], hint, name)
        elif name in needed:
            raise Misshapen(f"no {name!r}")


@lru_cache
def _fields_of(shape: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the types of a dataclass's or TypedDict's fields, and which of them must be there."""
    hints = typing.get_type_hints(shape)
    if typing.is_typeddict(shape):
        return hints, shape.__required_keys__
    needed = (one.name for one in fields(shape) if one.default is one.default_factory is MISSING)
    return hints, frozenset(needed)


def _is_plain(value: Any, shape: Any) -> bool:
    if shape is float:
        try:
            return not isinstance(value, bool) and math.isfinite(value)
        except (TypeError, OverflowError):
            return False
    return isinstance(value, shape) and (shape is bool or not isinstance(value, bool))


def _refuse(value: Any, shape: Any, place: str) -> typing.NoReturn:
    raise Misshapen(f"{place} is {repr(value)[:60]}, expected {_named(shape)}")


def _named(shape: Any) -> str:
    """Return what messages call a shape."""
    inner = typing.get_args(shape)
    if typing.get_origin(shape) in (Union, types.UnionType, Literal):
        return " or ".join(repr(one) if isinstance(one, str) else _named(one) for one in inner)
    if typing.is_typeddict(shape):
        return f"fields {', '.join(sorted(shape.__required_keys__))}"
    return str(shape) if inner else getattr(shape, "__name__", str(shape))

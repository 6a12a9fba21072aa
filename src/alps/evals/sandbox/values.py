"""Serialization of values that enter and leave a sandbox: built-in types as JSON, nothing else.

The module runs on both sides, inside without any other module of this package. Output may be
written by a hostile program, so `unpack` validates it: it builds values of built-in types only,
executes nothing and limits the depth. Lists, strings, small integers, floats, booleans and None
are plain JSON; every other value is a JSON object with one entry, whose key names the type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

MAX_DEPTH = 100
HEX_FROM = 1 << 2048  # larger integers are hexadecimal: decimal conversion takes quadratic time
_ATOMS = frozenset({type(None), bool, str, float})
_BASES = (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict)


class OpaqueObject:
    """Placeholder for an object of an unsupported class; equal to nothing."""

    def __init__(self, name: str):
        self.name = name


def encode(value: Any) -> bytes:
    """A value as one line, without the line break.

    Raises:
        RecursionError: If it is nested too deeply or contains itself.
    """
    return json.dumps(pack(value), separators=(",", ":")).encode("ascii")


def decode(line: bytes) -> Any:
    """The value of an encoded line.

    Raises:
        ValueError: If the line is invalid.
    """
    try:
        return unpack(json.loads(line))
    except (RecursionError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a value: {type(error).__name__}") from None


def pack(value: Any, depth: int = 0) -> Any:
    """A value as JSON types; an object of an unsupported class becomes its class name."""
    if depth > MAX_DEPTH:
        raise RecursionError(f"deeper than {MAX_DEPTH}")
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is int:
        return value if -HEX_FROM < value < HEX_FROM else {"int": hex(value)}
    if kind is list:
        kinds = set(map(type, value))
        if kinds <= _ATOMS or (kinds == {int} and -HEX_FROM < min(value) <= max(value) < HEX_FROM):
            return value
        return [pack(v, depth + 1) for v in value]
    if kind in (tuple, set, frozenset):
        return {kind.__name__: pack(list(value), depth + 1)}
    if kind is dict:
        pairs = [[pack(k, depth + 1), pack(v, depth + 1)] for k, v in value.items()]
        return {"dict": pairs}
    if kind is bytes:
        return {"bytes": value.decode("latin-1")}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    return _pack_instance(value, kind, depth)


def _pack_instance(value: Any, kind: type, depth: int) -> Any:
    """An instance of another class: a subclass of a built-in type, a numpy scalar, or any other."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__ == "numpy" and hasattr(value, "dtype") and not getattr(value, "shape", 1):
        scalar = value.item()
        if type(scalar) in (bool, int, float, complex, str, bytes):
            return {"child": [name, pack(scalar, depth + 1)]}
    for base in _BASES:
        if base is not bool and issubclass(kind, base):
            return {"child": [name, pack(_base_value(value, base), depth + 1)]}
    return {"other": name}


def _base_value(value: Any, base: Any) -> Any:
    """The built-in value of an instance of a subclass, whose own methods are not called."""
    if base is dict:
        return dict(dict.items(value))
    if base in (list, tuple, set, frozenset):
        return base(base.__iter__(value))
    return base.__add__(value, base())


def unpack(packed: Any, depth: int = 0) -> Any:
    """Inverse of `pack`.

    Raises:
        ValueError: If `pack` cannot have returned it.
    """
    if depth > MAX_DEPTH + 2:
        raise ValueError("too deep")
    if type(packed) is list:
        if set(map(type, packed)) <= _ATOMS | {int}:
            return packed
        return [unpack(v, depth + 1) for v in packed]
    if type(packed) is not dict:
        return packed
    if len(packed) != 1:
        raise ValueError("an object has one entry")
    [(name, content)] = packed.items()
    if name not in _UNPACKERS:
        raise ValueError("an unknown type")
    return _UNPACKERS[name](content, depth + 1)


def build_set(items: Iterable[Any]) -> set:
    """Like `set`, but item by item, so that a time limit can interrupt colliding hashes."""
    result = set()
    for item in items:
        result.add(item)
    return result


def _list(content: Any, depth: int) -> list:
    items = unpack(content, depth)
    if type(items) is not list:
        raise ValueError("not a list")
    return items


def _dict(content: Any, depth: int) -> dict:
    result = {}
    for key, value in content:
        result[unpack(key, depth)] = unpack(value, depth)
    return result


def _complex(content: Any, depth: int) -> complex:
    real, imaginary = content
    if type(real) is not float or type(imaginary) is not float:
        raise ValueError("not a complex number")
    return complex(real, imaginary)


def _text(content: Any) -> str:
    if type(content) is not str:
        raise ValueError("not a text")
    return content


def _subclass_instance(content: Any, depth: int) -> Any:
    """A value equal to the built-in one, but of another type."""
    name, packed = content
    value = unpack(packed, depth)
    if type(value) is OpaqueObject:
        raise ValueError("a child of nothing")
    base = int if type(value) is bool else type(value)
    if type(value) is type(None):
        raise ValueError("a child of None")
    return _subclass(_text(name)[:80], base)(value)


@lru_cache(1000)
def _subclass(name: str, base: type) -> type:
    """One class per name and base, so that types of two values can be compared."""
    return type("Child", (base,), {})


_UNPACKERS: dict[str, Callable[[Any, int], Any]] = {
    "int": lambda content, _: int(_text(content), 16),
    "tuple": lambda content, depth: tuple(_list(content, depth)),
    "set": lambda content, depth: build_set(_list(content, depth)),
    "frozenset": lambda content, depth: frozenset(build_set(_list(content, depth))),
    "dict": _dict,
    "bytes": lambda content, _: _text(content).encode("latin-1"),
    "complex": _complex,
    "child": _subclass_instance,
    "other": lambda content, _: OpaqueObject(_text(content)[:80]),
}

"""Values that cross the wall of a sandbox: plain built-in types as JSON, and nothing else.

It runs on both sides, inside without any other module of this package. What comes out was written
by whoever holds the other end, so `unpack` believes nothing: it makes values of built-in types
only, runs no code that came with them, and goes to a fixed depth. JSON says lists, strings, small
numbers, True, False and None as they are; all else is an object with one entry that names the type.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

DEEPEST = 100
LARGEST = 1 << 2048  # integers beyond go as hexadecimal: decimal ones take quadratic time
_ATOMS = frozenset({type(None), bool, str, float})
_BASES = (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict)


class Other:
    """Stands for an object of a class that doesn't cross; equal to nothing."""

    def __init__(self, name: str):
        self.name = name


def encode(value: Any) -> bytes:
    """A value as one line, without its end.

    Raises:
        RecursionError: If it lies too deep, or contains itself.
    """
    return json.dumps(pack(value), separators=(",", ":")).encode("ascii")


def decode(line: bytes) -> Any:
    """The value of such a line.

    Raises:
        ValueError: If it is none.
    """
    try:
        return unpack(json.loads(line))
    except (RecursionError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a value: {type(error).__name__}") from None


def pack(value: Any, depth: int = 0) -> Any:
    """A value as JSON can hold it; an object of a foreign class as its name alone."""
    if depth > DEEPEST:
        raise RecursionError(f"deeper than {DEEPEST}")
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is int:
        return value if -LARGEST < value < LARGEST else {"int": hex(value)}
    if kind is list:
        kinds = set(map(type, value))
        if kinds <= _ATOMS or (kinds == {int} and -LARGEST < min(value) <= max(value) < LARGEST):
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
    return _pack_other(value, kind, depth)


def _pack_other(value: Any, kind: type, depth: int) -> Any:
    """A value of another class: a child of a built-in one, a scalar of numpy, or any."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__ == "numpy" and hasattr(value, "dtype") and not getattr(value, "shape", 1):
        inner = value.item()
        if type(inner) in (bool, int, float, complex, str, bytes):
            return {"child": [name, pack(inner, depth + 1)]}
    for base in _BASES:
        if base is not bool and issubclass(kind, base):
            return {"child": [name, pack(_as_base(value, base), depth + 1)]}
    return {"other": name}


def _as_base(value: Any, base: Any) -> Any:
    """What a child of a built-in class holds, whatever its methods say."""
    if base is dict:
        return dict(dict.items(value))
    if base in (list, tuple, set, frozenset):
        return base(base.__iter__(value))
    return base.__add__(value, base())


def unpack(plain: Any, depth: int = 0) -> Any:
    """What `pack` was given.

    Raises:
        ValueError: If it cannot come from `pack`.
    """
    if depth > DEEPEST + 2:
        raise ValueError("too deep")
    if type(plain) is list:
        if set(map(type, plain)) <= _ATOMS | {int}:
            return plain
        return [unpack(v, depth + 1) for v in plain]
    if type(plain) is not dict:
        return plain
    if len(plain) != 1:
        raise ValueError("an object has one entry")
    [(name, inner)] = plain.items()
    if name not in _READERS:
        raise ValueError("an unknown type")
    return _READERS[name](inner, depth + 1)


def _items(inner: Any, depth: int) -> list:
    found = unpack(inner, depth)
    if type(found) is not list:
        raise ValueError("not a list")
    return found


def _set(inner: Any, depth: int) -> set:
    return as_set(_items(inner, depth))


def as_set(values: Any) -> set:
    """Like `set`, one by one: hashes made to collide take long, and a limit of time must bite."""
    made = set()
    for value in values:
        made.add(value)
    return made


def _dict(inner: Any, depth: int) -> dict:
    made = {}
    for key, value in inner:
        made[unpack(key, depth)] = unpack(value, depth)
    return made


def _complex(inner: Any, depth: int) -> complex:
    real, imaginary = inner
    if type(real) is not float or type(imaginary) is not float:
        raise ValueError("not a complex number")
    return complex(real, imaginary)


def _text(inner: Any) -> str:
    if type(inner) is not str:
        raise ValueError("not a text")
    return inner


def _child(inner: Any, depth: int) -> Any:
    """Equal to its value, but of another type."""
    name, plain = inner
    value = unpack(plain, depth)
    if type(value) is Other:
        raise ValueError("a child of nothing")
    base = int if type(value) is bool else type(value)
    if type(value) is type(None):
        raise ValueError("a child of None")
    return _child_class(_text(name)[:80], base)(value)


_children: dict[tuple[str, type], type] = {}


def _child_class(name: str, base: type) -> type:
    key = name, base
    if key not in _children:
        if len(_children) > 1000:
            _children.clear()
        _children[key] = type("Child", (base,), {})
    return _children[key]


_READERS: dict[str, Callable[[Any, int], Any]] = {
    "int": lambda inner, _: int(_text(inner), 16),
    "tuple": lambda inner, depth: tuple(_items(inner, depth)),
    "set": _set,
    "frozenset": lambda inner, depth: frozenset(_set(inner, depth)),
    "dict": _dict,
    "bytes": lambda inner, _: _text(inner).encode("latin-1"),
    "complex": _complex,
    "child": _child,
    "other": lambda inner, _: Other(_text(inner)[:80]),
}

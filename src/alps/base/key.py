"""Content of a key: the settings that identify a result, without names and places."""

from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any


def excluded_from_key(default: Any = None) -> Any:
    """A field that describes where or how, not what: it is left out of the key."""
    return field(default=default, metadata={"identity": False})


def excluded_at_default(default: Any) -> Any:
    """A field added later: its default leaves keys of earlier runs unchanged."""
    return field(default=default, metadata={"unless": default})


def canonical(value: Any) -> Any:
    """Serialized form of what identifies `value`, with content fingerprints of its parts."""
    if is_dataclass(value) and not isinstance(value, type):
        content: dict[str, Any] = {"class": type(value).__name__}
        content |= {
            f.name: canonical(getattr(value, f.name))
            for f in fields(value)
            if f.metadata.get("identity", True)
            and not ("unless" in f.metadata and getattr(value, f.name) == f.metadata["unless"])
        }
        if fingerprint := getattr(value, "fingerprint", None):
            content["fingerprint"] = fingerprint()
        return content
    if isinstance(value, Mapping):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    return value

"""Which files hold the rows of a split, told by their names as `datasets` tells it.

A folder's name counts before a file's (`test/part.jsonl`, `rows-test.jsonl`), and a file that names
no split holds training rows. Files that may hold the same rows twice are refused.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from alps.data.files.read import row_files, without_suffix, zip_members

KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_NAMES = {
    split: re.compile(rf"(?:^|[-._ 0-9])(?:{'|'.join(words)})(?:[-._ 0-9]|$)", re.IGNORECASE)
    for split, words in KEYWORDS.items()
}
_SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*")  # what `push_to_hub` writes


@dataclass(frozen=True)
class RowFile:
    """A file with rows of a split.

    Attributes:
        path: The file.
        members: The members that belong to the split, if it is a zip archive.
    """

    path: Path
    members: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Part:
    """A file, or a member of a zip archive, with its name below the folder or archive given."""

    name: str
    path: Path
    member: str | None = None


def split_files(
    path: Path, patterns: Sequence[str], split: str, where: str | None = None
) -> list[RowFile]:
    """The files that hold the rows of a split, in a fixed order.

    What the user named, one file or patterns that fit the files of one split only, holds training
    rows whatever its own name says.

    Args:
        path: A file, a zip archive, a folder of files, or a folder that `datasets` saved.
        patterns: Names in the folder (`data/train-*`), or nothing for all files of rows.
        split: The split.
        where: What messages call the path.

    Raises:
        ValueError: If there is no such file or split, or rows may count twice.
    """
    where = where or str(path)
    if (path / "dataset_dict.json").exists():
        splits = _saved(path / "dataset_dict.json", "splits")
        _choose([{name} for name in splits], split, where, named=False)
        return _saved_files(path / split)
    if (path / "state.json").exists():
        own = _saved(path / "state.json", "_split") or "train"
        _choose([{own}], split, where, named=True)
        return _saved_files(path)
    parts = _parts(path, patterns)
    named = bool(patterns) if path.is_dir() else len(parts) == 1
    splits = [splits_named(part.name) or {"train"} for part in parts]
    chosen = [parts[i] for i in _choose(splits, split, where, named)]
    if path.is_dir():
        _refuse_unread(patterns, path, parts, chosen, split)
    parts = chosen
    _refuse_doubled(parts, where)
    return [_row_file(file, list(group)) for file, group in groupby(parts, lambda p: p.path)]


def splits_named(name: str) -> set[str]:
    """The splits that a file's name or its folders' names speak of; mostly one or none."""
    if shard := _SHARD.fullmatch(name):
        return {shard[1]}
    *folders, file = name.split("/")
    for words in (folders, [file]):
        if found := {s for s, pattern in _NAMES.items() if any(map(pattern.search, words))}:
            return found
    return set()


def _choose(splits: Sequence[set[str]], split: str, where: str, named: bool) -> list[int]:
    """Which of the files, given the splits of each, are of the split."""
    found = [i for i, own in enumerate(splits) if split in own]
    if not found and named and split == "train" and all(own == splits[0] for own in splits):
        return list(range(len(splits)))
    if not found:
        has = ", ".join(sorted(set().union(*splits)))
        raise ValueError(f"{where} has no split '{split}' (it has: {has}): set data.split")
    return found


def _parts(path: Path, patterns: Sequence[str]) -> list[_Part]:
    parts = []
    for file in row_files(path, patterns):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        members = zip_members(file)
        if members is None:
            parts.append(_Part(name, file))
        else:
            inside = f"{name}/" if path.is_dir() else ""
            parts += [_Part(f"{inside}{member}", file, member) for member in members]
    return parts


def _row_file(path: Path, parts: Sequence[_Part]) -> RowFile:
    members = tuple(part.member for part in parts if part.member is not None)
    return RowFile(path, members or None)


def _refuse_unread(
    patterns: Sequence[str], path: Path, parts: Sequence[_Part], chosen: Sequence[_Part], split: str
) -> None:
    """Refuses names of which no file is there, or none of the split that is read."""
    names = {part.path.relative_to(path).as_posix() for part in parts}
    read = {part.path.relative_to(path).as_posix() for part in chosen}
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ValueError(f"no file of rows in {path} is named {pattern}: see data.files")
        if not fnmatch.filter(read, pattern):
            raise ValueError(
                f"{pattern} of data.files is not of split '{split}', as the other files are: "
                "name files of one split"
            )


def _refuse_doubled(parts: Sequence[_Part], where: str) -> None:
    """Refuses a file beside a packed or converted copy of it."""
    seen: dict[PurePosixPath, _Part] = {}
    files: dict[Path, _Part] = {}
    for part in parts:
        linked = files.setdefault(part.path.resolve(), part)
        if linked.path != part.path:
            _refuse(linked, part, where)
        if (other := seen.setdefault(_stem(part.name), part)) is not part:
            _refuse(other, part, where)
    for part in parts:
        if part.member is not None and part.name != part.member:
            archive = PurePosixPath(part.name.removesuffix(f"/{part.member}"))
            for folder in (archive.parent, _stem(str(archive))):
                if other := seen.get(_stem(str(folder / part.member))):
                    _refuse(other, part, where)
    shards = [part for part in parts if _SHARD.fullmatch(part.name)]
    others = [part for part in parts if not _SHARD.fullmatch(part.name)]
    if shards and others:
        _refuse(shards[0], others[0], where)


def _refuse(one: _Part, other: _Part, where: str) -> NoReturn:
    raise ValueError(
        f"{where} has {one.name} and {other.name}, whose rows may be the same and would count "
        "twice: remove one of them, or name the files to read in data.files"
    )


def _stem(name: str) -> PurePosixPath:
    return PurePosixPath(without_suffix(name))


def _saved(path: Path, name: str) -> Any:
    try:
        return json.loads(path.read_text())[name]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}): save the dataset again") from None


def _saved_files(path: Path) -> list[RowFile]:
    return [RowFile(path / f["filename"]) for f in _saved(path / "state.json", "_data_files")]

"""Assignment of data files to splits by name, with the rules of `datasets`.

The name of a folder takes precedence over that of a file (`test/part.jsonl`, `rows-test.jsonl`). A
file that names no split belongs to `train`. Files that may repeat the same rows are refused.
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
_SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*")  # names of `push_to_hub`


@dataclass(frozen=True)
class DataFile:
    """A data file of a split.

    Attributes:
        path: The file.
        members: Members of a zip archive that belong to the split.
    """

    path: Path
    members: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Part:
    """A file, or a member of a zip archive, with its name relative to the folder or archive."""

    name: str
    path: Path
    member: str | None = None


def split_files(
    path: Path, patterns: Sequence[str], split: str, where: str | None = None
) -> list[DataFile]:
    """Sorted data files of a split.

    An explicit choice, one file or patterns that match files of one split only, is `train` whatever
    its name.

    Args:
        path: A file, a zip archive, a folder of files, or a folder that `datasets` saved.
        patterns: Names in the folder (`data/train-*`); empty for all data files.
        split: The split.
        where: Name of the path in messages.

    Raises:
        ValueError: If there is no such file or split, or files may repeat rows.
    """
    where = where or str(path)
    if (path / "dataset_dict.json").exists():
        splits = _saved(path / "dataset_dict.json", "splits")
        _choose([{name} for name in splits], split, where, named=False)
        return _saved_data_files(path / split)
    if (path / "state.json").exists():
        own = _saved(path / "state.json", "_split") or "train"
        _choose([{own}], split, where, named=True)
        return _saved_data_files(path)
    parts = _parts(path, patterns)
    named = bool(patterns) if path.is_dir() else len(parts) == 1
    splits = [splits_in_name(part.name) or {"train"} for part in parts]
    chosen = [parts[i] for i in _choose(splits, split, where, named)]
    if path.is_dir():
        _refuse_unread(patterns, path, parts, chosen, split)
    parts = chosen
    _refuse_copies(parts, where)
    return [_row_file(file, list(group)) for file, group in groupby(parts, lambda p: p.path)]


def splits_in_name(name: str) -> set[str]:
    """Splits in the name of a file or of its folders; mostly one or none."""
    if shard := _SHARD.fullmatch(name):
        return {shard[1]}
    *folders, file = name.split("/")
    for words in (folders, [file]):
        if found := {s for s, pattern in _NAMES.items() if any(map(pattern.search, words))}:
            return found
    return set()


def _choose(splits: Sequence[set[str]], split: str, where: str, named: bool) -> list[int]:
    """Indices of the files of a split, given the splits of each file."""
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


def _row_file(path: Path, parts: Sequence[_Part]) -> DataFile:
    members = tuple(part.member for part in parts if part.member is not None)
    return DataFile(path, members or None)


def _refuse_unread(
    patterns: Sequence[str], path: Path, parts: Sequence[_Part], chosen: Sequence[_Part], split: str
) -> None:
    """Refuses patterns that match no file, or no file of the split."""
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


def _refuse_copies(parts: Sequence[_Part], where: str) -> None:
    """Refuses a file beside a compressed or converted copy."""
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


def _saved_data_files(path: Path) -> list[DataFile]:
    return [DataFile(path / f["filename"]) for f in _saved(path / "state.json", "_data_files")]

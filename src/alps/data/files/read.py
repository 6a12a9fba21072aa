"""Streams rows of data files: parquet, arrow, JSON, JSON Lines, CSV, gzip and zip.

Memory holds one row (of columnar files, a batch), so a file may exceed it. Every row comes with its
location for messages, which the readers of `datasets` don't report (docs/decisions.md).
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from itertools import count
from pathlib import Path, PurePath
from typing import IO, Any, Literal

from alps.base.hashing import cached_hash, content_sha256, digest, file_hash, stat_fingerprint
from alps.data.files.json_text import MAX_ROW, Rows, json_rows

SUFFIXES = (".parquet", ".arrow", ".json", ".jsonl", ".csv", ".zip", ".json.gz", ".jsonl.gz",
            ".csv.gz")  # fmt: skip
NOT_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_ZIP = b"PK\x03\x04"
BATCH = 256  # rows of a parquet file in memory at once


def row_files(path: Path, patterns: Sequence[str] = ()) -> list[Path]:
    """Sorted data files of a folder, of all splits; or the file itself.

    Args:
        path: A file or a folder of files.
        patterns: Names in the folder (`data/train-*`); empty for all data files.

    Raises:
        ValueError: If no file matches.
    """
    if not path.is_dir():
        return [path]
    inside = (p.relative_to(path) for p in path.rglob("*") if p.is_file())
    names = sorted(name for name in inside if _is_data_file(name))
    wanted = patterns or ("*",)
    found = [name for name in names if any(fnmatch(name.as_posix(), p) for p in wanted)]
    if not found:
        lack = f"matches {', '.join(patterns)}" if patterns else f"ends in {', '.join(SUFFIXES)}"
        raise ValueError(f"no file in {path} {lack}")
    return [path / name for name in found]


def without_suffix(name: str) -> str:
    """The name of a data file without its suffixes (`.jsonl.gz`)."""
    suffix = max((s for s in SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(suffix)]


def content_hash(path: Path, files: Sequence[Path]) -> str:
    """SHA-256 of a file, or over names and contents of the files of a folder, cached.

    The cache has one entry for a folder, which may have tens of thousands of files.
    """
    if files == [path]:
        return file_hash(path)
    names = [file.relative_to(path).as_posix() for file in files]
    stamp = digest([names, [stat_fingerprint(file) for file in files]])
    place = f"rows-{digest([str(path.resolve()), names])}"
    each = zip(names, files, strict=True)
    return cached_hash(place, stamp, lambda: digest([[n, content_sha256(f)] for n, f in each]))


def read_rows(path: Path, name: str | None = None, members: Sequence[str] | None = None) -> Rows:
    """Rows of a file with their location for messages.

    The first bytes decide the format, the suffix only if they are ambiguous.

    Args:
        path: The file.
        name: Name of the file in messages; default: its path.
        members: Members of a zip archive to read; default: all data files.

    Raises:
        ValueError: One sentence with the row's number, if the file is damaged or malformed.
    """
    name = name or str(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror})") from None
    with file:
        magic = file.read(8)
        file.seek(0)
        if magic.startswith(_ZIP):
            yield from _zip(file, name, members)
        elif magic.startswith(b"PAR1"):
            yield from _columnar(file, name, "parquet")
        elif path.suffix == ".arrow":
            yield from _columnar(file, name, "arrow")
        elif magic.startswith(b"\x1f\x8b"):
            with io.BufferedReader(gzip.open(file)) as unpacked:
                yield from _text(unpacked, name, path.name.removesuffix(".gz"))
        else:
            yield from _text(file, name, path.name)


def _is_data_file(name: PurePath) -> bool:
    hidden = any(part.startswith(".") for part in name.parts)  # macOS adds such files to a zip
    return not hidden and name.name not in NOT_ROWS and name.name.lower().endswith(SUFFIXES)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Rewords the errors of damaged archives."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise ValueError(f"{name} is damaged ({error}): make or download it again") from None


def zip_members(path: Path) -> list[str] | None:
    """Names of the data files in a zip archive; None if the file is no archive.

    Raises:
        ValueError: If the archive is damaged or has no such file.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:
                return None
            with _readable(str(path)):
                return _members(zipfile.ZipFile(file), str(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None


def _members(archive: zipfile.ZipFile, name: str) -> list[str]:
    # The order of the unpacked folder.
    members = sorted(PurePath(m) for m in archive.namelist() if not m.endswith("/"))
    texts = [m for m in members if _is_data_file(m) and m.suffix in (".json", ".jsonl", ".csv")]
    if not texts:
        raise ValueError(f"{name} has no .json, .jsonl or .csv file in it")
    return [member.as_posix() for member in texts]


def _zip(file: IO[bytes], name: str, members: Sequence[str] | None) -> Rows:
    with _readable(name):
        archive = zipfile.ZipFile(file)  # owns no file to close
    for member in _members(archive, name) if members is None else members:
        with _readable(name):
            try:
                content = archive.open(member)
            except (RuntimeError, NotImplementedError) as error:  # a password, a rare method
                raise ValueError(f"{member} in {name} cannot be unpacked ({error})") from None
            with content:
                yield from _text(content, f"{member} in {name}", PurePath(member).name)


def _text(file: IO[bytes], name: str, kind: str) -> Rows:
    with _readable(name):
        if kind.lower().endswith(".csv"):
            yield from _csv(file, name)
        else:
            yield from json_rows(file, name, in_lines=not kind.lower().endswith(".json"))


def _csv(file: IO[bytes], name: str) -> Rows:
    place = f"row 1 of {name}"
    texts = (line.decode("utf-8-sig" if i == 0 else "utf-8") for i, line in enumerate(file))
    try:
        reader = csv.DictReader(texts, strict=True)
        with _long_fields():
            columns = reader.fieldnames or ()
        _refuse_duplicate_columns(columns, name)
        for number in count(1):
            place = f"row {number} of {name}"
            row = _next_row(reader)
            if row is None:
                return
            if None in row or None in row.values():
                raise ValueError(f"{place} has not as many fields as the header")
            yield place, row
    except UnicodeDecodeError:
        raise ValueError(f"{place} is not UTF-8 text") from None
    except csv.Error as error:
        raise ValueError(f"{place} is not CSV ({error})") from None


def _next_row(reader: csv.DictReader[str]) -> dict[str, Any] | None:
    with _long_fields():
        return next(reader, None)


@contextmanager
def _long_fields() -> Iterator[None]:
    """Allows fields beyond 128 KiB; the limit is global, so it is restored after each row."""
    limit = csv.field_size_limit(MAX_ROW)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _columnar(file: IO[bytes], name: str, kind: Literal["parquet", "arrow"]) -> Rows:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        parquet = kind == "parquet"
        for batch in ParquetFile(file).iter_batches(BATCH) if parquet else pa.ipc.open_stream(file):
            _refuse_duplicate_columns(batch.schema.names, name)
            for i in range(batch.num_rows):
                number += 1
                place = f"row {number} of {name}"
                try:
                    (row,) = batch.slice(i, 1).to_pylist()
                except UnicodeDecodeError:
                    raise ValueError(f"{place} is not UTF-8 text") from None
                except ValueError as error:  # duplicate fields of a struct
                    raise ValueError(f"{name} cannot be read ({error})") from None
                yield place, row
    except (pa.ArrowException, OSError) as error:
        remedy = "download" if kind == "parquet" else "save"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{name} is damaged ({reason}): {remedy} it again") from None


def _refuse_duplicate_columns(columns: Sequence[str], name: str) -> None:
    """A row would keep the last of two columns of one name; unnamed columns are never read."""
    for column, times in Counter(columns).items():
        if column and times > 1:
            raise ValueError(f"{name} has {times} columns named '{column}': rename all but one")

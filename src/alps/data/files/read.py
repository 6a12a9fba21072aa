"""Files of rows, read one row at a time: parquet, arrow, JSON, JSON Lines, CSV, gzip and zip.

Only the row that is read is in memory (of columnar files, a batch of them), so that a file may be
larger than the memory. Every row comes with its place in words, for messages.
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import IO, Any

from alps.base.hashing import cached_hash, content_sha256, digest, file_hash, stat_fingerprint
from alps.data.files.json_text import MAX_ROW, json_rows

SUFFIXES = (".parquet", ".arrow", ".json", ".jsonl", ".csv", ".zip", ".json.gz", ".jsonl.gz",
            ".csv.gz")  # fmt: skip
NOT_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_ZIP = b"PK\x03\x04"
BATCH = 256  # rows of a columnar file that are Python objects at once


def row_files(path: Path, patterns: Sequence[str] = ()) -> list[Path]:
    """The files with rows in a folder, of all splits, in a fixed order; or the file itself.

    Args:
        path: A file or a folder of files.
        patterns: Names in the folder (`data/train-*`), or nothing for all files of rows.

    Raises:
        ValueError: If the folder has no such file.
    """
    if not path.is_dir():
        return [path]
    inside = (p.relative_to(path) for p in path.rglob("*") if p.is_file())
    names = sorted(name for name in inside if _holds_rows(name))
    wanted = patterns or ("*",)
    found = [name for name in names if any(fnmatch(name.as_posix(), p) for p in wanted)]
    if not found:
        lack = f"matches {', '.join(patterns)}" if patterns else f"ends in {', '.join(SUFFIXES)}"
        raise ValueError(f"no file in {path} {lack}")
    return [path / name for name in found]


def without_suffix(name: str) -> str:
    """The name of a file of rows without what tells its format (`.jsonl.gz`)."""
    suffix = max((s for s in SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(suffix)]


def content_hash(path: Path, files: Sequence[Path]) -> str:
    """SHA-256 of a file, or over names and contents of the files of a folder, remembered likewise.

    One file is remembered for the whole folder, which may have tens of thousands.
    """
    if files == [path]:
        return file_hash(path)
    names = [file.relative_to(path).as_posix() for file in files]
    stamp = digest([names, [stat_fingerprint(file) for file in files]])
    place = f"rows-{digest([str(path.resolve()), names])}"
    each = zip(names, files, strict=True)
    return cached_hash(place, stamp, lambda: digest([[n, content_sha256(f)] for n, f in each]))


def read_rows(
    path: Path, name: str | None = None, members: Sequence[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of one file, each with its place in words.

    What kind of file it is tell its first bytes, and its name only where they don't.

    Args:
        path: The file.
        name: What messages call it; its path otherwise.
        members: Of a zip archive, the members to read; all files of rows otherwise.

    Raises:
        ValueError: One sentence with the row's number, where the file is not what it seems.
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
            yield from _number(_parquet(file, name), name)
        elif path.suffix == ".arrow":
            yield from _number(_arrow(file, name), name)
        elif magic.startswith(b"\x1f\x8b"):
            with io.BufferedReader(gzip.open(file)) as unpacked:
                yield from _text(unpacked, name, path.name.removesuffix(".gz"))
        else:
            yield from _text(file, name, path.name)


def _holds_rows(name: PurePath) -> bool:
    hidden = any(part.startswith(".") for part in name.parts)  # also what macOS puts into a zip
    return not hidden and name.name not in NOT_ROWS and name.name.lower().endswith(SUFFIXES)


def _number(rows: Iterable[Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in enumerate(rows, start=1):
        yield f"row {number} of {name}", row


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Words for what a compressed file says when it is broken."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise ValueError(f"{name} is damaged ({error}): make or download it again") from None


def zip_members(path: Path) -> list[str] | None:
    """Names of the files with rows in a zip archive; None for a file that is none.

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
    # In the order of names, which is that of the unpacked folder, too.
    members = sorted(PurePath(m) for m in archive.namelist() if not m.endswith("/"))
    texts = [m for m in members if _holds_rows(m) and m.suffix in (".json", ".jsonl", ".csv")]
    if not texts:
        raise ValueError(f"{name} has no .json, .jsonl or .csv file in it")
    return [member.as_posix() for member in texts]


def _zip(
    file: IO[bytes], name: str, members: Sequence[str] | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    with _readable(name):
        archive = zipfile.ZipFile(file)  # has nothing of its own to close
    for member in _members(archive, name) if members is None else members:
        with _readable(name):
            try:
                content = archive.open(member)
            except (RuntimeError, NotImplementedError) as error:  # a password, a rare method
                raise ValueError(f"{member} in {name} cannot be unpacked ({error})") from None
            with content:
                yield from _text(content, f"{member} in {name}", PurePath(member).name)


def _text(file: IO[bytes], name: str, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with _readable(name):
        if kind.lower().endswith(".csv"):
            yield from _number(_csv(file, name), name)
        else:
            yield from json_rows(file, name, in_lines=not kind.lower().endswith(".json"))


def _csv(file: IO[bytes], name: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(MAX_ROW)  # a long answer is longer than the default of 128 KiB
    number = 0
    texts = (line.decode("utf-8-sig" if i == 0 else "utf-8") for i, line in enumerate(file))
    try:
        reader = csv.DictReader(texts, strict=True)
        _refuse_doubled(reader.fieldnames or (), name)
        for row in reader:
            number += 1
            if None in row or None in row.values():
                raise ValueError(f"row {number} of {name} has not as many fields as the header")
            yield row
    except UnicodeDecodeError:
        raise ValueError(f"row {number + 1} of {name} is not UTF-8 text") from None
    except csv.Error as error:
        raise ValueError(f"row {number + 1} of {name} is not CSV ({error})") from None


def _parquet(file: IO[bytes], name: str) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        yield from _batched(ParquetFile(file).iter_batches(BATCH), name)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name} is damaged ({_first_line(error)}): download it again") from None


def _arrow(file: IO[bytes], name: str) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    try:
        yield from _batched(pa.ipc.open_stream(file), name)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name} is damaged ({_first_line(error)}): save it again") from None


def _batched(batches: Iterable[Any], name: str) -> Iterator[dict[str, Any]]:
    number = 0
    for batch in batches:
        _refuse_doubled(batch.schema.names, name)
        for start in range(0, batch.num_rows, BATCH):
            part = batch.slice(start, BATCH)
            try:
                rows = part.to_pylist()
            except UnicodeDecodeError:
                number += next(i for i in range(part.num_rows) if not _is_text(part.slice(i, 1)))
                raise ValueError(f"row {number + 1} of {name} is not UTF-8 text") from None
            except ValueError as error:  # two fields of one name inside a column
                raise ValueError(f"{name} cannot be read ({error})") from None
            yield from rows
            number += len(rows)


def _refuse_doubled(columns: Sequence[str], name: str) -> None:
    """Of two columns of one name a row would keep the last; without a name nobody reads them."""
    for column, count in Counter(columns).items():
        if column and count > 1:
            raise ValueError(f"{name} has {count} columns named '{column}': rename all but one")


def _is_text(row: Any) -> bool:
    try:
        return bool(row.to_pylist())
    except UnicodeDecodeError:
        return False


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

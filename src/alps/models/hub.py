"""Models of the Hugging Face hub: the whole snapshot, or only q, k and v by byte ranges.

Scoring reads about a tenth of a checkpoint; `fetch_qkv` downloads only those bytes.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock
from urllib.parse import quote

from huggingface_hub import (
    HfApi,
    constants,
    errors,
    get_hf_file_metadata,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open

from alps.base.atomic import replacing, write_json
from alps.base.cache import cache_dir, cache_lock
from alps.base.log_levels import log_level
from alps.models.architecture import TOKENIZER_FILES, read_geometry
from alps.models.hub_repo import (
    INDEX,
    PARSE_ERRORS,
    SINGLE,
    WORKERS,
    HTTPError,
    HubCommit,
    TensorLocation,
    timeout,
)

CONNECTION_ERRORS = (HTTPError, ConnectionError, TimeoutError)

log = logging.getLogger(__name__)
CLIENTS = ("httpx", "httpx2")
"""Loggers of the hub's clients; they log every range with a URL that may be signed."""


MODEL_PATTERNS = ("*.json", "*.safetensors", "tokenizer*", "*.model", "*.jinja", "merges.txt")
FOREIGN_PATTERNS = ("original/*", "consolidated*", "onnx/*")
"""The same weights in other formats."""


def download(repo: str, revision: str, check: Callable[[Path], object]) -> Path:
    """Downloads a model to the hub's own cache: config, tokenizer, safetensors.

    Args:
        repo: Hub id, `org/name`.
        revision: Branch, tag or commit.
        check: Called with the folder once `config.json` is there, before weights are downloaded.

    Raises:
        ValueError: If it is unavailable.
    """
    at = f"{repo}@{revision}"
    get = partial(snapshot_download, repo, revision=revision)
    try:
        with translate_hub_errors(at, f"model.path={repo}"):
            folder = Path(get(allow_patterns=["config.json"]))
            try:
                check(folder)
            except ValueError as error:
                raise ValueError(str(error).replace(str(folder), at)) from None
            return Path(
                get(allow_patterns=list(MODEL_PATTERNS), ignore_patterns=list(FOREIGN_PATTERNS))
            )
    except OSError as error:
        raise ValueError(
            f"{at} cannot be downloaded ({type(error).__name__}) and is not in the hub cache: "
            "connect to the network, or give a folder with model.path=<folder>"
        ) from None


def is_cached(repo: str, revision: str) -> bool:
    """Whether config, tokenizer and all weights of a model are in the hub's own cache."""

    def find(file: str) -> Path | None:
        place = try_to_load_from_cache(repo, file, revision=revision)
        return Path(place) if isinstance(place, str) else None

    if find("config.json") is None or not any(map(find, TOKENIZER_FILES)):
        return False
    if (index := find(INDEX)) is None:
        return find(SINGLE) is not None
    try:
        files = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, *PARSE_ERRORS):
        return False
    return all(map(find, files))


def qkv_is_cached(repo: str, revision: str) -> bool:
    """Whether there is a complete copy of a model's q, k and v."""
    commit = revision if re.fullmatch("[0-9a-f]{40}", revision) else _last_commit(repo, revision)
    return commit is not None and _is_complete(_copy_dir(repo, commit))


def fetch_qkv(
    repo: str, revision: str = "main", progress: Callable[[int, int], None] | None = None
) -> Path:
    """A folder with only q, k and v (weights and biases) of a hub model, in their stored dtype.

    It is a sharded checkpoint with one file per layer, whose index is written last. After an
    interruption, only missing layers are downloaded. A complete copy costs one request to resolve
    the revision, or none for a full commit hash; offline, the last copy of the revision is used,
    with a warning.

    Args:
        repo: Hub id, `org/name`.
        revision: Branch, tag or commit.
        progress: Called with the bytes done and in total, by one thread at a time.

    Raises:
        ValueError: If it is unavailable or has no separate q, k and v.
    """
    at = f"{repo}@{revision}"
    if re.fullmatch("[0-9a-f]{40}", revision) and _is_complete(_copy_dir(repo, revision)):
        return _copy_dir(repo, revision)
    try:
        with translate_hub_errors(at, repo):
            commit = _resolve_commit(repo, revision)
            folder = _copy_dir(repo, commit)
            if _is_complete(folder) and _last_commit(repo, revision) == commit:
                return folder
            with cache_lock(f"qkv-{folder.name}"):
                if not _is_complete(folder):  # another process may have completed it meanwhile
                    _fetch(HubCommit(repo, revision, commit), folder, progress)
                write_json(_revision_file(repo, revision), {"commit": commit})
            return folder
    except CONNECTION_ERRORS as error:
        denied = error_reason(error) in ("HTTP 401", "HTTP 403")
        remedy = "set HF_TOKEN to a token that may read it" if denied else "connect to the network"
        raise ValueError(
            f"{at} cannot be fetched ({error_reason(error)}) and there is no finished copy of its "
            f"q, k and v: {remedy}, or give a local folder"
        ) from None
    except OSError as error:
        raise ValueError(
            f"{at} cannot be stored in {cache_dir()}: {error.strerror or type(error).__name__}"
        ) from None


def check_repo_id(repo: str, given: str) -> None:
    """Refuses an invalid hub id, without a request.

    Args:
        repo: The hub id.
        given: The user's setting, for the message.

    Raises:
        ValueError: If it is invalid.
    """
    with translate_hub_errors(repo, given):
        validate_repo_id(repo)


@contextmanager
def translate_hub_errors(
    at: str,
    given: str,
    kind: str = "model",
    otherwise: str = "a local folder of that name does not exist either",
) -> Iterator[None]:
    """Translates errors of the hub (gated or unknown repos, invalid ids) into messages for users.

    Inside the block the clients log no URL.

    Args:
        at: The repo and its revision.
        given: The user's setting.
        kind: `model` or `dataset`.
        otherwise: Addition to the message if there is no such repo.

    Raises:
        ValueError: In place of the hub's error.
    """
    try:
        with log_level(logging.WARNING, *CLIENTS):
            yield
    except errors.GatedRepoError:
        raise ValueError(
            f"{at} is gated: accept its licence on its hub page, then set HF_TOKEN "
            "to a token of that account (or run `hf auth login`)"
        ) from None
    except errors.HFValidationError:
        raise ValueError(f"{given} is neither a folder nor a hub id") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise ValueError(
            f"the hub has no {kind} {at}, or it is private and HF_TOKEN is not set; {otherwise}"
        ) from None


def error_reason(error: Exception) -> str:
    """Short reason of a hub error; its own text has several lines and URLs that may be signed."""
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, errors.HfHubHTTPError):
        return f"HTTP {error.response.status_code}"
    return type(error).__name__


def _copy_dir(repo: str, commit: str) -> Path:
    return cache_dir() / "qkv" / f"{repo.replace('/', '--')}@{commit[:12]}"


def _revision_file(repo: str, revision: str) -> Path:
    name = f"{repo.replace('/', '--')}@{quote(revision, safe='')}.json"
    return cache_dir() / "qkv" / "revisions" / name


def _last_commit(repo: str, revision: str) -> str | None:
    """The commit of a revision when its copy was last used."""
    try:
        return json.loads(_revision_file(repo, revision).read_text())["commit"]
    except (OSError, *PARSE_ERRORS):
        return None


def _resolve_commit(repo: str, revision: str) -> str:
    """The commit of a revision; offline, the one of its last used copy.

    Requests a file, because the repo's metadata is open even if its files are gated.
    """
    try:
        try:
            url = hf_hub_url(repo, "config.json", revision=revision)
            commit = get_hf_file_metadata(url).commit_hash
        except errors.RemoteEntryNotFoundError:  # `HubCommit.files` reports the files there are
            commit = HfApi().model_info(repo, revision=revision, timeout=timeout()).sha
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise  # an answer of the hub, no connection error
    except CONNECTION_ERRORS as error:
        commit = _last_commit(repo, revision)
        if commit is None or not _is_complete(_copy_dir(repo, commit)):
            raise
        why = (error_reason(error), commit[:12])
        log.warning("%s@%s cannot be looked up (%s): using its copy of %s", repo, revision, *why)
    if commit is None:
        raise ValueError(f"{constants.ENDPOINT} (HF_ENDPOINT) does not answer like a model hub")
    return commit


def _fetch(
    remote: HubCommit, folder: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """Downloads missing layers to `folder`; writes nothing before all tensors are located."""
    files = remote.files()
    config = remote.read("config.json")
    with TemporaryDirectory() as place:
        Path(place, "config.json").write_bytes(config)
        try:
            num_layers = read_geometry(Path(place)).num_layers
        except ValueError as error:
            raise ValueError(str(error).replace(place, str(remote))) from None
    layers = dict(enumerate(remote.layers(files, num_layers)))
    (folder / INDEX).unlink(missing_ok=True)  # an incomplete copy has no index
    with replacing(folder / "config.json") as temporary:
        temporary.write_bytes(config)
    missing = {
        i for i in layers if not _is_whole(_layer_file(folder, i), {t.name for t in layers[i]})
    }
    sizes = {i: sum(t.end - t.start for t in tensors) for i, tensors in layers.items()}
    total, done = sum(sizes.values()), sum(sizes[i] for i in layers.keys() - missing)
    lock, stop = Lock(), Event()

    def count(num_bytes: int) -> None:
        nonlocal done
        if stop.is_set():
            raise CancelledError
        with lock:
            done += num_bytes
            if progress:
                progress(done, total)

    count(0)
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            jobs = [
                pool.submit(_write_layer, _layer_file(folder, i), layers[i], remote, count)
                for i in sorted(missing)
            ]
            for job in as_completed(jobs):
                job.result()
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C: layers stop at their next chunk
                stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    places = {t.name: _layer_file(folder, i).name for i, tensors in layers.items() for t in tensors}
    about = {"total_size": total, "repo": remote.repo, "commit": remote.commit}
    write_json(folder / INDEX, {"metadata": about, "weight_map": places})


def _write_layer(
    path: Path, tensors: Sequence[TensorLocation], remote: HubCommit, count: Callable[[int], None]
) -> None:
    """Streams these tensors into one safetensors file, in stored order."""
    header, offset = {}, 0
    spans: list[list] = []  # file, start, end; adjacent tensors share a request
    for tensor in tensors:
        size = tensor.end - tensor.start
        place = {"data_offsets": [offset, offset + size]}
        header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, **place}
        offset += size
        if spans and [tensor.file, tensor.start] == [spans[-1][0], spans[-1][2]]:
            spans[-1][2] = tensor.end
        else:
            spans.append([tensor.file, tensor.start, tensor.end])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the data
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for span in spans:
            for chunk in remote.stream(*span):
                file.write(chunk)
                count(len(chunk))


def _layer_file(folder: Path, layer: int) -> Path:
    return folder / f"layer-{layer:05}.safetensors"


def _is_complete(folder: Path) -> bool:
    try:
        places = json.loads((folder / INDEX).read_text())["weight_map"].items()
        files = [_layer_file(folder, i) for i in range(read_geometry(folder).num_layers)]
    except (OSError, *PARSE_ERRORS):
        return False
    return all(_is_whole(file, {n for n, place in places if place == file.name}) for file in files)


def _is_whole(path: Path, names: Collection[str]) -> bool:
    """Whether a safetensors file is complete and has exactly these tensors."""
    try:
        with safe_open(path, framework="numpy") as file:
            return bool(names) and set(file.keys()) == set(names)
    except (SafetensorError, OSError):
        return False

"""Models of the Hugging Face hub: the whole snapshot, or only its q, k and v by byte ranges.

Scoring heads reads about a tenth of a checkpoint, so `fetch_qkv` asks the hub for those bytes only.
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
)
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open

from alps.base.atomic import replacing, write_json
from alps.base.cache import cache_dir, cache_lock
from alps.models.architecture import read_geometry
from alps.models.hub_repo import DAMAGED, INDEX, WORKERS, HTTPError, Remote, Tensor, timeout

NO_ANSWER = (HTTPError, ConnectionError, TimeoutError)

log = logging.getLogger(__name__)
for _client in ("httpx", "httpx2"):  # a line for every range, with an address that may be signed
    logging.getLogger(_client).setLevel(logging.WARNING)


MODEL_PATTERNS = ("*.json", "*.safetensors", "tokenizer*", "*.model", "*.jinja", "merges.txt")
FOREIGN_PATTERNS = ("original/*", "consolidated*", "onnx/*")
"""The same weights in layouts of other programs."""


def download(repo: str, revision: str, check: Callable[[Path], object]) -> Path:
    """The whole snapshot of a model in the hub's own cache: config, tokenizer, safetensors.

    Args:
        repo: Hub id, `org/name`.
        revision: Branch, tag or commit.
        check: Called with the folder as soon as `config.json` is there, before the weights are.

    Raises:
        ValueError: If it cannot be had; one sentence.
    """
    at = f"{repo}@{revision}"
    get = partial(snapshot_download, repo, revision=revision)
    try:
        with refusals(at, f"model.path={repo}"):
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


def fetch_qkv(
    repo: str, revision: str = "main", progress: Callable[[int, int], None] | None = None
) -> Path:
    """A folder with only the q, k and v (weights and biases) of a hub model, as they are stored.

    It reads like any sharded checkpoint, one file a layer; its index is written last. A call after
    an interrupted one fetches the layers that are missing. A finished copy costs one request, which
    looks the revision up, and none if that is a full commit hash; without network the copy that the
    revision last meant is used, with a warning.

    Args:
        repo: Hub id, `org/name`.
        revision: Branch, tag or commit.
        progress: Called with the q/k/v bytes at hand and those of the model; by one thread at a
            time, but not always the same one.

    Raises:
        ValueError: If it cannot be had or has no separate q, k and v; one sentence.
    """
    at = f"{repo}@{revision}"
    if re.fullmatch("[0-9a-f]{40}", revision) and _is_complete(_copy(repo, revision)):
        return _copy(repo, revision)
    try:
        with refusals(at, repo):
            commit = _look_up(repo, revision)
            folder = _copy(repo, commit)
            if _is_complete(folder) and _last_commit(repo, revision) == commit:
                return folder
            with cache_lock(f"qkv-{folder.name}"):
                if not _is_complete(folder):  # another process may have made it meanwhile
                    _fetch(Remote(repo, revision, commit), folder, progress)
                write_json(_memory(repo, revision), {"commit": commit})
            return folder
    except NO_ANSWER as error:
        denied = reason(error) in ("HTTP 401", "HTTP 403")
        remedy = "set HF_TOKEN to a token that may read it" if denied else "connect to the network"
        raise ValueError(
            f"{at} cannot be fetched ({reason(error)}) and there is no finished copy of its "
            f"q, k and v: {remedy}, or give a local folder"
        ) from None
    except OSError as error:
        raise ValueError(
            f"{at} cannot be stored in {cache_dir()}: {error.strerror or type(error).__name__}"
        ) from None


def check_id(repo: str, given: str) -> None:
    """Refuses, without asking the hub, what can be no hub id; `given` is what the user wrote.

    Raises:
        ValueError: One sentence.
    """
    with refusals(repo, given):
        validate_repo_id(repo)


@contextmanager
def refusals(
    at: str,
    given: str,
    kind: str = "model",
    otherwise: str = "a local folder of that name does not exist either",
) -> Iterator[None]:
    """Words for what the hub refuses: a gated repo, a name that it doesn't know.

    Args:
        at: The repo and its revision.
        given: What the user wrote.
        kind: `model` or `dataset`.
        otherwise: What else can be said where there is no such repo.

    Raises:
        ValueError: One sentence.
    """
    try:
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


def reason(error: Exception) -> str:
    """Not the error's own text: that has several lines, and addresses that may be signed."""
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, errors.HfHubHTTPError):
        return f"HTTP {error.response.status_code}"
    return type(error).__name__


def _copy(repo: str, commit: str) -> Path:
    return cache_dir() / "qkv" / f"{repo.replace('/', '--')}@{commit[:12]}"


def _memory(repo: str, revision: str) -> Path:
    name = f"{repo.replace('/', '--')}@{quote(revision, safe='')}.json"
    return cache_dir() / "qkv" / "revisions" / name


def _last_commit(repo: str, revision: str) -> str | None:
    """What the revision meant when its copy was last used."""
    try:
        return json.loads(_memory(repo, revision).read_text())["commit"]
    except (OSError, *DAMAGED):
        return None


def _look_up(repo: str, revision: str) -> str:
    """The commit a revision means; without network, the one it meant when its copy was last used.

    A file is asked for, not the page of the repo, which is open even where the files are gated.
    """
    try:
        try:
            url = hf_hub_url(repo, "config.json", revision=revision)
            commit = get_hf_file_metadata(url).commit_hash
        except errors.RemoteEntryNotFoundError:  # what there is instead is told by `Remote.files`
            commit = HfApi().model_info(repo, revision=revision, timeout=timeout()).sha
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise  # an answer, if not the one we want
    except NO_ANSWER as error:
        commit = _last_commit(repo, revision)
        if commit is None or not _is_complete(_copy(repo, commit)):
            raise
        why = (reason(error), commit[:12])
        log.warning("%s@%s cannot be looked up (%s): using its copy of %s", repo, revision, *why)
    if commit is None:
        raise ValueError(f"{constants.ENDPOINT} (HF_ENDPOINT) does not answer like a model hub")
    return commit


def _fetch(
    remote: Remote, folder: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """Fetches what `folder` lacks; nothing is written before all of it is known to exist."""
    files = remote.files()
    config = remote.read("config.json")
    with TemporaryDirectory() as place:
        Path(place, "config.json").write_bytes(config)
        try:
            num_layers = read_geometry(Path(place)).num_layers
        except ValueError as error:
            raise ValueError(str(error).replace(place, str(remote))) from None
    layers = dict(enumerate(remote.layers(files, num_layers)))
    (folder / INDEX).unlink(missing_ok=True)  # a damaged copy is not complete while it is repaired
    with replacing(folder / "config.json") as temporary:
        temporary.write_bytes(config)
    missing = {i for i in layers if not _is_whole(_file(folder, i), {t.name for t in layers[i]})}
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
                pool.submit(_write_layer, _file(folder, i), layers[i], remote, count)
                for i in sorted(missing)
            ]
            for job in as_completed(jobs):
                job.result()
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C: layers stop at their next piece
                stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    places = {t.name: _file(folder, i).name for i, tensors in layers.items() for t in tensors}
    about = {"total_size": total, "repo": remote.repo, "commit": remote.commit}
    write_json(folder / INDEX, {"metadata": about, "weight_map": places})


def _write_layer(
    path: Path, tensors: Sequence[Tensor], remote: Remote, count: Callable[[int], None]
) -> None:
    """One safetensors file with these tensors, streamed in the order in which they are stored."""
    header, offset = {}, 0
    spans: list[list] = []  # file, start, end; tensors that touch are asked for at once
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
    text += b" " * (-len(text) % 8)  # the format wants the data aligned
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for span in spans:
            for piece in remote.pieces(*span):
                file.write(piece)
                count(len(piece))


def _file(folder: Path, layer: int) -> Path:
    return folder / f"layer-{layer:05}.safetensors"


def _is_complete(folder: Path) -> bool:
    try:
        places = json.loads((folder / INDEX).read_text())["weight_map"].items()
        files = [_file(folder, i) for i in range(read_geometry(folder).num_layers)]
    except (OSError, *DAMAGED):
        return False
    return all(_is_whole(file, {n for n, place in places if place == file.name}) for file in files)


def _is_whole(path: Path, names: Collection[str]) -> bool:
    """Whether a safetensors file is as long as its header says and holds just these tensors."""
    try:
        with safe_open(path, framework="numpy") as file:
            return bool(names) and set(file.keys()) == set(names)
    except (SafetensorError, OSError):
        return False
